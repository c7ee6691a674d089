//! `tailrace explain`: what is told of a stream is what happens to its clients.

use bson::doc;
use parts::backend::{self, Profile};
use parts::workspace;
use serde_json::Value;
use tailrace_tests::{Database, Front, front::addresses, until};

const STREAMS: &str = r#"{"streams": [
    {"uri": "mine", "stages": [
        {"$match": {"operationType": "insert", "fullDocument.name": {"$var": "n"}}}, {"$unset": "fullDocument.secret"}
    ]},
    {"uri": "above", "stages": [{"$match": {"fullDocument.price": {"$gt": {"$var": "n"}}}}]},
    {"uri": "like", "stages": [{"$match": {"fullDocument.name": {"$ne": {"$var": "n"}}}}]},
    {"uri": "dear", "stages": [
        {"$match": {"fullDocument.name": {"$var": "n"}}}, {"$set": {"twice": {"$multiply": ["$fullDocument.n", 2]}}}
    ]},
    {"uri": "images", "fullDocumentBeforeChange": "whenAvailable", "stages": [
        {"$match": {"fullDocument.name": {"$var": "n"}}}
    ]}
]}"#;

/// The lines that the program prints, read from the metadata.
async fn explained(database: &Database, stream: &str, more: &[&str]) -> Vec<String> {
    let program = backend::build(Profile::Debug).expect("the program is built");
    let output = backend::command(&program)
        .args(["explain", &database.path(&format!("things/_streams/{stream}"))])
        .args(more)
        .env("TAILRACE_MONGODB__URI", &addresses().await.mongodb)
        .env("TAILRACE_MOUNTS", r#"[{what = "*", where = "/"}]"#)
        .env("TAILRACE_AUTH__ANONYMOUS", "true")
        .output()
        .expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    assert!(output.status.success(), "{}", text(output.stderr));
    text(output.stdout).lines().map(str::to_owned).collect()
}

/// Waits until MongoDB tells of so many cursors for two clients with different values.
async fn two_clients_have(database: &Database, stream: &str, cursors: usize) {
    let values = ["1", "2"].map(|n| format!(r#"things/_streams/{stream}?avars={{"n":{n}}}"#));
    let _one = database.connect(&values[0]).await;
    let _other = database.connect(&values[1]).await;
    until(&format!("{stream} has {cursors} cursors"), async || database.cursors("things").await == cursors)
        .await;
}

/// A database of its own for each stream, so that its cursors can be counted.
async fn declared(images: bool) -> Database {
    let database = Front::Native.database().await;
    let recording = doc! { "create": "things", "changeStreamPreAndPostImages": { "enabled": images } };
    database.mongo.run_command(recording).await.expect("the collection");
    database.put("things", STREAMS).await;
    database
}

#[tokio::test]
async fn a_shared_stream_is_told_with_its_stages_and_the_way_to_its_clients() {
    let database = declared(false).await;
    let lines = explained(&database, "mine", &["--avars", r#"{"n": "ada"}"#]).await;
    assert_eq!(
        lines,
        [
            format!("stream   {} of {}.things", database.path("things/_streams/mine"), database.name)
                .as_str(),
            r#"values   { "n": "ada" }"#,
            "cursor   one, shared by all for whom MongoDB evaluates the same",
            r#"options  { "fullDocument": "updateLookup", "fullDocumentBeforeChange": "off" }"#,
            r#"mongodb  stages[0]: { "$match": { "operationType": "insert" } }"#,
            r#"mongodb  stages[1]: { "$unset": "fullDocument.secret" }"#,
            r#"node     stages[0]: { "fullDocument.name": "ada" }"#,
            "index    hash of fullDocument.name",
        ]
    );
    for (stream, index) in [
        ("above", "index    ordered range of fullDocument.price"),
        ("like", "index    scan: each event is asked"),
    ] {
        let database = declared(false).await;
        let lines = explained(&database, stream, &["--avars", r#"{"n": 1}"#]).await;
        assert_eq!(lines.last().map(String::as_str), Some(index));
        two_clients_have(&database, stream, 1).await;
    }
}

/// What lies between two marks.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let (_, text) = text.split_once(begin).expect("the begin");
    text.split_once(end).expect("the end").0
}

#[tokio::test]
async fn the_example_of_the_documentation_is_told_as_it_stands_there_and_shares_its_cursor() {
    let page = include_str!("../../docs/streams.md");
    let metadata = between(page, "/tasks -d '", "'\n```");
    let (command, told) =
        between(page, "```console\n$ tailrace explain ", "```").split_once('\n').expect("a line");
    let (address, avars) =
        (command.split(' ').next().expect("an address"), between(command, "--avars '", "'"));

    let scratch = workspace::scratch("explain-documentation").expect("a folder");
    let definition = scratch.path().join("streams.json");
    let streams = serde_json::from_str::<Value>(metadata).expect("JSON")["streams"].take();
    std::fs::write(&definition, streams.to_string()).expect("the file");
    let program = backend::build(Profile::Debug).expect("the program is built");
    let output = backend::command(&program)
        .args(["explain", address, "--avars", avars, "--definition"])
        .arg(&definition)
        .env("TAILRACE_MONGODB__URI", "mongodb://db/app")
        .env("TAILRACE_AUTH__ANONYMOUS", "true")
        .output()
        .expect("the program runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), told, "{}", String::from_utf8_lossy(&output.stderr));

    let database = Front::Native.database().await;
    database.put("tasks", metadata).await;
    let _lobby = database.connect(r#"tasks/_streams/byRoom?avars={"room":"lobby"}"#).await;
    let since = r#"tasks/_streams/byRoom?avars={"room":"hall","since":{"$date":0}}"#;
    let _hall = database.connect(since).await;
    until("they share a cursor", async || database.cursors("tasks").await == 1).await;
}

#[tokio::test]
async fn a_cursor_for_each_binding_is_told_with_its_reason() {
    let database = declared(false).await;
    let lines = explained(&database, "dear", &["--avars", r#"{"n": 1}"#]).await;
    let reason = "stages[1]: $set behind a $match with a variable";
    assert_eq!(lines[2], format!("cursor   one for each binding, because of {reason}"));
    two_clients_have(&database, "dear", 2).await;
}

#[tokio::test]
async fn the_images_of_a_collection_are_told_as_what_the_node_judges_by() {
    let database = declared(true).await;
    let lines = explained(&database, "images", &["--avars", r#"{"n": 1}"#]).await;
    assert_eq!(lines[2], "cursor   one, shared by all for whom MongoDB evaluates the same");
    assert!(
        lines.last().is_some_and(|line| line.starts_with("index    of a document's images: ")),
        "{lines:?}"
    );
    two_clients_have(&database, "images", 1).await;
}
