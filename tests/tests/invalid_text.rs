//! Text that is no UTF-8, which MongoDB stores where a driver writes it: it is shown with U+FFFD, and takes nothing else with it.

use bson::{RawDocumentBuf, doc, rawdoc};
use http::{Method, StatusCode};
use tailrace_tests::database::json;
use tailrace_tests::{Database, Front, Request, WebSocket, both_fronts};

const STREAMS: &str = r#"{"streams": [{"uri": "all", "stages": [], "snapshot": {"sort": {"_id": 1}}}]}"#;

/// `~` stands for a byte that no UTF-8 holds.
async fn write(database: &Database, id: &str, name: &str) {
    let mut bytes = doc! { "_id": id, name: "a~b" }.to_vec().expect("BSON");
    bytes.iter_mut().filter(|byte| **byte == b'~').for_each(|byte| *byte = 0xff);
    let document = RawDocumentBuf::from_bytes(bytes).expect("a document");
    let mut documents = bson::RawArrayBuf::new();
    documents.push(document);
    let command = rawdoc! { "insert": "log", "documents": documents };
    let reply = database.mongo.run_raw_command(command).await.expect("MongoDB takes it");
    assert_eq!(reply.get_i32("n").expect("a count"), 1, "{reply}");
}

async fn it_is_shown_with_a_replacement_character_and_what_follows_comes(front: Front) {
    let database = front.database().await;
    database.put("log", STREAMS).await;
    let mut plain = database.connect("log/_streams/all").await;
    let mut sse = database.event_source("log/_streams/all").await;
    write(&database, "x", "text").await;
    database.post("log", r#"{"_id": "y"}"#).await;
    for event in [plain.event().await, sse.event().await.json()] {
        assert_eq!(event["fullDocument"]["text"], "a\u{fffd}b", "{event}");
    }
    for event in [plain.event().await, sse.event().await.json()] {
        assert_eq!(event["fullDocument"]["_id"], "y", "{event}");
    }

    let request = Request::get(database.path("log/_streams/all?snapshot=true"))
        .header("sec-websocket-protocol", "tailrace.v1.json");
    let mut typed = WebSocket::open(&database.server, request).await.expect("it opens");
    assert_eq!(typed.event().await["type"], "ready");
    assert_eq!(typed.event().await["document"]["text"], "a\u{fffd}b");
    assert_eq!(typed.event().await["document"]["_id"], "y");
    assert_eq!(typed.event().await["type"], "snapshotEnd");

    assert_eq!(json(&database.get("log/x").await)["text"], "a\u{fffd}b");
    assert_eq!(json(&database.get("log?sort=_id").await)[0]["text"], "a\u{fffd}b");
    let patched = database.request(Method::PATCH, "log/x", r#"{"n": 1}"#).await;
    assert_eq!(patched.status, StatusCode::OK, "{}", patched.text());
    let replaced = database.request(Method::PUT, "log/x", r#"{"n": 2}"#).await;
    assert_eq!(replaced.status, StatusCode::OK, "{}", replaced.text());
    write(&database, "z", "text").await;
    let deleted = database.request(Method::DELETE, "log/z", "").await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT, "{}", deleted.text());
}

async fn an_event_that_cannot_be_shown_at_all_is_told_as_a_failure_and_the_rest_goes_on(front: Front) {
    let database = front.database().await;
    database.put("log", STREAMS).await;
    let request = Request::get(database.path("log/_streams/all"));
    let request = request.header("sec-websocket-protocol", "tailrace.v1.json");
    let mut typed = WebSocket::open(&database.server, request).await.expect("it opens");
    assert_eq!(typed.event().await["type"], "ready");
    let mut plain = database.connect("log/_streams/all?position=true").await;
    database.post("log", r#"{"_id": 1}"#).await;
    let before = plain.event().await["position"].as_str().expect("a position").to_owned();
    assert_eq!(typed.event().await["event"]["fullDocument"]["_id"], 1);

    write(&database, "x", "na~me").await;
    database.post("log", r#"{"_id": 2}"#).await;
    let failure = typed.event().await;
    assert_eq!((&failure["type"], &failure["code"]), (&"error".into(), &22.into()), "{failure}");
    assert_eq!(typed.event().await["event"]["fullDocument"]["_id"], 2);

    assert_eq!(plain.closed().await, (4010, "22".to_owned()));
    let mut plain = database.connect(&format!("log/_streams/all?resumeAfter={before}")).await;
    assert_eq!(plain.event().await["fullDocument"]["_id"], 2);
}

both_fronts!(
    it_is_shown_with_a_replacement_character_and_what_follows_comes,
    an_event_that_cannot_be_shown_at_all_is_told_as_a_failure_and_the_rest_goes_on,
);
