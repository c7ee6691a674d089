//! The replies of a cursor, one ahead of what is made of them: while a reply is taken apart and published, MongoDB works on the
//! next one.

use std::time::Duration;

use futures_util::StreamExt as _;
use mongodb::{
    error::Error,
    raw_batch_cursor::{RawBatch, RawBatchCursor},
};
use tokio::{
    select,
    sync::mpsc::{self, Receiver, Sender},
    task::yield_now,
    time::timeout,
};

/// A reply that takes longer than this will not come: the server hangs.
pub(crate) const STALLED: Duration = Duration::from_secs(10);

/// From so many bytes on there is more to win by asking on than by a head start for what is there.
const LARGE: usize = 4096;

/// What a cursor answers: nothing more, once MongoDB has ended it.
type Reply = Result<Option<RawBatch>, Error>;

/// A cursor that is read by a task of its own, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    replies: Receiver<Reply>,
}

impl ReadAhead {
    pub(crate) fn new(cursor: RawBatchCursor) -> Self {
        // One waits here; the next is asked for when that is taken.
        let (sender, replies) = mpsc::channel(1);
        tokio::spawn(read(cursor, sender));
        Self { replies }
    }

    /// The next reply; `None` where MongoDB has ended the cursor. Behind that and behind an error there is nothing.
    pub(crate) async fn next(&mut self) -> Reply {
        let ended = || Err(Error::custom("nobody reads the cursor any more"));
        let reply = self.replies.recv().await.unwrap_or_else(ended);
        if let Ok(Some(batch)) = &reply
            && batch.as_raw_document().as_bytes().len() > LARGE
        {
            // The question for the next one goes out.
            yield_now().await;
        }
        reply
    }
}

async fn read(mut cursor: RawBatchCursor, replies: Sender<Reply>) {
    while let Ok(place) = replies.reserve().await {
        let reply = select! {
            reply = next(&mut cursor) => reply,
            () = replies.closed() => return,
        };
        let was_last = !matches!(reply, Ok(Some(_)));
        place.send(reply);
        if was_last {
            return;
        }
    }
}

/// The next reply of a cursor that is read in place.
pub(crate) async fn next(cursor: &mut RawBatchCursor) -> Reply {
    match timeout(STALLED, cursor.next()).await {
        Ok(batch) => batch.transpose(),
        Err(_) => Err(stalled("getMore")),
    }
}

/// The error of a command that MongoDB does not answer.
pub(crate) fn stalled(command: &str) -> Error {
    std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no reply to {command}")).into()
}
