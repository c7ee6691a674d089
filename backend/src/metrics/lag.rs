//! How old events are when they leave: a histogram of atomics, since the library's takes a lock at each observation.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};

/// Upper bounds, in milliseconds. A journaled write takes up to 100 ms to be seen; an outage of MongoDB takes minutes.
const BOUNDS: [u64; 14] =
    [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000];

/// Observations in milliseconds, shown in seconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Lag(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// One for each bound, and one for what is beyond them.
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum: AtomicU64,
}

impl Lag {
    /// Adds so many. A clock of MongoDB's that is ahead of ours makes it negative: that counts as none.
    pub(super) fn observe(&self, milliseconds: i64, times: u64) {
        let milliseconds = u64::try_from(milliseconds).unwrap_or(0);
        let bucket = BOUNDS.partition_point(|bound| *bound < milliseconds);
        self.0.counts[bucket].fetch_add(times, Relaxed);
        self.0.sum.fetch_add(milliseconds * times, Relaxed);
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of all deliveries together stay far below 2^53")]
fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1_000.0
}

impl EncodeMetric for Lag {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let counts: Vec<u64> = self.0.counts.iter().map(|count| count.load(Relaxed)).collect();
        let bounds = BOUNDS.iter().map(|bound| seconds(*bound)).chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
        let sum = seconds(self.0.sum.load(Relaxed));
        encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text, registry::Registry};

    use super::*;

    #[test]
    fn an_observation_counts_in_every_bucket_that_it_fits() {
        let lag = Lag::default();
        for milliseconds in [-5, 5, 6, 1_000_000] {
            lag.observe(milliseconds, 1);
        }
        let mut registry = Registry::default();
        registry.register("lag_seconds", "Lag", lag);
        let mut encoded = String::new();
        text::encode(&mut encoded, &registry).expect("text");
        for line in [
            "lag_seconds_bucket{le=\"0.005\"} 2",
            "lag_seconds_bucket{le=\"0.01\"} 3",
            "lag_seconds_bucket{le=\"300.0\"} 3",
            "lag_seconds_bucket{le=\"+Inf\"} 4",
            "lag_seconds_sum 1000.011",
            "lag_seconds_count 4",
        ] {
            assert!(encoded.lines().any(|other| other == line), "{line}\n{encoded}");
        }
    }
}
