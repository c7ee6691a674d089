//! A reply of MongoDB's that holds more than fits the queues goes out in pieces, at the pace of those who read.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::Source;
use crate::{event::Event, members::Members, position::Position, subscription::Queue};

/// How long a piece waits for queues that the one before it has filled, while nobody takes anything out of them.
const PACE: Duration = Duration::from_millis(100);
/// How long it waits at most: who reads more slowly than this is worth has a queue for it, and holds nobody else up.
const PACE_AT_MOST: Duration = Duration::from_millis(250);

impl Source {
    /// Publishes a reply of MongoDB's, which may hold more than fits any queue, in pieces: a client that reads gets the time
    /// to do so, and one that does not holds the others up for a moment only, before it is closed.
    pub(super) async fn publish_paced(&self, events: Vec<Arc<Event>>, position: Position) {
        let mut piece = Vec::new();
        let mut bytes = 0;
        for event in events {
            if bytes + event.weight() > self.parts.piece_bytes && !piece.is_empty() {
                self.publish_piece(&mut piece).await;
                if self.is_waited_for() {
                    // The rest is read again, by whom it concerns.
                    return;
                }
                bytes = 0;
            }
            bytes += event.weight();
            piece.push(event);
        }
        self.publish(&piece, position).await;
    }

    async fn publish_piece(&self, piece: &mut Vec<Arc<Event>>) {
        if let Some(position) = piece.last().map(|last| last.position().clone()) {
            self.publish(piece, position).await;
        }
        piece.clear();
        self.fan_out.drained().await;
        let filling = self.filling();
        let bytes = || filling.iter().filter_map(|queue| queue.filling_bytes()).sum::<usize>();
        let began = Instant::now();
        let mut progress = began;
        let mut waiting = bytes();
        while waiting > 0 && progress.elapsed() < PACE && began.elapsed() < PACE_AT_MOST {
            tokio::time::sleep(PACE / 50).await;
            let now = bytes();
            if now < waiting {
                progress = Instant::now();
            }
            waiting = now;
        }
    }

    /// The queues that are more than half full.
    fn filling(&self) -> Vec<Arc<Queue>> {
        let audience = self.audience();
        let members = audience.members.iter().flat_map(Members::iter);
        members.filter(|queue| queue.filling_bytes().is_some()).cloned().collect()
    }
}
