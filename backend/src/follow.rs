//! Follows every change of one collection that the server itself depends on: users, permissions.

use std::{future::Future, sync::Arc, time::Duration};

use bson::{Bson, Document, doc};
use futures_util::StreamExt;
use mongodb::{
    Client,
    error::Error,
    raw_batch_cursor::{RawBatch, RawBatchCursor},
};
use serde::Deserialize;
use shared::name::{CollectionName, DatabaseName, Namespace};
use tokio::time::timeout;

use crate::backoff::Backoff;

const AWAIT: Duration = Duration::from_secs(1);
const STALLED: Duration = Duration::from_secs(10);

/// A collection that the configuration names, as `app.users`. It may be one that no address reaches.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct CollectionPath {
    database: String,
    collection: String,
}

impl TryFrom<String> for CollectionPath {
    type Error = String;

    fn try_from(path: String) -> Result<Self, String> {
        match path.split_once('.') {
            Some((database, collection)) if !database.is_empty() && !collection.is_empty() => {
                Ok(Self { database: database.to_owned(), collection: collection.to_owned() })
            }
            _ => Err(format!("{path:?} is no collection, expected a database and a name, as app.users")),
        }
    }
}

impl std::fmt::Display for CollectionPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.database, self.collection)
    }
}

impl CollectionPath {
    /// The collection.
    pub fn of(&self, client: &Client) -> mongodb::Collection<Document> {
        client.database(&self.database).collection(&self.collection)
    }

    /// Its name, if an address may reach it.
    pub fn namespace(&self) -> Option<Namespace> {
        Some(Namespace {
            database: DatabaseName::new(&self.database)?,
            collection: CollectionName::new(&self.collection)?,
        })
    }
}

/// Who follows a collection.
pub trait Follower: Send + Sync + 'static {
    /// Changes are followed from here on; what happened before is unknown, so all is read.
    fn opened(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Something changed: the `_id`s concerned, or `None` where that is all of them.
    fn changed(&self, ids: Option<Vec<Bson>>) -> impl Future<Output = Result<(), Error>> + Send;

    /// Changes are not followed any more, until [`Follower::opened`].
    fn lost(&self) {}
}

/// Follows for ever; comes back by itself when MongoDB does.
pub async fn run(client: Client, path: CollectionPath, follower: Arc<impl Follower>) {
    let mut backoff = Backoff::default();
    loop {
        let ended = once(&client, &path, &*follower, &mut backoff).await;
        follower.lost();
        let error = match ended {
            // The collection was dropped or renamed: go on at once.
            Ok(()) => continue,
            Err(error) => error,
        };
        let pause = backoff.next_pause();
        tracing::warn!(collection = %path, %error, ?pause, "a collection is not followed");
        tokio::time::sleep(pause).await;
    }
}

async fn once(
    client: &Client,
    path: &CollectionPath,
    follower: &impl Follower,
    backoff: &mut Backoff,
) -> Result<(), Error> {
    let pipeline =
        [doc! { "$changeStream": {} }, doc! { "$project": { "operationType": 1, "documentKey": 1 } }];
    let cursor = path.of(client).aggregate(pipeline).batch_size(1000).max_await_time(AWAIT).batch().await?;
    follower.opened().await?;
    *backoff = Backoff::default();
    let mut batches = Batches::new(cursor);
    while let Some(batch) = batches.next().await? {
        let mut ids = Some(Vec::new());
        for event in batch.doc_slices()? {
            let event = event?;
            let id = event
                .as_document()
                .and_then(|event| event.get_document("documentKey").ok()?.get("_id").ok()?)
                .and_then(|id| Bson::try_from(id).ok());
            match (&mut ids, id) {
                (Some(ids), Some(id)) => ids.push(id),
                // A drop, or a rename: it concerns them all.
                _ => ids = None,
            }
        }
        if ids.as_ref().is_none_or(|ids| !ids.is_empty()) {
            follower.changed(ids).await?;
        }
    }
    follower.changed(None).await
}

/// The replies to a cursor, each within a time in which a server that is well has answered.
pub(crate) struct Batches(RawBatchCursor);

impl Batches {
    pub(crate) fn new(cursor: RawBatchCursor) -> Self {
        Self(cursor)
    }

    /// The next reply; `None` when MongoDB has ended the cursor.
    pub(crate) async fn next(&mut self) -> Result<Option<RawBatch>, Error> {
        match timeout(STALLED, self.0.next()).await {
            Ok(batch) => batch.transpose(),
            Err(_) => Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "no reply to getMore").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_is_named_with_its_database() {
        let path = |text: &str| CollectionPath::try_from(text.to_owned());
        let acl = path("app.acl.v2").expect("path");
        assert_eq!((acl.database.as_str(), acl.collection.as_str()), ("app", "acl.v2"));
        assert!(acl.namespace().is_some());
        assert!(path("app._acl").expect("path").namespace().is_none(), "no address reaches it");
        for wrong in ["users", ".users", "app."] {
            assert_eq!(
                path(wrong).unwrap_err(),
                format!("{wrong:?} is no collection, expected a database and a name, as app.users")
            );
        }
    }
}
