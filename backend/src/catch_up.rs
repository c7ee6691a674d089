//! Catching up: one cursor for all who return to a source from further back than its memory reaches.
//!
//! It begins at the oldest of their positions, and each receives what is behind its own. When it has come to where the
//! source's memory begins, they are handed over to the source. So returning clients cost one cursor a source at the most.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use shared::close::Close;
use tokio::{task::yield_now, time::timeout};

use crate::{
    backoff::Backoff,
    cursor::Progress,
    event::Event,
    metrics::Part,
    mongo::{self, Fault},
    position::Position,
    source::{self, Source},
    subscription::Queue,
};

/// How long one returner may hold up the others by not reading.
const BRIEF: Duration = Duration::from_millis(200);

/// How often it is looked whether anybody still waits, while MongoDB reads.
const GLANCE: Duration = Duration::from_secs(1);

/// Returners who are given events before other tasks get their turn of the thread.
const TURN: usize = 64;

/// How long a returner that was set aside may take nothing at all.
const PATIENCE: Duration = Duration::from_secs(10);

/// A subscriber that has missed something.
#[derive(Clone, Debug)]
pub struct Returner {
    /// Its queue.
    pub queue: Arc<Queue>,
    /// It knows everything up to here.
    pub after: Position,
}

/// Serves returners until nobody waits.
pub(crate) async fn run(source: Arc<Source>) {
    loop {
        let mut returners = source.take_returners();
        if returners.is_empty() {
            return;
        }
        returners.sort_by(|one, other| one.after.cmp(&other.after));
        serve(&source, returners).await;
    }
}

async fn serve(source: &Arc<Source>, mut returners: Vec<Returner>) {
    let mut backoff = Backoff::default();
    let mut cursor = source.cursor(returners.first().map(|oldest| oldest.after.clone()));
    loop {
        let Some(step) = while_wanted(cursor.advance(), &mut returners).await else { return };
        match step {
            Ok(Progress::Events(events, position)) => {
                backoff = Backoff::default();
                returners = give(source, returners, &events).await;
                for returner in &mut returners {
                    returner.after = position.clone().max(returner.after.clone());
                }
                returners.retain(|returner| !source.hand_over(returner));
            }
            Ok(Progress::Invalidated) => {
                // What is behind an `invalidate` belongs to another collection of the same name, if to any.
                match source::still_exists(source).await {
                    Ok(false) => returners.drain(..).for_each(|returner| returner.queue.close(Close::Gone)),
                    Ok(true) => returners.drain(..).for_each(|returner| source.hand_over_with_gap(&returner)),
                    Err(error) => pause(source, &mut backoff, &error).await,
                }
            }
            Err(error) if mongo::fault(&error) != Fault::HistoryLost => {
                pause(source, &mut backoff, &error).await;
            }
            Err(error) => {
                // The oldest position is lost; the others may not be.
                tracing::info!(error = mongo::unquoted(&error), "a position cannot be resumed");
                let lost = returners.remove(0);
                source.hand_over_with_gap(&lost);
                returners.retain(|returner| {
                    let same = returner.after == lost.after;
                    if same {
                        source.hand_over_with_gap(returner);
                    }
                    !same
                });
                cursor = source.cursor(returners.first().map(|oldest| oldest.after.clone()));
            }
        }
    }
}

/// What the cursor brings next; nothing once all who wait for it are served, or have left.
async fn while_wanted<T>(step: impl Future<Output = T>, returners: &mut Vec<Returner>) -> Option<T> {
    tokio::pin!(step);
    loop {
        returners.retain(|returner| !returner.queue.is_closed());
        if returners.is_empty() {
            return None;
        }
        if let Ok(step) = timeout(GLANCE, &mut step).await {
            return Some(step);
        }
    }
}

/// Gives events to all, and returns who has them all. Who does not read is set aside after a moment.
async fn give(source: &Arc<Source>, returners: Vec<Returner>, events: &[Arc<Event>]) -> Vec<Returner> {
    let (mut given, mut waiting) = (Vec::new(), Vec::new());
    for (index, returner) in returners.into_iter().enumerate() {
        if index % TURN == TURN - 1 {
            yield_now().await;
        }
        if returner.queue.offer(events) { &mut given } else { &mut waiting }.push(returner);
    }
    while !waiting.is_empty() {
        let drained = waiting.iter().map(|returner| timeout(BRIEF, returner.queue.drained()));
        let drained = join_all(drained).await;
        let mut still = Vec::new();
        for (returner, drained) in waiting.into_iter().zip(drained) {
            if drained.is_err() {
                tokio::spawn(wait_aside(Arc::clone(source), returner.queue));
            } else if returner.queue.offer(events) {
                given.push(returner);
            } else {
                still.push(returner);
            }
        }
        waiting = still;
    }
    given
}

/// Brings a slow returner back when it has read what it has; one that reads nothing at all is too slow.
async fn wait_aside(source: Arc<Source>, queue: Arc<Queue>) {
    loop {
        let before = queue.bytes();
        if timeout(PATIENCE, queue.drained()).await.is_ok() {
            if let Some(after) = queue.last() {
                source.bring_back(Returner { queue, after });
            }
            return;
        }
        if queue.bytes() == before {
            return queue.close(Close::TooSlow);
        }
    }
}

async fn pause(source: &Source, backoff: &mut Backoff, error: &mongodb::error::Error) {
    source.metrics().mongodb_failed(Part::CatchUp, mongo::fault(error));
    let pause = backoff.next_pause();
    tracing::warn!(error = mongo::unquoted(error), ?pause, "catching up is interrupted");
    tokio::time::sleep(pause).await;
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::{batch, subscription};

    #[tokio::test]
    async fn nothing_is_read_for_those_who_have_left() {
        let returner = || Returner { queue: Arc::new(subscription::live()), after: batch::position(1) };
        let mut returners = vec![returner(), returner()];
        let leaves = Arc::clone(&returners[0].queue);
        leaves.close(Close::GoingAway);
        assert_eq!(while_wanted(async { 1 }, &mut returners).await, Some(1));
        assert_eq!(returners.len(), 1);
        let leaves = Arc::clone(&returners[0].queue);
        let mut reading = Box::pin(while_wanted(std::future::pending::<()>(), &mut returners));
        assert_eq!((&mut reading).now_or_never(), None, "one still waits");
        leaves.close(Close::GoingAway);
        assert_eq!(reading.await, None);
    }
}
