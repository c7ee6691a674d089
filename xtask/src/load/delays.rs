//! How long events took.

use serde_json::{Value, json};

use super::now;

/// The time from the writing of each event to its arrival, in microseconds.
#[derive(Default)]
pub(super) struct Delays(Vec<u32>);

impl Delays {
    /// Adds an event that was written then, and is here now.
    pub(super) fn add(&mut self, at: u64) {
        self.0.push(u32::try_from(now().saturating_sub(at)).unwrap_or(u32::MAX));
    }

    /// Their number, median, 99th percentile, and longest. From here on they are counted anew.
    pub(super) fn take(&mut self) -> Value {
        let mut delays = std::mem::take(&mut self.0);
        delays.sort_unstable();
        let per_mille = |share| {
            let last = delays.len().saturating_sub(1);
            delays.get(last * share / 1000).map(|micros| f64::from(*micros) / 1000.0)
        };
        json!({
            "events": delays.len(),
            "p50_ms": per_mille(500),
            "p99_ms": per_mille(990),
            "longest_ms": per_mille(1000),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_is_not_counted_again() {
        let mut delays = Delays::default();
        for ago in 1..=100 {
            delays.add(now() - ago * 1_000_000);
        }
        let taken = delays.take();
        assert_eq!(taken["events"], 100);
        for (share, seconds) in [("p50_ms", 50.0), ("p99_ms", 99.0), ("longest_ms", 100.0)] {
            let took = taken[share].as_f64().unwrap() / 1e3;
            assert!((seconds..seconds + 1.0).contains(&took), "{share} is {took} s");
        }
        assert_eq!(delays.take(), json!({ "events": 0, "p50_ms": null, "p99_ms": null, "longest_ms": null }));
    }
}
