//! The subscribers of a source, and what was published for them.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    catch_up::Returner, event::Event, members::Members, position::Position, replay::Replay,
    schedule::Publication, subscription::Queue,
};

/// Who receives what, and what was sent last: changed together, so that nobody misses or doubles an event.
#[derive(Debug)]
pub(super) struct Audience {
    /// All subscribers; `None` once the source has ended: nobody joins any more.
    pub(super) members: Option<Members>,
    /// Those of them that still catch up, and are not served by the cursor.
    pub(super) returners: Vec<Returner>,
    pub(super) catching_up: bool,
    pub(super) replay: Replay,
    /// Behind everything that was published: it is in the replay, and on its way to those who were there.
    pub(super) position: Option<Position>,
    /// A source that began behind a returner's position reads the past first, which concerns nobody else: who has asked for
    /// no past begins here.
    pub(super) present: Option<Position>,
    pub(super) opened_at: Option<Instant>,
}

impl Audience {
    /// Notes that these events are published, and says who gets which of them.
    pub(super) fn publish(&mut self, events: &[Arc<Event>], position: Position) -> Publication {
        self.position = Some(position.clone());
        let (shares, members) = match &self.members {
            Some(members) => (members.deliveries(events), members.version()),
            None => (Vec::new(), 0),
        };
        let weight = events.iter().map(|event| event.weight()).sum();
        Publication { shares, position, weight, members }
    }

    /// Lets a subscriber begin that has not said where; for one that has, nothing changes.
    pub(super) fn begin(&self, queue: &Queue) {
        match (&self.present, &self.position) {
            (Some(present), _) => queue.begin_at(present),
            (None, Some(position)) => queue.begin_at(position),
            (None, None) => {}
        }
    }

    pub(super) fn serve_from_memory(&mut self, returner: &Returner) -> bool {
        let Some(missed) = self.replay.behind(&returner.after) else { return false };
        // What does not fit yet comes by the cursor, as fast as it is read.
        let has_all = returner.queue.offer(missed);
        if has_all {
            returner.queue.go_live();
        }
        has_all
    }
}
