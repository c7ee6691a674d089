//! What waits for one subscriber, in its order, counted in bytes.

use std::{collections::VecDeque, sync::Arc};

use crate::event::Event;

/// Events that wait. While none does, as with most subscribers most of the time, nothing is kept for them.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Option<Box<Events>>);

#[derive(Debug, Default)]
struct Events {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
}

impl Waiting {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// How many bytes wait.
    pub(crate) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.bytes)
    }

    /// Whether an event of this weight may wait too. One always may, however large it is, and so may what comes right behind it:
    /// the oldest does not count, since it is on its way, and is no sign of a slow reader.
    pub(crate) fn has_room_for(&self, weight: usize, limit: usize) -> bool {
        self.0.as_ref().is_none_or(|waiting| {
            let oldest = waiting.events.front().map_or(0, |oldest| oldest.weight());
            waiting.bytes - oldest + weight <= limit
        })
    }

    pub(crate) fn push(&mut self, event: Arc<Event>) {
        let waiting = self.0.get_or_insert_default();
        waiting.bytes += event.weight();
        waiting.events.push_back(event);
    }

    /// Takes the oldest.
    pub(crate) fn pop(&mut self) -> Option<Arc<Event>> {
        let waiting = self.0.as_mut()?;
        let event = waiting.events.pop_front()?;
        waiting.bytes -= event.weight();
        if waiting.events.is_empty() {
            self.clear();
        }
        Some(event)
    }

    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }
}
