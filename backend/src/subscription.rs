//! One subscriber's end of a source: a queue that is bounded in bytes, and the close that ends it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use shared::close::Close;
use tokio::sync::Notify;

use crate::{event::Event, source::Source};

/// What a subscriber gets next.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// An event.
    Event(Arc<Event>),
    /// The end; nothing follows.
    Close(Close),
}

/// The queue between a source and one subscriber.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    arrived: Notify,
    limit: usize,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    close: Option<Close>,
}

impl Queue {
    pub(crate) fn new(limit: usize) -> Self {
        Self { state: Mutex::default(), arrived: Notify::new(), limit }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds events in their order. When they do not fit, the subscriber is too slow: what waits already is still
    /// delivered, then it is closed, so that its last position is right. One event always fits.
    pub(crate) fn push(&self, events: &[Arc<Event>]) {
        let mut state = self.state();
        for event in events {
            if state.close.is_some() {
                return;
            }
            let weight = event.weight();
            if !state.events.is_empty() && state.bytes + weight > self.limit {
                state.close = Some(Close::TooSlow);
                break;
            }
            state.bytes += weight;
            state.events.push_back(Arc::clone(event));
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Ends the queue behind what waits in it. The first close counts.
    pub(crate) fn close(&self, close: Close) {
        self.state().close.get_or_insert(close);
        self.arrived.notify_one();
    }

    fn take(&self) -> Option<Delivery> {
        let mut state = self.state();
        if let Some(event) = state.events.pop_front() {
            state.bytes -= event.weight();
            if state.events.is_empty() {
                // An idle subscriber keeps no buffer.
                state.events = VecDeque::new();
            }
            return Some(Delivery::Event(event));
        }
        state.close.map(Delivery::Close)
    }
}

/// A place in a source's list of subscribers; dropping it leaves.
#[derive(Debug)]
pub struct Subscription {
    source: Arc<Source>,
    queue: Arc<Queue>,
}

impl Subscription {
    pub(crate) fn new(source: Arc<Source>, queue: Arc<Queue>) -> Self {
        Self { source, queue }
    }

    /// The next event or the close. Cancel-safe.
    pub async fn next(&self) -> Delivery {
        loop {
            let arrived = self.queue.arrived.notified();
            if let Some(delivery) = self.queue.take() {
                return delivery;
            }
            arrived.await;
        }
    }

    /// What is there already, if anything.
    pub fn try_next(&self) -> Option<Delivery> {
        self.queue.take()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.source.leave(&self.queue);
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    fn event(bytes: usize) -> Arc<Event> {
        Arc::new(Event::new(&rawdoc! { "x": "y".repeat(bytes) }))
    }

    #[test]
    fn a_full_queue_delivers_what_waits_and_then_closes_as_too_slow() {
        let queue = Queue::new(100);
        queue.push(&[event(50), event(50), event(1)]);
        assert!(matches!(queue.take(), Some(Delivery::Event(_))));
        assert!(matches!(queue.take(), Some(Delivery::Close(Close::TooSlow))));
        queue.push(&[event(1)]);
        assert!(matches!(queue.take(), Some(Delivery::Close(Close::TooSlow))));
    }

    #[test]
    fn one_event_always_fits() {
        let queue = Queue::new(100);
        queue.push(&[event(5_000)]);
        assert!(matches!(queue.take(), Some(Delivery::Event(_))));
        assert!(queue.take().is_none());
    }

    #[test]
    fn the_first_close_counts_and_comes_behind_the_events() {
        let queue = Queue::new(100);
        queue.push(&[event(1)]);
        queue.close(Close::DefinitionChanged);
        queue.close(Close::Gone);
        assert!(matches!(queue.take(), Some(Delivery::Event(_))));
        assert!(matches!(queue.take(), Some(Delivery::Close(Close::DefinitionChanged))));
    }
}
