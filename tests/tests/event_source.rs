//! Server-sent events: the same streams, for clients that speak only HTTP.

use std::time::{Duration, Instant};

use http::StatusCode;
use parts::deployment::{open_backend, open_worker};
use tailrace_tests::front::addresses;
use tailrace_tests::{Database, Front, Own, Request, both_fronts, until};

async fn declared(front: Front) -> Database {
    let database = front.database().await;
    let stage = r#"{"$match": {"fullDocument.n": {"$var": "n"}}}"#;
    database.put("log", &format!(r#"{{"streams": [{{"uri": "mine", "stages": [{stage}]}}]}}"#)).await;
    database
}

async fn events_arrive_as_they_happen_and_an_end_is_told(front: Front) {
    let database = declared(front).await;
    let mut source = database.event_source("log/_streams/mine?avars={n:1}").await;
    assert_eq!(source.headers["content-type"], "text/event-stream");
    assert_eq!(source.headers["cache-control"], "no-store");
    for round in 0..3 {
        database.post("log", r#"{"n": 2}"#).await;
        database.post("log", &format!(r#"{{"n": 1, "round": {round}, "text": "a\nb"}}"#)).await;
        let written = Instant::now();
        let event = source.event().await;
        assert_eq!(event.event.as_deref(), Some("change"));
        assert_eq!(event.json()["fullDocument"]["round"], round);
        assert_eq!(event.json()["fullDocument"]["text"], "a\nb");
        assert!(written.elapsed() < Duration::from_secs(1), "buffered for {:?}", written.elapsed());
    }
    database.put("log", r#"{"streams": []}"#).await;
    let last = source.event().await;
    assert_eq!(last.event.as_deref(), Some("close"));
    assert_eq!(
        last.data.as_deref(),
        Some(r#"{"code":4002,"reason":"the stream, its collection, or its database is gone"}"#)
    );
    assert_eq!(source.block().await.expect("an orderly end"), None);
}

async fn an_event_stream_is_refused_as_its_upgrade_would_be(front: Front) {
    let database = declared(front).await;
    for (path, status) in
        [("log/_streams/mine", StatusCode::BAD_REQUEST), ("log/_streams/other", StatusCode::NOT_FOUND)]
    {
        let asked = Request::get(database.path(path)).header("accept", "text/event-stream");
        let refused = database.send(asked).await;
        assert_eq!(refused.status, status);
        assert_eq!(refused.body, database.refused(path).await.body);
    }
}

async fn the_server_notices_a_client_that_leaves(front: Front) {
    // The runtime of the edge notices when it has something to hand on: the keepalive at the latest.
    let options = open_backend("leaves", &addresses().await.mongodb)
        .set("TAILRACE_LOG__LEVEL", "tailrace=debug")
        .set("TAILRACE_LIMITS__PING_SECONDS", "1");
    let parts = Own::at(front, options, |backend| open_worker("leaves", &[backend])).await;
    let database = parts.declared(front, r#"{"streams": [{"uri": "all", "stages": []}]}"#).await;
    let source = database.event_source("log/_streams/all").await;
    let ended = || parts.backend.logged().matches("source ended").count();
    let before = ended();
    drop(source);
    until("the source has ended", async || ended() > before).await;
}

both_fronts!(
    the_server_notices_a_client_that_leaves,
    events_arrive_as_they_happen_and_an_end_is_told,
    an_event_stream_is_refused_as_its_upgrade_would_be,
);
