//! Follows `_properties`, and the drops of collections and databases, so that a change by any hand acts within a second.

use std::sync::Arc;

use bson::{Document, RawDocument, doc};
use mongodb::{Client, error::Error, raw_batch_cursor::RawBatchCursor};
use shared::name::{CollectionName, DatabaseName, Namespace};

use crate::{
    backoff::Backoff,
    catalog::Catalog,
    metadata::PROPERTIES,
    metrics::{Metrics, Part},
    mongo,
    read_ahead::{AWAIT, STALLED, next},
};

/// What one watcher follows.
#[derive(Clone, Debug)]
pub enum Scope {
    /// Every database. One such stream outlives every drop.
    Deployment,
    /// One database.
    Database(DatabaseName),
}

impl Scope {
    /// The watchers that a list of databases needs; `None` is all of them.
    pub fn of(databases: Option<Vec<DatabaseName>>) -> Vec<Self> {
        match databases {
            None => vec![Self::Deployment],
            Some(databases) => databases.into_iter().map(Self::Database).collect(),
        }
    }
}

/// Follows changes for ever; comes back by itself when MongoDB does.
pub async fn run(client: Client, scope: Scope, catalog: Arc<Catalog>, metrics: Arc<Metrics>) {
    let mut backoff = Backoff::default();
    loop {
        let error = match follow(&client, &scope, &catalog, &mut backoff).await {
            // `invalidate` after the drop of the watched database: go on at once.
            Ok(()) => continue,
            Err(error) => error,
        };
        catalog.watcher_failed();
        metrics.mongodb_failed(Part::Metadata, mongo::fault(&error));
        let pause = backoff.next_pause();
        tracing::warn!(?scope, %error, ?pause, "metadata is not watched");
        tokio::time::sleep(pause).await;
    }
}

/// Until MongoDB ends the cursor, or fails.
async fn follow(
    client: &Client,
    scope: &Scope,
    catalog: &Catalog,
    backoff: &mut Backoff,
) -> Result<(), Error> {
    let cursor = open(client, scope).await?;
    catalog.watcher_opened().await?;
    tracing::debug!(?scope, "watching metadata");
    *backoff = Backoff::default();
    let ended = read(cursor, catalog).await;
    catalog.watcher_lost();
    ended
}

async fn open(client: &Client, scope: &Scope) -> Result<RawBatchCursor, Error> {
    let (database, whole): (&str, Document) = match scope {
        Scope::Deployment => ("admin", doc! { "allChangesForCluster": true }),
        Scope::Database(name) => (name.as_str(), doc! {}),
    };
    let pipeline = [
        doc! { "$changeStream": whole },
        doc! { "$match": { "$or": [
            { "ns.coll": PROPERTIES },
            { "operationType": { "$in": ["drop", "rename", "dropDatabase"] } },
        ] } },
        doc! { "$project": { "operationType": 1, "ns": 1, "to": 1, "documentKey": 1 } },
    ];
    client.database(database).aggregate(pipeline).batch_size(1000).max_await_time(AWAIT).batch().await
}

async fn read(mut cursor: RawBatchCursor, catalog: &Catalog) -> Result<(), Error> {
    while let Some(batch) = next(&mut cursor, STALLED).await? {
        for event in batch.doc_slices()? {
            if let Some(event) = event?.as_document() {
                act(event, catalog).await?;
            }
        }
    }
    Ok(())
}

async fn act(event: &RawDocument, catalog: &Catalog) -> Result<(), Error> {
    let operation = event.get_str("operationType").unwrap_or_default();
    let place = |member: &str| event.get_document(member).ok();
    let Some(database) = place("ns").and_then(|ns| ns.get_str("db").ok()).and_then(DatabaseName::new) else {
        return Ok(());
    };
    let collection = place("ns").and_then(|ns| ns.get_str("coll").ok()).unwrap_or_default();
    match operation {
        "dropDatabase" => catalog.database_dropped(&database),
        "drop" | "rename" if collection == PROPERTIES => catalog.properties_dropped(&database).await?,
        "drop" | "rename" => {
            if let Some(collection) = CollectionName::new(collection) {
                catalog.dropped(&Namespace { database, collection }).await?;
            }
            let to = place("to").and_then(|to| {
                Some(Namespace {
                    database: DatabaseName::new(to.get_str("db").ok()?)?,
                    collection: CollectionName::new(to.get_str("coll").ok()?)?,
                })
            });
            if let Some(namespace) = to {
                catalog.dropped(&namespace).await?;
            }
        }
        _ => {
            let id = place("documentKey").and_then(|key| key.get_str("_id").ok()).unwrap_or_default();
            let name = id.strip_prefix(PROPERTIES).and_then(|rest| rest.strip_prefix('.'));
            if let Some(collection) = name.and_then(CollectionName::new) {
                catalog.changed(&Namespace { database, collection }).await?;
            }
        }
    }
    Ok(())
}
