//! The subscribers of a source, found by what they want.

use std::{collections::HashMap, sync::Arc};

use shared::{following::Wanted, matcher::Index};

use crate::{batch::Batch, event::Event, schedule::Share, subscription::Queue};

/// All who follow one source: those for whom every event is, and those who want some, by what they want. An event costs
/// the latter no more than the few whom it concerns.
#[derive(Debug, Default)]
pub(crate) struct Members {
    count: usize,
    version: u64,
    // Those who are given events may be on their way while others come and go.
    everything: Arc<Vec<Arc<Queue>>>,
    some: HashMap<Arc<[u8]>, Arc<Vec<Arc<Queue>>>>,
    index: Index<Arc<[u8]>>,
}

impl Members {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Another number whenever somebody has come or gone.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Queue>> {
        self.everything.iter().chain(self.some.values().flat_map(|alike| alike.iter()))
    }

    pub(crate) fn add(&mut self, queue: &Arc<Queue>) {
        self.count += 1;
        self.version += 1;
        let Some(Wanted { key, matcher }) = queue.wanted() else {
            return Arc::make_mut(&mut self.everything).push(Arc::clone(queue));
        };
        let alike = self.some.entry(Arc::clone(key)).or_insert_with(|| {
            self.index.insert(Arc::clone(key), matcher.clone());
            Arc::default()
        });
        Arc::make_mut(alike).push(Arc::clone(queue));
    }

    pub(crate) fn remove(&mut self, queue: &Arc<Queue>) {
        let is_it = |other: &Arc<Queue>| Arc::ptr_eq(other, queue);
        let (place, key) = match queue.wanted() {
            None => (Some(&mut self.everything), None),
            Some(Wanted { key, .. }) => (self.some.get_mut(key), Some(key)),
        };
        let Some(alike) = place else { return };
        let Some(index) = alike.iter().position(is_it) else { return };
        Arc::make_mut(alike).swap_remove(index);
        self.count -= 1;
        self.version += 1;
        if let (true, Some(key)) = (alike.is_empty(), key) {
            self.some.remove(key);
            self.index.remove(key);
        }
    }

    /// Who gets which of these events, in their order.
    pub(crate) fn deliveries(&self, events: &[Arc<Event>]) -> Vec<Share> {
        if events.is_empty() {
            return Vec::new();
        }
        if self.some.is_empty() {
            let batch = Arc::new(Batch::for_all(events.to_vec()));
            return vec![Share { to: Arc::clone(&self.everything), batch }];
        }
        let whole = Arc::new(Batch::new(events.to_vec()));
        let mut shares = Vec::new();
        if !self.everything.is_empty() {
            shares.push(Share { to: Arc::clone(&self.everything), batch: Arc::clone(&whole) });
        }
        let mut of_key: HashMap<&Arc<[u8]>, Vec<Arc<Event>>> = HashMap::new();
        for event in events {
            match event.document() {
                Some(document) => self.index.candidates(document, |key, matcher| {
                    if matcher.matches(document) {
                        of_key.entry(key).or_default().push(Arc::clone(event));
                    }
                }),
                // A loss concerns everybody, and so does a failure of which no more is known.
                None => {
                    for key in self.some.keys() {
                        of_key.entry(key).or_default().push(Arc::clone(event));
                    }
                }
            }
        }
        for (key, theirs) in of_key {
            let Some(queues) = self.some.get(key) else { continue };
            // What is for all is encoded once for all.
            let all = theirs.len() == events.len();
            let batch = if all { Arc::clone(&whole) } else { Arc::new(Batch::new(theirs)) };
            shares.push(Share { to: Arc::clone(queues), batch });
        }
        shares
    }
}
