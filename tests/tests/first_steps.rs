//! The thinnest way through everything: declare a stream, connect, write, receive.

use tailrace_tests::{Front, both_fronts};

const STREAMS: &str = r#"{"streams": [{"uri": "all", "stages": []}]}"#;

async fn a_written_document_arrives_over_websocket(front: Front) {
    let database = front.database().await;
    database.put("log", STREAMS).await;
    let mut socket = database.connect("log/_streams/all").await;
    database.post("log", r#"{"n": 1}"#).await;
    let event = socket.event().await;
    assert_eq!(event["operationType"], "insert");
    assert_eq!(event["fullDocument"]["n"], 1);
    socket.close().await;
}

async fn a_written_document_arrives_as_server_sent_event(front: Front) {
    let database = front.database().await;
    database.put("log", STREAMS).await;
    let mut source = database.event_source("log/_streams/all").await;
    database.post("log", r#"{"n": 1}"#).await;
    let block = source.event().await;
    assert_eq!(block.event.as_deref(), Some("change"));
    assert_eq!(block.json()["fullDocument"]["n"], 1);
}

async fn the_guarded_server_wants_a_token(front: Front) {
    let database = front.database().await;
    database.put("log", STREAMS).await;
    let guarded = database.at(front.guarded().await);
    assert_eq!(guarded.refused("log/_streams/all").await.status, 401);
    let token = tailrace_tests::token::valid(&serde_json::json!({}));
    let request = tailrace_tests::Request::get(database.path("log/_streams/all")).bearer(&token);
    let mut socket =
        tailrace_tests::WebSocket::open(&guarded.server, request).await.expect("a valid token is let in");
    database.post("log", r#"{"n": 2}"#).await;
    assert_eq!(socket.event().await["fullDocument"]["n"], 2);
}

both_fronts!(
    a_written_document_arrives_over_websocket,
    a_written_document_arrives_as_server_sent_event,
    the_guarded_server_wants_a_token,
);
