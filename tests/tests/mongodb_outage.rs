//! MongoDB is absent, comes, and comes again: no restart of Tailrace, and no client that has to connect anew.

use bson::{Document, doc};
use http::StatusCode;
use parts::deployment::{open_backend, open_worker};
use parts::mongod::Mongod;
use parts::port;
use parts::replica_set::ReplicaSet;
use tailrace_tests::{Database, Front, Own, both_fronts, until};

/// A backend, and for the edge a worker before it, whose MongoDB will be on `port`.
struct Node {
    parts: Own,
    front: Front,
    mongodb: String,
}

impl Node {
    async fn start(front: Front, port: u16) -> Self {
        let mongodb = format!("mongodb://127.0.0.1:{port}/?replicaSet=rs0");
        let name = format!("outage-{front:?}").to_lowercase();
        // They start without MongoDB.
        let parts =
            Own::at(front, open_backend(&name, &mongodb), |backend| open_worker(&name, &[backend])).await;
        Self { parts, front, mongodb }
    }

    async fn database(&self) -> Database {
        Database::new(&self.parts.server(self.front), &self.mongodb).await
    }
}

async fn ready(node: &Node) -> StatusCode {
    let status = port::status(node.parts.backend.port(), "/_ready").await.expect("an answer");
    StatusCode::from_u16(status).expect("a status")
}

async fn a_node_waits_for_mongodb_and_works_when_it_comes(front: Front) {
    let port = port::free().expect("a port");
    let node = Node::start(front, port).await;
    let database = node.database().await;
    assert_eq!(ready(&node).await, StatusCode::SERVICE_UNAVAILABLE);
    let refused = database.refused("log/_streams/all").await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_ne!(refused.header("retry-after"), "");

    let _mongodb = ReplicaSet::start_on(&Mongod::find().expect("a mongod"), &[port]).await.expect("MongoDB");
    until("the node is ready", async || ready(&node).await == StatusCode::OK).await;
    database.put("log", r#"{"streams": [{"uri": "all", "stages": []}]}"#).await;
    let mut socket = database.connect("log/_streams/all").await;
    database.post("log", r#"{"n": 1}"#).await;
    assert_eq!(socket.event().await["fullDocument"]["n"], 1);
}

async fn clients_stay_connected_while_mongodb_restarts_and_miss_nothing(front: Front) {
    let port = port::free().expect("a port");
    let mut mongodb =
        ReplicaSet::start_on(&Mongod::find().expect("a mongod"), &[port]).await.expect("MongoDB");
    let node = Node::start(front, port).await;
    let database = node.database().await;
    until("the node is ready", async || ready(&node).await == StatusCode::OK).await;
    database
        .put("log", r#"{"streams": [{"uri": "mine", "stages": [{"$match": {"fullDocument.n": {"$gte": {"$var": "n"}}}}]}]}"#)
        .await;
    let mut socket = database.connect("log/_streams/mine?avars={n:1}").await;
    database.post("log", r#"{"n": 1}"#).await;
    assert_eq!(socket.event().await["fullDocument"]["n"], 1);
    for round in 0..2 {
        mongodb.kill_all();
        until("the node is not ready", async || ready(&node).await == StatusCode::SERVICE_UNAVAILABLE).await;
        mongodb.restart_all().await.expect("MongoDB comes back");
        let collection = database.mongo.collection::<Document>("log");
        for n in 10..13 {
            collection.insert_one(doc! { "n": n, "round": round }).await.expect("the insert");
        }
        for n in 10..13 {
            let event = socket.event().await;
            assert_eq!(
                (&event["fullDocument"]["n"], &event["fullDocument"]["round"]),
                (&n.into(), &round.into())
            );
        }
        until("the node is ready again", async || ready(&node).await == StatusCode::OK).await;
    }
    // And what was declared still follows its changes.
    database.put("log", r#"{"streams": []}"#).await;
    assert_eq!(socket.closed().await.0, 4002);
}

both_fronts!(
    a_node_waits_for_mongodb_and_works_when_it_comes,
    clients_stay_connected_while_mongodb_restarts_and_miss_nothing,
);
