//! The task of a source: it follows the cursor, whatever happens to MongoDB meanwhile.

use std::{sync::Arc, time::Duration};

use mongodb::error::Error;
use shared::close::Close;
use tokio::time::timeout;

use super::{PAST, Source, State};
use crate::{
    backoff::Backoff,
    cursor::{Cursor, Progress},
    hub::SourceKey,
    metadata,
    metrics::Part,
    mongo::{self, Fault},
    position::Position,
};

/// Follows the cursor until the source ends. It begins behind `start`, which the first subscriber brought, or now.
pub(crate) async fn run(source: Arc<Source>, start: Option<Position>) {
    let SourceKey { namespace, stream, .. } = source.key.clone();
    tracing::debug!(%namespace, %stream, "source opens");
    tokio::select! {
        () = source.abandoned.notified() => {}
        () = follow(&source, start) => {}
    }
    tracing::debug!(%namespace, %stream, "source ended");
}

async fn follow(source: &Arc<Source>, start: Option<Position>) {
    let mut cursor = match open(source, start).await {
        Ok(cursor) => cursor,
        Err(error) => return source.refuse(mongo::refusal(&error)),
    };
    let SourceKey { namespace, stream, .. } = &source.key;
    let mut backoff = Backoff::default();
    // Remembered across failures: what was lost is told, even if it takes long until the stream can go on.
    let mut lost = false;
    loop {
        if source.is_waited_for()
            && let Some(of_the_present) = source.leave_the_past().await
        {
            cursor = of_the_present;
        }
        let step = if lost { restart(source, &mut cursor).await } else { advance(source, &mut cursor).await };
        match step {
            Ok(Step::GoesOn) => {
                lost = false;
                if backoff.has_paused() {
                    backoff = Backoff::default();
                    source.state.send_replace(State::Open);
                }
            }
            Ok(Step::Lost) => {
                tracing::warn!(%namespace, %stream, "source lost its history");
                lost = true;
            }
            Ok(Step::Gone) => {
                source.fan_out.drained().await;
                return source.close(Close::Gone);
            }
            Err(error) => {
                source.state.send_replace(State::Interrupted);
                source.metrics().mongodb_failed(Part::Source, mongo::fault(&error));
                let pause = backoff.next_pause();
                let error = mongo::unquoted(&error);
                tracing::warn!(%namespace, %stream, error, ?pause, "source interrupted");
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// What one turn of a source comes to.
enum Step {
    GoesOn,
    Lost,
    Gone,
}

/// Publishes what MongoDB sends next.
async fn advance(source: &Source, cursor: &mut Cursor) -> Result<Step, Error> {
    match cursor.advance().await {
        Ok(Progress::Events(events, position)) => {
            source.metrics().received(events.len());
            source.publish_paced(events, position).await;
            Ok(Step::GoesOn)
        }
        // `invalidate` is not "gone": `$out` or a rename onto the name leaves the name there, with other documents.
        Ok(Progress::Invalidated) => Ok(if still_exists(source).await? { Step::Lost } else { Step::Gone }),
        Err(error) if mongo::fault(&error) == Fault::HistoryLost => Ok(Step::Lost),
        Err(error) => Err(error),
    }
}

/// Opens the first cursor. Where that is not possible behind `start`, or takes long, it begins now, and the one who brought
/// `start` catches up: only then is it known whether the pipeline, the position, or an event is at fault, and others need not
/// wait while MongoDB looks through the past.
async fn open(source: &Source, start: Option<Position>) -> Result<Cursor, Error> {
    let begins_anew = start.is_none();
    let mut cursor = source.cursor(start);
    let within = if begins_anew { Duration::MAX } else { PAST };
    let from = match timeout(within, cursor.open()).await {
        Ok(Err(error)) if begins_anew || mongo::fault(&error) == Fault::Unreachable => return Err(error),
        Ok(Ok(from)) => from,
        Ok(Err(_)) | Err(_) => {
            cursor.restart();
            cursor.open().await?
        }
    };
    let present = cursor.opened_at().filter(|_| !begins_anew).map(Position::after);
    source.opened(&from, present);
    Ok(cursor)
}

/// Goes on from now, and tells everybody that there is a gap.
async fn restart(source: &Source, cursor: &mut Cursor) -> Result<Step, Error> {
    cursor.restart();
    let from = cursor.open().await?;
    source.publish_gap(&from).await;
    Ok(Step::GoesOn)
}

/// What becomes of a source's namespace when MongoDB ends a cursor: whether its name still is there. Where it is not, nothing is
/// known of it any more, most often before the watcher has heard of it: who is told that it is gone finds it gone.
pub(crate) async fn still_exists(source: &Source) -> Result<bool, Error> {
    let SourceKey { namespace, .. } = &source.key;
    let exists = metadata::collection_exists(&source.parts.client, namespace).await?;
    if !exists {
        source.parts.known.forget(namespace);
    }
    Ok(exists)
}
