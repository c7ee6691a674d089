//! How long events took.

use serde_json::{Value, json};

/// The time from the writing of each event to its arrival, in microseconds.
#[derive(Default)]
pub(super) struct Delays(Vec<u32>);

impl Delays {
    /// Adds an event that was written at one time and came at another, in microseconds since 1970.
    pub(super) fn add(&mut self, written: u64, came: u64) {
        self.0.push(u32::try_from(came.saturating_sub(written)).unwrap_or(u32::MAX));
    }

    /// How many events were added.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Their number, median, 99th percentile, and longest. From here on they are counted anew.
    pub(super) fn take(&mut self) -> Value {
        let delays = &mut self.0;
        delays.sort_unstable();
        let per_mille = |share| {
            let last = delays.len().saturating_sub(1);
            delays.get(last * share / 1000).map(|micros| f64::from(*micros) / 1000.0)
        };
        let taken = json!({
            "events": delays.len(),
            "p50_ms": per_mille(500),
            "p99_ms": per_mille(990),
            "longest_ms": per_mille(1000),
        });
        // The room stays: to ask for it again would take time from what is measured.
        self.0.clear();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_is_not_counted_again() {
        let mut delays = Delays::default();
        for seconds in 1..=100 {
            delays.add(7, 7 + seconds * 1_000_000);
        }
        assert_eq!(delays.len(), 100);
        let expected =
            json!({ "events": 100, "p50_ms": 50_000.0, "p99_ms": 99_000.0, "longest_ms": 100_000.0 });
        assert_eq!(delays.take(), expected);
        assert_eq!(delays.take(), json!({ "events": 0, "p50_ms": null, "p99_ms": null, "longest_ms": null }));
    }
}
