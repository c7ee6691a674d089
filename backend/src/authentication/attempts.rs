//! Wrong passwords, counted by the address that they come from and the user that they are for.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use shared::{
    address_block::AddressBlock,
    refusal::{Kind, Refusal},
};

/// For how long failures count.
const WINDOW: Duration = Duration::from_mins(1);

/// The most pairs of address and user that are remembered: 24 bytes each, and the map's own room.
const MOST: usize = 100_000;

#[derive(Debug)]
pub(super) struct Attempts {
    limit: u32,
    hasher: RandomState,
    failures: Mutex<HashMap<u64, Failures>>,
}

#[derive(Debug)]
struct Failures {
    count: u32,
    since: Instant,
}

impl Attempts {
    /// Lets so many attempts fail a minute.
    pub(super) fn new(limit: u32) -> Self {
        Self { limit, hasher: RandomState::new(), failures: Mutex::default() }
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<u64, Failures>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, address: Option<IpAddr>, user: &str) -> u64 {
        self.hasher.hash_one((address.map(AddressBlock::of), user))
    }

    /// 429 once too many have failed within a minute.
    pub(super) fn check(&self, address: Option<IpAddr>, user: &str) -> Result<(), Refusal> {
        let key = self.key(address, user);
        let failures = self.failures();
        match failures.get(&key) {
            Some(found) if found.count >= self.limit && found.since.elapsed() < WINDOW => {
                let left = WINDOW.saturating_sub(found.since.elapsed()).as_secs() + 1;
                let message = "too many wrong passwords for this user from this address";
                Err(Refusal::new(Kind::TooMany, message).retry_after(left))
            }
            _ => Ok(()),
        }
    }

    /// Counts a wrong password.
    pub(super) fn failed(&self, address: Option<IpAddr>, user: &str) {
        let key = self.key(address, user);
        let mut failures = self.failures();
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

    /// Forgets the failures of one who knows the password after all.
    pub(super) fn succeeded(&self, address: Option<IpAddr>, user: &str) {
        self.failures().remove(&self.key(address, user));
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
        let attempts = Attempts::new(2);
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
        let attempts = Attempts::new(1);
        fail(&attempts, "2001:db8::1", "uji");
        check(&attempts, "2001:db8::ffff:1", "uji").expect_err("the same /64");
        check(&attempts, "2001:db8:0:1::1", "uji").expect("another /64");
        fail(&attempts, "192.0.2.1", "uji");
        check(&attempts, "::ffff:192.0.2.1", "uji").expect_err("the same");
    }
}
