//! Text that is no UTF-8, which MongoDB stores where a driver writes it: it is shown with U+FFFD, in values and in names of
//! members, and hides nothing from who asks for it.

use bson::{Bson, Document, RawDocumentBuf, doc, rawdoc};
use http::{Method, StatusCode};
use serde_json::json;
use tailrace_tests::database::json;
use tailrace_tests::web_socket::Message;
use tailrace_tests::{Database, Front, Request, WebSocket, both_fronts, rules, token};

const STREAMS: &str = r#"{"streams": [
    {"uri": "all", "stages": [], "snapshot": {"sort": {"_id": 1}}},
    {"uri": "mine", "stages": [{"$match": {"fullDocument.name": {"$var": "n"}}}]},
    {"uri": "tagged", "stages": [{"$match": {"fullDocument.tags": {"$var": "t"}}}]}
]}"#;

/// `~` stands for a byte that no UTF-8 holds.
async fn write(database: &Database, document: Document) {
    let mut bytes = document.to_vec().expect("BSON");
    bytes.iter_mut().filter(|byte| **byte == b'~').for_each(|byte| *byte = 0xff);
    let document = RawDocumentBuf::from_bytes(bytes).expect("a document");
    let mut documents = bson::RawArrayBuf::new();
    documents.push(document);
    let command = rawdoc! { "insert": "log", "documents": documents };
    let reply = database.mongo.run_raw_command(command).await.expect("MongoDB takes it");
    assert_eq!(reply.get_i32("n").expect("a count"), 1, "{reply}");
}

/// Opens a stream in a form.
async fn typed(database: &Database, form: &str, stream: &str) -> WebSocket {
    let request = Request::get(database.path(&format!("log/_streams/{stream}")));
    let request = request.header("sec-websocket-protocol", form);
    WebSocket::open(&database.server, request).await.expect("it opens")
}

/// The next message of a BSON form.
async fn binary(socket: &mut WebSocket) -> Document {
    let Ok(Message::Binary(bytes)) = socket.message().await else { panic!("bytes") };
    let document = RawDocumentBuf::from_bytes(bytes.into()).expect("BSON");
    Document::try_from(document).expect("valid BSON")
}

async fn it_is_shown_with_a_replacement_character_and_what_follows_comes(front: Front) {
    let database = front.database().await;
    database.put("log", STREAMS).await;
    let mut plain = database.connect("log/_streams/all").await;
    let mut sse = database.event_source("log/_streams/all").await;
    let mut binaries = typed(&database, "tailrace.v1.bson", "all").await;
    assert_eq!(binary(&mut binaries).await.get_str("type").expect("a type"), "ready");
    write(&database, doc! { "_id": "x", "text": "a~b", "na~me": 1, "deep": [{ "~": "~" }] }).await;
    database.post("log", r#"{"_id": "y"}"#).await;
    let shown =
        json!({ "_id": "x", "text": "a\u{fffd}b", "na\u{fffd}me": 1, "deep": [{ "\u{fffd}": "\u{fffd}" }] });
    for event in [plain.event().await, sse.event().await.json()] {
        assert_eq!(event["fullDocument"], shown);
    }
    for event in [plain.event().await, sse.event().await.json()] {
        assert_eq!(event["fullDocument"]["_id"], "y", "{event}");
    }
    let event = binary(&mut binaries).await;
    let told = event.get_document("event").and_then(|event| event.get_document("fullDocument"));
    assert_eq!(Bson::from(told.expect("a document")).into_relaxed_extjson(), shown);

    let mut snapshot = typed(&database, "tailrace.v1.json", "all?snapshot=true").await;
    assert_eq!(snapshot.event().await["type"], "ready");
    assert_eq!(snapshot.event().await["document"], shown);
    assert_eq!(snapshot.event().await["document"]["_id"], "y");
    assert_eq!(snapshot.event().await["type"], "snapshotEnd");
    let mut snapshot = typed(&database, "tailrace.v1.bson", "all?snapshot=true").await;
    assert_eq!(binary(&mut snapshot).await.get_str("type").expect("a type"), "ready");
    let message = binary(&mut snapshot).await;
    let told = message.get_document("document").expect("a document");
    assert_eq!(Bson::from(told).into_relaxed_extjson(), shown);

    assert_eq!(json(&database.get("log/x").await), shown);
    assert_eq!(json(&database.get("log?sort=_id").await)[0], shown);
    let patched = database.request(Method::PATCH, "log/x", r#"{"n": 1}"#).await;
    assert_eq!(patched.status, StatusCode::OK, "{}", patched.text());
    let replaced = database.request(Method::PUT, "log/x", r#"{"n": 2}"#).await;
    assert_eq!(replaced.status, StatusCode::OK, "{}", replaced.text());
    write(&database, doc! { "_id": "z", "text": "a~b" }).await;
    let deleted = database.request(Method::DELETE, "log/z", "").await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT, "{}", deleted.text());
}

async fn whoever_asks_for_other_values_of_the_document_is_told_of_it(front: Front) {
    let database = front.database().await;
    database.put("log", STREAMS).await;
    let mut mine = database.connect("log/_streams/mine?avars={%22n%22:%22ada%22}").await;
    let mut tagged = database.connect("log/_streams/tagged?avars={%22t%22:%22red%22}").await;
    write(&database, doc! { "_id": 1, "na~me": 1, "name": "ada" }).await;
    write(&database, doc! { "_id": 2, "tags": ["~", "red"] }).await;
    write(&database, doc! { "_id": 3, "na~me": 1, "name": "ada", "tags": [{ "~": 1 }, "red"] }).await;
    for (socket, ids) in [(&mut mine, [1, 3]), (&mut tagged, [2, 3])] {
        for id in ids {
            assert_eq!(socket.event().await["fullDocument"]["_id"], id);
        }
    }
}

// Whether the collection records images or not.
async fn a_value_that_is_no_text_is_not_taken_for_a_missing_one_by_a_permission(front: Front) {
    let database = front.database().await;
    let server = front.ruled().await;
    let rule = json!({
        "_id": "guests", "roles": ["guest"], "methods": ["GET"], "path": format!("/{}/*/_streams/*", database.name),
        "readFilter": { "secret": { "$exists": false } },
    });
    rules::add(&database, server, &[rule]).await;
    for images in [false, true] {
        database.put("log", STREAMS).await;
        let recording = doc! { "collMod": "log", "changeStreamPreAndPostImages": { "enabled": images } };
        database.mongo.run_command(recording).await.expect("MongoDB takes it");
        let claims = json!({ "roles": ["guest"] });
        let path = database.path("log/_streams/mine?avars={%22n%22:%22ada%22}");
        let request = Request::get(path).bearer(&token::valid(&claims));
        let mut guest = WebSocket::open(server, request).await.expect("it opens");
        write(&database, doc! { "_id": 1, "name": "ada", "secret": "a~b" }).await;
        write(&database, doc! { "_id": 2, "name": "ada", "~": 1, "secret": true }).await;
        write(&database, doc! { "_id": 3, "name": "ada", "~": 1 }).await;
        let event = guest.event().await;
        assert_eq!(event["fullDocument"]["_id"], 3, "images: {images}; {event}");
        database.mongo.collection::<Document>("log").drop().await.expect("it is dropped");
    }
}

both_fronts!(
    it_is_shown_with_a_replacement_character_and_what_follows_comes,
    whoever_asks_for_other_values_of_the_document_is_told_of_it,
    a_value_that_is_no_text_is_not_taken_for_a_missing_one_by_a_permission,
);
