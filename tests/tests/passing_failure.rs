//! A failure of MongoDB's that passes, while more is written all the time.

use std::time::Duration;

use bson::{Document, doc};
use parts::backend::Backend;
use parts::deployment::open_backend;
use parts::mongod::Mongod;
use parts::port;
use parts::replica_set::{Options, ReplicaSet};
use tailrace_tests::front::bounded;
use tailrace_tests::{Database, until};
use tokio::time::interval;

/// More than are read one by one.
const WRITTEN: i32 = 110;

#[tokio::test]
async fn a_failure_that_passes_holds_nothing_back_while_more_is_written() {
    bounded(async {
        let options = Options {
            ports: vec![port::free().expect("a port")],
            advertised: Vec::new(),
            arguments: ["--setParameter", "enableTestCommands=1"].map(str::to_owned).to_vec(),
        };
        let mongod = Mongod::find().expect("a mongod");
        let mongodb = ReplicaSet::start_with(&mongod, options).await.expect("MongoDB");
        let backend =
            Backend::start(open_backend("passing-failure", &mongodb.uri())).await.expect("a backend");
        let database = Database::new(&backend.url(), &mongodb.uri()).await;
        until("the backend has found MongoDB", async || {
            port::status(backend.port(), "/_ready").await.is_ok_and(|status| status == 200)
        })
        .await;
        database.put("log", r#"{"streams": [{"uri": "all", "stages": []}]}"#).await;
        let mut socket = database.connect("log/_streams/all").await;

        // Once, and no more: as a fail-over in the wrong moment can bring it.
        let failing = doc! {
            "configureFailPoint": "failCommand",
            "mode": { "times": 1 },
            "data": {
                "failCommands": ["getMore"],
                "namespace": format!("{}.log", database.name),
                "errorCode": 10_334,
            },
        };
        database.mongo.client().database("admin").run_command(failing).await.expect("a fail point");
        let log = database.mongo.collection::<Document>("log");
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
