//! Places: how many connections one address, user, or stream holds at once, and how many bindings one user.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, Hash, RandomState},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ipnet::IpNet;
use shared::{
    address_block::AddressBlock,
    identity::{Claims, User},
    limit::Limit,
    name::{Namespace, StreamName},
    permission::Grant,
    refusal::Refusal,
};

use crate::{authentication::Caller, config::Limits};

/// Who holds places, or of what they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Holder {
    /// Everybody at one address.
    Address(AddressBlock),
    /// A user, at whatever address.
    User(User),
    /// The subscribers of a stream.
    Stream(Namespace, StreamName),
    /// One of the former, by the streams alone that a rule of this name has opened for it.
    ByRule(Box<Holder>, String),
}

/// All places of a node that are taken.
#[derive(Debug)]
pub struct Places {
    per_address: usize,
    per_user: usize,
    per_stream: usize,
    bindings: usize,
    uncounted: Vec<IpNet>,
    /// Tells bindings apart. Two that it confuses count as one, which costs nobody anything; who shares a source is never
    /// decided by it.
    hasher: RandomState,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    connections: HashMap<Holder, usize>,
    /// For each binding of a user, or of an address of anonymous callers, how many streams follow it.
    bindings: HashMap<Holder, HashMap<u64, usize>>,
}

impl Places {
    /// None taken.
    pub fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            per_address: limits.connections_per_address,
            per_user: limits.connections_per_user,
            per_stream: limits.connections_per_stream,
            bindings: limits.bindings_per_user,
            uncounted: limits.uncounted_addresses.clone(),
            hasher: RandomState::new(),
            taken: Mutex::default(),
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The block that an address counts in; `None` where it stands for many clients.
    pub fn block(&self, address: IpAddr) -> Option<AddressBlock> {
        let address = address.to_canonical();
        let uncounted = self.uncounted.iter().any(|network| network.contains(&address));
        (!uncounted).then(|| AddressBlock::of(address))
    }

    /// A place for a connection from `peer`, before anything is read of it.
    pub fn connect(self: &Arc<Self>, peer: IpAddr) -> Result<Place, Refusal> {
        let mut place = self.none();
        if let Some(block) = self.block(peer) {
            let limit = (Limit::ConnectionsPerAddress, self.per_address);
            place.take(Holder::Address(block), limit)?;
        }
        Ok(place)
    }

    /// Places for a stream of this caller. One that came through the edge is counted by the address that the edge names;
    /// the connection of any other is counted already. A rule with limits of its own counts what it has opened.
    pub fn open(self: &Arc<Self>, caller: &Caller, grant: &Grant) -> Result<Place, Refusal> {
        let mut place = self.none();
        let block = caller.client_address.and_then(|address| self.block(address));
        if let Some(block) = block.filter(|_| caller.from_edge) {
            place.take(Holder::Address(block), (Limit::ConnectionsPerAddress, self.per_address))?;
        }
        let user = caller.identity.claims().and_then(Claims::user);
        if let Some(user) = &user {
            place.take(Holder::User(user.clone()), (Limit::ConnectionsPerUser, self.per_user))?;
        }
        let (user, address) = (user.map(Holder::User), block.map(Holder::Address));
        let by_rule = |holder: &Option<Holder>, limit| {
            let most = grant.limits.get(limit)?;
            let holder = Box::new(holder.clone()?);
            Some((Holder::ByRule(holder, grant.rule.clone().unwrap_or_default()), (limit, most)))
        };
        let narrowed =
            [by_rule(&user, Limit::ConnectionsPerUser), by_rule(&address, Limit::ConnectionsPerAddress)];
        for (holder, limit) in narrowed.into_iter().flatten() {
            place.take(holder, limit)?;
        }
        let owner = user.or(address);
        let narrowed = by_rule(&owner, Limit::BindingsPerUser).map(|(holder, (_, most))| (holder, most));
        place.owners = owner.map(|owner| (owner, self.bindings)).into_iter().chain(narrowed).collect();
        Ok(place)
    }

    fn none(self: &Arc<Self>) -> Place {
        Place { places: Arc::clone(self), held: Vec::new(), owners: Vec::new(), bindings: Vec::new() }
    }
}

/// Places that are taken; dropping it frees them.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    held: Vec<Holder>,
    /// Whose bindings are counted, and how many each may have.
    owners: Vec<(Holder, usize)>,
    bindings: Vec<(Holder, u64)>,
}

impl Place {
    fn take(&mut self, holder: Holder, (limit, most): (Limit, usize)) -> Result<(), Refusal> {
        let mut taken = self.places.taken();
        let count = taken.connections.entry(holder.clone()).or_default();
        if *count >= most {
            return Err(refusal(limit, most));
        }
        *count += 1;
        drop(taken);
        // Room for four, as a push makes it, would be most of what an idle client takes here.
        self.held.reserve_exact(1);
        self.held.push(holder);
        Ok(())
    }

    /// Takes a place of the stream besides, and one for the binding, which is named by bytes that are equal for equal ones.
    pub fn follow(
        &mut self,
        namespace: &Namespace,
        stream: &StreamName,
        binding: &[u8],
    ) -> Result<(), Refusal> {
        let holder = Holder::Stream(namespace.clone(), stream.clone());
        self.take(holder, (Limit::ConnectionsPerStream, self.places.per_stream))?;
        let binding = self.places.hasher.hash_one((namespace, stream, binding));
        let mut taken = self.places.taken();
        for (owner, most) in std::mem::take(&mut self.owners) {
            let bindings = taken.bindings.entry(owner.clone()).or_default();
            if !bindings.contains_key(&binding) && bindings.len() >= most {
                return Err(refusal(Limit::BindingsPerUser, most));
            }
            *bindings.entry(binding).or_default() += 1;
            self.bindings.push((owner, binding));
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (held, followed) = (std::mem::take(&mut self.held), std::mem::take(&mut self.bindings));
        let mut taken = self.places.taken();
        for (owner, binding) in followed {
            let Some(bindings) = taken.bindings.get_mut(&owner) else { continue };
            free(bindings, binding);
            if bindings.is_empty() {
                taken.bindings.remove(&owner);
            }
        }
        for holder in held {
            free(&mut taken.connections, holder);
        }
    }
}

/// One fewer; nothing is kept of what nobody holds.
fn free<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let Entry::Occupied(mut entry) = counts.entry(key) {
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
        }
    }
}

fn refusal(limit: Limit, most: usize) -> Refusal {
    limit.refusal(u64::try_from(most).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use bson::{DateTime, Document, doc};
    use http::Method;
    use shared::{
        address::{Address, Mount, Mounts, Route},
        identity::Identity,
        permission::{Access, Mode, Question, RolesClaim, Rules},
    };

    use super::*;

    fn limits() -> Limits {
        Limits { connections_per_address: 2, ..Limits::default() }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn anonymous(client: &str, from_edge: bool) -> Caller {
        Caller {
            identity: Identity::Anonymous,
            expires_at: None,
            client_address: Some(address(client)),
            from_edge,
            origin: None,
            ambient: false,
            ticket: None,
        }
    }

    #[test]
    fn an_address_has_so_many_connections_and_each_is_free_again_when_it_ends() {
        let places = Places::new(&limits());
        let first = places.connect(address("2001:db8::1")).expect("the first");
        let _second = places.connect(address("2001:db8::2")).expect("the second, of the same /64");
        let refusal = places.connect(address("2001:db8::3")).expect_err("the third");
        assert_eq!(
            (refusal.status().as_u16(), refusal.message()),
            (429, "too many connections from this address: limits.connections-per-address is 2")
        );
        let _other = places.connect(address("2001:db8:0:1::1")).expect("another /64");
        drop(first);
        let _third = places.connect(address("2001:db8::3")).expect("the place is free");
    }

    #[test]
    fn an_address_that_stands_for_many_is_not_counted() {
        let places = Places::new(&limits());
        let _held: Vec<_> =
            (0..5).map(|_| places.connect(address("127.0.0.1")).expect("loopback is a proxy")).collect();
        assert!(places.taken().connections.is_empty());
        let limits =
            Limits { uncounted_addresses: vec!["192.0.2.0/24".parse().expect("a network")], ..limits() };
        let places = Places::new(&limits);
        assert!(places.block(address("::ffff:192.0.2.7")).is_none());
        assert!(places.block(address("127.0.0.1")).is_some());
    }

    #[test]
    fn behind_the_edge_the_address_that_it_signs_is_counted() {
        let places = Places::new(&limits());
        let _held: Vec<_> = (0..2)
            .map(|_| places.open(&anonymous("192.0.2.1", true), &Grant::everything()).expect("a place"))
            .collect();
        assert!(places.open(&anonymous("192.0.2.1", true), &Grant::everything()).is_err());
        assert!(places.open(&anonymous("192.0.2.2", true), &Grant::everything()).is_ok());
        // The connection of one who comes without the edge has its place since it was accepted.
        assert!(places.open(&anonymous("192.0.2.1", false), &Grant::everything()).is_ok());
    }

    /// A stream of an open mount.
    fn stream() -> Address {
        let mount = Mount { what: "*".to_owned(), at: "/".to_owned() };
        let mounts = Mounts::new(&[mount]).expect("a mount");
        mounts.resolve("/app/log/_streams/all").expect("a stream")
    }

    /// What a rule of this name grants.
    fn granted(rule: &str, limits: &Document) -> Grant {
        let rule = doc! { "id": rule, "roles": ["$unauthenticated"], "methods": ["GET"], "path": "/**", "limits": limits };
        let rules = Rules::new(Rules::configured(&[rule]).expect("a rule"));
        let access = Access { mode: Mode::Rules(rules), roles: RolesClaim::default(), protected: Vec::new() };
        let question = Question {
            identity: &Identity::Anonymous,
            method: &Method::GET,
            address: &stream(),
            query: None,
            now: DateTime::from_millis(0),
        };
        access.decide(&question).expect("granted")
    }

    #[test]
    fn a_rule_counts_what_it_has_opened_for_an_address() {
        let places = Places::new(&Limits::default());
        let limits = doc! { "connections-per-address": 2, "bindings-per-user": 1 };
        let (one, other) = (granted("one", &limits), granted("other", &limits));
        let caller = anonymous("192.0.2.1", false);
        let mut first = places.open(&caller, &one).expect("the first");
        let mut second = places.open(&caller, &one).expect("the second");
        let refusal = places.open(&caller, &one).expect_err("the third");
        assert_eq!(
            refusal.message(),
            "too many connections from this address: limits.connections-per-address is 2"
        );
        let _by_other = places.open(&caller, &other).expect("by another rule");
        let _elsewhere = places.open(&anonymous("192.0.2.2", false), &one).expect("another address");

        let Route::Stream(namespace, name) = stream().route else { panic!("it is a stream") };
        first.follow(&namespace, &name, b"1").expect("a binding");
        let refusal = second.follow(&namespace, &name, b"2").expect_err("another one");
        assert_eq!(
            refusal.message(),
            "too many streams with different variables: limits.bindings-per-user is 1"
        );
        drop((first, second));
        let mut third = places.open(&caller, &one).expect("the places are free");
        third.follow(&namespace, &name, b"2").expect("and so is the binding");
    }

    #[test]
    fn nothing_is_kept_of_those_who_have_left() {
        let places = Places::new(&limits());
        let narrow = granted("narrow", &doc! { "connections-per-address": 5, "bindings-per-user": 5 });
        let mut place = places.open(&anonymous("192.0.2.1", true), &narrow).expect("a place");
        let Route::Stream(namespace, name) = stream().route else { panic!("it is a stream") };
        place.follow(&namespace, &name, b"1").expect("a binding");
        drop((places.connect(address("192.0.2.1")), place));
        let taken = places.taken();
        assert!(taken.connections.is_empty() && taken.bindings.is_empty());
    }
}
