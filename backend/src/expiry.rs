//! When a session ends: credentials name a Unix time, timers want a moment of the runtime's clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The end of a session's credentials, and the moment at which the client is told that it comes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expiry {
    end: Option<Instant>,
    /// `None` once the client was told, and where it is not to be told.
    warning: Option<Instant>,
    /// The end in Unix seconds, for the client.
    at: u64,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The client is to be told that the credentials end at this Unix time, in seconds.
    Warning(u64),
    /// The credentials have run out.
    End,
}

impl Expiry {
    /// The end at a Unix time, in seconds; `None` is never.
    pub fn at(expires_at: Option<u64>) -> Self {
        let end = expires_at.and_then(moment_of);
        Self { end, warning: None, at: expires_at.unwrap_or_default() }
    }

    /// The same, with a warning so long before; half of what is left when that is sooner.
    #[must_use]
    pub fn with_warning(mut self, ahead: Duration) -> Self {
        self.warning = self.end.map(|end| {
            let left = end.saturating_duration_since(Instant::now());
            end - ahead.min(left / 2)
        });
        self
    }

    /// When something is due next.
    pub fn next(&self) -> Option<Instant> {
        self.warning.or(self.end)
    }

    /// What is due now; a warning is so once.
    pub fn due(&mut self) -> Option<Due> {
        let now = Instant::now();
        if self.end.is_some_and(|end| end <= now) {
            return Some(Due::End);
        }
        self.warning.take_if(|warning| *warning <= now).map(|_| Due::Warning(self.at))
    }
}

/// The moment at which a Unix time, in seconds, comes; `None` for one that is too far away to matter.
fn moment_of(unix_seconds: u64) -> Option<Instant> {
    let then = UNIX_EPOCH.checked_add(Duration::from_secs(unix_seconds))?;
    let left = then.duration_since(SystemTime::now()).unwrap_or_default();
    Instant::now().checked_add(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_seconds(seconds: u64) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        now.as_secs() + seconds
    }

    fn until_warning(end_in: u64, ahead: u64) -> Duration {
        let expiry = Expiry::at(Some(in_seconds(end_in))).with_warning(Duration::from_secs(ahead));
        expiry.next().expect("a warning") - Instant::now()
    }

    #[test]
    fn the_warning_comes_so_long_before_the_end_or_halfway() {
        let long = until_warning(600, 60);
        assert!(long > Duration::from_secs(538) && long < Duration::from_secs(541), "{long:?}");
        let short = until_warning(10, 60);
        assert!(short > Duration::from_secs(4) && short < Duration::from_millis(5100), "{short:?}");
    }

    #[test]
    fn the_warning_comes_once_and_the_end_is_the_end() {
        let expires_at = in_seconds(600);
        let mut expiry = Expiry::at(Some(expires_at)).with_warning(Duration::from_mins(1));
        assert_eq!(expiry.due(), None);
        expiry.warning = Some(Instant::now());
        assert_eq!(expiry.due(), Some(Due::Warning(expires_at)));
        assert_eq!(expiry.due(), None);
        assert_eq!(Expiry::at(Some(0)).with_warning(Duration::from_mins(1)).due(), Some(Due::End));
        assert_eq!(Expiry::at(None).with_warning(Duration::from_mins(1)).next(), None);
        assert_eq!(Expiry::at(Some(u64::MAX)).next(), None);
    }
}
