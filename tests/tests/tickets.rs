//! What browsers sign in with that can set no header: one-time tickets, a cookie, and a parameter of the address.

use std::time::Duration;

use bson::{Document, doc};
use futures_util::TryStreamExt as _;
use http::{Method, StatusCode};
use parts::deployment::guarded_backend;
use parts::mongod::Mongod;
use parts::port;
use parts::replica_set::ReplicaSet;
use serde_json::{Value, json};
use shared::refusal::Kind;
use tailrace_tests::database::json as body_of;
use tailrace_tests::front::addresses;
use tailrace_tests::token::{now, valid};
use tailrace_tests::{
    Database, EventSource, Front, Own, Request, Response, WebSocket, both_fronts, refusal, until,
};
use tokio::sync::OnceCell;

/// A deployment that logs all it can.
async fn deployment() -> &'static Own {
    static SHARED: OnceCell<Own> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let options = guarded_backend("tickets", &addresses().await.mongodb)
                .set("TAILRACE_AUTH__QUERY_PARAMETER", "securetoken")
                .set("TAILRACE_LOG__LEVEL", "info,tailrace=trace");
            Own::start(options).await
        })
        .await
}

const STREAMS: &str = r#"{"streams": [
    {"uri": "all", "stages": []},
    {"uri": "mine", "stages": [{"$match": {"fullDocument.owner": {"$var": "@user.sub"}}}]}
]}"#;

async fn declared(front: Front) -> Database {
    deployment().await.declared(front, STREAMS).await
}

async fn ask_for(database: &Database, body: &Value, token: Option<&str>) -> Response {
    let request = Request::new(Method::POST, "/_tickets").json(body.to_string());
    let request = token.iter().fold(request, |request, token| request.bearer(token));
    database.send(request).await
}

async fn ticket(database: &Database, stream: &str) -> String {
    let body = json!({ "stream": database.path(&format!("log/_streams/{stream}")) });
    let answer = ask_for(database, &body, Some(&valid(&json!({ "sub": "uji" })))).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(answer.header("cache-control"), "no-store");
    let answer = body_of(&answer);
    let expires = answer["expires"].as_u64().expect("milliseconds") / 1_000;
    assert!(expires.abs_diff(now() + 30) <= 2, "{answer}");
    answer["ticket"].as_str().expect("a text").to_owned()
}

fn with(database: &Database, stream: &str, query: &str) -> Request {
    Request::get(database.path(&format!("log/_streams/{stream}?{query}")))
}

async fn a_ticket_opens_its_stream_once_as_whoever_asked_for_it(front: Front) {
    let database = declared(front).await;
    for events in [false, true] {
        let ticket = ticket(&database, "mine").await;
        let show = || with(&database, "mine", &format!("ticket={ticket}"));
        // A plain GET tells what would be answered, and spends nothing.
        refusal::is(
            &database.send(show()).await,
            Kind::NeedsUpgrade,
            "Change Stream requires WebSocket or SSE",
            "a plain GET",
        );
        let other = with(&database, "all", &format!("ticket={ticket}"));
        let answer = refusal::of_any_kind(&database.server, other).await;
        refusal::is(&answer, Kind::Unauthenticated, "ticket is for another address", "another stream");
        let open = database.at(front.open().await);
        if events {
            let mut events = EventSource::open(&database.server, show()).await.expect("a fresh ticket");
            open.post("log", r#"{"owner": "uji"}"#).await;
            assert_eq!(events.event().await.json()["fullDocument"]["owner"], "uji");
        } else {
            let mut socket = WebSocket::open(&database.server, show()).await.expect("a fresh ticket");
            open.post("log", r#"{"owner": "somebody else"}"#).await;
            open.post("log", r#"{"owner": "uji"}"#).await;
            assert_eq!(socket.event().await["fullDocument"]["owner"], "uji");
        }
        let again = WebSocket::open(&database.server, show()).await.expect_err("a used ticket");
        refusal::is(&again, Kind::Unauthenticated, "ticket was used before", "again");
        let again = EventSource::open(&database.server, show()).await.expect_err("a used ticket");
        refusal::is(&again, Kind::Unauthenticated, "ticket was used before", "again");
        assert!(!deployment().await.backend.logged().contains(&ticket), "it is in the log");
    }
}

async fn of_those_who_show_a_ticket_at_the_same_time_one_is_let_in(front: Front) {
    let database = declared(front).await;
    let ticket = ticket(&database, "all").await;
    let show = || WebSocket::open(&database.server, with(&database, "all", &format!("ticket={ticket}")));
    let shown = futures_util::future::join_all((0..5).map(|_| show())).await;
    assert_eq!(shown.iter().filter(|shown| shown.is_ok()).count(), 1);
}

/// Takes away a limit's last place, or MongoDB: both are 503, and the ticket opens the stream when they are back.
async fn a_503_does_not_spend_a_ticket(front: Front) {
    let mongodb = port::free().expect("a port");
    let uri = format!("mongodb://127.0.0.1:{mongodb}/?replicaSet=rs0");
    let mut mongodb =
        ReplicaSet::start_on(&Mongod::find().expect("a mongod"), &[mongodb]).await.expect("MongoDB");
    let name = format!("unspent-{front:?}").to_lowercase();
    let options = guarded_backend(&name, &uri).set("TAILRACE_LIMITS__CONNECTIONS_PER_STREAM", "1");
    let node = Own::start(options).await;
    let server = node.server(front);
    let database = Database::new(&server, &uri).await;
    let streams = doc! { "_id": "_properties.log", "streams": [{ "uri": "all", "stages": [] }] };
    database.mongo.create_collection("log").await.expect("a collection");
    database.mongo.collection("_properties").insert_one(streams).await.expect("metadata");

    let ticket = ticket(&database, "all").await;
    let show = || with(&database, "all", &format!("ticket={ticket}"));
    let refused = async |what: &str| {
        let answer = WebSocket::open(&server, show()).await.expect_err(what);
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{what}: {}", answer.text());
        assert_ne!(answer.header("retry-after"), "", "{what}");
    };
    let token = valid(&json!({ "sub": "another" }));
    let held = with(&database, "all", "").bearer(&token);
    let held = WebSocket::open(&server, held).await.expect("the only place");
    refused("no place").await;
    held.close().await;
    mongodb.kill_all();
    until("the node sees that MongoDB is away", async || {
        port::status(node.backend.port(), "/_ready").await.is_ok_and(|status| status == 503)
    })
    .await;
    refused("no MongoDB").await;
    mongodb.restart_all().await.expect("MongoDB comes back");
    // A plain GET tells what would be answered, and spends nothing.
    until("the stream would open", async || database.send(show()).await.status == StatusCode::BAD_REQUEST)
        .await;
    WebSocket::open(&server, show()).await.expect("the ticket is as good as new").close().await;
    until("the place is free, and the ticket is spent", async || {
        let again = WebSocket::open(&server, show()).await.expect_err("a used ticket");
        again.text().contains("ticket was used before")
    })
    .await;
}

async fn what_is_kept_of_used_tickets_goes_by_itself(front: Front) {
    let database = declared(front).await;
    let ticket = ticket(&database, "all").await;
    let shown = with(&database, "all", &format!("ticket={ticket}"));
    WebSocket::open(&database.server, shown).await.expect("a fresh ticket").close().await;
    // In a database that every node agrees on: the one of the connection string, else `tailrace`.
    let used = database.mongo.client().database("tailrace").collection::<Document>("_tailrace_tickets");
    let mut indexes = used.list_indexes().await.expect("the indexes");
    let mut expires = None;
    while let Some(index) = indexes.try_next().await.expect("an index") {
        if index.keys == doc! { "expires": 1 } {
            expires = index.options.and_then(|options| options.expire_after);
        }
    }
    assert_eq!(expires, Some(Duration::ZERO), "at the time that each names");
    let newest = used.find_one(doc! {}).sort(doc! { "expires": -1 }).await.expect("MongoDB answers");
    let newest = newest.expect("it was burned").get_datetime("expires").expect("a time").timestamp_millis();
    let ahead = newest / 1_000 - i64::try_from(now()).expect("it is not so late");
    assert!((31..=180).contains(&ahead), "longer than any ticket counts, and not for ever: {ahead} s");
}

async fn a_ticket_is_for_a_stream_and_for_those_who_are_known(front: Front) {
    let database = declared(front).await;
    let stream = json!({ "stream": database.path("log/_streams/all") });
    let none = ask_for(&database, &stream, None).await;
    assert_eq!(none.status, StatusCode::UNAUTHORIZED);
    let token = valid(&json!({}));
    for odd in [
        json!({}),
        json!({ "stream": database.path("log") }),
        json!({ "stream": "log/_streams/all" }),
        json!({ "stream": "/a/../log/_streams/all" }),
        json!({ "stream": 5 }),
    ] {
        let answer = ask_for(&database, &odd, Some(&token)).await;
        let expected = r#"expected {"stream": "<path of a stream>"}"#;
        refusal::is(&answer, Kind::BadRequest, expected, &odd.to_string());
    }
    let get = database.send(Request::get("/_tickets").bearer(&token)).await;
    assert_eq!((get.status, get.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST, OPTIONS"));
    // A ticket is no way to another one.
    let shown = ticket(&database, "all").await;
    let request = Request::new(Method::POST, format!("/_tickets?ticket={shown}")).json(stream.to_string());
    assert_eq!(database.send(request).await.status, StatusCode::UNAUTHORIZED);
}

async fn a_cookie_signs_in_the_pages_of_the_service_itself(front: Front) {
    let database = declared(front).await;
    let token = valid(&json!({ "sub": "uji" }));
    let own = database.server.clone();
    let sign_in = Request::new(Method::POST, "/_session").bearer(&token).header("origin", own.clone());
    let answer = database.send(sign_in).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text());
    let cookie = answer.header("set-cookie").to_owned();
    let (pair, attributes) = cookie.split_once("; ").expect("attributes");
    assert_eq!(pair, format!("__Host-tailrace={token}"));
    for attribute in ["Path=/", "Secure", "HttpOnly", "SameSite=Lax", "Max-Age="] {
        assert!(attributes.contains(attribute), "{attribute}: {attributes}");
    }
    assert!(!attributes.contains("Domain"), "{attributes}");

    let ask = || with(&database, "mine", "").header("cookie", format!("theme=dark; {pair}"));
    let mut socket =
        WebSocket::open(&database.server, ask().header("origin", own.clone())).await.expect("own");
    database.at(front.open().await).post("log", r#"{"owner": "uji"}"#).await;
    assert_eq!(socket.event().await["fullDocument"]["owner"], "uji");
    // A cookie of somebody else's that is no ASCII hides none.
    let beside = with(&database, "mine", "").header("cookie", format!("name=Jörg; {pair}; city=Köln"));
    let accepted = database.send(beside.header("origin", own.clone())).await;
    assert_eq!(accepted.status, StatusCode::BAD_REQUEST, "{}", accepted.text());
    assert!(accepted.text().contains("Change Stream requires"), "{}", accepted.text());
    let missing = "origin missing, expected one that is allowed beside a cookie or a password";
    let absent = WebSocket::open(&database.server, ask()).await.expect_err("no Origin");
    refusal::is(&absent, Kind::Forbidden, missing, "absent");
    for foreign in ["null", "https://evil.example"] {
        let answer = refusal::of_any_kind(&database.server, ask().header("origin", foreign)).await;
        refusal::is(&answer, Kind::Forbidden, "origin not allowed", foreign);
    }
    let bad = with(&database, "mine", "").header("cookie", format!("{pair}x")).header("origin", own.clone());
    let bad = refusal::of_any_kind(&database.server, bad).await;
    assert_eq!(bad.status, StatusCode::UNAUTHORIZED, "{}", bad.text());

    let sign_out = |cookie: &str| Request::new(Method::DELETE, "/_session").header("cookie", cookie);
    // A bad one goes too: no script reaches it.
    for cookie in [pair, &format!("{pair}x")] {
        let answer = database.send(sign_out(cookie).header("origin", own.clone())).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text());
        assert!(answer.header("set-cookie").starts_with("__Host-tailrace=; Path=/; Max-Age=0;"));
    }
    let foreign = database.send(sign_out(pair).header("origin", "https://evil.example")).await;
    refusal::is(&foreign, Kind::Forbidden, "origin not allowed", "another site's page signs nobody out");
    let none = database.send(Request::new(Method::POST, "/_session")).await;
    assert_eq!(none.status, StatusCode::UNAUTHORIZED);
}

async fn a_token_may_come_in_the_parameter_that_is_configured_and_is_shown_to_nobody(front: Front) {
    let database = declared(front).await;
    let token = valid(&json!({ "sub": "uji" }));
    let query = format!("avars={{}}&securetoken={token}");
    let mut socket =
        WebSocket::open(&database.server, with(&database, "mine", &query)).await.expect("a token");
    database.at(front.open().await).post("log", r#"{"owner": "uji"}"#).await;
    assert_eq!(socket.event().await["fullDocument"]["owner"], "uji");
    let bad = refusal::of_any_kind(&database.server, with(&database, "mine", "securetoken=x")).await;
    let message = "token is not a JWT, expected three base64url parts";
    refusal::is(&bad, Kind::Unauthenticated, message, "a bad one");
    assert!(!deployment().await.backend.logged().contains(&token), "it is in the log");
    // Elsewhere it is a parameter like any other.
    let elsewhere = database.at(front.guarded().await);
    let answer = elsewhere.send(with(&database, "mine", &query)).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

both_fronts!(
    a_ticket_opens_its_stream_once_as_whoever_asked_for_it,
    of_those_who_show_a_ticket_at_the_same_time_one_is_let_in,
    a_503_does_not_spend_a_ticket,
    what_is_kept_of_used_tickets_goes_by_itself,
    a_ticket_is_for_a_stream_and_for_those_who_are_known,
    a_cookie_signs_in_the_pages_of_the_service_itself,
    a_token_may_come_in_the_parameter_that_is_configured_and_is_shown_to_nobody,
);
