//! Changes of a collection that are made first and then read, at rest: `updateLookup` shows a document as it is when the event
//! is read.

use bson::{Bson, DateTime, Document, RawDocumentBuf, Timestamp, doc};
use mongodb::error::ErrorKind;
use mongodb::{Collection, Database};
use shared::definition::{Binding, Definitions};
use shared::name::StreamName;
use shared::variables::{OperatorCheck, ServerVariables, Variables};
use shared::visibility::{Template, Visibility};

use crate::random::Change;

/// In the place of the code of an error that is MongoDB's own.
pub const NOT_OPTIMIZED: i32 = -1;

/// Makes a change.
///
/// # Panics
/// When MongoDB does not take it.
pub async fn make(collection: &Collection<Document>, change: Change) {
    match change {
        Change::Delete(id) => collection.delete_one(doc! { "_id": id }).await.map(|_| ()),
        Change::Replace(id, document) => {
            collection.replace_one(doc! { "_id": id }, document).await.map(|_| ())
        }
        // A path through what is no document is refused: then nothing changes.
        Change::Update(id, update) => {
            let _ = collection.update_one(doc! { "_id": id }, update).await;
            Ok(())
        }
    }
    .expect("the change is made");
}

/// The time of the server, after whatever has happened.
///
/// # Panics
/// When MongoDB does not answer.
pub async fn now(database: &Database) -> Timestamp {
    let answer = database.run_command(doc! { "ping": 1 }).await.expect("MongoDB answers");
    answer.get_timestamp("operationTime").expect("a replica set says its time")
}

/// All events since then, with these options of the change stream and these stages; the error's code where they fail.
///
/// # Panics
/// When MongoDB does not answer.
pub async fn events(
    collection: &Collection<Document>,
    database: &Database,
    since: Timestamp,
    options: &Document,
    stages: &[Document],
) -> Result<Vec<RawDocumentBuf>, i32> {
    let mut change_stream = doc! { "startAtOperationTime": since };
    change_stream.extend(options.clone());
    let mut pipeline = vec![doc! { "$changeStream": change_stream }];
    pipeline.extend(stages.iter().cloned());
    let command =
        doc! { "aggregate": collection.name(), "pipeline": pipeline, "cursor": { "batchSize": 1000 } };
    let answer = database.run_command(command).await.map_err(|error| match *error.kind {
        ErrorKind::Command(error) => {
            // MongoDB 6.0 loses the members of some `$nor`, and then refuses what is left.
            if error.message.contains("Failed to optimize pipeline") { NOT_OPTIMIZED } else { error.code }
        }
        other => panic!("not an answer of MongoDB: {other}"),
    })?;
    let cursor = answer.get_document("cursor").expect("a cursor");
    let id = cursor.get_i64("id").expect("its id");
    database
        .run_command(doc! { "killCursors": collection.name(), "cursors": [id] })
        .await
        .expect("the cursor is closed");
    let events = cursor.get_array("firstBatch").expect("its events").iter();
    Ok(events.map(|event| event.as_document().expect("an event").try_into().expect("BSON")).collect())
}

/// A definition with these stages and options, its variable `v` bound to a value; none where it is refused.
pub fn bind(stages: &[Bson], options: &Document, value: &Bson) -> Option<Binding> {
    let mut stream = doc! { "uri": "s", "stages": stages.to_vec() };
    stream.extend(options.clone());
    let definitions = Definitions::written(&Bson::Array(vec![stream.into()])).ok()?;
    let definition = definitions.get(&StreamName::new("s")?)?.as_ref().ok()?.clone();
    let avars = Bson::Document(doc! { "v": value.clone() }).into_canonical_extjson().to_string();
    let client = Variables::parse(Some(&avars), OperatorCheck::On);
    definition.bind(&client.ok()?, &nobody()).ok()
}

/// What a caller sees whose permission says this; none where it is refused.
pub fn visibility(read_filter: &Document, projection: &Document) -> Option<Visibility> {
    let template = Template::check(Some(read_filter), None, Some(projection)).ok()?;
    Some(template.resolve(&nobody()).ok()?.of_reads())
}

fn nobody() -> ServerVariables {
    ServerVariables { user: None, now: DateTime::from_millis(0) }
}
