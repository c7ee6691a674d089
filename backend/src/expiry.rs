//! When a session ends: credentials name a Unix time, timers want a moment of the runtime's clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The moment at which a Unix time, in seconds, comes; `None` for one that is too far away to matter.
pub fn moment_of(unix_seconds: u64) -> Option<Instant> {
    let then = UNIX_EPOCH.checked_add(Duration::from_secs(unix_seconds))?;
    let left = then.duration_since(SystemTime::now()).unwrap_or_default();
    Instant::now().checked_add(left)
}
