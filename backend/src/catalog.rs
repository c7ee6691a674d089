//! The declared streams of every collection, kept in memory for as long as the watcher follows their changes.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bson::{Bson, Document};
use mongodb::{Client, error::Error};
use shared::{
    close::Close,
    definition::Definitions,
    name::{DatabaseName, Namespace},
    refusal::{Kind, Refusal},
};

use tokio::sync::watch;

use crate::{
    hub::Hub,
    metadata::{self, Owner, Properties},
    mongo,
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

/// The cache of declarations. Nothing is believed while a watcher is down.
#[derive(Debug)]
pub struct Catalog {
    client: Client,
    hub: Arc<Hub>,
    /// A change that was seen takes the entry away: what was read before it is not kept after it.
    entries: Mutex<HashMap<Namespace, Entry>>,
    next: AtomicU64,
    watchers: watch::Sender<Watchers>,
}

/// What is known of a collection, or what waits for those who read it.
#[derive(Debug)]
struct Entry {
    /// No other has the same.
    id: u64,
    declared: Option<Arc<Declared>>,
}

/// One who reads a collection's metadata. Where it ends without anything to keep, nothing stays of it.
struct Reading<'a> {
    catalog: &'a Catalog,
    namespace: &'a Namespace,
    entry: u64,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut entries = self.catalog.entries();
        if entries.get(self.namespace).is_some_and(|entry| entry.id == self.entry && entry.declared.is_none())
        {
            entries.remove(self.namespace);
        }
    }
}

impl Reading<'_> {
    /// Remembers what was read, if nothing was changed in the meantime. Where it is what was known already, that stays current:
    /// who reads through disturbs nobody.
    fn keep(&self, read: Declared) -> Arc<Declared> {
        let mut entries = self.catalog.entries();
        let entry = entries.get_mut(self.namespace).filter(|entry| entry.id == self.entry);
        let Some(entry) = entry.filter(|_| self.catalog.is_followed()) else { return Arc::new(read) };
        match &entry.declared {
            Some(known) if **known == read => Arc::clone(known),
            _ => Arc::clone(entry.declared.insert(Arc::new(read))),
        }
    }
}

/// How well changes of metadata are followed.
#[derive(Clone, Copy, Debug)]
struct Watchers {
    missing: usize,
    /// Whether all of them are at their first attempt yet.
    starting: bool,
}

impl Catalog {
    /// An empty catalog that waits for `watchers` watchers.
    pub fn new(client: Client, hub: Arc<Hub>, watchers: usize) -> Arc<Self> {
        Arc::new(Self {
            client,
            hub,
            entries: Mutex::default(),
            next: AtomicU64::new(0),
            watchers: watch::Sender::new(Watchers { missing: watchers, starting: true }),
        })
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Namespace, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether every change of metadata is followed right now.
    pub fn is_followed(&self) -> bool {
        self.watchers.borrow().missing == 0
    }

    /// 503 while changes of metadata are not followed: an open stream could outlive its definition. A node that has just
    /// started waits for its first attempt.
    pub async fn check_followed(&self) -> Result<(), Refusal> {
        let mut watchers = self.watchers.subscribe();
        let _ = watchers.wait_for(|watchers| watchers.missing == 0 || !watchers.starting).await;
        self.followed_now()
    }

    /// As [`Catalog::check_followed`], without waiting.
    pub fn followed_now(&self) -> Result<(), Refusal> {
        if self.is_followed() {
            return Ok(());
        }
        Err(Refusal::new(Kind::Unavailable, "MongoDB is not reachable"))
    }

    /// What is declared, from memory where that is as good as the database.
    pub async fn read(&self, namespace: &Namespace) -> Result<Arc<Declared>, Refusal> {
        if self.is_followed()
            && let Some(declared) = self.entries().get(namespace).and_then(|entry| entry.declared.as_ref())
        {
            return Ok(Arc::clone(declared));
        }
        self.read_through(namespace).await
    }

    /// What is declared, from the database.
    pub async fn read_through(&self, namespace: &Namespace) -> Result<Arc<Declared>, Refusal> {
        self.load(namespace).await.map_err(|error| mongo::refusal(&error))
    }

    async fn load(&self, namespace: &Namespace) -> Result<Arc<Declared>, Error> {
        let reading = self.begin(namespace);
        let properties = Properties::of(&self.client, &namespace.database);
        let owner = Owner::Collection(&namespace.collection);
        let (stored, exists) = tokio::try_join!(
            properties.stored(&owner),
            metadata::collection_exists(&self.client, namespace)
        )?;
        let declared = declared(namespace, stored.as_ref(), exists);
        // What does not exist takes no memory, whoever asks for it.
        if exists && stored.is_some() {
            return Ok(reading.keep(declared));
        }
        Ok(Arc::new(declared))
    }

    fn begin<'a>(&'a self, namespace: &'a Namespace) -> Reading<'a> {
        let new = || Entry { id: self.next.fetch_add(1, Ordering::Relaxed), declared: None };
        let entry = self.entries().entry(namespace.clone()).or_insert_with(new).id;
        Reading { catalog: self, namespace, entry }
    }

    /// Whether nothing has changed since `declared` was read.
    pub fn is_current(&self, namespace: &Namespace, declared: &Arc<Declared>) -> bool {
        let entries = self.entries();
        let known = entries.get(namespace).and_then(|entry| entry.declared.as_ref());
        self.is_followed() && known.is_some_and(|known| Arc::ptr_eq(known, declared))
    }

    /// The metadata of a collection was changed by somebody: reads it again and closes the streams that are not what
    /// they were.
    pub async fn changed(&self, namespace: &Namespace) -> Result<(), Error> {
        self.entries().remove(namespace);
        let declared = self.load(namespace).await?;
        self.hub.reconcile(namespace, &declared.definitions);
        Ok(())
    }

    /// The collection was dropped, renamed away, or replaced as a whole.
    pub async fn dropped(&self, namespace: &Namespace) -> Result<(), Error> {
        self.entries().remove(namespace);
        // Where the name lives on, with other documents, the streams go on behind a gap: their own cursors tell.
        if !metadata::collection_exists(&self.client, namespace).await? {
            self.hub.close_collection(namespace, Close::Gone);
        }
        Ok(())
    }

    /// The database was dropped.
    pub fn database_dropped(&self, database: &DatabaseName) {
        self.entries().retain(|namespace, _| namespace.database != *database);
        self.hub.close_database(database, Close::Gone);
    }

    /// The metadata of a whole database was dropped.
    pub async fn properties_dropped(&self, database: &DatabaseName) -> Result<(), Error> {
        let followed = self.hub.followed();
        for namespace in followed.iter().filter(|namespace| namespace.database == *database) {
            self.changed(namespace).await?;
        }
        self.entries().retain(|namespace, _| namespace.database != *database);
        Ok(())
    }

    /// A watcher's cursor is open. What happened before it is unknown, so all that is followed is read again.
    pub async fn watcher_opened(&self) -> Result<(), Error> {
        self.entries().clear();
        for namespace in self.hub.followed() {
            let declared = self.load(&namespace).await?;
            if declared.exists {
                self.hub.reconcile(&namespace, &declared.definitions);
            } else {
                self.hub.close_collection(&namespace, Close::Gone);
            }
        }
        self.watchers.send_modify(|watchers| watchers.missing -= 1);
        Ok(())
    }

    /// A watcher's cursor is lost.
    pub fn watcher_lost(&self) {
        self.watchers.send_modify(|watchers| watchers.missing += 1);
        self.entries().clear();
    }

    /// A watcher could not do its work, and tries again.
    pub fn watcher_failed(&self) {
        self.watchers.send_modify(|watchers| watchers.starting = false);
    }
}

fn declared(namespace: &Namespace, stored: Option<&Document>, exists: bool) -> Declared {
    let streams = stored.and_then(|stored| stored.get("streams"));
    let definitions = Definitions::stored(streams);
    for note in definitions.notes() {
        tracing::warn!(%namespace, note, "in stored definitions");
    }
    for (stream, definition) in definitions.iter() {
        if let Err(fault) = definition {
            tracing::warn!(%namespace, %stream, fault = fault.message(), "a stored definition is broken");
        }
    }
    Declared { streams: streams.cloned(), definitions, exists }
}

#[cfg(test)]
mod tests {
    use bson::doc;
    use shared::name::CollectionName;

    use super::*;
    use crate::{config::Config, metrics::Metrics, mongo::Mongo};

    /// A catalog whose MongoDB is nowhere, and whose changes are followed.
    async fn catalog() -> Arc<Catalog> {
        let mut config: Config = toml::from_str("auth.anonymous = true").expect("a configuration");
        config.mongodb.uri = "mongodb://127.0.0.1:1/none".to_owned();
        let metrics = Arc::new(Metrics::default());
        let mongo = Mongo::new(&config.mongodb, &metrics).await.expect("a connection string");
        let hub = Hub::new(mongo.clone(), &config.limits, metrics);
        Catalog::new(mongo.operations, hub, 0)
    }

    #[tokio::test]
    async fn what_was_judged_by_stays_current_while_others_read_the_same_from_the_database() {
        let catalog = catalog().await;
        let namespace = Namespace {
            database: DatabaseName::new("db").expect("a name"),
            collection: CollectionName::new("log").expect("a name"),
        };
        let read = |stages: Vec<Document>| {
            let stored = doc! { "streams": [{ "uri": "s", "stages": stages }] };
            declared(&namespace, Some(&stored), true)
        };
        let keep = |stages| catalog.begin(&namespace).keep(read(stages));
        let judged_by = keep(Vec::new());
        keep(Vec::new());
        assert!(catalog.is_current(&namespace, &judged_by));
        keep(vec![doc! { "_$match": { "a": 1 } }]);
        assert!(!catalog.is_current(&namespace, &judged_by), "it is another definition");
    }

    #[tokio::test]
    async fn what_was_read_before_a_change_is_not_kept_after_it_and_changes_of_others_disturb_nobody() {
        let catalog = catalog().await;
        let namespace = |name: &str| Namespace {
            database: DatabaseName::new(name).expect("a name"),
            collection: CollectionName::new("log").expect("a name"),
        };
        let (here, there) = (namespace("here"), namespace("there"));
        let read = || declared(&here, None, true);
        let before = catalog.begin(&here);
        catalog.database_dropped(&there.database);
        let kept = before.keep(read());
        assert!(catalog.is_current(&here, &kept));

        let before = catalog.begin(&here);
        catalog.database_dropped(&here.database);
        assert!(!catalog.is_current(&here, &kept));
        let behind = catalog.begin(&here);
        assert!(!catalog.is_current(&here, &before.keep(read())));
        assert!(catalog.is_current(&here, &behind.keep(read())));

        drop(catalog.begin(&there));
        assert_eq!(catalog.entries().len(), 1, "who has found nothing leaves nothing");
    }
}
