//! RFC 6455, as clients of all kinds rely on it.

use std::time::Duration;

use parts::backend::Backend;
use parts::deployment::open_backend;
use serde_json::json;
use tailrace_tests::front::{addresses, bounded};
use tailrace_tests::web_socket::{Data, Error, Frame, Message, OpCode};
use tailrace_tests::{Database, Front, Request, WebSocket, both_fronts, token};

async fn stream(front: Front) -> (Database, WebSocket) {
    let database = front.database().await;
    database.put("log", r#"{"streams": [{"uri": "all", "stages": []}]}"#).await;
    let socket = database.connect("log/_streams/all").await;
    (database, socket)
}

/// Shows that the socket still works, and that nothing came in between.
async fn goes_on(database: &Database, socket: &mut WebSocket) {
    database.post("log", r#"{"n": "next"}"#).await;
    assert_eq!(socket.event().await["fullDocument"]["n"], "next");
}

async fn what_a_client_sends_is_ignored(front: Front) {
    let (database, mut socket) = stream(front).await;
    socket.send(r#"{"type":"keepalive"}"#).await;
    socket.send(vec![0_u8, 1, 2]).await;
    socket.send("x".repeat(64 * 1024)).await;
    goes_on(&database, &mut socket).await;
}

async fn a_ping_is_answered_with_its_data(front: Front) {
    let (database, mut socket) = stream(front).await;
    socket.send(Message::Ping("are you there".into())).await;
    assert_eq!(socket.message().await.expect("an answer"), Message::Pong("are you there".into()));
    goes_on(&database, &mut socket).await;
}

async fn a_close_is_answered(front: Front) {
    let (_, socket) = stream(front).await;
    socket.close().await;
}

async fn a_fragmented_message_is_put_together(front: Front) {
    let (database, mut socket) = stream(front).await;
    socket.send(frame("one ", Data::Text, false)).await;
    socket.send(Message::Ping("between".into())).await;
    socket.send(frame("two ", Data::Continue, false)).await;
    socket.send(frame("three", Data::Continue, true)).await;
    assert_eq!(socket.message().await.expect("an answer"), Message::Pong("between".into()));
    goes_on(&database, &mut socket).await;
}

fn frame(data: &str, kind: Data, last: bool) -> Message {
    Message::Frame(Frame::message(data.to_owned(), OpCode::Data(kind), last))
}

both_fronts!(
    what_a_client_sends_is_ignored,
    a_ping_is_answered_with_its_data,
    a_close_is_answered,
    a_fragmented_message_is_put_together,
);

#[tokio::test]
async fn a_text_of_a_mebibyte_is_refused_with_1009() {
    bounded(async {
        let (_, mut socket) = stream(Front::Native).await;
        socket.send("x".repeat(1024 * 1024)).await;
        assert_eq!(socket.closed().await, (1009, "message too big".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn fragments_that_come_to_more_than_the_limit_are_refused_with_1009() {
    bounded(async {
        let (_, mut socket) = stream(Front::Native).await;
        socket.send(frame(&"x".repeat(40_000), Data::Text, false)).await;
        socket.send(frame(&"x".repeat(40_000), Data::Continue, true)).await;
        assert_eq!(socket.closed().await.0, 1009);
    })
    .await;
}

#[tokio::test]
async fn invalid_utf_8_closes_with_1007() {
    bounded(async {
        let (_, mut socket) = stream(Front::Native).await;
        let text = Frame::message(vec![0xC3_u8, 0x28], OpCode::Data(Data::Text), true);
        socket.send(Message::Frame(text)).await;
        assert_eq!(socket.closed().await, (1007, "text is not valid UTF-8".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn a_frame_that_breaks_the_protocol_closes_with_1002() {
    bounded(async {
        let (_, mut socket) = stream(Front::Native).await;
        // A continuation of nothing.
        socket.send(frame("x", Data::Continue, true)).await;
        assert_eq!(socket.closed().await.0, 1002);
    })
    .await;
}

#[tokio::test]
async fn the_server_pings_and_drops_a_peer_that_is_gone() {
    bounded(async {
        let options = open_backend("pings", &addresses().await.mongodb)
            .set("TAILRACE_LIMITS__PING_SECONDS", "1")
            .set("TAILRACE_LIMITS__PONG_SECONDS", "1");
        let backend = Backend::start(options).await.expect("a backend");
        let database = Front::Native.database().await.at(&backend.url());
        database.put("log", r#"{"streams": [{"uri": "all", "stages": []}]}"#).await;
        let mut present = database.connect("log/_streams/all").await;
        let mut absent = database.connect("log/_streams/all").await;
        for _ in 0..4 {
            assert_eq!(present.message().await.expect("a ping"), Message::Ping("".into()));
        }
        // The one that read nothing in that time has answered no ping: after its first, the connection ends.
        assert_eq!(absent.message().await.expect("a ping"), Message::Ping("".into()));
        assert!(matches!(
            absent.message().await,
            Err(Error::Protocol(_) | Error::Io(_) | Error::ConnectionClosed)
        ));
    })
    .await;
}

#[tokio::test]
async fn pings_of_a_client_that_reads_nothing_fill_no_memory() {
    const MOST: usize = 500_000;
    bounded(async {
        let backend =
            Backend::start(open_backend("ping-flood", &addresses().await.mongodb)).await.expect("a backend");
        let database = Front::Native.database().await.at(&backend.url());
        database.put("log", r#"{"streams": [{"uri": "all", "stages": []}]}"#).await;
        let mut socket = database.connect("log/_streams/all").await;
        let before = backend.resident().expect("its memory");
        let sent = socket.flood(&Message::Ping(vec![b'x'; 125].into()), MOST).await;
        let grown = backend.resident().expect("its memory").saturating_sub(before);
        assert!(sent < MOST, "the server takes no more than it answers");
        assert!(grown < 16_000_000, "{grown} bytes for {sent} pings");
        database.post("log", r#"{"_id": "heard"}"#).await;
        loop {
            if let Message::Text(text) = socket.message().await.expect("it is open") {
                assert!(text.contains("heard"));
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_never_stops_talking_ends_with_its_credentials() {
    bounded(async {
        let (database, _) = stream(Front::Native).await;
        let here = database.at(Front::Native.guarded().await);
        let begins_and_goes_on = [
            Message::Text("hello".into()),
            Message::Ping("".into()),
            Message::Pong("".into()),
            Message::Frame(Frame::message("", OpCode::Data(Data::Continue), false)),
        ];
        for (index, message) in begins_and_goes_on.into_iter().enumerate() {
            let token = token::valid(&json!({ "exp": token::now() + 2 }));
            let request = Request::get(here.path("log/_streams/all")).bearer(&token);
            let mut socket = WebSocket::open(&here.server, request).await.expect("a valid token");
            if index == 3 {
                socket.send(frame("", Data::Text, false)).await;
            }
            let close = socket.closed_in_a_flood(message).await;
            assert_eq!(close, (4401, "credentials expired".to_owned()));
        }
    })
    .await;
}

#[tokio::test]
async fn a_session_ends_with_its_credentials() {
    bounded(async {
        for front in [Front::Native, Front::Edge] {
            let (database, _) = stream(front).await;
            let here = database.at(front.guarded().await);
            let token = token::valid(&json!({ "exp": token::now() + 2 }));
            let request = Request::get(here.path("log/_streams/all")).bearer(&token);
            let mut socket = WebSocket::open(&here.server, request).await.expect("a valid token");
            assert_eq!(socket.closed().await, (4401, "credentials expired".to_owned()));
        }
    })
    .await;
}

#[tokio::test]
async fn a_node_that_shuts_down_tells_its_clients() {
    bounded(async {
        let options = open_backend("drain", &addresses().await.mongodb);
        let mut backend = Backend::start(options).await.expect("a backend");
        let database = Front::Native.database().await.at(&backend.url());
        database.put("log", r#"{"streams": [{"uri": "all", "stages": []}]}"#).await;
        let mut socket = database.connect("log/_streams/all").await;
        let mut source = database.event_source("log/_streams/all").await;
        let ended = tokio::spawn(async move {
            let status = backend.terminate(Duration::from_secs(10)).await.expect("it ends");
            assert!(status.success(), "{status}");
        });
        assert_eq!(socket.closed().await, (1001, "the node shuts down".to_owned()));
        let last = source.event().await;
        assert_eq!((last.event.as_deref(), last.json()["code"].as_u64()), (Some("close"), Some(1001)));
        assert_eq!(source.block().await.expect("an orderly end"), None);
        drop(socket);
        ended.await.expect("it ends");
    })
    .await;
}
