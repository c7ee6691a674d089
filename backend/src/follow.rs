//! Follows every change of one collection that the server itself depends on: users, permissions.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bson::{Bson, doc};
use mongodb::{Client, error::Error};
use shared::refusal::{Kind, Refusal};

use crate::{
    backoff::Backoff,
    collection_path::CollectionPath,
    metrics::{Metrics, Part},
    mongo,
    read_ahead::{AWAIT, STALLED, next},
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

/// What of the node follows a collection, and whether it does right now.
#[derive(Debug)]
pub struct Followed {
    part: Part,
    is_followed: AtomicBool,
}

impl Followed {
    /// Not followed yet.
    pub fn new(part: Part) -> Arc<Self> {
        Arc::new(Self { part, is_followed: AtomicBool::new(false) })
    }

    /// 503 that names what is not followed: a change of it would not act.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.is_followed.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(Refusal::new(Kind::Unavailable, format!("{} are not followed", self.part.label())))
    }
}

/// Follows for ever; comes back by itself when MongoDB does.
pub async fn run(
    client: Client,
    path: CollectionPath,
    follower: Arc<impl Follower>,
    state: Arc<Followed>,
    metrics: Arc<Metrics>,
) {
    let mut backoff = Backoff::default();
    loop {
        let ended = once(&client, &path, &*follower, &state, &mut backoff).await;
        state.is_followed.store(false, Ordering::Relaxed);
        follower.lost();
        let error = match ended {
            // The collection was dropped or renamed: go on at once.
            Ok(()) => continue,
            Err(error) => error,
        };
        metrics.mongodb_failed(state.part, mongo::fault(&error));
        let pause = backoff.next_pause();
        tracing::warn!(collection = %path, %error, ?pause, "a collection is not followed");
        tokio::time::sleep(pause).await;
    }
}

async fn once(
    client: &Client,
    path: &CollectionPath,
    follower: &impl Follower,
    state: &Followed,
    backoff: &mut Backoff,
) -> Result<(), Error> {
    let pipeline =
        [doc! { "$changeStream": {} }, doc! { "$project": { "operationType": 1, "documentKey": 1 } }];
    let mut cursor =
        path.of(client).aggregate(pipeline).batch_size(1000).max_await_time(AWAIT).batch().await?;
    follower.opened().await?;
    state.is_followed.store(true, Ordering::Relaxed);
    *backoff = Backoff::default();
    while let Some(batch) = next(&mut cursor, STALLED).await? {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    struct Nobody;

    impl Follower for Nobody {
        async fn opened(&self) -> Result<(), Error> {
            Ok(())
        }

        async fn changed(&self, _: Option<Vec<Bson>>) -> Result<(), Error> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_is_not_followed_is_counted_and_named() {
        let nowhere = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=50";
        let client = Client::with_uri_str(nowhere).await.expect("a connection string");
        let path = CollectionPath::try_from("app.users".to_owned()).expect("a collection");
        let (followed, metrics) = (Followed::new(Part::Users), Arc::new(Metrics::default()));
        let running = run(client, path, Arc::new(Nobody), Arc::clone(&followed), Arc::clone(&metrics));
        let counted = async {
            while metrics.encode(0).contains("faults_total{part=\"users\",fault=\"unreachable\"} 0") {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = running => unreachable!("it never ends"),
            counted = timeout(Duration::from_secs(10), counted) => counted.expect("it is counted"),
        }
        assert_eq!(followed.check().unwrap_err().to_string(), "503 users are not followed");
    }
}
