//! Where a collection is addressed: the default mount, a mount of every database, and mounts that were configured.

use bson::{Document, doc};
use http::StatusCode;
use parts::deployment::{edge_key, open_backend, open_worker};
use tailrace_tests::front::addresses;
use tailrace_tests::{Front, Own, Request, Response, WebSocket, both_fronts};

const STREAMS: &str = r#"{"streams": [{"uri": "all", "stages": []}]}"#;

/// A deployment of its own, with these mounts; `None` is the default.
struct Served {
    server: String,
    _parts: Own,
}

impl Served {
    async fn start(front: Front, database: &str, mounts: Option<&str>) -> Self {
        let mongodb = addresses().await.mongodb.replacen("/?", &format!("/{database}?"), 1);
        let name = format!("mounts-{front:?}").to_lowercase();
        let mut options = open_backend(&name, &mongodb);
        options.config = mounts.map_or_else(edge_key, |mounts| format!("mounts = {mounts}\n{}", edge_key()));
        let parts = Own::at(front, options, |backend| open_worker(&name, &[backend])).await;
        Self { server: parts.server(front), _parts: parts }
    }

    async fn put(&self, path: &str) -> Response {
        let put = Request::new(http::Method::PUT, path).json(STREAMS);
        put.send(&self.server).await.expect("an answer")
    }

    async fn get(&self, path: &str) -> StatusCode {
        Request::get(path).send(&self.server).await.expect("an answer").status
    }

    async fn connect(&self, path: &str) -> WebSocket {
        WebSocket::open(&self.server, Request::get(path)).await.expect("it opens")
    }
}

async fn the_database_of_the_connection_string_is_at_the_root(front: Front) {
    let database = front.database().await;
    let served = Served::start(front, &database.name, None).await;
    assert_eq!(served.put("/messages").await.status, StatusCode::CREATED);
    let mut socket = served.connect("/messages/_streams/all").await;
    database.mongo.collection::<Document>("messages").insert_one(doc! { "n": 1 }).await.expect("the insert");
    assert_eq!(socket.event().await["fullDocument"]["n"], 1);
    // The same under the mount of every database, at the shared server.
    let mut same = database.connect("messages/_streams/all").await;
    database.post("messages", r#"{"n": 2}"#).await;
    assert_eq!(same.event().await["fullDocument"]["n"], 2);
    assert_eq!(socket.event().await["fullDocument"]["n"], 2);
    // Its name is no address here.
    assert_eq!(served.get(&database.path("messages/_streams/all")).await, StatusCode::NOT_FOUND);
}

async fn the_longest_mount_decides_and_what_no_mount_fits_is_404(front: Front) {
    let database = front.database().await;
    let name = &database.name;
    let mounts = format!(
        r#"[{{ what = "/{name}", where = "/app" }}, {{ what = "/{name}/log", where = "/app/audit" }}]"#
    );
    let served = Served::start(front, "unused", Some(&mounts)).await;
    assert_eq!(served.put("/app/audit").await.status, StatusCode::CREATED);
    assert_eq!(
        served.put("/app/log").await.status,
        StatusCode::OK,
        "the same collection by its other address"
    );
    let mut socket = served.connect("/app/audit/_streams/all").await;
    database.mongo.collection::<Document>("log").insert_one(doc! { "n": 1 }).await.expect("the insert");
    assert_eq!(socket.event().await["fullDocument"]["n"], 1);
    for path in ["/", "/messages", "/app2/log/_streams/all", &database.path("log")] {
        assert_eq!(served.get(path).await, StatusCode::NOT_FOUND, "{path}");
    }
}

both_fronts!(
    the_database_of_the_connection_string_is_at_the_root,
    the_longest_mount_decides_and_what_no_mount_fits_is_404,
);
