//! Pauses between attempts: growing, bounded, and jittered, so that many who failed together do not return together.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(3);

/// The pauses of one who tries again.
#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// Whether there was a pause since the last success.
    pub fn has_paused(&self) -> bool {
        self.attempts > 0
    }

    /// The next pause: between half and the whole of a span that doubles up to three seconds.
    pub fn next_pause(&mut self) -> Duration {
        let span = FIRST.saturating_mul(1 << self.attempts.min(10)).min(LONGEST);
        self.attempts += 1;
        span.mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_never_vanish() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..40).map(|_| backoff.next_pause()).collect();
        assert!(pauses[0] >= FIRST / 2 && pauses[0] <= FIRST);
        assert!(pauses[20..].iter().all(|pause| *pause >= LONGEST / 2 && *pause <= LONGEST));
    }
}
