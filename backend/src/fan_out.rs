//! Brings events to many subscribers: by as many threads as there are, and with no task woken for those who have nothing
//! ahead of them.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use tokio::{sync::Notify, task::yield_now};

use crate::{
    metrics::{Metrics, Tally},
    position::Position,
    schedule::{Publication, Schedule, Turn},
    subscription::{Delivered, NEAR, Queue},
};

/// What a source publishes, on its way to those whom it is for.
#[derive(Debug)]
pub(crate) struct FanOut {
    schedule: Mutex<Schedule>,
    /// Something has come to everybody. The source waits for it, and nobody else.
    progress: Notify,
    limit: usize,
    metrics: Arc<Metrics>,
    /// Whether a task panicked that had something to bring: some never get it.
    is_broken: AtomicBool,
}

/// A task that brings something. If it panics the source finds out.
struct Sweeper(Arc<FanOut>);

impl Drop for Sweeper {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.is_broken.store(true, Ordering::Relaxed);
            self.0.progress.notify_one();
        }
    }
}

impl FanOut {
    /// A fan-out of which at most `limit` bytes are on their way at one time, or one publication.
    pub(crate) fn new(limit: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            schedule: Mutex::default(),
            progress: Notify::new(),
            limit,
            metrics,
            is_broken: AtomicBool::default(),
        })
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everybody stands here.
    pub(crate) fn begin_at(&self, position: Position) {
        self.schedule().begin_at(position);
    }

    /// Behind everything that has come to everybody whom it is for: onto the socket, or into the queue.
    pub(crate) fn delivered(&self) -> Option<Position> {
        self.schedule().delivered().cloned()
    }

    /// Puts something on its way once there is room for it. When this returns the first have it.
    pub(crate) async fn publish(self: &Arc<Self>, publication: Publication) {
        self.until(|schedule| schedule.has_room_for(&publication, self.limit)).await;
        let (turn, sweepers) = self.schedule().publish(publication, threads());
        for _ in 0..sweepers {
            tokio::spawn(Arc::clone(self).sweep());
        }
        self.serve(turn);
    }

    /// Until everything has come to everybody.
    pub(crate) async fn drained(&self) {
        self.until(Schedule::is_empty).await;
    }

    async fn until(&self, condition: impl Fn(&Schedule) -> bool) {
        loop {
            let progress = self.progress.notified();
            assert!(!self.is_broken.load(Ordering::Relaxed), "a batch was lost on its way");
            if condition(&self.schedule()) {
                return;
            }
            progress.await;
        }
    }

    async fn sweep(self: Arc<Self>) {
        let sweeper = Sweeper(self);
        loop {
            let Some(turn) = sweeper.0.schedule().next_turn() else { return };
            sweeper.0.serve(turn);
            yield_now().await;
        }
    }

    fn serve(&self, turn: Turn) {
        let mut tally = Tally::default();
        for (subscribers, batch) in turn.shares() {
            let mut batch = batch.at_hand();
            for queues in subscribers.chunks(NEAR) {
                Queue::bring_near(queues);
                for queue in queues {
                    if let Some(Delivered { form, figures, since }) = queue.give(&mut batch) {
                        tally.wrote(form, figures.events, figures.bytes, batch.written_at(), since);
                    }
                }
            }
        }
        self.metrics.wrote(&tally);
        self.schedule().served(turn);
        self.progress.notify_one();
    }
}

fn threads() -> usize {
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{batch, schedule::Share, subscription};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn everybody_gets_all_of_theirs_once_and_in_order_while_more_is_published() {
        let fan_out = FanOut::new(10_000, Arc::default());
        let lists = [1, 64, 3_000]
            .map(|count| Arc::new((0..count).map(|_| Arc::new(subscription::live())).collect::<Vec<_>>()));
        let times = 1..=300;
        for time in times.clone() {
            let batch = Arc::new(batch::of([time]));
            let share = |list| Share { to: Arc::clone(list), batch: Arc::clone(&batch) };
            // Now and then somebody has come or gone.
            let members = u64::from(time) / 50;
            let position = batch::position(time);
            let shares = lists.iter().map(share).collect();
            fan_out.publish(Publication { shares, position, weight: 100, members }).await;
        }
        fan_out.drained().await;
        assert_eq!(fan_out.delivered(), Some(batch::position(300)));
        for queue in lists.iter().flat_map(|list| list.iter()) {
            assert!(subscription::times(queue).into_iter().eq(times.clone()));
        }
    }

    #[tokio::test]
    async fn a_panic_on_the_way_reaches_the_source() {
        let fan_out = FanOut::new(10_000, Arc::default());
        let sweeper = Sweeper(Arc::clone(&fan_out));
        let waiting = tokio::spawn(async move { fan_out.until(|_| false).await });
        yield_now().await;
        let panics = tokio::spawn(async move {
            let _sweeper = sweeper;
            panic!("as it never should");
        });
        assert!(panics.await.is_err_and(|error| error.is_panic()));
        assert!(waiting.await.is_err_and(|error| error.is_panic()));
    }
}
