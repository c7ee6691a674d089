//! The recent events of a source, bounded in bytes, so that a crowd of returning clients is served from memory.

use std::{collections::VecDeque, sync::Arc};

use crate::{event::Event, position::Position};

/// A ring of events without a hole between its floor and now.
#[derive(Debug)]
pub struct Replay {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    limit: usize,
    /// Everything behind it is in the ring.
    floor: Option<Position>,
}

impl Replay {
    /// An empty ring of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { events: VecDeque::new(), bytes: 0, limit, floor: None }
    }

    /// Begins anew: everything behind `floor` will be pushed.
    pub fn restart(&mut self, floor: Position) {
        self.events.clear();
        self.bytes = 0;
        self.floor = Some(floor);
    }

    /// Adds the newest event; the oldest make room for it.
    pub fn push(&mut self, event: &Arc<Event>) {
        self.bytes += event.bytes();
        self.events.push_back(Arc::clone(event));
        while self.bytes > self.limit
            && let Some(oldest) = self.events.pop_front()
        {
            self.bytes -= oldest.bytes();
            self.floor = Some(oldest.position().clone());
        }
    }

    /// The events behind `position`, or `None` when some of them are not here any more.
    pub fn behind(&self, position: &Position) -> Option<impl Iterator<Item = &Arc<Event>>> {
        if self.floor.as_ref()? > position {
            return None;
        }
        let first = self.events.partition_point(|event| event.position() <= position);
        Some(self.events.range(first..))
    }
}

#[cfg(test)]
mod tests {
    use bson::{Timestamp, rawdoc};

    use super::*;
    use crate::seal;

    fn position(time: u32) -> Position {
        Position::before(Timestamp { time, increment: 0 })
    }

    fn event(time: u32) -> Arc<Event> {
        Arc::new(Event::change(
            rawdoc! { "x": "y".repeat(80) },
            &Arc::default(),
            position(time),
            &Arc::new(seal::for_tests()),
        ))
    }

    fn times(replay: &Replay, behind: u32) -> Option<Vec<u32>> {
        let behind = position(behind);
        let events = replay.behind(&behind)?;
        Some(events.map(|event| event.position().start_at().time).collect())
    }

    #[test]
    fn a_ring_gives_what_is_behind_a_position_and_says_when_it_cannot() {
        let mut replay = Replay::new(300);
        assert_eq!(times(&replay, 10), None, "nothing is known yet");
        replay.restart(position(10));
        assert_eq!(times(&replay, 9), None);
        assert_eq!(times(&replay, 10), Some(vec![]));
        for time in [11, 12, 13] {
            replay.push(&event(time));
        }
        assert_eq!(times(&replay, 10), Some(vec![11, 12, 13]));
        assert_eq!(times(&replay, 12), Some(vec![13]));
        replay.push(&event(14));
        assert_eq!(times(&replay, 10), None, "11 was dropped");
        assert_eq!(times(&replay, 11), Some(vec![12, 13, 14]));
        assert_eq!(times(&replay, 20), Some(vec![]));
    }
}
