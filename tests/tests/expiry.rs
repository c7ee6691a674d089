//! The end of credentials: told ahead of time, put off by a fresh token on the open socket, or 4401.

use bson::doc;
use serde_json::{Value, json};
use tailrace_tests::token::{now, valid};
use tailrace_tests::web_socket::Message;
use tailrace_tests::{Database, Front, Request, WebSocket, both_fronts, soon};

const STREAMS: &str = r#"{"streams": [
    {"uri": "all", "stages": []},
    {"uri": "mine", "stages": [{"$match": {"fullDocument.owner": {"$var": "@user.team"}}}]},
    {"uri": "maybe", "stages": [{"$ifvar": ["@user.team", {"$match": {"fullDocument.owner": "x"}}]}]}
]}"#;

/// A database at the server that wants a token, with streams.
async fn declared(front: Front) -> Database {
    let database = front.database().await;
    database.put("log", STREAMS).await;
    database.at(front.guarded().await)
}

fn token(seconds: u64, claims: &Value) -> String {
    let mut all = json!({ "sub": "uji", "exp": now() + seconds });
    for (name, value) in claims.as_object().expect("claims are an object") {
        all[name] = value.clone();
    }
    valid(&all)
}

async fn opened(database: &Database, stream: &str, protocol: &str, token: &str) -> WebSocket {
    let request = Request::get(database.path(&format!("log/_streams/{stream}")))
        .bearer(token)
        .header("sec-websocket-protocol", protocol);
    let socket = WebSocket::open(&database.server, request).await;
    socket.unwrap_or_else(|refused| panic!("{} {}", refused.status, refused.text()))
}

async fn v1(database: &Database, stream: &str, token: &str) -> WebSocket {
    let mut socket = opened(database, stream, "tailrace.v1.json", token).await;
    assert_eq!(socket.event().await["type"], "ready");
    socket
}

async fn renew(socket: &mut WebSocket, token: &str) {
    socket.send(Message::text(json!({ "type": "auth", "token": token }).to_string())).await;
}

/// The next message of this type; events, keepalives, and warnings before it are passed over.
async fn next(socket: &mut WebSocket, kind: &str) -> Value {
    loop {
        let message = socket.event().await;
        if message["type"] == kind {
            return message;
        }
    }
}

async fn who_does_not_renew_is_told_ahead_of_time_and_then_closed_with_4401(front: Front) {
    let database = declared(front).await;
    let end = now() + 5;
    let mut socket = v1(&database, "all", &token(5, &json!({}))).await;
    let expiring = next(&mut socket, "expiring").await;
    let told = now();
    let at = expiring["at"].as_u64().expect("milliseconds") / 1_000;
    assert!(at.abs_diff(end) <= 1, "{expiring}, the end is {end}");
    assert!(told < at, "told at {told}, ahead of {at}");
    assert_eq!(socket.closed().await, (4401, "credentials expired".to_owned()));
    assert!(now() >= at, "not before");
}

async fn who_renews_lives_on_and_misses_no_event(front: Front) {
    let database = declared(front).await;
    let mut socket = v1(&database, "all", &token(5, &json!({}))).await;
    let collection = database.mongo.collection("log");
    let writer = tokio::spawn(async move {
        // Until long behind the end of the first token.
        for n in 0..160 {
            collection.insert_one(doc! { "n": n }).await.expect("written");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
    let begun = now();
    let (mut expected, mut renewed) = (0, 0);
    while expected < 160 {
        let message = socket.event().await;
        match message["type"].as_str() {
            Some("expiring") => renew(&mut socket, &token(5, &json!({ "jti": renewed.to_string() }))).await,
            Some("authAccepted") => renewed += 1,
            Some("event") => {
                assert_eq!(message["event"]["fullDocument"]["n"], expected);
                expected += 1;
            }
            _ => panic!("{message}"),
        }
    }
    writer.await.expect("the writer ends");
    assert!(renewed >= 2, "renewed {renewed} times");
    assert!(now() > begun + 6, "the first token ran out meanwhile");
    // And whoever stops to renew is closed.
    assert_eq!(socket.closed().await.0, 4401);
}

async fn the_same_in_bson(front: Front) {
    let database = declared(front).await;
    let mut socket = opened(&database, "all", "tailrace.v1.bson", &token(4, &json!({}))).await;
    let mut renewed = false;
    loop {
        let message = match socket.message().await {
            Ok(Message::Binary(bytes)) => bson::Document::from_reader(&bytes[..]).expect("BSON"),
            Ok(Message::Close(close)) => {
                assert_eq!(close.map(|close| u16::from(close.code)), Some(4401));
                break;
            }
            Ok(_) => continue,
            Err(error) => panic!("{error}"),
        };
        match message.get_str("type").expect("a type") {
            "expiring" if !renewed => {
                assert!(message.get_i64("at").is_ok(), "{message}");
                let fresh = doc! { "type": "auth", "token": token(3, &json!({})) };
                socket.send(Message::binary(fresh.to_vec().expect("BSON"))).await;
            }
            "authAccepted" => {
                let end = message.get_i64("at").expect("milliseconds");
                assert!(u64::try_from(end).expect("after 1970") >= (now() + 1) * 1_000, "{message}");
                renewed = true;
            }
            _ => {}
        }
    }
    assert!(renewed);
}

async fn the_token_of_another_holder_ends_the_session_with_4403(front: Front) {
    let database = declared(front).await;
    for other in [json!({ "sub": "somebody else" }), json!({ "iss": "https://other.example" })] {
        let mut socket = v1(&database, "all", &token(600, &json!({}))).await;
        renew(&mut socket, &token(600, &other)).await;
        assert_eq!(socket.closed().await, (4403, "no longer permitted".to_owned()), "{other}");
    }
}

async fn a_claim_that_the_stream_uses_cannot_change_within_a_session(front: Front) {
    let database = declared(front).await;
    for (stream, before, after) in [
        ("mine", json!({ "team": "a" }), json!({ "team": "b" })),
        ("mine", json!({ "team": "a" }), json!({})),
        // Here it decides by being there alone.
        ("maybe", json!({}), json!({ "team": "a" })),
    ] {
        let mut socket = v1(&database, stream, &token(600, &before)).await;
        renew(&mut socket, &token(600, &after)).await;
        assert_eq!(socket.closed().await, (4401, "credentials expired".to_owned()), "{before} {after}");
    }
    let mut socket = v1(&database, "mine", &token(600, &json!({ "team": "a" }))).await;
    renew(&mut socket, &token(900, &json!({ "team": "a", "level": 2 }))).await;
    let accepted = next(&mut socket, "authAccepted").await;
    assert!(accepted["at"].as_u64().expect("milliseconds") > (now() + 800) * 1_000, "{accepted}");
    database.at(front.open().await).post("log", r#"{"owner": "a"}"#).await;
    assert_eq!(next(&mut socket, "event").await["event"]["fullDocument"]["owner"], "a");
}

async fn a_refused_token_says_why_and_the_session_ends_when_it_would_have(front: Front) {
    let database = declared(front).await;
    let mut socket = v1(&database, "all", &token(6, &json!({}))).await;
    let good = token(600, &json!({}));
    let forged = format!("{}AAAA", &good[..good.len() - 4]);
    for (fresh, message) in [
        (forged.as_str(), "token signature is not valid"),
        ("e30", "token is not a JWT, expected three base64url parts"),
        (&token(0, &json!({ "exp": 1 })), "token expired"),
        (&"x".repeat(9_000), "token longer than 8 KiB"),
    ] {
        renew(&mut socket, fresh).await;
        let refused = next(&mut socket, "authRefused").await;
        assert_eq!(refused, json!({ "type": "authRefused", "message": message }));
    }
    for text in [r#"{"type":"auth"}"#, r#"{"type":"auth","token":5}"#] {
        socket.send(Message::text(text)).await;
        let refused = next(&mut socket, "authRefused").await;
        assert_eq!(refused["message"], "auth has no token, expected a text");
    }
    for nothing in ["ping", "{}", r#"{"type":"later"}"#] {
        socket.send(Message::text(nothing)).await;
    }
    assert_eq!(socket.closed().await.0, 4401);
}

async fn who_came_without_credentials_and_who_speaks_plain_renew_nothing(front: Front) {
    let database = declared(front).await;
    let open = database.at(front.open().await);
    let request = Request::get(open.path("log/_streams/all"));
    let request = request.header("sec-websocket-protocol", "tailrace.v1.json");
    let mut socket = WebSocket::open(&open.server, request).await.expect("everybody may come in");
    renew(&mut socket, &token(600, &json!({}))).await;
    let refused = next(&mut socket, "authRefused").await;
    assert_eq!(refused["message"], "this session was opened without credentials");

    let mut plain = opened(&database, "all", "tailrace.plain", &token(4, &json!({}))).await;
    renew(&mut plain, &token(600, &json!({}))).await;
    open.post("log", r#"{"n": 1}"#).await;
    assert_eq!(plain.event().await["fullDocument"]["n"], 1, "and hears of nothing but events");
    let ended = soon("the end", plain.closed()).await;
    assert_eq!(ended.0, 4401);
}

both_fronts!(
    who_does_not_renew_is_told_ahead_of_time_and_then_closed_with_4401,
    who_renews_lives_on_and_misses_no_event,
    the_same_in_bson,
    the_token_of_another_holder_ends_the_session_with_4403,
    a_claim_that_the_stream_uses_cannot_change_within_a_session,
    a_refused_token_says_why_and_the_session_ends_when_it_would_have,
    who_came_without_credentials_and_who_speaks_plain_renew_nothing,
);
