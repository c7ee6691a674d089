//! Brings events to many subscribers: by as many threads as there are, and with no task woken for those who have nothing
//! ahead of it.

use std::{
    ops::Range,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use tokio::task::{JoinSet, yield_now};

use crate::{
    batch::Batch,
    metrics::{Metrics, Tally},
    subscription::{Delivered, NEAR, Queue},
};

/// Subscribers who are served before other tasks get their turn of the thread: a millisecond or less.
const TURN: usize = 128;

/// With more subscribers than this for each of them it is worth to wake another thread.
const WORTH_A_THREAD: usize = 256;

/// A batch, and everybody whom it is for.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) to: Arc<Vec<Arc<Queue>>>,
    pub(crate) batch: Arc<Batch>,
}

/// Gives everybody their share. It is done when this returns: what is given next comes behind it.
pub(crate) async fn run(shares: Vec<Share>, metrics: &Arc<Metrics>) {
    let work = Arc::new(Work::new(shares, Arc::clone(metrics)));
    let mut others = JoinSet::new();
    for _ in 1..threads().min(work.subscribers() / WORTH_A_THREAD) {
        others.spawn(Arc::clone(&work).take_turns());
    }
    work.take_turns().await;
    while others.join_next().await.is_some() {}
}

fn threads() -> usize {
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
}

/// What is to be done, by whoever has time for it.
#[derive(Debug)]
struct Work {
    shares: Vec<Share>,
    /// How many subscribers there are up to and with each share.
    ends: Vec<usize>,
    /// The first subscriber of the next turn.
    next: AtomicUsize,
    metrics: Arc<Metrics>,
}

impl Work {
    fn new(shares: Vec<Share>, metrics: Arc<Metrics>) -> Self {
        let ends = shares
            .iter()
            .scan(0, |end, share| {
                *end += share.to.len();
                Some(*end)
            })
            .collect();
        Self { shares, ends, next: AtomicUsize::new(0), metrics }
    }

    fn subscribers(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    async fn take_turns(self: Arc<Self>) {
        loop {
            let from = self.next.fetch_add(TURN, Relaxed);
            if from >= self.subscribers() {
                return;
            }
            self.turn(from..(from + TURN).min(self.subscribers()));
            if from + TURN < self.subscribers() {
                yield_now().await;
            }
        }
    }

    /// Gives some subscribers what is theirs.
    fn turn(&self, subscribers: Range<usize>) {
        let mut tally = Tally::default();
        let mut from = subscribers.start;
        while from < subscribers.end {
            let index = self.ends.partition_point(|end| *end <= from);
            let Share { to, batch } = &self.shares[index];
            let begin = self.ends[index] - to.len();
            let until = self.ends[index].min(subscribers.end);
            let mut batch = batch.at_hand();
            for queues in to[from - begin..until - begin].chunks(NEAR) {
                Queue::bring_near(queues);
                for queue in queues {
                    if let Some(Delivered { form, figures, since }) = queue.give(&mut batch) {
                        tally.wrote(form, figures.events, figures.bytes, batch.written_at(), since);
                    }
                }
            }
            from = until;
        }
        self.metrics.wrote(&tally);
    }
}

#[cfg(test)]
mod tests {
    use bson::{Timestamp, rawdoc};

    use super::*;
    use crate::{event::Event, position::Position, seal, subscription::Delivery};

    fn batch(time: u32) -> Arc<Batch> {
        let position = Position::before(Timestamp { time, increment: 0 });
        let event = Event::change(rawdoc! { "n": 1 }, position, &Arc::new(seal::for_tests()));
        Arc::new(Batch::new(vec![Arc::new(event)]))
    }

    fn queues(count: usize) -> Vec<Arc<Queue>> {
        let live = |_| {
            let queue = Arc::new(Queue::new(1_000, None, None));
            queue.go_live();
            queue
        };
        (0..count).map(live).collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn everybody_gets_their_share_once_whatever_the_turns() {
        let (one, other, many) = (queues(1), queues(TURN), queues(3_000));
        let share = |to: &[Arc<Queue>], time| Share { to: Arc::new(to.to_vec()), batch: batch(time) };
        let shares = vec![share(&one, 1), share(&[], 2), share(&other, 3), share(&many, 4)];
        run(shares, &Arc::default()).await;
        for (queues, time) in [(one, 1), (other, 3), (many, 4)] {
            for queue in queues {
                let Some(Delivery::Event(event)) = queue.take() else { panic!("an event") };
                assert_eq!(event.position().start_at().time, time);
                assert!(queue.take().is_none());
            }
        }
    }
}
