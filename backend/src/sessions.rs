//! The open streams of this node, and what each of them rests on: whoever may not go on is told at once.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bson::DateTime;
use http::Method;
use shared::{
    address::Address,
    close::Close,
    identity::{Claims, Identity},
    permission::{Access, Grant, Question},
    refusal::Kind,
};

use crate::subscription::Queue;

/// All open streams.
#[derive(Debug, Default)]
pub struct Sessions {
    next: AtomicU64,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// Boxed: half of the places of a large table are empty.
    sessions: HashMap<u64, Box<Session>>,
    /// What the newest rests on. Most often the next one rests on the same: what is equal is kept once.
    newest: Option<(Arc<Address>, Arc<Grant>)>,
}

/// One open stream: who follows it, and by what right.
#[derive(Debug)]
pub struct Session {
    /// Who follows.
    pub identity: Identity,
    /// What was asked for.
    pub address: Arc<Address>,
    /// The raw query.
    pub query: Option<String>,
    /// When that was: `@now` is the same when it is judged again.
    pub now: DateTime,
    /// What was decided.
    pub grant: Arc<Grant>,
    pub(crate) queue: Arc<Queue>,
}

impl Session {
    /// What `identity` asks that follows it.
    pub fn question<'a>(&'a self, identity: &'a Identity) -> Question<'a> {
        Question {
            identity,
            method: &Method::GET,
            address: &self.address,
            query: self.query.as_deref(),
            now: self.now,
        }
    }

    /// What becomes of it under these rules.
    fn judged_by(&self, access: &Access) -> Option<Close> {
        match access.decide(&self.question(&self.identity)) {
            Ok(grant) if grant.has_effect_of(&self.grant) => None,
            // It may go on, but sees something else: it comes back, and is judged anew.
            Ok(_) => Some(Close::DefinitionChanged),
            Err(refusal) => Some(match refusal.kind() {
                Kind::BrokenDefinition => Close::Internal,
                _ => Close::NoLongerPermitted,
            }),
        }
    }
}

impl Sessions {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a stream. It is in the list for as long as the registration is held.
    pub fn enter(self: &Arc<Self>, mut session: Session) -> Registration {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut open = self.open();
        if let Some((address, grant)) = &open.newest {
            share(&mut session.address, address);
            share(&mut session.grant, grant);
        }
        open.newest = Some((Arc::clone(&session.address), Arc::clone(&session.grant)));
        open.sessions.insert(id, Box::new(session));
        drop(open);
        Registration { sessions: Arc::clone(self), id }
    }

    /// The names of those who follow by a password.
    pub fn users(&self) -> HashSet<String> {
        let open = self.open();
        let claims = open.sessions.values().filter_map(|session| session.identity.claims());
        let names = claims.filter(|claims| claims.version().is_some()).filter_map(Claims::subject);
        names.map(str::to_owned).collect()
    }

    /// Closes those for which there is a reason.
    pub fn close_where(&self, reason: impl Fn(&Session) -> Option<Close>) {
        let mut closed = 0;
        for session in self.open().sessions.values() {
            if let Some(close) = reason(session) {
                session.queue.cut(close);
                closed += 1;
            }
        }
        if closed > 0 {
            tracing::info!(closed, "streams are closed because rights have changed");
        }
    }

    /// Closes those that these rules do not let go on as they are.
    pub fn judge_again(&self, access: &Access) {
        self.close_where(|session| session.judged_by(access));
    }
}

/// Keeps one of two that are equal.
fn share<T: PartialEq>(one: &mut Arc<T>, other: &Arc<T>) {
    if **one == **other {
        *one = Arc::clone(other);
    }
}

/// A stream that is in the list for as long as this lives.
#[derive(Debug)]
pub struct Registration {
    sessions: Arc<Sessions>,
    id: u64,
}

impl Registration {
    /// Changes what the stream rests on, or tells why that does not do.
    pub fn change<T>(&self, change: impl FnOnce(&mut Session) -> T) -> Option<T> {
        self.sessions.open().sessions.get_mut(&self.id).map(|session| change(session))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.sessions.open().sessions.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_streams_rest_on_is_kept_once_where_it_is_equal() {
        let first = Arc::new(Grant::everything());
        let (mut equal, mut other) = (Arc::new(Grant::everything()), Arc::new(Grant::everything()));
        Arc::make_mut(&mut other).rule = Some("another".to_owned());
        share(&mut equal, &first);
        share(&mut other, &first);
        assert!(Arc::ptr_eq(&equal, &first));
        assert!(!Arc::ptr_eq(&other, &first));
    }
}
