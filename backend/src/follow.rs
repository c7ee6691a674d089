//! Follows every change of one collection that the server itself depends on: users, permissions.

use std::{future::Future, sync::Arc};

use bson::{Bson, doc};
use mongodb::{Client, error::Error};

use crate::{
    backoff::Backoff,
    collection_path::CollectionPath,
    read_ahead::{AWAIT, next},
};

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
    let mut cursor =
        path.of(client).aggregate(pipeline).batch_size(1000).max_await_time(AWAIT).batch().await?;
    follower.opened().await?;
    *backoff = Backoff::default();
    while let Some(batch) = next(&mut cursor).await? {
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
