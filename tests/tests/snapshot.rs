//! Snapshot, then stream: the current documents and every change behind them, with no gap and no double between.

use std::collections::BTreeMap;

use bson::{Document, doc};
use futures_util::TryStreamExt as _;
use http::StatusCode;
use serde_json::Value;
use tailrace_tests::front::addresses;
use tailrace_tests::soak::{Churn, Scale};
use tailrace_tests::{Database, Front, Request, WebSocket, both_fronts};

/// The `_id` of the document that is written last.
const LAST: i32 = Churn::END;

/// Writes a second while snapshots are read: 500 are promised.
const RATE: u32 = 550;

/// The documents of a client that follows a stream from its snapshot on.
type Followed = BTreeMap<i64, Value>;

async fn open(database: &Database, inner: &str) -> WebSocket {
    let request = Request::get(database.path(inner)).header("sec-websocket-protocol", "tailrace.v1.json");
    let mut socket = WebSocket::open(&database.server, request).await.expect("it opens");
    assert_eq!(socket.event().await["type"], "ready");
    socket
}

async fn snapshot(socket: &mut WebSocket) -> Followed {
    let mut followed = Followed::new();
    loop {
        let message = socket.event().await;
        match message["type"].as_str() {
            Some("snapshot") => {
                let document = message["document"].clone();
                let id = document["_id"].as_i64().expect("an id");
                assert!(followed.insert(id, document).is_none(), "{id} came twice");
            }
            Some("snapshotEnd") => return followed,
            _ => panic!("out of place in a snapshot: {message}"),
        }
    }
}

/// Applies an event; an insert of what is there, or a delete of what is not, is a double or a gap.
fn apply(followed: &mut Followed, event: &Value) {
    let id = event["documentKey"]["_id"].as_i64().expect("an id");
    match event["operationType"].as_str() {
        Some("insert") => {
            assert!(followed.insert(id, event["fullDocument"].clone()).is_none(), "{id} was there: {event}");
        }
        Some("delete") => assert!(followed.remove(&id).is_some(), "{id} was not there: {event}"),
        Some("update") => {
            let known = followed.get_mut(&id).unwrap_or_else(|| panic!("{id} was not there: {event}"));
            let changed = event["updateDescription"]["updatedFields"].as_object().expect("changes");
            for (field, value) in changed {
                known[field] = value.clone();
            }
        }
        _ => panic!("unexpected: {event}"),
    }
}

async fn stored(database: &Database, filter: Document) -> Vec<(i64, i64)> {
    let found = database.mongo.collection::<Document>("items").find(filter).sort(doc! { "_id": 1 }).await;
    let documents: Vec<Document> = found.expect("the find").try_collect().await.expect("the documents");
    let number = |document: &Document, name| i64::from(document.get_i32(name).expect("a number"));
    documents.iter().map(|document| (number(document, "_id"), number(document, "v"))).collect()
}

/// Applies what follows, up to the last document of all.
async fn follow(mut socket: WebSocket, mut followed: Followed) -> Followed {
    while !followed.contains_key(&i64::from(LAST)) {
        let message = socket.event().await;
        if message["type"] != "keepalive" {
            assert_eq!(message["type"], "event", "{message}");
            apply(&mut followed, &message["event"]);
        }
    }
    followed
}

/// As `cargo xtask soak` runs it: 52 rounds on 20,000 documents.
async fn snapshot_and_events_reproduce_the_collection_under_writes(front: Front) {
    let documents = Scale::given().pick(2_000, 20_000);
    let rounds = Scale::given().pick(8, 52);
    let database = front.database().await;
    database
        .put(
            "items",
            r#"{"streams": [
                {"uri": "all", "stages": [], "snapshot": {}},
                {"uri": "even", "stages": [{"$match": {"fullDocument.even": true}}], "snapshot": {}},
                {"uri": "written", "snapshot": {}, "stages": [
                    {"$match": {"$or": [{"operationType": "insert"}, {"operationType": "update"}]}}
                ]},
                {"uri": "inserted", "snapshot": {}, "stages": [{"$match": {"operationType": "insert"}}]}
            ]}"#,
        )
        .await;
    let items = database.mongo.collection::<Document>("items");
    let present = (0..documents).map(|id| doc! { "_id": id, "v": 0, "even": id % 2 == 0 });
    items.insert_many(present).await.expect("the inserts");

    // What one member has acknowledged may be seen before a majority has it, and must not be seen twice.
    let churn = Churn::start(&addresses().await.mongodb, &database.name, "items", documents, RATE);
    let mut clients = Vec::new();
    for round in 0..rounds {
        let (uri, filter) = match round % 4 {
            0 => ("all", doc! {}),
            1 => ("even", doc! { "even": true }),
            2 => ("written", doc! {}),
            _ => ("inserted", doc! {}),
        };
        let mut socket = open(&database, &format!("items/_streams/{uri}?snapshot=true")).await;
        let followed = snapshot(&mut socket).await;
        assert!(followed.len() > 500, "{} documents", followed.len());
        // Read at once: a client that takes nothing is dropped.
        clients.push((tokio::spawn(follow(socket, followed)), uri, filter));
    }
    let rate = churn.end().await;
    println!("{rounds} rounds on {documents} documents, {rate:.0} writes/s");
    if Scale::given() == Scale::Whole {
        assert!(rate >= 500.0, "only {rate:.0} writes/s: this run shows less than it is to show");
    }
    // The last of all, which every stream shows.
    items.insert_one(doc! { "_id": LAST, "v": 0, "even": true }).await.expect("insert");
    for (client, uri, filter) in clients {
        let followed = client.await.expect("no gap and no double");
        let expected = stored(&database, filter).await;
        let seen: BTreeMap<_, _> =
            followed.iter().map(|(id, document)| (*id, document["v"].as_i64().expect("a number"))).collect();
        // Deletes pass the filters not: all that exists must be there. Updates pass all of them but one.
        let is_seen = |id, v| seen.get(id).is_some_and(|seen| seen == v || uri == "inserted");
        let missing: Vec<_> = expected.iter().filter(|(id, v)| !is_seen(id, v)).collect();
        assert!(missing.is_empty(), "{uri}: {missing:?}");
        assert!(uri != "all" || seen.len() == expected.len(), "{} and not {}", seen.len(), expected.len());
    }
}

async fn a_snapshot_is_sorted_limited_and_run_through_the_stages(front: Front) {
    let database = front.database().await;
    database
        .put(
            "items",
            r#"{"streams": [{"uri": "latest", "snapshot": {"sort": {"n": -1}, "limit": 3}, "stages": [
                {"$match": {"fullDocument.room": {"$var": "room"}}},
                {"$match": {"operationType": "insert"}},
                {"$set": {"fullDocument.seen": true}}
            ]}]}"#,
        )
        .await;
    let items = database.mongo.collection::<Document>("items");
    let documents = (0..10).map(|n| doc! { "_id": n, "n": n, "room": if n % 2 == 0 { "a" } else { "b" } });
    items.insert_many(documents).await.expect("the inserts");
    let mut socket = open(&database, "items/_streams/latest?snapshot=true&avars={room:'a'}").await;
    for n in [8, 6, 4] {
        let message = socket.event().await;
        assert_eq!(message["document"]["n"], n, "{message}");
        assert_eq!(message["document"]["seen"], true);
    }
    let end = socket.event().await;
    assert_eq!(end["type"], "snapshotEnd");
    items.insert_one(doc! { "_id": 20, "n": 20, "room": "a" }).await.expect("the insert");
    assert_eq!(socket.event().await["event"]["fullDocument"]["n"], 20);

    // Who continues behind the snapshot gets what followed, and no snapshot again.
    let from = end["position"].as_str().expect("a position");
    let inner = format!("items/_streams/latest?snapshot=true&avars={{room:'a'}}&resumeAfter={from}");
    let mut returned = open(&database, &inner).await;
    assert_eq!(returned.event().await["event"]["fullDocument"]["n"], 20);

    let mut source = database.event_source("items/_streams/latest?snapshot=true&avars={room:'a'}").await;
    for n in [20, 8, 6] {
        let block = source.event().await;
        assert_eq!((block.event.as_deref(), &block.id), (Some("snapshot"), &None));
        assert_eq!(block.json()["n"], n);
    }
    let end = source.event().await;
    assert_eq!(end.event.as_deref(), Some("snapshotEnd"));
    assert!(end.id.is_some());
}

async fn a_snapshot_that_is_not_declared_or_has_no_form_is_refused(front: Front) {
    let database = front.database().await;
    database
        .put(
            "items",
            r#"{"streams": [{"uri": "none", "stages": []}, {"uri": "one", "stages": [], "snapshot": {}}]}"#,
        )
        .await;
    for (inner, message) in [
        ("none", "this stream has no snapshot, expected a definition with the member snapshot"),
        (
            "one",
            "the plain form has no snapshot, expected the sub-protocol tailrace.v1.json or tailrace.v1.bson",
        ),
    ] {
        let refused = database.refused(&format!("items/_streams/{inner}?snapshot=true")).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        assert!(refused.text().contains(message), "{}", refused.text());
    }
}

both_fronts!(
    snapshot_and_events_reproduce_the_collection_under_writes,
    a_snapshot_is_sorted_limited_and_run_through_the_stages,
    a_snapshot_that_is_not_declared_or_has_no_form_is_refused,
);
