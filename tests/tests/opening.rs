//! The 101 is a promise: what is written from then on is seen, however many streams there are.

use bson::{Document, doc};
use http::StatusCode;
use tailrace_tests::{Database, Front, Request, WebSocket, both_fronts};

const BY_NAME: &str =
    r#"{"streams": [{"uri": "mine", "stages": [{"$match": {"fullDocument.name": {"$var": "n"}}}]}]}"#;

async fn mine(database: &Database, name: u32) -> WebSocket {
    database.connect(&format!("log/_streams/mine?avars={{n:{name}}}")).await
}

async fn a_write_that_begins_after_the_101_is_seen_500_times_in_a_row(front: Front) {
    let database = front.database().await;
    database.put("log", BY_NAME).await;
    let collection = database.mongo.collection::<Document>("log");
    for round in 0..500 {
        // Each name is a binding that nobody else has open.
        let mut socket = mine(&database, round).await;
        collection.insert_one(doc! { "name": round }).await.expect("the insert");
        assert_eq!(socket.event().await["fullDocument"]["name"], round, "round {round}");
    }
}

async fn three_hundred_bindings_are_open_at_once_and_documents_are_still_served(front: Front) {
    let database = front.database().await;
    database.put("log", BY_NAME).await;
    let mut sockets = Vec::new();
    for name in 0..300 {
        sockets.push(mine(&database, name).await);
    }
    for name in [0, 150, 299] {
        database.post("log", &format!(r#"{{"name": {name}}}"#)).await;
        let event = sockets[name].event().await;
        assert_eq!(event["fullDocument"]["name"], name);
    }
    assert_eq!(database.get("log?pagesize=1").await.status, StatusCode::OK);
}

async fn subscribers_of_one_binding_all_receive_every_event_in_order(front: Front) {
    let database = front.database().await;
    database.put("log", BY_NAME).await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        sockets.push(mine(&database, 1).await);
    }
    let collection = database.mongo.collection::<Document>("log");
    for n in 0..100 {
        collection.insert_one(doc! { "name": 1, "n": n }).await.expect("the insert");
    }
    for socket in &mut sockets {
        for n in 0..100 {
            assert_eq!(socket.event().await["fullDocument"]["n"], n);
        }
    }
}

async fn what_does_not_exist_is_404_before_anything_else_is_judged(front: Front) {
    let database = front.database().await;
    database.put("log", BY_NAME).await;
    let message = r#""message":"Change Stream does not exist""#;
    for path in ["log/_streams/other?avars=[", "absent/_streams/mine", "log/_streams/Mine"] {
        let refused = database.refused(path).await;
        assert_eq!(refused.status, StatusCode::NOT_FOUND, "{path}");
        assert!(refused.text().contains(message), "{}", refused.text());
    }
}

async fn odd_handshakes_are_refused_with_what_was_expected(front: Front) {
    let database = front.database().await;
    database.put("log", r#"{"streams": [{"uri": "all", "stages": []}]}"#).await;
    let stream = database.path("log/_streams/all");
    let handshake = |version: &str, key: &str| {
        Request::get(stream.clone())
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", version)
            .header("sec-websocket-key", key)
    };
    let offering = |protocol: &str| {
        handshake("13", "dGhlIHNhbXBsZSBub25jZQ==").header("sec-websocket-protocol", protocol)
    };
    let refused = database.send(offering("chat")).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(refused.text().contains(
        "no known sub-protocol offered, expected one of tailrace.plain, tailrace.v1.json, tailrace.v1.bson"
    ));
    let twice = Request::get(format!("{stream}?avars={{}}&avars={{}}"));
    assert!(database.send(twice).await.text().contains("parameter avars is given twice, expected once"));
    let mode = Request::get(format!("{stream}?jsonMode=xml"));
    assert!(database.send(mode).await.text().contains("expected relaxed, canonical, strict, or extended"));

    let plain = WebSocket::open(
        &database.server,
        Request::get(stream.clone()).header("sec-websocket-protocol", "other, tailrace.plain"),
    )
    .await
    .expect("a known sub-protocol");
    assert_eq!(plain.headers["sec-websocket-protocol"], "tailrace.plain");

    if front == Front::Native {
        // The runtime of the edge sends a version and a key of its own.
        let old = database.send(handshake("8", "dGhlIHNhbXBsZSBub25jZQ==")).await;
        assert_eq!(old.status, StatusCode::UPGRADE_REQUIRED);
        assert_eq!(old.header("sec-websocket-version"), "13");
        let key = database.send(handshake("13", "short")).await;
        assert!(key.text().contains("Sec-WebSocket-Key is not 16 bytes in base64"));
    }
}

async fn dates_and_numbers_come_in_the_json_that_was_asked_for(front: Front) {
    let database = front.database().await;
    database.put("log", r#"{"streams": [{"uri": "all", "stages": []}]}"#).await;
    let modes = [
        ("", r#""n":7,"d":2.0,"at":{"$date":1500}"#),
        ("?jsonMode=relaxed", r#""n":7,"d":2.0,"at":{"$date":"1970-01-01T00:00:01.5Z"}"#),
        (
            "?jsonMode=canonical",
            r#""n":{"$numberLong":"7"},"d":{"$numberDouble":"2.0"},"at":{"$date":{"$numberLong":"1500"}}"#,
        ),
        (
            "?jsonMode=extended",
            r#""n":{"$numberLong":"7"},"d":{"$numberDouble":"2.0"},"at":{"$date":{"$numberLong":"1500"}}"#,
        ),
        ("?jsonMode=strict", r#""n":{"$numberLong":"7"},"d":2.0,"at":{"$date":1500}"#),
    ];
    let mut sockets = Vec::new();
    for (query, _) in modes {
        sockets.push(database.connect(&format!("log/_streams/all{query}")).await);
    }
    let document = doc! { "n": 7_i64, "d": 2.0, "at": bson::DateTime::from_millis(1500) };
    database.mongo.collection::<Document>("log").insert_one(document).await.expect("the insert");
    for (socket, (query, expected)) in sockets.iter_mut().zip(modes) {
        let text = socket.text().await;
        assert!(text.contains(expected), "{query}: {text}");
    }
}

both_fronts!(
    a_write_that_begins_after_the_101_is_seen_500_times_in_a_row,
    three_hundred_bindings_are_open_at_once_and_documents_are_still_served,
    subscribers_of_one_binding_all_receive_every_event_in_order,
    what_does_not_exist_is_404_before_anything_else_is_judged,
    odd_handshakes_are_refused_with_what_was_expected,
    dates_and_numbers_come_in_the_json_that_was_asked_for,
);
