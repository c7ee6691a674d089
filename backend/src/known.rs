//! What is declared for collections, as far as it is known: forgotten as soon as anything tells of a change.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bson::Bson;
use shared::{
    definition::Definitions,
    name::{DatabaseName, Namespace},
};

/// What is declared for one collection, as read at one moment.
#[derive(Debug, PartialEq)]
pub struct Declared {
    /// The streams.
    pub definitions: Definitions,
    /// The property `streams` as stored, for the edge.
    pub streams: Option<Bson>,
    /// Whether the collection is there, and not only its metadata.
    pub exists: bool,
}

/// What was read, until it is forgotten.
///
/// Whoever learns of a change first forgets: the watcher of metadata, or a source whose collection is gone. So nobody who was
/// told of a change is judged by what was before it.
#[derive(Debug, Default)]
pub struct Known {
    /// What is forgotten has no entry: what was read before a change is not kept after it.
    entries: Mutex<HashMap<Namespace, Entry>>,
    next: AtomicU64,
}

/// What is known of a collection, or what waits for those who read it.
#[derive(Debug)]
struct Entry {
    /// No other has the same.
    id: u64,
    declared: Option<Arc<Declared>>,
}

/// One who reads a collection's metadata. Where it ends without anything to keep, nothing stays of it.
#[derive(Debug)]
pub(crate) struct Reading<'a> {
    known: &'a Known,
    namespace: &'a Namespace,
    entry: u64,
}

impl Known {
    fn entries(&self) -> MutexGuard<'_, HashMap<Namespace, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, namespace: &Namespace) -> Option<Arc<Declared>> {
        self.entries().get(namespace)?.declared.clone()
    }

    /// Before a collection's metadata is read.
    pub(crate) fn begin<'a>(&'a self, namespace: &'a Namespace) -> Reading<'a> {
        let new = || Entry { id: self.next.fetch_add(1, Ordering::Relaxed), declared: None };
        let entry = self.entries().entry(namespace.clone()).or_insert_with(new).id;
        Reading { known: self, namespace, entry }
    }

    /// Something of this collection has changed.
    pub(crate) fn forget(&self, namespace: &Namespace) {
        self.entries().remove(namespace);
    }

    /// Something of this database has changed.
    pub(crate) fn forget_database(&self, database: &DatabaseName) {
        self.entries().retain(|namespace, _| namespace.database != *database);
    }

    /// Anything may have changed.
    pub(crate) fn forget_all(&self) {
        self.entries().clear();
    }
}

impl Reading<'_> {
    /// Remembers what was read, if nothing was changed in the meantime. Where it is what was known already, that stays current:
    /// who reads through disturbs nobody.
    pub(crate) fn keep(&self, read: Declared) -> Arc<Declared> {
        let mut entries = self.known.entries();
        let entry = entries.get_mut(self.namespace).filter(|entry| entry.id == self.entry);
        let Some(entry) = entry else { return Arc::new(read) };
        match &entry.declared {
            Some(known) if **known == read => Arc::clone(known),
            _ => Arc::clone(entry.declared.insert(Arc::new(read))),
        }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut entries = self.known.entries();
        if entries.get(self.namespace).is_some_and(|entry| entry.id == self.entry && entry.declared.is_none())
        {
            entries.remove(self.namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use bson::{Document, doc};
    use shared::name::CollectionName;

    use super::*;

    fn namespace(database: &str) -> Namespace {
        Namespace {
            database: DatabaseName::new(database).expect("a name"),
            collection: CollectionName::new("log").expect("a name"),
        }
    }

    fn read(stages: Vec<Document>) -> Declared {
        let stored = doc! { "streams": [{ "uri": "s", "stages": stages }] };
        let streams = stored.get("streams");
        Declared { definitions: Definitions::stored(streams), streams: streams.cloned(), exists: true }
    }

    fn is_known(known: &Known, namespace: &Namespace, declared: &Arc<Declared>) -> bool {
        known.get(namespace).is_some_and(|known| Arc::ptr_eq(&known, declared))
    }

    #[test]
    fn what_was_judged_by_stays_known_while_others_read_the_same_from_the_database() {
        let (known, here) = (Known::default(), namespace("here"));
        let keep = |stages| known.begin(&here).keep(read(stages));
        let judged_by = keep(Vec::new());
        keep(Vec::new());
        assert!(is_known(&known, &here, &judged_by));
        keep(vec![doc! { "_$match": { "a": 1 } }]);
        assert!(!is_known(&known, &here, &judged_by), "it is another definition");
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it_and_changes_of_others_disturb_nobody() {
        let (known, here, there) = (Known::default(), namespace("here"), namespace("there"));
        let forget: [&dyn Fn(&Namespace); 2] =
            [&|namespace| known.forget(namespace), &|namespace| known.forget_database(&namespace.database)];
        for forget in forget {
            let before = known.begin(&here);
            forget(&there);
            let kept = before.keep(read(Vec::new()));
            assert!(is_known(&known, &here, &kept));

            let before = known.begin(&here);
            forget(&here);
            assert_eq!(known.get(&here), None);
            let behind = known.begin(&here);
            assert!(!is_known(&known, &here, &before.keep(read(Vec::new()))));
            assert!(is_known(&known, &here, &behind.keep(read(Vec::new()))));
            known.forget_all();
            assert_eq!(known.get(&here), None);
        }
        drop(known.begin(&there));
        assert!(known.entries().is_empty(), "who has found nothing leaves nothing");
    }
}
