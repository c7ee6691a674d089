//! The current documents of a stream, before its changes: with no gap and no double between the two.
//!
//! The order is what makes it so. First a moment T is taken; then the cursor is opened behind T; then the documents are
//! read as they were at T (read concern "snapshot"); and last come the events behind T.

use std::sync::Arc;

use bson::{Bson, Document, RawBsonRef, Timestamp, doc};
use futures_util::StreamExt;
use mongodb::{
    Client,
    error::Error,
    raw_batch_cursor::{RawBatch, RawBatchCursor},
};
use shared::{
    definition::{Binding, Snapshot},
    name::Namespace,
    readable::readable,
    visibility::{Visibility, of_documents},
};
use tokio::sync::mpsc;

use crate::{
    event::{self, Form, Frame},
    metrics::Metrics,
};

/// A moment from which on everything is still to come: every write acknowledged before is in it.
pub async fn moment(client: &Client) -> Result<Timestamp, Error> {
    let reply = client.database("admin").run_command(doc! { "ping": 1 }).await?;
    reply.get_timestamp("operationTime").map_err(|_| Error::custom("a reply without operationTime"))
}

/// The documents of a binding as they were at one moment.
pub struct Reader {
    cursor: RawBatchCursor,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}

impl Reader {
    /// Begins to read. MongoDB keeps the moment for five minutes.
    pub async fn open(
        client: &Client,
        namespace: &Namespace,
        binding: &Binding,
        visibility: &Visibility,
        snapshot: &Snapshot,
        at: Timestamp,
    ) -> Result<Self, Error> {
        let command = doc! {
            "aggregate": namespace.collection.as_str(),
            "pipeline": pipeline(namespace, visibility, binding.pipeline(), snapshot, at),
            "cursor": {},
            "readConcern": { "level": "snapshot", "atClusterTime": at },
            // A change stream knows no other.
            "collation": { "locale": "simple" },
        };
        let cursor = client.database(namespace.database.as_str()).run_cursor_command(command).batch().await?;
        Ok(Self { cursor })
    }

    /// Reads on in a task of its own, in the client's form and at the client's pace.
    pub fn into_frames(mut self, form: Form, metrics: Arc<Metrics>) -> Frames {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(batch) = self.cursor.next().await {
                let frames = batch.and_then(|batch| frames(&batch, form));
                let failed = frames.is_err();
                metrics.snapshot_read(frames.as_ref().map_or(0, Vec::len));
                if sender.send(frames).await.is_err() || failed {
                    return;
                }
            }
        });
        receiver
    }
}

/// The documents of a snapshot, batch by batch.
pub type Frames = mpsc::Receiver<Result<Vec<Frame>, Error>>;

fn frames(batch: &RawBatch, form: Form) -> Result<Vec<Frame>, Error> {
    let mut frames = Vec::new();
    for event in batch.doc_slices()? {
        if let RawBsonRef::Document(event) = event? {
            frames.push(event::snapshot_document(readable(event)?.get("fullDocument")?, form)?);
        }
    }
    Ok(frames)
}

/// The same stages serve both: each document is dressed as the event of its insert. A leading `$match` on the document
/// alone is applied before that, where it can use the collection's indexes; then the definition's order and limit.
///
/// What the client may see comes before all. Fields are hidden where no stage has come to depend on them, and as late as
/// that allows: behind a projection no index can give the order.
fn pipeline(
    namespace: &Namespace,
    visibility: &Visibility,
    stages: &[Document],
    snapshot: &Snapshot,
    at: Timestamp,
) -> Vec<Document> {
    let plain: Vec<Document> = stages.iter().map_while(on_document).collect();
    let rest = &stages[plain.len()..];
    let projection = visibility.projection();
    let asks_for_seen = plain
        .iter()
        .filter_map(|stage| stage.get_document("$match").ok())
        .chain([&snapshot.sort])
        .all(|fields| projection.shows_fields(fields));
    let hide = (!projection.is_everything()).then(|| doc! { "$project": projection.document() });
    let (early, late) = if asks_for_seen { (None, hide) } else { (hide, None) };

    let mut pipeline: Vec<Document> =
        visibility.read_filter().map(|filter| doc! { "$match": filter.clone() }).into_iter().collect();
    pipeline.extend(early);
    pipeline.extend(plain);
    if !snapshot.sort.is_empty() {
        pipeline.push(doc! { "$sort": snapshot.sort.clone() });
    }
    if let Some(limit) = snapshot.limit {
        pipeline.push(doc! { "$limit": i64::from(limit) });
    }
    pipeline.extend(late);
    pipeline.push(doc! { "$replaceWith": {
        "_id": { "_data": { "$literal": "" } },
        "operationType": { "$literal": "insert" },
        "clusterTime": { "$literal": at },
        "fullDocument": "$$ROOT",
        "ns": { "db": { "$literal": namespace.database.as_str() }, "coll": { "$literal": namespace.collection.as_str() } },
        "documentKey": { "_id": "$_id" },
    } });
    pipeline.extend_from_slice(rest);
    pipeline.push(doc! { "$project": { "_id": 0, "fullDocument": 1 } });
    pipeline
}

/// A `$match` of events as one of documents, if it speaks of nothing but `fullDocument.…`.
fn on_document(stage: &Document) -> Option<Document> {
    let Some(Bson::Document(filter)) = stage.get("$match") else { return None };
    Some(doc! { "$match": of_documents(filter)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_on_the_document_alone_becomes_one_on_the_collection() {
        let filter =
            doc! { "$match": { "fullDocument.room": 1, "$or": [{ "fullDocument.a.b": { "$gt": 1 } }] } };
        assert_eq!(
            on_document(&filter),
            Some(doc! { "$match": { "room": 1, "$or": [{ "a.b": { "$gt": 1 } }] } })
        );
        for other in [
            doc! { "$match": { "operationType": "insert" } },
            doc! { "$match": { "fullDocument.a": 1, "ns.coll": "x" } },
            doc! { "$match": { "$expr": { "$eq": ["$fullDocument.a", 1] } } },
            doc! { "$match": { "$or": [{ "fullDocument.a": 1 }, { "operationType": "insert" }] } },
            doc! { "$set": { "fullDocument.a": 1 } },
        ] {
            assert_eq!(on_document(&other), None, "{other}");
        }
    }
}
