//! Plans against MongoDB itself: the events of the shared source that match are those of a cursor with all of the stages.
//!
//! The changes are made first and then at rest, since `updateLookup` shows a document as it is when the event is read. A
//! small number of definitions in `cargo xtask test`, the whole number in `cargo xtask soak planner`.

use bson::{Bson, DateTime, Document, RawDocumentBuf, Timestamp, bson, doc};
use mongodb::{Collection, Database};
use shared::definition::{Binding, Definitions};
use shared::matcher::Matcher;
use shared::name::StreamName;
use shared::planner::Plan;
use shared::variables::{OperatorCheck, ServerVariables, Variables};
use tailrace_tests::front::mongodb;
use tailrace_tests::random::{Change, Random};
use tailrace_tests::soak::Scale;

const DOCUMENTS: i32 = 25;
const CHANGES: usize = 35;
const DEFINITIONS: usize = 40;

/// In the place of the code of an error that is MongoDB's own.
const NOT_OPTIMIZED: i32 = -1;

async fn make(collection: &Collection<Document>, change: Change) {
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
async fn now(database: &Database) -> Timestamp {
    let answer = database.run_command(doc! { "ping": 1 }).await.expect("MongoDB answers");
    answer.get_timestamp("operationTime").expect("a replica set says its time")
}

/// All events since then, with these stages; the error's code where they fail.
async fn events(
    collection: &Collection<Document>,
    database: &Database,
    since: Timestamp,
    stages: &[Document],
) -> Result<Vec<RawDocumentBuf>, i32> {
    let mut pipeline =
        vec![doc! { "$changeStream": { "startAtOperationTime": since, "fullDocument": "updateLookup" } }];
    pipeline.extend(stages.iter().cloned());
    let command =
        doc! { "aggregate": collection.name(), "pipeline": pipeline, "cursor": { "batchSize": 1000 } };
    let answer = database.run_command(command).await.map_err(|error| match *error.kind {
        mongodb::error::ErrorKind::Command(error) => {
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

/// A definition with these stages, bound to a value; none where it is refused.
fn bind(stages: &[Bson], value: &Bson) -> Option<Binding> {
    let definitions = Definitions::written(&bson!([{"uri": "s", "stages": stages.to_vec()}])).ok()?;
    let definition = definitions.get(&StreamName::new("s")?)?.as_ref().ok()?.clone();
    let avars = doc! { "v": value.clone() };
    let client = Variables::parse(
        Some(&Bson::Document(avars).into_canonical_extjson().to_string()),
        OperatorCheck::On,
    );
    let server = ServerVariables { user: None, now: DateTime::from_millis(0) };
    definition.bind(&client.ok()?, &server).ok()
}

#[derive(Debug, Default)]
struct Tally {
    shared: usize,
    own: usize,
    events: usize,
    failed: usize,
    not_optimized: usize,
}

#[tokio::test]
async fn a_plan_brings_the_events_of_a_cursor_of_its_own() {
    let seed = Random::given_seed();
    println!("{}={seed}", Random::VARIABLE);
    let wanted = Scale::given().pick(100, 3_000);
    let client = mongodb::Client::with_uri_str(mongodb().await).await.expect("MongoDB");
    let database = client.database(&format!("test_planner_{seed:x}"));
    let mut random = Random::given(seed, &client).await;
    let mut tally = Tally::default();
    let mut disagreements = Vec::new();
    for round in 0.. {
        let collection = database.collection::<Document>(&format!("documents_{round}"));
        let documents: Vec<Document> = (0..DOCUMENTS).map(|id| random.document(id)).collect();
        database.create_collection(collection.name()).await.expect("the collection is made");
        let since = now(&database).await;
        collection.insert_many(&documents).await.expect("the documents are written");
        for _ in 0..CHANGES {
            let change = random.change(&documents);
            make(&collection, change).await;
        }
        for _ in 0..DEFINITIONS {
            let (stages, value) = random.stages(&documents);
            let view = random.views(&documents);
            let Some(binding) = bind(&stages, &value) else { continue };
            if view.iter().any(|filter| Matcher::compile(filter).is_err()) {
                continue;
            }
            let plan = Plan::new(&view, &binding);
            if plan.own().is_some() {
                tally.own += 1;
                continue;
            }
            tally.shared += 1;
            let mut whole: Vec<Document> =
                view.iter().map(|filter| doc! { "$match": filter.clone() }).collect();
            whole.extend(binding.pipeline().iter().cloned());
            let own = events(&collection, &database, since, &whole).await;
            let source = events(&collection, &database, since, plan.source().pipeline()).await;
            let shared = source.map(|mut events| {
                events.retain(|event| plan.matcher().is_none_or(|matcher| matcher.matches(event)));
                events
            });
            tally.events += shared.as_ref().map_or(0, Vec::len);
            tally.failed += usize::from(shared.is_err());
            if own == Err(NOT_OPTIMIZED) {
                tally.not_optimized += 1;
            } else if own != shared {
                let whole = Bson::from(whole).into_canonical_extjson();
                disagreements.push(format!("{whole}\n  of its own: {own:?}\n  shared: {shared:?}"));
            }
        }
        collection.drop().await.expect("the collection is dropped");
        if tally.shared >= wanted || disagreements.len() >= 5 {
            break;
        }
    }
    database.drop().await.expect("the database is dropped");
    println!(
        "{} bindings on shared sources, {} on their own; {} events of the shared ones, {} of which fail; {} that \
         MongoDB fails to optimize",
        tally.shared, tally.own, tally.events, tally.failed, tally.not_optimized
    );
    assert!(disagreements.is_empty(), "{}={seed}:\n{}", Random::VARIABLE, disagreements.join("\n"));
    assert!(tally.events > 0, "some bindings should see events");
}
