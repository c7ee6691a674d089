//! The declared streams of every collection, kept in memory for as long as the watcher follows their changes.

use std::sync::Arc;

use bson::Document;
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
    known::{Declared, Known},
    metadata::{self, Owner, Properties},
    mongo,
};

/// The cache of declarations. Nothing is believed while a watcher is down.
#[derive(Debug)]
pub struct Catalog {
    client: Client,
    hub: Arc<Hub>,
    known: Arc<Known>,
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
    pub fn new(client: Client, hub: Arc<Hub>, known: Arc<Known>, watchers: usize) -> Arc<Self> {
        Arc::new(Self {
            client,
            hub,
            known,
            watchers: watch::Sender::new(Watchers { missing: watchers, starting: true }),
        })
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
            && let Some(declared) = self.known.get(namespace)
        {
            return Ok(declared);
        }
        self.read_through(namespace).await
    }

    /// What is declared, from the database.
    pub async fn read_through(&self, namespace: &Namespace) -> Result<Arc<Declared>, Refusal> {
        self.load(namespace).await.map_err(|error| mongo::refusal(&error))
    }

    async fn load(&self, namespace: &Namespace) -> Result<Arc<Declared>, Error> {
        let reading = self.known.begin(namespace);
        let properties = Properties::of(&self.client, &namespace.database);
        let owner = Owner::Collection(&namespace.collection);
        let (stored, exists) = tokio::try_join!(
            properties.stored(&owner),
            metadata::collection_exists(&self.client, namespace)
        )?;
        let declared = declared(namespace, stored.as_ref(), exists);
        // What does not exist takes no memory, whoever asks for it.
        if exists && stored.is_some() && self.is_followed() {
            return Ok(reading.keep(declared));
        }
        Ok(Arc::new(declared))
    }

    /// Whether nothing has changed since `declared` was read.
    pub fn is_current(&self, namespace: &Namespace, declared: &Arc<Declared>) -> bool {
        self.is_followed() && self.known.get(namespace).is_some_and(|known| Arc::ptr_eq(&known, declared))
    }

    /// The metadata of a collection was changed by somebody: reads it again and closes the streams that are not what
    /// they were.
    pub async fn changed(&self, namespace: &Namespace) -> Result<(), Error> {
        self.known.forget(namespace);
        let declared = self.load(namespace).await?;
        self.hub.reconcile(namespace, &declared.definitions);
        Ok(())
    }

    /// The collection was dropped, renamed away, or replaced as a whole.
    pub async fn dropped(&self, namespace: &Namespace) -> Result<(), Error> {
        self.known.forget(namespace);
        // Where the name lives on, with other documents, the streams go on behind a gap: their own cursors tell.
        if !metadata::collection_exists(&self.client, namespace).await? {
            self.hub.close_collection(namespace, Close::Gone);
        }
        Ok(())
    }

    /// The database was dropped.
    pub fn database_dropped(&self, database: &DatabaseName) {
        self.known.forget_database(database);
        self.hub.close_database(database, Close::Gone);
    }

    /// The metadata of a whole database was dropped.
    pub async fn properties_dropped(&self, database: &DatabaseName) -> Result<(), Error> {
        let followed = self.hub.followed();
        for namespace in followed.iter().filter(|namespace| namespace.database == *database) {
            self.changed(namespace).await?;
        }
        self.known.forget_database(database);
        Ok(())
    }

    /// A watcher's cursor is open. What happened before it is unknown, so all that is followed is read again.
    pub async fn watcher_opened(&self) -> Result<(), Error> {
        self.known.forget_all();
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
        self.known.forget_all();
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
