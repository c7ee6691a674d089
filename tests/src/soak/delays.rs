//! How long numbers take from their writer to the clients.

use std::fmt;

/// Delays, in order.
#[derive(Clone, Debug)]
pub struct Delays {
    micros: Vec<u32>,
}

impl Delays {
    /// Of these, in microseconds.
    pub fn of(micros: impl IntoIterator<Item = u32>) -> Self {
        let mut micros: Vec<u32> = micros.into_iter().collect();
        micros.sort_unstable();
        Self { micros }
    }

    /// The delay, in milliseconds, which so many in a thousand do not exceed.
    pub fn per_mille(&self, share: usize) -> f64 {
        let index = self.micros.len().saturating_sub(1) * share / 1000;
        self.micros.get(index).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
    }
}

impl fmt::Display for Delays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [half, most, all] = [500, 990, 1000].map(|share| self.per_mille(share));
        write!(f, "p50 {half:.1} ms, p99 {most:.1} ms, longest {all:.0} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let delays = Delays::of((1..=1000).rev().map(|ms| ms * 1000));
        assert_eq!(delays.to_string(), "p50 500.0 ms, p99 990.0 ms, longest 1000 ms");
        assert_eq!(Delays::of([]).to_string(), "p50 0.0 ms, p99 0.0 ms, longest 0 ms");
    }
}
