//! Rates: how many streams are asked for in a second, by one address and by all.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use governor::{
    DefaultDirectRateLimiter, NotUntil, Quota, RateLimiter,
    clock::{Clock, MonotonicClock},
    state::keyed::HashMapStateStore,
};
use shared::{address_block::AddressBlock, limit::Limit, refusal::Refusal};

use crate::config::Limits;

/// After so many requests, addresses that did not come for a second are forgotten.
const SWEEP: u32 = 4096;

/// What is counted of each second.
#[derive(Debug)]
pub struct Rates {
    clock: MonotonicClock,
    all: DefaultDirectRateLimiter,
    most: NonZeroU32,
    by_address: RateLimiter<AddressBlock, HashMapStateStore<AddressBlock>, MonotonicClock>,
    most_by_address: NonZeroU32,
    asked: AtomicU32,
}

impl Rates {
    /// Nothing counted yet. A second's worth may come at once.
    pub fn new(limits: &Limits) -> Self {
        let (most, most_by_address) = (limits.upgrades_per_second, limits.upgrades_per_second_per_address);
        Self {
            clock: MonotonicClock,
            all: RateLimiter::direct(Quota::per_second(most)),
            most,
            by_address: RateLimiter::hashmap(Quota::per_second(most_by_address)),
            most_by_address,
            asked: AtomicU32::new(0),
        }
    }

    /// A stream is asked for from this address.
    pub fn ask_from(&self, address: AddressBlock) -> Result<(), Refusal> {
        if self.asked.fetch_add(1, Relaxed) % SWEEP == SWEEP - 1 {
            self.by_address.retain_recent();
        }
        let asked = self.by_address.check_key(&address);
        asked.map_err(|until| self.refusal(Limit::UpgradesPerAddress, self.most_by_address, &until))
    }

    /// A stream is asked for by somebody who may.
    pub fn ask(&self) -> Result<(), Refusal> {
        self.all.check().map_err(|until| self.refusal(Limit::Upgrades, self.most, &until))
    }

    fn refusal(
        &self,
        limit: Limit,
        most: NonZeroU32,
        until: &NotUntil<<MonotonicClock as Clock>::Instant>,
    ) -> Refusal {
        let wait = until.wait_time_from(self.clock.now());
        limit.refusal(most.get().into()).retry_after(whole_seconds(wait))
    }
}

/// `Retry-After` knows whole seconds only.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates() -> Rates {
        let few = |count| NonZeroU32::new(count).expect("not zero");
        let limits = Limits {
            upgrades_per_second: few(5),
            upgrades_per_second_per_address: few(2),
            ..Limits::default()
        };
        Rates::new(&limits)
    }

    #[test]
    fn an_address_over_its_rate_is_refused_and_others_are_not() {
        let rates = rates();
        let block = |text: &str| AddressBlock::of(text.parse().expect("an address"));
        assert!(rates.ask_from(block("192.0.2.1")).is_ok());
        assert!(rates.ask_from(block("192.0.2.1")).is_ok());
        let refusal = rates.ask_from(block("192.0.2.1")).expect_err("the third");
        assert_eq!(
            refusal.message(),
            "too many streams are asked for from this address: limits.upgrades-per-second-per-address is 2"
        );
        assert_eq!(refusal.status().as_u16(), 429);
        assert_eq!(refusal.headers(), [("retry-after", "1".to_owned())]);
        assert!(rates.ask_from(block("192.0.2.2")).is_ok());
    }

    #[test]
    fn all_together_have_a_rate_of_their_own() {
        let rates = rates();
        for _ in 0..5 {
            assert!(rates.ask().is_ok());
        }
        let refusal = rates.ask().expect_err("the sixth");
        assert_eq!(refusal.status().as_u16(), 503);
        assert_eq!(refusal.message(), "too many streams are asked for: limits.upgrades-per-second is 5");
    }

    #[test]
    fn addresses_that_do_not_come_any_more_are_forgotten() {
        let rates = rates();
        for number in 0..3 * SWEEP {
            let _ = rates.ask_from(AddressBlock::of(std::net::Ipv4Addr::from(number / 1000).into()));
        }
        assert!(rates.by_address.len() <= 16, "{}", rates.by_address.len());
    }
}
