//! Wrong passwords, counted by the address that they come from and the user that they are for, and by the address alone: who
//! invents names costs as much as who guesses passwords.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ipnet::IpNet;
use shared::{
    address_block::AddressBlock,
    refusal::{Kind, Refusal},
};

/// For how long failures count.
const WINDOW: Duration = Duration::from_mins(1);

/// Wrong passwords of an address for whatever users, for each that may be wrong for one user.
const FOR_ALL_USERS: u32 = 10;

/// The most addresses, and pairs of address and user, that are remembered: 24 bytes each, and the map's own room.
const MOST: usize = 100_000;

#[derive(Debug)]
pub(super) struct Attempts {
    limit: u32,
    /// Addresses that stand for many clients: only the pairs are counted there.
    uncounted: Vec<IpNet>,
    hasher: RandomState,
    failures: Mutex<HashMap<u64, Failures>>,
}

#[derive(Debug)]
struct Failures {
    count: u32,
    since: Instant,
}

impl Attempts {
    /// Lets so many attempts fail a minute for one user from one address.
    pub(super) fn new(limit: u32, uncounted: &[IpNet]) -> Self {
        Self { limit, uncounted: uncounted.to_vec(), hasher: RandomState::new(), failures: Mutex::default() }
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<u64, Failures>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is counted of an attempt: its key, how many may fail, and what is refused then.
    fn counted(&self, address: Option<IpAddr>, user: &str) -> impl Iterator<Item = (u64, u32, &'static str)> {
        let block = address.map(AddressBlock::of);
        let of_user = self.hasher.hash_one((block, Some(user)));
        let of_user = (of_user, self.limit, "too many wrong passwords for this user from this address");
        let alone = address.map(|address| address.to_canonical());
        let alone = alone.filter(|address| !self.uncounted.iter().any(|network| network.contains(address)));
        let of_all = alone.map(|_| {
            let key = self.hasher.hash_one((block, None::<&str>));
            (key, self.limit.saturating_mul(FOR_ALL_USERS), "too many wrong passwords from this address")
        });
        [of_user].into_iter().chain(of_all)
    }

    /// 429 once too many have failed within a minute.
    pub(super) fn check(&self, address: Option<IpAddr>, user: &str) -> Result<(), Refusal> {
        let failures = self.failures();
        for (key, limit, message) in self.counted(address, user) {
            if let Some(found) = failures.get(&key)
                && found.count >= limit
                && found.since.elapsed() < WINDOW
            {
                let left = WINDOW.saturating_sub(found.since.elapsed()).as_secs() + 1;
                return Err(Refusal::new(Kind::TooMany, message).retry_after(left));
            }
        }
        Ok(())
    }

    /// Counts a wrong password.
    pub(super) fn failed(&self, address: Option<IpAddr>, user: &str) {
        let mut failures = self.failures();
        for (key, ..) in self.counted(address, user) {
            if failures.len() >= MOST && !failures.contains_key(&key) {
                failures.retain(|_, found| found.since.elapsed() < WINDOW);
                if failures.len() >= MOST {
                    // Whoever has so many addresses is not stopped by a count for each of them.
                    failures.clear();
                }
            }
            let found = failures.entry(key).or_insert_with(|| Failures { count: 0, since: Instant::now() });
            if found.since.elapsed() >= WINDOW {
                *found = Failures { count: 0, since: Instant::now() };
            }
            found.count += 1;
        }
    }

    /// Forgets the failures of one who knows the password after all; not those for others from the same address.
    pub(super) fn succeeded(&self, address: Option<IpAddr>, user: &str) {
        let (of_user, ..) = self.counted(address, user).next().expect("the pair is always counted");
        self.failures().remove(&of_user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(attempts: &Attempts, address: &str, user: &str) -> Result<(), Refusal> {
        attempts.check(address.parse().ok(), user)
    }

    fn fail(attempts: &Attempts, address: &str, user: &str) {
        attempts.failed(address.parse().ok(), user);
    }

    #[test]
    fn the_limit_is_for_one_user_from_one_address() {
        let attempts = Attempts::new(2, &[]);
        for _ in 0..2 {
            check(&attempts, "192.0.2.1", "uji").expect("not yet");
            fail(&attempts, "192.0.2.1", "uji");
        }
        let refusal = check(&attempts, "192.0.2.1", "uji").unwrap_err();
        assert_eq!(refusal.to_string(), "429 too many wrong passwords for this user from this address");
        assert_eq!(refusal.headers(), [("retry-after", "60".to_owned())]);
        check(&attempts, "192.0.2.2", "uji").expect("another address");
        check(&attempts, "192.0.2.1", "other").expect("another user");
        attempts.succeeded("192.0.2.1".parse().ok(), "uji");
        check(&attempts, "192.0.2.1", "uji").expect("who knows it is welcome");
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address_and_a_mapped_one_as_what_it_maps() {
        let attempts = Attempts::new(1, &[]);
        fail(&attempts, "2001:db8::1", "uji");
        check(&attempts, "2001:db8::ffff:1", "uji").expect_err("the same /64");
        check(&attempts, "2001:db8:0:1::1", "uji").expect("another /64");
        fail(&attempts, "192.0.2.1", "uji");
        check(&attempts, "::ffff:192.0.2.1", "uji").expect_err("the same");
    }

    #[test]
    fn who_invents_names_is_stopped_by_the_address_unless_that_stands_for_many_clients() {
        let attempts = Attempts::new(2, &["198.51.100.0/24".parse().expect("a network")]);
        for address in ["192.0.2.1", "198.51.100.7", "::ffff:198.51.100.7"] {
            for n in 0..20 {
                check(&attempts, address, &format!("nobody-{n}")).expect("not yet");
                fail(&attempts, address, &format!("nobody-{n}"));
            }
        }
        let refusal = check(&attempts, "192.0.2.1", "uji").unwrap_err();
        assert_eq!(refusal.to_string(), "429 too many wrong passwords from this address");
        assert_eq!(refusal.headers(), [("retry-after", "60".to_owned())]);
        check(&attempts, "198.51.100.7", "uji").expect("a proxy");
        check(&attempts, "192.0.2.2", "uji").expect("another address");
        attempts.succeeded("192.0.2.1".parse().ok(), "uji");
        check(&attempts, "192.0.2.1", "uji")
            .expect_err("one who has a password does not open it for the rest");
    }
}
