//! The replies of a cursor: while one with many events is taken apart and published, MongoDB works on the next.

use std::{fmt, time::Duration};

use futures_util::StreamExt as _;
use mongodb::{
    error::Error,
    raw_batch_cursor::{RawBatch, RawBatchCursor},
};
use tokio::{
    task::{JoinSet, yield_now},
    time::timeout,
};

/// How long MongoDB holds an empty reply back for an event.
pub(crate) const AWAIT: Duration = Duration::from_secs(1);

/// A reply about the present that takes longer than this will not come: the server hangs.
pub(crate) const STALLED: Duration = Duration::from_secs(10);

/// With more events than this in a reply the next one is asked for ahead. With fewer it is better to ask behind them: what
/// happens while they are published comes in one reply, and goes out together.
const MANY: usize = 16;

/// What a cursor answers: nothing more, once MongoDB has ended it.
type Reply = Result<Option<RawBatch>, Error>;

/// A cursor that is read one reply ahead where that helps. Dropping it drops the cursor.
pub(crate) struct ReadAhead {
    /// Unless a task has it.
    cursor: Option<RawBatchCursor>,
    task: JoinSet<(RawBatchCursor, Reply)>,
}

impl fmt::Debug for ReadAhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadAhead")
    }
}

impl ReadAhead {
    pub(crate) fn new(cursor: RawBatchCursor) -> Self {
        Self { cursor: Some(cursor), task: JoinSet::new() }
    }

    /// The next reply, if it does not take longer than this.
    pub(crate) async fn next(&mut self, patience: Duration) -> Reply {
        let reply = if let Some(cursor) = &mut self.cursor {
            next(cursor, patience).await
        } else {
            let (cursor, reply) = match self.task.join_next().await {
                Some(read) => read.map_err(Error::custom)?,
                None => return Err(Error::custom("the cursor was lost with the task that read it")),
            };
            self.cursor = Some(cursor);
            reply
        };
        if let Ok(Some(batch)) = &reply
            && batch.doc_slices()?.into_iter().nth(MANY).is_some()
            && let Some(mut cursor) = self.cursor.take()
        {
            self.task.spawn(async move {
                let reply = next(&mut cursor, patience).await;
                (cursor, reply)
            });
            // The question goes out before this reply is taken apart.
            yield_now().await;
        }
        reply
    }
}

/// The next reply of a cursor that is read in place, if it does not take longer than this.
pub(crate) async fn next(cursor: &mut RawBatchCursor, patience: Duration) -> Reply {
    match timeout(patience, cursor.next()).await {
        Ok(batch) => batch.transpose(),
        Err(_) => Err(stalled("getMore")),
    }
}

/// The error of a command that MongoDB does not answer.
pub(crate) fn stalled(command: &str) -> Error {
    std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no reply to {command}")).into()
}
