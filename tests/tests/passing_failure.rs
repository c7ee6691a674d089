//! A failure of MongoDB's that passes: nothing is lost by it, and nothing waits for it longer than it lasts.

use std::time::Duration;

use bson::{Document, doc};
use http::{Method, StatusCode};
use parts::backend::Backend;
use parts::deployment::open_backend;
use parts::mongod::Mongod;
use parts::port;
use parts::replica_set::{Options, ReplicaSet};
use tailrace_tests::front::bounded;
use tailrace_tests::{Database, Request, WebSocket, until};
use tokio::time::{Instant, interval};

/// More than are read one by one.
const WRITTEN: i32 = 110;

/// A node before a MongoDB that fails on demand, and the collection `log` with a stream.
struct Node {
    database: Database,
    _backend: Backend,
    _mongodb: ReplicaSet,
}

impl Node {
    async fn start(name: &str) -> Self {
        let options = Options {
            ports: vec![port::free().expect("a port")],
            advertised: Vec::new(),
            arguments: ["--setParameter", "enableTestCommands=1"].map(str::to_owned).to_vec(),
        };
        let mongod = Mongod::find().expect("a mongod");
        let mongodb = ReplicaSet::start_with(&mongod, options).await.expect("MongoDB");
        let backend = Backend::start(open_backend(name, &mongodb.uri())).await.expect("a backend");
        let database = Database::new(&backend.url(), &mongodb.uri()).await;
        until("the backend has found MongoDB", async || {
            port::status(backend.port(), "/_ready").await.is_ok_and(|status| status == 200)
        })
        .await;
        database.put("log", r#"{"streams": [{"uri": "all", "stages": []}]}"#).await;
        Self { database, _backend: backend, _mongodb: mongodb }
    }

    /// Lets the next command of this name on `log` fail, and no more.
    async fn fails_once(&self, command: &str, code: i32) {
        self.once(command, doc! { "errorCode": code }).await;
    }

    /// Lets the next command of this name on `log` take so long, and no more.
    async fn takes_long_once(&self, command: &str, time: Duration) {
        let milliseconds = i32::try_from(time.as_millis()).expect("some seconds");
        self.once(command, doc! { "blockConnection": true, "blockTimeMS": milliseconds }).await;
    }

    async fn once(&self, command: &str, what: Document) {
        let mut data = doc! {
            "failCommands": [command],
            "namespace": format!("{}.log", self.database.name),
        };
        data.extend(what);
        let failing = doc! { "configureFailPoint": "failCommand", "mode": { "times": 1 }, "data": data };
        self.database.mongo.client().database("admin").run_command(failing).await.expect("a fail point");
    }
}

#[tokio::test]
async fn a_failure_that_passes_holds_nothing_back_while_more_is_written() {
    bounded(async {
        let node = Node::start("passing-failure").await;
        let mut socket = node.database.connect("log/_streams/all").await;
        node.fails_once("getMore", 10_334).await;
        let log = node.database.mongo.collection::<Document>("log");
        log.insert_many((0..WRITTEN).map(|n| doc! { "n": n })).await.expect("the insert");
        let writer = tokio::spawn(async move {
            // Often enough that a reply that is waited for always brings something.
            let mut often = interval(Duration::from_millis(50));
            for n in WRITTEN.. {
                often.tick().await;
                log.insert_one(doc! { "n": n }).await.expect("the insert");
            }
        });
        for n in 0..WRITTEN + 10 {
            assert_eq!(socket.event().await["fullDocument"]["n"], n);
        }
        writer.abort();
    })
    .await;
}

#[tokio::test]
async fn a_collection_that_could_not_be_dropped_keeps_its_streams() {
    bounded(async {
        let node = Node::start("failing-drop").await;
        let Node { database, .. } = &node;
        let etag = database.put("log", r#"{"streams": [{"uri": "all", "stages": []}]}"#).await;
        // 13 Unauthorized
        node.fails_once("drop", 13).await;
        let delete =
            || Request::new(Method::DELETE, database.path("log")).header("if-match", etag.header("etag"));
        assert_eq!(database.send(delete()).await.status, StatusCode::BAD_REQUEST);
        let mut socket = database.connect("log/_streams/all").await;
        database.post("log", r#"{"n": 1}"#).await;
        assert_eq!(socket.event().await["fullDocument"]["n"], 1);
        assert_eq!(database.send(delete()).await.status, StatusCode::NO_CONTENT);
        assert_eq!(socket.closed().await.0, 4002);
    })
    .await;
}

/// A stand-in for an oplog of millions: MongoDB looks through all that was written since, before it answers.
#[tokio::test]
async fn who_returns_from_far_back_comes_in_while_mongodb_looks_through_the_past() {
    bounded(async {
        let node = Node::start("far-back").await;
        let Node { database, .. } = &node;
        let open = async |inner: &str| {
            let ask = Request::get(database.path(inner)).header("sec-websocket-protocol", "tailrace.v1.json");
            let mut socket = WebSocket::open(&database.server, ask).await.expect("it opens");
            let ready = socket.event().await;
            assert_eq!(ready["type"], "ready");
            (socket, ready["position"].as_str().expect("a position").to_owned())
        };
        let (socket, from) = open("log/_streams/all").await;
        socket.close().await;
        until("its cursor is closed", async || database.cursors("log").await == 0).await;
        database.post("log", r#"{"n": 1}"#).await;
        node.takes_long_once("aggregate", Duration::from_secs(20)).await;
        let began = Instant::now();
        let (mut returned, _) = open(&format!("log/_streams/all?resumeAfter={from}")).await;
        let (mut other, _) = open("log/_streams/all").await;
        database.post("log", r#"{"n": 2}"#).await;
        for n in 1..3 {
            assert_eq!(returned.event().await["event"]["fullDocument"]["n"], n);
        }
        assert_eq!(other.event().await["event"]["fullDocument"]["n"], 2);
        assert!(began.elapsed() < Duration::from_secs(20), "nobody waits for that answer");
    })
    .await;
}
