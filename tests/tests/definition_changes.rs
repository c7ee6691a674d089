//! Definitions change at run time, by any hand: the streams concerned close within a second, the others stay.

use std::time::{Duration, Instant};

use bson::{Document, doc};
use http::{Method, StatusCode};
use parts::backend::Backend;
use parts::deployment::open_backend;
use tailrace_tests::front::{addresses, bounded};
use tailrace_tests::{Database, Front, Request, WebSocket, both_fronts};

const BEFORE: &str = r#"{"streams": [
    {"uri": "kept", "stages": []},
    {"uri": "changed", "stages": [{"$match": {"fullDocument.a": 1}}]},
    {"uri": "removed", "stages": [{"$match": {"fullDocument.b": 1}}]}
]}"#;
const AFTER: &str = r#"{"streams": [
    {"uri": "kept", "stages": []},
    {"uri": "changed", "stages": [{"$match": {"fullDocument.a": 2}}]}
]}"#;

/// A change acts within a second.
const ACTS_WITHIN: Duration = Duration::from_secs(1);

struct Open {
    kept: WebSocket,
    changed: WebSocket,
    removed: WebSocket,
}

async fn open(database: &Database) -> Open {
    database.put("log", BEFORE).await;
    Open {
        kept: database.connect("log/_streams/kept").await,
        changed: database.connect("log/_streams/changed").await,
        removed: database.connect("log/_streams/removed").await,
    }
}

/// The streams concerned close in time, newcomers get the new definition, the others go on.
async fn acted(database: &Database, mut open: Open, since: Instant) {
    assert_eq!(open.changed.closed().await, (4001, "the definition changed".to_owned()));
    assert_eq!(open.removed.closed().await.0, 4002);
    assert!(since.elapsed() < ACTS_WITHIN, "it took {:?}", since.elapsed());

    let mut newcomer = database.connect("log/_streams/changed").await;
    assert_eq!(database.refused("log/_streams/removed").await.status, StatusCode::NOT_FOUND);
    database.post("log", r#"{"a": 1}"#).await;
    database.post("log", r#"{"a": 2}"#).await;
    assert_eq!(newcomer.event().await["fullDocument"]["a"], 2);
    assert_eq!(open.kept.event().await["fullDocument"]["a"], 1);
    assert_eq!(open.kept.event().await["fullDocument"]["a"], 2);
}

async fn a_put_closes_what_it_changes(front: Front) {
    let database = front.database().await;
    let open = open(&database).await;
    let since = Instant::now();
    assert_eq!(database.put("log", AFTER).await.status, StatusCode::OK);
    acted(&database, open, since).await;
}

async fn a_patch_closes_what_it_changes(front: Front) {
    let database = front.database().await;
    let open = open(&database).await;
    let since = Instant::now();
    database.patch("log", AFTER).await;
    acted(&database, open, since).await;
}

async fn a_direct_write_closes_what_it_changes(front: Front) {
    let database = front.database().await;
    let open = open(&database).await;
    let since = Instant::now();
    database
        .mongo
        .collection::<Document>("_properties")
        .update_one(
            doc! { "_id": "_properties.log" },
            doc! { "$set": { "streams": [
                { "uri": "kept", "stages": [] },
                { "uri": "changed", "stages": [{ "_$match": { "fullDocument::a": 2 } }] },
            ] } },
        )
        .await
        .expect("the write");
    acted(&database, open, since).await;
}

async fn equal_streams_and_other_properties_leave_sockets_open(front: Front) {
    let database = front.database().await;
    let mut open = open(&database).await;
    // The other spelling, and a property that is none of ours.
    let equal = BEFORE.replace("$match", "_$match").replace("fullDocument.", "fullDocument::");
    database.put("log", &equal).await;
    database.patch("log", r#"{"title": "a log"}"#).await;
    database.post("log", r#"{"a": 1, "b": 1}"#).await;
    for socket in [&mut open.kept, &mut open.changed, &mut open.removed] {
        assert_eq!(socket.event().await["fullDocument"]["b"], 1);
    }
}

async fn a_dropped_collection_closes_its_streams_as_gone(front: Front) {
    for through_the_api in [true, false] {
        let database = front.database().await;
        let etag = database.put("log", BEFORE).await.header("etag").to_owned();
        database.put("other", BEFORE).await;
        let mut dropped = database.connect("log/_streams/kept").await;
        let mut filtered = database.connect("log/_streams/changed").await;
        let mut other = database.connect("other/_streams/kept").await;
        let since = Instant::now();
        if through_the_api {
            let delete = Request::new(Method::DELETE, database.path("log")).header("if-match", &etag);
            assert_eq!(database.send(delete).await.status, StatusCode::NO_CONTENT);
        } else {
            database.mongo.collection::<Document>("log").drop().await.expect("the drop");
        }
        assert_eq!(dropped.closed().await.0, 4002);
        assert_eq!(filtered.closed().await.0, 4002);
        assert!(since.elapsed() < ACTS_WITHIN, "it took {:?}", since.elapsed());
        assert_eq!(database.refused("log/_streams/kept").await.status, StatusCode::NOT_FOUND);
        database.post("other", "{}").await;
        other.event().await;
    }
}

async fn a_dropped_database_closes_its_streams_as_gone(front: Front) {
    for through_the_api in [true, false] {
        let database = front.database().await;
        database.put("log", BEFORE).await;
        let mut socket = database.connect("log/_streams/kept").await;
        let mut filtered = database.connect("log/_streams/changed").await;
        let since = Instant::now();
        if through_the_api {
            let path = format!("/{}", database.name);
            let without = database.send(Request::new(Method::DELETE, path.clone())).await;
            assert_eq!(without.status, StatusCode::CONFLICT);
            let delete = Request::new(Method::DELETE, path).header("if-match", "*");
            assert_eq!(database.send(delete).await.status, StatusCode::NO_CONTENT);
        } else {
            database.mongo.drop().await.expect("the drop");
        }
        assert_eq!(socket.closed().await.0, 4002);
        assert_eq!(filtered.closed().await.0, 4002);
        assert!(since.elapsed() < ACTS_WITHIN, "it took {:?}", since.elapsed());
        assert_eq!(database.refused("log/_streams/kept").await.status, StatusCode::NOT_FOUND);
    }
}

async fn a_rename_onto_the_collection_tells_of_lost_history(front: Front) {
    let database = front.database().await;
    database.put("log", BEFORE).await;
    let mut socket = database.connect("log/_streams/changed").await;
    database.mongo.collection::<Document>("source").insert_one(doc! { "a": 1 }).await.expect("the insert");
    database
        .mongo
        .collection::<Document>("source")
        .aggregate([doc! { "$out": "log" }])
        .await
        .expect("the aggregation");
    assert_eq!(socket.closed().await, (4004, "history lost: reload, then reconnect".to_owned()));
    database.connect("log/_streams/changed").await.close().await;
}

async fn a_broken_stored_definition_breaks_itself_alone(front: Front) {
    let database = front.database().await;
    database.put("log", BEFORE).await;
    database
        .mongo
        .collection::<Document>("_properties")
        .update_one(
            doc! { "_id": "_properties.log" },
            doc! { "$set": { "streams": [
                { "uri": "broken", "stages": [{ "_$lookup": {} }] },
                { "uri": "kept", "stages": [], "description": "RESTHeart passes over what it does not know" },
                { "uri": "filtered", "stages": [], "notify_when": {} },
            ] } },
        )
        .await
        .expect("the write");
    let mut kept = loop {
        // Until the write has reached the node; it has a second.
        match WebSocket::open(&database.server, Request::get(database.path("log/_streams/broken"))).await {
            Err(refused) if refused.status == StatusCode::INTERNAL_SERVER_ERROR => {
                assert!(refused.text().contains("streams[0].stages[0]"), "{}", refused.text());
                break database.connect("log/_streams/kept").await;
            }
            Err(refused) => assert_eq!(refused.status, StatusCode::NOT_FOUND),
            Ok(_) => panic!("a broken stream opens"),
        }
    };
    let refused = database.refused("log/_streams/filtered").await;
    assert_eq!(refused.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(refused.text().contains("streams[2].notify_when"), "{}", refused.text());
    database.post("log", "{}").await;
    kept.event().await;
}

both_fronts!(
    a_put_closes_what_it_changes,
    a_patch_closes_what_it_changes,
    a_direct_write_closes_what_it_changes,
    equal_streams_and_other_properties_leave_sockets_open,
    a_dropped_collection_closes_its_streams_as_gone,
    a_dropped_database_closes_its_streams_as_gone,
    a_rename_onto_the_collection_tells_of_lost_history,
    a_broken_stored_definition_breaks_itself_alone,
);

#[tokio::test]
async fn a_change_on_another_node_closes_what_it_changes() {
    bounded(async {
        let here = Front::Native.database().await;
        let other =
            Backend::start(open_backend("other-node", &addresses().await.mongodb)).await.expect("a node");
        let there = here.at(&other.url());
        let open = open(&here).await;
        let since = Instant::now();
        there.put("log", AFTER).await;
        acted(&here, open, since).await;
        // And at once at the node that has just been told.
        there.connect("log/_streams/changed").await.close().await;
    })
    .await;
}
