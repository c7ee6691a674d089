//! Pages of which sites may call, where a list of origins is set.

use http::{Method, StatusCode};
use parts::backend::Backend;
use parts::deployment::{guarded_backend, guarded_worker, open_backend, open_worker};
use parts::worker::Worker;
use serde_json::json;
use shared::refusal::Kind;
use tailrace_tests::front::addresses;
use tailrace_tests::{Database, EventSource, Front, Request, WebSocket, both_fronts, refusal, token};
use tokio::sync::OnceCell;

const LISTED: &str = "https://app.example";

/// Origins that look like the listed one, or like none.
const FOREIGN: &[&str] = &[
    "https://evil.example",
    "null",
    "http://app.example",
    "https://app.example.evil.example",
    "https://app.example:8443",
    "https://evil.example#https://app.example",
];

/// A deployment with a list, where everybody may come in, and one that wants tokens. The workers have the list from
/// the backend.
struct Deployment {
    open: (Backend, Worker),
    guarded: (Backend, Worker),
}

async fn deployment() -> &'static Deployment {
    static SHARED: OnceCell<Deployment> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let mongodb = &addresses().await.mongodb;
            let origins = format!(r#"["{LISTED}", "https://other.example"]"#);
            let open = open_backend("origins", mongodb).set("TAILRACE_ORIGINS", &origins);
            let open = Backend::start(open).await.expect("a backend");
            let guarded = guarded_backend("origins-guarded", mongodb).set("TAILRACE_ORIGINS", &origins);
            let guarded = Backend::start(guarded).await.expect("a backend");
            let (open_worker, guarded_worker) = tokio::try_join!(
                Worker::start(open_worker("origins", &[&open.url()])),
                Worker::start(guarded_worker("origins-guarded", &[&guarded.url()])),
            )
            .expect("the workers");
            Deployment { open: (open, open_worker), guarded: (guarded, guarded_worker) }
        })
        .await
}

async fn declared(front: Front) -> Database {
    let (backend, worker) = &deployment().await.open;
    let server = if front == Front::Native { backend.url() } else { worker.url() };
    let database = front.database().await.at(&server);
    database.put("log", r#"{"streams": [{"uri": "all", "stages": []}]}"#).await;
    database
}

fn stream(database: &Database) -> Request {
    Request::get(database.path("log/_streams/all"))
}

async fn a_foreign_page_is_403_in_whatever_way_it_asks(front: Front) {
    let database = declared(front).await;
    for origin in FOREIGN {
        let request = stream(&database).header("origin", *origin);
        let answer = refusal::of_any_kind(&database.server, request).await;
        refusal::is(&answer, Kind::Forbidden, "origin not allowed", origin);
        assert_eq!(answer.header("access-control-allow-origin"), "", "{origin}");
        assert_eq!(answer.header("vary").to_ascii_lowercase(), "origin", "{origin}");
    }
    for request in [
        Request::get(database.path("log")),
        Request::new(Method::POST, database.path("log")).json("{}"),
        Request::get(database.path("log/_streams/other")),
    ] {
        let answer = database.send(request.header("origin", FOREIGN[0])).await;
        refusal::is(&answer, Kind::Forbidden, "origin not allowed", "not a stream");
    }
    let documents = database.get("log").await;
    assert_eq!(documents.text(), "[]", "nothing was written");
}

async fn a_listed_page_opens_the_stream_and_may_read_every_answer(front: Front) {
    let database = declared(front).await;
    let ask = |path: &str| Request::get(database.path(path)).header("origin", LISTED);
    let socket = WebSocket::open(&database.server, ask("log/_streams/all")).await;
    socket.unwrap_or_else(|refused| panic!("{}", refused.text())).close().await;
    let events = EventSource::open(&database.server, ask("log/_streams/all")).await;
    let events = events.unwrap_or_else(|refused| panic!("{}", refused.text()));
    assert_eq!(events.headers["access-control-allow-origin"], LISTED);
    assert_eq!(events.headers["access-control-allow-credentials"], "true");
    for path in ["log/_streams/all", "log/_streams/other", "log/_streams/all?jsonMode=xml", "log", "other"] {
        let answer = database.send(ask(path)).await;
        assert_eq!(answer.header("access-control-allow-origin"), LISTED, "{path}: {}", answer.text());
        assert_eq!(answer.header("access-control-allow-credentials"), "true", "{path}");
        assert_eq!(answer.header("vary").to_ascii_lowercase(), "origin", "{path}");
        assert!(answer.header("access-control-expose-headers").contains("Retry-After"), "{path}");
    }
}

async fn a_page_of_the_service_itself_and_a_caller_without_a_page_pass(front: Front) {
    let database = declared(front).await;
    database.connect("log/_streams/all").await.close().await;
    let own = stream(&database).header("origin", database.server.clone());
    let socket = WebSocket::open(&database.server, own).await;
    socket.unwrap_or_else(|refused| panic!("{}", refused.text())).close().await;
}

async fn a_preflight_is_answered_for_listed_pages_only(front: Front) {
    let database = declared(front).await;
    let preflight = |origin: &str| {
        Request::new(Method::OPTIONS, database.path("log"))
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization, content-type")
    };
    let listed = database.send(preflight(LISTED)).await;
    assert_eq!(listed.status, StatusCode::NO_CONTENT);
    assert_eq!(listed.header("access-control-allow-origin"), LISTED);
    assert!(listed.header("access-control-allow-methods").contains("POST"));
    assert!(listed.header("access-control-allow-headers").contains("Authorization"));
    let foreign = database.send(preflight(FOREIGN[0])).await;
    for name in ["origin", "methods", "headers", "credentials"] {
        assert_eq!(foreign.header(&format!("access-control-allow-{name}")), "", "{name}");
    }
}

async fn a_listed_page_may_read_that_its_token_is_bad(front: Front) {
    let (backend, worker) = &deployment().await.guarded;
    let server = if front == Front::Native { backend.url() } else { worker.url() };
    let database = declared(front).await.at(&server);
    for request in [stream(&database), stream(&database).bearer("e30.e30.e30")] {
        let listed = refusal::of_any_kind(&server, request.clone().header("origin", LISTED)).await;
        assert_eq!(listed.status, StatusCode::UNAUTHORIZED);
        assert_eq!(listed.header("access-control-allow-origin"), LISTED);
        // 401 before 403: who has no token does not learn even this.
        let foreign = refusal::of_any_kind(&server, request.header("origin", FOREIGN[0])).await;
        assert_eq!(foreign.status, StatusCode::UNAUTHORIZED);
        assert_eq!(foreign.header("access-control-allow-origin"), "");
    }
    let good = stream(&database).bearer(&token::valid(&json!({})));
    let foreign = refusal::of_any_kind(&server, good.header("origin", FOREIGN[0])).await;
    refusal::is(&foreign, Kind::Forbidden, "origin not allowed", "a good token from a foreign page");
}

both_fronts!(
    a_foreign_page_is_403_in_whatever_way_it_asks,
    a_listed_page_opens_the_stream_and_may_read_every_answer,
    a_page_of_the_service_itself_and_a_caller_without_a_page_pass,
    a_preflight_is_answered_for_listed_pages_only,
    a_listed_page_may_read_that_its_token_is_bad,
);
