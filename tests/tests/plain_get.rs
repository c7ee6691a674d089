//! A browser's WebSocket shows no body of a refusal, so a plain GET of the same address tells why.

use http::{Method, StatusCode};
use serde_json::json;
use tailrace_tests::{Front, Request, WebSocket, both_fronts, token};

const STREAMS: &str = r#"{"streams": [
    {"uri": "all", "stages": []},
    {"uri": "mine", "stages": [{"$match": {"fullDocument.n": {"$var": "n"}}}]},
    {"uri": "owned", "stages": [{"$match": {"fullDocument.owner": {"$var": "@user.sub"}}}]},
    {"uri": "tenants", "stages": [{"$match": {"fullDocument.tenant": {"$var": "@user.tenant"}}}]}
]}"#;

async fn a_plain_get_answers_as_the_upgrade_would_be_refused(front: Front) {
    let database = front.database().await;
    database.put("log", STREAMS).await;
    for path in [
        "log/_streams/other",
        "absent/_streams/all",
        "log/_streams/mine",
        "log/_streams/mine?avars=[1]",
        r#"log/_streams/mine?avars={"n":{"$gt":1}}"#,
        r#"log/_streams/mine?avars={"@user.sub":"x","n":1}"#,
        "log/_streams/all?jsonMode=xml",
        "log/_streams/tenants",
    ] {
        let plain =
            database.send(Request::get(database.path(path)).header("origin", "https://app.example")).await;
        let refused = database.refused(path).await;
        assert_eq!((plain.status, &plain.body), (refused.status, &refused.body), "{path}");
        assert!(plain.status.is_client_error(), "{path}: {}", plain.text());
        assert_eq!(plain.header("access-control-allow-origin"), "*", "{path}");
        assert_eq!(plain.header("cache-control"), "no-store", "{path}");
        assert_eq!(plain.header("content-type"), "application/json", "{path}");
    }
}

async fn a_plain_get_of_what_would_open_says_what_it_takes(front: Front) {
    let database = front.database().await;
    database.put("log", STREAMS).await;
    let answer = database.get("log/_streams/all").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.text().contains("Change Stream requires WebSocket or SSE"), "{}", answer.text());
}

async fn other_methods_are_405_and_a_preflight_is_answered(front: Front) {
    let database = front.database().await;
    database.put("log", STREAMS).await;
    let posted = database.request(Method::POST, "log/_streams/all", "{}").await;
    assert_eq!(posted.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(posted.header("allow"), "GET, HEAD, OPTIONS");
    let preflight = Request::new(Method::OPTIONS, database.path("log"))
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type");
    let answer = database.send(preflight).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert!(answer.header("access-control-allow-methods").contains("POST"));
    assert!(answer.header("access-control-allow-headers").contains("Content-Type"));
}

async fn who_has_no_token_learns_nothing_of_what_exists(front: Front) {
    let database = front.database().await;
    database.put("log", STREAMS).await;
    let guarded = database.at(front.guarded().await);
    let mut bodies = Vec::new();
    for path in
        ["log/_streams/all", "log/_streams/other", "absent/_streams/all", "log", "log/_streams/mine?avars=["]
    {
        let plain = guarded.get(path).await;
        assert_eq!(plain.status, StatusCode::UNAUTHORIZED, "{path}: {}", plain.text());
        assert!(plain.header("www-authenticate").starts_with("Bearer"), "{path}");
        assert_eq!(guarded.refused(path).await.body, plain.body, "{path}");
        bodies.push(plain.body);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "one answer for all");
}

async fn a_claim_is_the_servers_variable_and_its_absence_is_403(front: Front) {
    let database = front.database().await;
    database.put("log", STREAMS).await;
    let guarded = database.at(front.guarded().await);
    let token = token::valid(&json!({ "sub": "uji" }));
    let open = |path: &str| WebSocket::open(&guarded.server, Request::get(guarded.path(path)).bearer(&token));

    let refused = open("log/_streams/tenants").await.expect_err("no claim tenant");
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.text().contains("@user.tenant"), "{}", refused.text());
    let refused = open(r#"log/_streams/owned?avars={"@user.sub":"root"}"#).await.expect_err("reserved");
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);

    let mut socket = open("log/_streams/owned").await.expect("it opens");
    database.post("log", r#"{"owner": "somebody else"}"#).await;
    database.post("log", r#"{"owner": "uji"}"#).await;
    assert_eq!(socket.event().await["fullDocument"]["owner"], "uji");
}

both_fronts!(
    a_plain_get_answers_as_the_upgrade_would_be_refused,
    a_plain_get_of_what_would_open_says_what_it_takes,
    other_methods_are_405_and_a_preflight_is_answered,
    who_has_no_token_learns_nothing_of_what_exists,
    a_claim_is_the_servers_variable_and_its_absence_is_403,
);
