//! Positions: a client continues exactly behind the event that it has seen, on any node.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::time::Duration;

use bson::{Document, doc};
use http::StatusCode;
use parts::backend::Backend;
use parts::deployment::open_backend;
use serde_json::{Value, json};
use tailrace_tests::database::json as body_of;
use tailrace_tests::event_source::EventSource;
use tailrace_tests::front::{addresses, bounded};
use tailrace_tests::web_socket::Message;
use tailrace_tests::{Database, Front, Request, WebSocket, both_fronts};

const STREAMS: &str = r#"{"streams": [
    {"uri": "all", "stages": []},
    {"uri": "other", "stages": []},
    {"uri": "open", "stages": [{"$match": {"fullDocument.state": "open"}}]}
]}"#;

async fn typed(database: &Database, inner: &str, protocol: &str) -> WebSocket {
    let request = Request::get(database.path(inner)).header("sec-websocket-protocol", protocol);
    let socket = WebSocket::open(&database.server, request).await.expect("it opens");
    assert_eq!(socket.headers["sec-websocket-protocol"], protocol);
    socket
}

async fn v1(database: &Database, inner: &str) -> WebSocket {
    typed(database, inner, "tailrace.v1.json").await
}

fn position(message: &Value) -> String {
    message["position"].as_str().unwrap_or_else(|| panic!("no position: {message}")).to_owned()
}

async fn insert(database: &Database, numbers: std::ops::Range<i32>) {
    for n in numbers {
        database
            .mongo
            .collection::<Document>("log")
            .insert_one(doc! { "_id": n, "n": n, "state": "open" })
            .await
            .expect("the insert");
    }
}

/// Inserts documents with so many bytes of text each, all at once.
async fn insert_at_once(database: &Database, numbers: std::ops::Range<i32>, bytes: usize) {
    let documents = numbers.map(|n| doc! { "_id": n, "n": n, "text": "x".repeat(bytes) });
    database.mongo.collection::<Document>("log").insert_many(documents).await.expect("the inserts");
}

/// Reads events until `last`, and checks that each number came once, in order.
async fn numbers(socket: &mut WebSocket, expected: std::ops::Range<i32>) -> String {
    let mut last = String::new();
    for n in expected {
        let message = socket.event().await;
        assert_eq!((&message["type"], &message["event"]["fullDocument"]["n"]), (&json!("event"), &json!(n)));
        last = position(&message);
    }
    last
}

async fn v1_tells_when_it_is_ready_and_continues_behind_any_event(front: Front) {
    let database = front.database().await;
    database.put("log", STREAMS).await;
    let mut socket = v1(&database, "log/_streams/all").await;
    let ready = socket.event().await;
    assert_eq!(ready["type"], "ready");
    insert(&database, 0..5).await;
    let first = socket.event().await;
    assert_eq!(first["event"]["fullDocument"]["n"], 0);
    numbers(&mut socket, 1..5).await;
    drop(socket);
    insert(&database, 5..8).await;
    for (from, behind) in [(position(&ready), 0), (position(&first), 1)] {
        let mut returned = v1(&database, &format!("log/_streams/all?resumeAfter={from}")).await;
        assert_eq!(position(&returned.event().await), from, "it is ready where it left off");
        numbers(&mut returned, behind..8).await;
    }
}

async fn a_crowd_returns_each_to_its_place_while_others_stay(front: Front) {
    let database = front.database().await;
    database.put("log", STREAMS).await;
    let mut stayed = v1(&database, "log/_streams/all").await;
    let mut positions = vec![position(&stayed.event().await)];
    insert(&database, 0..20).await;
    for n in 0..20 {
        positions.push(numbers(&mut stayed, n..n + 1).await);
    }
    let mut returned = Vec::new();
    for from in &positions {
        let mut socket = v1(&database, &format!("log/_streams/all?resumeAfter={from}")).await;
        assert_eq!(socket.event().await["type"], "ready");
        returned.push(socket);
    }
    insert(&database, 20..25).await;
    numbers(&mut stayed, 20..25).await;
    for (behind, socket) in (0..).zip(&mut returned) {
        numbers(socket, behind..25).await;
    }
}

async fn the_plain_form_and_event_streams_continue_too(front: Front) {
    let database = front.database().await;
    database.put("log", STREAMS).await;
    let mut plain = database.connect("log/_streams/all?position=true").await;
    let mut source = database.event_source("log/_streams/all").await;
    insert(&database, 0..3).await;
    let text = plain.text().await;
    assert!(text.contains(r#""operationType":"insert","position":""#), "the position comes last: {text}");
    let first: Value = serde_json::from_str(&text).expect("JSON");
    let event = source.event().await;
    let id = event.id.clone().expect("an id");
    assert_eq!(event.json()["fullDocument"]["n"], 0);
    drop((plain, source));

    let inner = format!("log/_streams/all?position=true&resumeAfter={}", position(&first));
    let mut plain = database.connect(&inner).await;
    // What the browser remembers wins over what stands in the address.
    let request = Request::get(database.path(&inner)).header("last-event-id", &*id);
    let mut source = EventSource::open(&database.server, request).await.expect("it opens");
    for n in 1..3 {
        assert_eq!(plain.event().await["fullDocument"]["n"], n);
        assert_eq!(source.event().await.json()["fullDocument"]["n"], n);
    }
}

async fn v1_in_bson_carries_the_values_as_mongodb_sent_them(front: Front) {
    let database = front.database().await;
    database.put("log", STREAMS).await;
    let mut socket = typed(&database, "log/_streams/all", "tailrace.v1.bson").await;
    let mut next = async || match socket.message().await.expect("a message") {
        Message::Binary(bytes) => Document::from_reader(&bytes[..]).expect("BSON"),
        other => panic!("a binary message was expected: {other:?}"),
    };
    assert_eq!(next().await.get_str("type").expect("a type"), "ready");
    let document =
        doc! { "_id": 1_i64, "d": "1.10".parse::<bson::Decimal128>().expect("a number"), "f": -0.0 };
    database.mongo.collection::<Document>("log").insert_one(document.clone()).await.expect("the insert");
    let message = next().await;
    assert_eq!(message.keys().collect::<Vec<_>>(), ["type", "position", "event"]);
    let event = message.get_document("event").expect("an event");
    assert_eq!(
        event.keys().collect::<Vec<_>>(),
        ["fullDocument", "documentKey", "updateDescription", "operationType"]
    );
    let received = event.get_document("fullDocument").expect("a document");
    assert_eq!(received.to_vec().expect("BSON"), document.to_vec().expect("BSON"));
}

async fn the_position_of_an_update_whose_document_has_changed_or_gone_still_resumes(front: Front) {
    let database = front.database().await;
    database.put("log", STREAMS).await;
    let collection = database.mongo.collection::<Document>("log");
    insert(&database, 0..2).await;
    let mut socket = v1(&database, "log/_streams/open").await;
    assert_eq!(socket.event().await["type"], "ready");
    let mut positions = Vec::new();
    for id in [0, 1] {
        collection.update_one(doc! { "_id": id }, doc! { "$set": { "x": 1 } }).await.expect("the update");
        positions.push(position(&socket.event().await));
    }
    drop(socket);
    // By now the pipeline would filter the first event out, and look up nothing for the second.
    collection
        .update_one(doc! { "_id": 0 }, doc! { "$set": { "state": "closed" } })
        .await
        .expect("the update");
    collection.delete_one(doc! { "_id": 1 }).await.expect("the delete");
    insert(&database, 5..6).await;
    for from in positions {
        let mut socket = v1(&database, &format!("log/_streams/open?resumeAfter={from}")).await;
        assert_eq!(socket.event().await["type"], "ready");
        loop {
            let message = socket.event().await;
            assert_eq!(message["type"], "event", "{message}");
            if message["event"]["fullDocument"]["n"] == 5 {
                break;
            }
        }
    }
}

async fn a_position_that_was_not_given_for_this_stream_is_400_and_nothing_opens(front: Front) {
    let database = front.database().await;
    database.put("log", STREAMS).await;
    database.put("twin", STREAMS).await;
    let mut socket = v1(&database, "log/_streams/all").await;
    let good = position(&socket.event().await);
    let mut forged = good.clone().into_bytes();
    forged[10] = if forged[10] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).expect("ASCII");
    for inner in [
        format!("log/_streams/other?resumeAfter={good}"),
        format!("twin/_streams/all?resumeAfter={good}"),
        format!("log/_streams/all?resumeAfter={}", &good[..good.len() - 4]),
        format!("log/_streams/all?resumeAfter={forged}"),
        "log/_streams/all?resumeAfter=8263F5C8A10000000B2B0229296E04".to_owned(),
    ] {
        let refused = database.refused(&inner).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{inner}");
        let expected = "resumeAfter is no position of this stream, expected one that it gave";
        assert_eq!(body_of(&refused)["message"], expected);
    }
}

async fn an_event_that_the_pipeline_cannot_compute_is_told_and_the_others_arrive(front: Front) {
    let database = front.database().await;
    let stage = r#"{"$set": {"share": {"$divide": [1, "$fullDocument.q"]}}}"#;
    database.put("log", &format!(r#"{{"streams": [{{"uri": "s", "stages": [{stage}]}}]}}"#)).await;
    let mut typed = v1(&database, "log/_streams/s").await;
    assert_eq!(typed.event().await["type"], "ready");
    let mut plain = database.connect("log/_streams/s?position=true").await;
    let documents = (1..=10).map(|n| {
        let secret = bson::Bson::from("secret");
        doc! { "n": n, "q": if n == 3 || n == 7 { secret } else { bson::Bson::Int32(2) } }
    });
    database.mongo.collection::<Document>("log").insert_many(documents).await.expect("the inserts");
    for n in 1..=10 {
        let message = typed.event().await;
        if n == 3 || n == 7 {
            assert_eq!(message["type"], "error", "{message}");
            assert!(message["code"].is_i64(), "{message}");
            assert!(!message.to_string().contains("secret"));
        } else {
            assert_eq!(message["event"]["fullDocument"]["n"], n);
        }
    }

    let mut seen = Vec::new();
    let mut from = String::new();
    let mut closes = 0;
    while seen.len() < 8 {
        match plain.message().await.expect("a message") {
            Message::Text(text) => {
                let event: Value = serde_json::from_str(&text).expect("JSON");
                seen.push(event["fullDocument"]["n"].as_i64().expect("a number"));
                from = position(&event);
            }
            Message::Close(close) => {
                let close = close.expect("a code");
                assert_eq!(u16::from(close.code), 4010);
                assert!(close.reason.parse::<i32>().is_ok(), "the reason is the code: {}", close.reason);
                closes += 1;
                plain = database.connect(&format!("log/_streams/s?position=true&resumeAfter={from}")).await;
            }
            _ => {}
        }
    }
    assert_eq!((seen, closes), (vec![1, 2, 4, 5, 6, 8, 9, 10], 2));
}

async fn a_plain_client_that_has_come_back_is_told_of_each_failure_that_comes_later(front: Front) {
    let database = front.database().await;
    let stage = r#"{"$set": {"share": {"$divide": [1, "$fullDocument.q"]}}}"#;
    database.put("log", &format!(r#"{{"streams": [{{"uri": "s", "stages": [{stage}]}}]}}"#)).await;
    let log = database.mongo.collection::<Document>("log");
    let good = async |n: i32| log.insert_one(doc! { "n": n, "q": 1 }).await.expect("the insert");
    let bad = async || log.insert_one(doc! { "q": "none" }).await.expect("the insert");
    // It keeps the source open, so that what comes later comes by itself.
    let mut stays = v1(&database, "log/_streams/s").await;
    let mut socket = database.connect("log/_streams/s?position=true").await;
    for n in 0..3 {
        good(n).await;
        let event = socket.event().await;
        assert_eq!(event["fullDocument"]["n"], n);
        bad().await;
        assert_eq!(socket.closed().await.0, 4010);
        while stays.event().await["type"] != "error" {}
        let from = position(&event);
        socket = database.connect(&format!("log/_streams/s?position=true&resumeAfter={from}")).await;
    }
}

/// An update looks its document up when it is read, so that one that fails may be computed a moment later.
async fn an_update_that_fails_until_its_document_is_mended_is_told_or_delivered_and_never_lost(front: Front) {
    let database = front.database().await;
    let stage = r#"{"$set": {"share": {"$divide": [1, "$fullDocument.q"]}}}"#;
    database.put("log", &format!(r#"{{"streams": [{{"uri": "s", "stages": [{stage}]}}]}}"#)).await;
    let mut socket = v1(&database, "log/_streams/s").await;
    assert_eq!(socket.event().await["type"], "ready");
    let log = database.mongo.collection::<Document>("log");
    for id in 0..30 {
        log.insert_one(doc! { "_id": id, "q": 1 }).await.expect("the insert");
        for q in [bson::Bson::from("bad"), bson::Bson::Int32(2)] {
            log.update_one(doc! { "_id": id }, doc! { "$set": { "q": q } }).await.expect("the update");
        }
    }
    for id in 0..30 {
        let inserted = socket.event().await;
        assert_eq!(inserted["event"]["documentKey"]["_id"], id, "{inserted}");
        assert_eq!(inserted["event"]["operationType"], "insert");
        for _ in 0..2 {
            let updated = socket.event().await;
            let told = updated["type"] == "error" || updated["event"]["documentKey"]["_id"] == id;
            assert!(told, "an update of {id} was expected: {updated}");
        }
    }
}

async fn a_lost_collection_is_a_gap_in_v1_and_the_socket_lives_on(front: Front) {
    let database = front.database().await;
    database.put("log", STREAMS).await;
    let mut socket = v1(&database, "log/_streams/open").await;
    assert_eq!(socket.event().await["type"], "ready");
    database.mongo.collection::<Document>("new").insert_one(doc! { "n": -1 }).await.expect("the insert");
    database.mongo.collection::<Document>("new").aggregate([doc! { "$out": "log" }]).await.expect("$out");
    let gap = socket.event().await;
    assert_eq!((&gap["type"], &gap["reason"]), (&json!("gap"), &json!("history lost")));
    insert(&database, 0..3).await;
    numbers(&mut socket, 0..3).await;
    let mut returned = v1(&database, &format!("log/_streams/open?resumeAfter={}", position(&gap))).await;
    assert_eq!(returned.event().await["type"], "ready");
    numbers(&mut returned, 0..3).await;
}

async fn an_event_source_that_returns_to_what_is_gone_is_told_to_stop(front: Front) {
    let database = front.database().await;
    database.put("log", STREAMS).await;
    let gone = Request::get(database.path("log/_streams/none")).header("accept", "text/event-stream");
    assert_eq!(database.send(gone.clone()).await.status, StatusCode::NOT_FOUND);
    let returned = database.send(gone.header("last-event-id", "x")).await;
    assert_eq!(returned.status, StatusCode::NO_CONTENT);
}

both_fronts!(
    v1_tells_when_it_is_ready_and_continues_behind_any_event,
    a_crowd_returns_each_to_its_place_while_others_stay,
    the_plain_form_and_event_streams_continue_too,
    v1_in_bson_carries_the_values_as_mongodb_sent_them,
    the_position_of_an_update_whose_document_has_changed_or_gone_still_resumes,
    a_position_that_was_not_given_for_this_stream_is_400_and_nothing_opens,
    an_event_that_the_pipeline_cannot_compute_is_told_and_the_others_arrive,
    a_plain_client_that_has_come_back_is_told_of_each_failure_that_comes_later,
    an_update_that_fails_until_its_document_is_mended_is_told_or_delivered_and_never_lost,
    a_lost_collection_is_a_gap_in_v1_and_the_socket_lives_on,
    an_event_source_that_returns_to_what_is_gone_is_told_to_stop,
);

#[tokio::test]
async fn a_position_of_one_node_resumes_on_another_and_after_a_restart() {
    bounded(async {
        let here = Front::Native.database().await;
        here.put("log", STREAMS).await;
        let mut other =
            Backend::start(open_backend("resume", &addresses().await.mongodb)).await.expect("a node");
        let there = here.at(&other.url());
        let mut socket = v1(&here, "log/_streams/all").await;
        assert_eq!(socket.event().await["type"], "ready");
        insert(&here, 0..3).await;
        let from = numbers(&mut socket, 0..2).await;
        for round in 0..2 {
            let mut returned = v1(&there, &format!("log/_streams/all?resumeAfter={from}")).await;
            assert_eq!(returned.event().await["type"], "ready");
            numbers(&mut returned, 2..3).await;
            if round == 0 {
                other.kill();
                other.restart().await.expect("it starts again");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn who_comes_new_gets_nothing_of_the_past_that_another_returns_to() {
    bounded(async {
        let here = Front::Native.database().await;
        here.put("log", STREAMS).await;
        let mut socket = v1(&here, "log/_streams/all").await;
        let from = position(&socket.event().await);
        drop(socket);
        insert_at_once(&here, 0..5_000, 0).await;

        let node = Backend::start(open_backend("past", &addresses().await.mongodb)).await.expect("a node");
        let there = here.at(&node.url());
        let resumed = format!("log/_streams/all?resumeAfter={from}");
        let (mut returned, mut new) = tokio::join!(v1(&there, &resumed), v1(&there, "log/_streams/all"));
        assert_eq!(new.event().await["type"], "ready");
        insert(&here, 10_000..10_001).await;
        numbers(&mut new, 10_000..10_001).await;
        assert_eq!(returned.event().await["type"], "ready");
        numbers(&mut returned, 0..5_000).await;
        numbers(&mut returned, 10_000..10_001).await;
    })
    .await;
}

#[tokio::test]
async fn one_who_returns_to_a_long_past_holds_up_nobody() {
    const PAST: i32 = 120_000;
    bounded(async {
        let here = Front::Native.database().await;
        here.put("log", STREAMS).await;
        let mut socket = v1(&here, "log/_streams/all").await;
        let from = position(&socket.event().await);
        drop(socket);
        insert_at_once(&here, 0..PAST, 0).await;
        let node =
            Backend::start(open_backend("long-past", &addresses().await.mongodb)).await.expect("a node");
        let there = here.at(&node.url());
        let mut returned = v1(&there, &format!("log/_streams/all?resumeAfter={from}")).await;
        assert_eq!(returned.event().await["type"], "ready");
        numbers(&mut returned, 0..10).await;
        let mut new = v1(&there, "log/_streams/all").await;
        assert_eq!(new.event().await["type"], "ready");
        insert(&here, PAST..PAST + 1).await;
        let came = Arc::new(AtomicI32::new(10));
        let counted = Arc::clone(&came);
        let reader = tokio::spawn(async move {
            for n in 10..=PAST {
                numbers(&mut returned, n..n + 1).await;
                counted.store(n, Relaxed);
            }
        });
        numbers(&mut new, PAST..PAST + 1).await;
        let come_to = came.load(Relaxed);
        assert!(come_to < PAST / 2, "the other had come to {come_to} of {PAST} by then");
        reader.await.expect("each number once, in order");
    })
    .await;
}

#[tokio::test]
async fn who_missed_more_than_fits_its_queue_gets_all_of_it() {
    bounded(async {
        let options = open_backend("memory", &addresses().await.mongodb)
            .set("TAILRACE_LIMITS__QUEUE_BYTES", "300000")
            .set("TAILRACE_LIMITS__REPLAY_BYTES", "20000000");
        let backend = Backend::start(options).await.expect("a backend");
        let database = Front::Native.database().await.at(&backend.url());
        database.put("log", STREAMS).await;
        let mut stays = v1(&database, "log/_streams/all").await;
        let from = position(&stays.event().await);
        insert_at_once(&database, 0..400, 10_000).await;
        numbers(&mut stays, 0..400).await;
        let mut returned = v1(&database, &format!("log/_streams/all?resumeAfter={from}")).await;
        assert_eq!(returned.event().await["type"], "ready");
        numbers(&mut returned, 0..400).await;
    })
    .await;
}

#[tokio::test]
async fn who_reads_without_a_pause_is_not_gone_however_much_waits_for_it() {
    const WAITING: i32 = 2_000;
    bounded(async {
        let options = open_backend("long-write", &addresses().await.mongodb)
            .set("TAILRACE_LIMITS__QUEUE_BYTES", "60000000")
            .set("TAILRACE_LIMITS__PING_SECONDS", "1")
            .set("TAILRACE_LIMITS__PONG_SECONDS", "6");
        let backend = Backend::start(options).await.expect("a backend");
        let database = Front::Native.database().await.at(&backend.url());
        database.put("log", STREAMS).await;
        // A ping is not behind megabytes that nobody has read: those wait with the server.
        let ask = Request::get(database.path("log/_streams/all")).receiving(64 * 1024);
        let mut socket = WebSocket::open(&database.server, ask).await.expect("a stream");
        insert_at_once(&database, 0..WAITING, 20_000).await;
        // Ten seconds, where a write may take seven.
        let mut pace = tokio::time::interval(Duration::from_millis(5));
        for n in 0..WAITING {
            assert_eq!(socket.event().await["fullDocument"]["n"], n);
            pace.tick().await;
        }
    })
    .await;
}

#[tokio::test]
async fn quiet_streams_keep_their_position_fresh() {
    bounded(async {
        let options =
            open_backend("quiet", &addresses().await.mongodb).set("TAILRACE_LIMITS__PING_SECONDS", "1");
        let backend = Backend::start(options).await.expect("a backend");
        let database = Front::Native.database().await.at(&backend.url());
        database.put("log", STREAMS).await;
        let mut socket = v1(&database, "log/_streams/open").await;
        let ready = position(&socket.event().await);
        let mut source = database.event_source("log/_streams/open").await;
        // Nothing of this passes the filter, and yet the position moves on.
        database.post("log", r#"{"state": "closed"}"#).await;
        let mut fresh = ready.clone();
        while fresh == ready {
            let keepalive = socket.event().await;
            assert_eq!(keepalive["type"], "keepalive");
            fresh = position(&keepalive);
        }
        let mut ids = Vec::new();
        while ids.len() < 3 {
            let block = source.block().await.expect("it holds").expect("it goes on");
            assert_eq!(block.data, None);
            ids.extend(block.id);
        }
        insert(&database, 1..2).await;
        for from in [fresh, ids.pop().expect("an id")] {
            let mut returned = v1(&database, &format!("log/_streams/open?resumeAfter={from}")).await;
            assert_eq!(returned.event().await["type"], "ready");
            numbers(&mut returned, 1..2).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_event_over_16_mb_arrives_whole_where_the_server_can_split_it_and_is_told_elsewhere() {
    bounded(async {
        let database = Front::Native.database().await;
        database.put("log", STREAMS).await;
        let mut typed = v1(&database, "log/_streams/all").await;
        assert_eq!(typed.event().await["type"], "ready");
        let mut plain = database.connect("log/_streams/all").await;
        let collection = database.mongo.collection::<Document>("log");
        let large = |letter: &str| letter.repeat(9_500_000);
        collection.insert_one(doc! { "_id": 1, "x": large("a") }).await.expect("the insert");
        let update = doc! { "$set": { "x": large("b") } };
        collection.update_one(doc! { "_id": 1 }, update).await.expect("the update");
        insert(&database, 2..3).await;

        assert_eq!(
            typed.event().await["event"]["operationType"],
            "insert",
            "larger than the queue, and delivered"
        );
        let message = typed.event().await;
        let info = database.mongo.run_command(doc! { "buildInfo": 1 }).await.expect("MongoDB answers");
        if info.get_str("version").is_ok_and(|version| version.starts_with("6.0.5")) {
            // BSONObjectTooLarge
            assert_eq!((&message["type"], &message["code"]), (&json!("error"), &json!(10334)));
            assert_eq!(plain.closed().await, (4010, "10334".to_owned()));
        } else {
            let updated = &message["event"]["updateDescription"]["updatedFields"]["x"];
            assert_eq!(updated.as_str().map(str::len), Some(9_500_000), "joined from its fragments");
        }
        numbers(&mut typed, 2..3).await;
    })
    .await;
}

#[tokio::test]
async fn a_burst_that_is_larger_than_the_queue_reaches_everybody_who_reads() {
    bounded(async {
        let options =
            open_backend("burst", &addresses().await.mongodb).set("TAILRACE_LIMITS__QUEUE_BYTES", "300000");
        let backend = Backend::start(options).await.expect("a backend");
        let database = Front::Native.database().await.at(&backend.url());
        database.put("log", STREAMS).await;
        let mut sockets = Vec::new();
        for _ in 0..10 {
            let mut socket = v1(&database, "log/_streams/all").await;
            assert_eq!(socket.event().await["type"], "ready");
            sockets.push(socket);
        }
        let readers: Vec<_> = sockets
            .into_iter()
            .map(|mut socket| {
                tokio::spawn(async move {
                    numbers(&mut socket, 0..400).await;
                })
            })
            .collect();
        insert_at_once(&database, 0..400, 10_000).await;
        for reader in readers {
            reader.await.expect("each number once, in order");
        }
    })
    .await;
}
