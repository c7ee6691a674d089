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
    entries: Mutex<HashMap<Namespace, Arc<Declared>>>,
    // Counts every change that was seen, so that what was read before a change is not kept after it.
    changes: AtomicU64,
    watchers: watch::Sender<Watchers>,
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
            changes: AtomicU64::new(0),
            watchers: watch::Sender::new(Watchers { missing: watchers, starting: true }),
        })
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Namespace, Arc<Declared>>> {
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
            && let Some(declared) = self.entries().get(namespace)
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
        let before = self.changes.load(Ordering::SeqCst);
        let properties = Properties::of(&self.client, &namespace.database);
        let owner = Owner::Collection(&namespace.collection);
        let (stored, exists) = tokio::try_join!(
            properties.stored(&owner),
            metadata::collection_exists(&self.client, namespace)
        )?;
        let declared = declared(namespace, stored.as_ref(), exists);
        // What does not exist takes no memory, whoever asks for it.
        if exists && stored.is_some() {
            return Ok(self.keep(namespace, declared, before));
        }
        Ok(Arc::new(declared))
    }

    /// Remembers what was read when there had been so many changes, if there have been no more since. Where nothing has
    /// changed by it, what was known stays current: who reads through disturbs nobody.
    fn keep(&self, namespace: &Namespace, read: Declared, changes: u64) -> Arc<Declared> {
        let mut entries = self.entries();
        if self.changes.load(Ordering::SeqCst) != changes || !self.is_followed() {
            return Arc::new(read);
        }
        if let Some(known) = entries.get(namespace).filter(|known| ***known == read) {
            return Arc::clone(known);
        }
        let read = Arc::new(read);
        entries.insert(namespace.clone(), Arc::clone(&read));
        read
    }

    /// Whether nothing has changed since `declared` was read.
    pub fn is_current(&self, namespace: &Namespace, declared: &Arc<Declared>) -> bool {
        self.is_followed() && self.entries().get(namespace).is_some_and(|entry| Arc::ptr_eq(entry, declared))
    }

    /// The metadata of a collection was changed by somebody: reads it again and closes the streams that are not what
    /// they were.
    pub async fn changed(&self, namespace: &Namespace) -> Result<(), Error> {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.entries().remove(namespace);
        let declared = self.load(namespace).await?;
        self.hub.reconcile(namespace, &declared.definitions);
        Ok(())
    }

    /// The collection was dropped, renamed away, or replaced as a whole.
    pub async fn dropped(&self, namespace: &Namespace) -> Result<(), Error> {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.entries().remove(namespace);
        // Where the name lives on, with other documents, the streams go on behind a gap: their own cursors tell.
        if !metadata::collection_exists(&self.client, namespace).await? {
            self.hub.close_collection(namespace, Close::Gone);
        }
        Ok(())
    }

    /// The database was dropped.
    pub fn database_dropped(&self, database: &DatabaseName) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.entries().retain(|namespace, _| namespace.database != *database);
        self.hub.close_database(database, Close::Gone);
    }

    /// The metadata of a whole database was dropped.
    pub async fn properties_dropped(&self, database: &DatabaseName) -> Result<(), Error> {
        let followed = self.hub.followed();
        for namespace in followed.iter().filter(|namespace| namespace.database == *database) {
            self.changed(namespace).await?;
        }
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.entries().retain(|namespace, _| namespace.database != *database);
        Ok(())
    }

    /// A watcher's cursor is open. What happened before it is unknown, so all that is followed is read again.
    pub async fn watcher_opened(&self) -> Result<(), Error> {
        self.changes.fetch_add(1, Ordering::SeqCst);
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
        let judged_by = catalog.keep(&namespace, read(Vec::new()), 0);
        catalog.keep(&namespace, read(Vec::new()), 0);
        assert!(catalog.is_current(&namespace, &judged_by));
        catalog.keep(&namespace, read(vec![doc! { "_$match": { "a": 1 } }]), 0);
        assert!(!catalog.is_current(&namespace, &judged_by), "it is another definition");

        let judged_by = catalog.keep(&namespace, read(Vec::new()), 0);
        catalog.changes.fetch_add(1, Ordering::SeqCst);
        let late = catalog.keep(&namespace, read(Vec::new()), 0);
        assert!(!catalog.is_current(&namespace, &late), "it may have been read before the change");
        assert!(catalog.is_current(&namespace, &judged_by));
    }
}
