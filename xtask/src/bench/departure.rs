//! Clients that have left, as the server sees it.

use std::time::Duration;

use anyhow::{Result, ensure};
use parts::backend::Backend;
use tokio::time::{Instant, sleep};

/// How long the backend has to let go of those who have left.
const WITHIN: Duration = Duration::from_mins(1);
/// Connections to MongoDB that may have come meanwhile.
const OF_MONGODB: usize = 10;
const POLL: Duration = Duration::from_millis(100);

/// Waits until the backend has no more files open than it had, and so has closed the connections of those who have left.
pub(super) async fn all_have_left(backend: &Backend, files: usize) -> Result<()> {
    let deadline = Instant::now() + WITHIN;
    while backend.open_files()? > files + OF_MONGODB {
        ensure!(Instant::now() < deadline, "the backend holds connections of clients that have left");
        sleep(POLL).await;
    }
    Ok(())
}
