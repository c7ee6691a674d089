//! The subscribers of a source, found by what they want.

use std::{collections::HashMap, sync::Arc};

use shared::{following::Wanted, matcher::Index};

use crate::{event::Event, subscription::Queue};

/// All who follow one source: those for whom every event is, and those who want some, by what they want. An event costs
/// the latter no more than the few whom it concerns.
#[derive(Debug, Default)]
pub(crate) struct Members {
    count: usize,
    everything: Vec<Arc<Queue>>,
    some: HashMap<Arc<[u8]>, Vec<Arc<Queue>>>,
    index: Index<Arc<[u8]>>,
}

impl Members {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Queue>> {
        self.everything.iter().chain(self.some.values().flatten())
    }

    pub(crate) fn add(&mut self, queue: &Arc<Queue>) {
        self.count += 1;
        let Some(Wanted { key, matcher }) = queue.wanted() else {
            return self.everything.push(Arc::clone(queue));
        };
        let alike = self.some.entry(Arc::clone(key)).or_insert_with(|| {
            self.index.insert(Arc::clone(key), matcher.clone());
            Vec::new()
        });
        alike.push(Arc::clone(queue));
    }

    pub(crate) fn remove(&mut self, queue: &Arc<Queue>) {
        let is_it = |other: &Arc<Queue>| Arc::ptr_eq(other, queue);
        let (place, key) = match queue.wanted() {
            None => (Some(&mut self.everything), None),
            Some(Wanted { key, .. }) => (self.some.get_mut(key), Some(key)),
        };
        let Some(alike) = place else { return };
        let Some(index) = alike.iter().position(is_it) else { return };
        alike.swap_remove(index);
        self.count -= 1;
        if let (true, Some(key)) = (alike.is_empty(), key) {
            self.some.remove(key);
            self.index.remove(key);
        }
    }

    /// Gives events to those whom the cursor serves.
    pub(crate) fn publish(&self, events: &[Arc<Event>]) {
        for queue in self.everything.iter().filter(|queue| queue.is_live()) {
            queue.push(events);
        }
        if self.some.is_empty() {
            return;
        }
        for event in events {
            let give = |queues: &Vec<Arc<Queue>>| {
                for queue in queues.iter().filter(|queue| queue.is_live()) {
                    queue.push([event]);
                }
            };
            match event.document() {
                Some(document) => {
                    self.index.candidates(document, |key, _| {
                        // Whether it matches is asked by the queue.
                        if let Some(queues) = self.some.get(key) {
                            give(queues);
                        }
                    });
                }
                // A loss concerns everybody, and so does a failure of which no more is known.
                None => self.some.values().for_each(give),
            }
        }
    }
}
