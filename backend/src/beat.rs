//! The moments at which sessions wake for what has time. Tens of thousands that wake one by one cost the runtime as many
//! times going to sleep; many that wake at one moment cost it once.

use std::{sync::OnceLock, time::Duration};

use tokio::time::Instant;

/// From one of them to the next.
const BEAT: Duration = Duration::from_millis(100);

/// The first of them that is no sooner than so long from now.
pub(crate) fn after(duration: Duration) -> Instant {
    not_before(Instant::now() + duration)
}

fn not_before(moment: Instant) -> Instant {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let first = *FIRST.get_or_init(Instant::now);
    let behind = moment.saturating_duration_since(first).as_nanos() % BEAT.as_nanos();
    match u64::try_from(behind) {
        Ok(behind @ 1..) => moment + BEAT - Duration::from_nanos(behind),
        _ => moment,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_about_the_same_moment_wakes_at_the_same_one_and_never_early_or_much_later() {
        let now = Instant::now();
        let mut beats: Vec<_> = (0..1_000)
            .map(|millis| {
                let moment = now + Duration::from_millis(millis);
                let beat = not_before(moment);
                assert!(beat >= moment && beat < moment + BEAT);
                assert_eq!(not_before(beat), beat);
                beat
            })
            .collect();
        beats.dedup();
        assert!((10..=11).contains(&beats.len()), "{}", beats.len());
    }
}
