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

#[cfg(test)]
mod tests {
    use bson::{Timestamp, rawdoc};

    use super::*;
    use crate::{position::Position, seal};

    #[test]
    fn nothing_is_kept_once_nothing_waits() {
        let position = Position::before(Timestamp { time: 1, increment: 0 });
        let event = Arc::new(Event::change(
            rawdoc! { "x": 1 },
            &Arc::default(),
            position,
            &Arc::new(seal::for_tests()),
        ));
        let mut waiting = Waiting::default();
        waiting.push(Arc::clone(&event));
        assert_eq!(waiting.bytes(), event.weight());
        assert!(waiting.has_room_for(event.weight(), event.weight()), "the oldest does not count");
        assert!(!waiting.has_room_for(event.weight() + 1, event.weight()));
        assert!(waiting.pop().is_some());
        assert!(waiting.is_empty() && waiting.bytes() == 0);
        assert_eq!(size_of_val(&waiting), size_of::<usize>());
    }
}
