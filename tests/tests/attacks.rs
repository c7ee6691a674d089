//! What others of this field let through: each attack is tried on a stream that somebody else's document passes through.

use http::StatusCode;
use serde_json::json;
use tailrace_tests::database::encoded;
use tailrace_tests::{Database, EventSource, Front, Request, WebSocket, both_fronts, refusal, token};

const STREAMS: &str = r#"{"streams": [
    {"uri": "named", "stages": [{"$match": {"fullDocument.n": {"$var": "n"}}}]},
    {"uri": "owned", "stages": [{"$match": {"fullDocument.owner": {"$var": "@user.sub"}}}]},
    {"uri": "shown", "stages": [{"$match": {"fullDocument.owner": {"$var": "@user.sub"}}},
                                {"$set": {"shown": {"$var": ["n", null]}}}]}
]}"#;

/// The database, at the server that lets everybody in, and at the one that wants tokens.
async fn declared(front: Front) -> (Database, Database) {
    let database = front.database().await;
    database.put("log", STREAMS).await;
    let guarded = database.at(front.guarded().await);
    (database, guarded)
}

async fn no_client_stands_in_for_the_servers_variables(front: Front) {
    let (open, guarded) = declared(front).await;
    let mallory = token::valid(&json!({ "sub": "mallory" }));
    let ask = |inner: String| Request::get(guarded.path(&inner)).bearer(&mallory);
    for avars in [
        r#"{"@user":{"sub":"uji"}}"#,
        r#"{"@user.sub":"uji"}"#,
        r#"{"\u0040user.sub":"uji"}"#,
        "{@user:{sub:'uji'}}",
        "{'@user.sub':'uji','n':1}",
        r#"{"@now":{"$date":0}}"#,
        r#"{"@":1}"#,
        r#"{"@user.sub.x":1}"#,
    ] {
        let inner = format!("log/_streams/owned?avars={}", encoded(avars));
        let answer = refusal::of_any_kind(&guarded.server, ask(inner)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{avars}: {}", answer.text());
        assert!(answer.text().contains("is reserved"), "{avars}: {}", answer.text());
    }
    // Names that only look like the server's bind nothing of it, and no value reads the event.
    for avars in [
        r#"{"user":{"sub":"uji"},"user.sub":"uji"}"#,
        r#"{" @user.sub":"uji"}"#,
        r#"{"n":"$fullDocument.owner"}"#,
        r#"{"n":"$$ROOT"}"#,
    ] {
        let inner = format!("log/_streams/shown?avars={}", encoded(avars));
        let opened = WebSocket::open(&guarded.server, ask(inner)).await;
        let mut socket = opened.unwrap_or_else(|refused| panic!("{avars}: {}", refused.text()));
        open.post("log", r#"{"owner": "uji"}"#).await;
        open.post("log", r#"{"owner": "mallory"}"#).await;
        let event = socket.event().await;
        assert_eq!(event["fullDocument"]["owner"], "mallory", "{avars}");
        assert!(
            event["shown"].is_null() || event["shown"].as_str().is_some_and(|text| text.starts_with('$'))
        );
    }
}

async fn no_pattern_and_no_operator_in_avars_matches_what_a_value_does_not(front: Front) {
    let (open, _) = declared(front).await;
    for value in [
        r#"{"$regex":".*"}"#,
        r#"{"$regex":".*","$options":"i"}"#,
        "/.*/",
        "RegExp('.*')",
        "new RegExp('.*','i')",
        r#"{"$regularExpression":{"pattern":".*","options":""}}"#,
        r#"{"\u0024regex":".*"}"#,
        r#"{"$gt":""}"#,
        r#"{"$ne":null}"#,
        r#"{"$not":{"$eq":1}}"#,
        r#"{"$in":["uji"]}"#,
        r#"{"$exists":true}"#,
        r#"{"$expr":true}"#,
        r#"[{"$elemMatch":{}}]"#,
        r#"{"a":{"b":[{"$type":"string"}]}}"#,
        "MinKey",
        r#"{"$maxKey":1}"#,
        r#"{"$code":"true"}"#,
        r#"{"$where":"true"}"#,
        r#"{"$function":{"body":"f","args":[],"lang":"js"}}"#,
    ] {
        let inner = format!("log/_streams/named?avars={}", encoded(&format!(r#"{{"n":{value}}}"#)));
        let answer = refusal::of_any_kind(&open.server, Request::get(open.path(&inner))).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{value}: {}", answer.text());
    }
    // The stored spelling of operators is none in a value, and a text is a text.
    for (value, equal) in [
        (r#"{"_$regex":".*"}"#, r#"{"_$regex":".*"}"#),
        (r#""/.*/""#, r#""/.*/""#),
        (r#"{"a::b":1}"#, r#"{"a::b":1}"#),
        (r#"{"_$gt":""}"#, r#"{"_$gt":""}"#),
    ] {
        let inner = format!("log/_streams/named?avars={}", encoded(&format!(r#"{{"n":{value}}}"#)));
        let mut socket = open.connect(&inner).await;
        open.post("log", r#"{"n": "uji", "of": "somebody else"}"#).await;
        open.post("log", &format!(r#"{{"n": {equal}, "of": "mine"}}"#)).await;
        assert_eq!(socket.event().await["fullDocument"]["of"], "mine", "{value}");
    }
}

async fn values_of_one_hash_stay_apart(front: Front) {
    let (open, _) = declared(front).await;
    // In Java each group has one hash; so have 0.0 and -0.0 by value, and 1 and 1.0, which MongoDB finds equal.
    for group in [&["Aa", "BB"][..], &["AaAa", "BBBB", "AaBB", "BBAa"], &["", "\u{0}"]] {
        let mut sockets = Vec::new();
        for name in group {
            let avars = encoded(&json!({ "n": name }).to_string());
            sockets.push(open.connect(&format!("log/_streams/named?avars={avars}")).await);
        }
        for name in group.iter().rev() {
            open.post("log", &json!({ "n": name }).to_string()).await;
        }
        for (name, socket) in group.iter().zip(&mut sockets) {
            assert_eq!(socket.event().await["fullDocument"]["n"], **name);
        }
        // And nothing besides: the next one of its own comes next.
        for (name, socket) in group.iter().zip(&mut sockets) {
            open.post("log", &json!({ "n": name, "last": true }).to_string()).await;
            let event = socket.event().await;
            assert_eq!(
                (&event["fullDocument"]["n"], &event["fullDocument"]["last"]),
                (&json!(name), &json!(true))
            );
        }
    }
}

async fn a_page_of_another_site_gets_nothing_by_the_users_cookie(front: Front) {
    let (_, guarded) = declared(front).await;
    let token = token::valid(&json!({ "sub": "uji" }));
    for cookie in [format!("rh_auth=Bearer_{token}"), format!("__Host-tailrace={token}")] {
        for origin in [Some("https://evil.example"), Some("null"), None] {
            let request = Request::get(guarded.path("log/_streams/owned")).header("cookie", &cookie);
            let request = origin.iter().fold(request, |request, origin| request.header("origin", *origin));
            let upgrade = WebSocket::open(&guarded.server, request.clone()).await;
            let upgrade = upgrade.expect_err("a cookie that the browser sent on its own");
            let events = EventSource::open(&guarded.server, request).await.expect_err("the same");
            for refused in [upgrade, events] {
                let refuses = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&refused.status);
                assert!(refuses, "{origin:?}: {} {}", refused.status, refused.text());
                assert_eq!(refused.header("access-control-allow-credentials"), "", "{origin:?}");
            }
        }
    }
}

both_fronts!(
    no_client_stands_in_for_the_servers_variables,
    no_pattern_and_no_operator_in_avars_matches_what_a_value_does_not,
    values_of_one_hash_stay_apart,
    a_page_of_another_site_gets_nothing_by_the_users_cookie,
);
