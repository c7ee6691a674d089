//! What browsers sign in with that can set no header: one-time tickets, a cookie, and a parameter of the address.

use http::{Method, StatusCode};
use parts::backend::Backend;
use parts::deployment::{guarded_backend, guarded_worker};
use parts::worker::Worker;
use serde_json::{Value, json};
use shared::refusal::Kind;
use tailrace_tests::database::json as body_of;
use tailrace_tests::front::addresses;
use tailrace_tests::token::{now, valid};
use tailrace_tests::{Database, EventSource, Front, Request, Response, WebSocket, both_fronts, refusal};
use tokio::sync::OnceCell;

/// A deployment that logs all it can.
struct Deployment {
    backend: Backend,
    worker: Worker,
}

async fn deployment() -> &'static Deployment {
    static SHARED: OnceCell<Deployment> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let options = guarded_backend("tickets", &addresses().await.mongodb)
                .set("TAILRACE_AUTH__QUERY_PARAMETER", "securetoken")
                .set("TAILRACE_LOG__LEVEL", "info,tailrace=trace");
            let backend = Backend::start(options).await.expect("a backend");
            let worker = guarded_worker("tickets", &[&backend.url()]);
            let worker = Worker::start(worker).await.expect("a worker");
            Deployment { backend, worker }
        })
        .await
}

async fn declared(front: Front) -> Database {
    let deployment = deployment().await;
    let server = if front == Front::Native { deployment.backend.url() } else { deployment.worker.url() };
    let database = front.database().await;
    let streams = r#"{"streams": [
        {"uri": "all", "stages": []},
        {"uri": "mine", "stages": [{"$match": {"fullDocument.owner": {"$var": "@user.sub"}}}]}
    ]}"#;
    database.put("log", streams).await;
    database.at(&server)
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

    let sign_out = Request::new(Method::DELETE, "/_session").header("cookie", pair).header("origin", own);
    let answer = database.send(sign_out).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text());
    assert!(answer.header("set-cookie").starts_with("__Host-tailrace=; Path=/; Max-Age=0;"));
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
    a_ticket_is_for_a_stream_and_for_those_who_are_known,
    a_cookie_signs_in_the_pages_of_the_service_itself,
    a_token_may_come_in_the_parameter_that_is_configured_and_is_shown_to_nobody,
);
