//! What is logged: never a query string, a credential, or a variable of a client, however much is logged.

use bson::{Document, doc};
use http::Method;
use parts::backend::Backend;
use parts::deployment::{guarded_backend, guarded_worker, open_backend, open_worker};
use parts::worker::Worker;
use serde_json::json;
use tailrace_tests::front::{addresses, bounded};
use tailrace_tests::web_socket::Message;
use tailrace_tests::{Database, EventSource, Front, Request, WebSocket, token};

/// What must not be found again. Each place has one of its own, so that a finding tells which.
fn secret(place: &str) -> String {
    format!("s3cret-{place}-x")
}

const STREAMS: &str = r#"{"streams": [
    {"uri": "all", "stages": []},
    {"uri": "mine", "stages": [{"$match": {"fullDocument.n": {"$var": "n"}}}]},
    {"uri": "in", "stages": [{"$match": {"fullDocument.n": {"$in": {"$var": "n"}}}}]},
    {"uri": "fails", "stages": [{"$set": {"x": {"$toInt": {"$concat": ["$fullDocument.t", {"$var": "n"}]}}}}]},
    {"uri": "owned", "stages": [{"$match": {"fullDocument.n": {"$var": "@user.sub"}}}]}
]}"#;

/// Tries every place in which a client can put something, opened or refused; and returns the reasons of closes.
async fn put_secrets_everywhere(database: &Database, good: Option<&str>) -> Vec<String> {
    let path = |inner: &str| database.path(inner);
    let dressed = |request: Request| match good {
        Some(token) => request.bearer(token),
        None => request,
    };
    let avars = |place: &str| format!(r#"avars={{"n":"{}"}}"#, secret(place));
    let mut requests = vec![
        dressed(Request::get(path(&format!("log/_streams/mine?{}", avars("avars"))))),
        dressed(Request::get(path(&format!("log/_streams/in?{}", avars("avars-refused-by-mongodb"))))),
        dressed(Request::get(path(&format!("log/_streams/mine?avars={{{}", secret("avars-broken"))))),
        dressed(Request::get(path(&format!(
            r#"log/_streams/mine?avars={{"n":{{"$gt":"{}"}}}}"#,
            secret("avars-operator")
        )))),
        dressed(Request::get(path(&format!("log/_streams/all?resumeAfter={}", secret("position"))))),
        dressed(Request::get(path(&format!("log/_streams/all?x={}", secret("parameter"))))),
        dressed(Request::get(path(&format!("log/_streams/all?jsonMode={}", secret("mode"))))),
        dressed(Request::get(path(&format!("log/_streams/all?%ff={}", secret("query-broken"))))),
        dressed(Request::get(path(&format!("log?filter={{a:'{}'}}", secret("filter"))))),
        dressed(Request::get(path(&format!("log?filter={{a:{{$bad:'{}'}}}}", secret("filter-refused"))))),
        Request::get(path(&format!("log/_streams/all?ticket={}", secret("ticket")))),
        Request::get(path("log/_streams/all")).bearer(&secret("bearer")),
        Request::get(path("log/_streams/all")).bearer(&format!("e30.e30.{}", secret("bearer-in-form"))),
        Request::get(path("log/_streams/all"))
            .bearer(&token::valid(&json!({ "exp": 1, "sub": secret("sub") }))),
        Request::get(path("log/_streams/all")).header("authorization", format!("Basic {}", secret("basic"))),
        Request::get(path("log/_streams/all")).header("authorization", secret("authorization")),
        Request::get(path("log/_streams/all"))
            .header("cookie", format!("rh_auth=Bearer_{}", secret("cookie"))),
        Request::get(path("log/_streams/all")).header("cookie", format!("__Host-tailrace={}", secret("own"))),
        Request::get(path("log/_streams/all"))
            .header("sec-websocket-protocol", format!("tailrace.plain, bearer.{}", secret("sub-protocol"))),
        Request::get(path("log/_streams/all")).header("tailrace-identity", secret("statement")),
        Request::get(path("log/_streams/all")).header("last-event-id", secret("last-event-id")),
    ];
    for status in ["log", "log/1", "log/_streams/all"] {
        let body = format!("{{'a':'{}'", secret("body"));
        requests.push(dressed(
            Request::new(Method::PUT, path(&format!("{status}?x={}", secret("put")))).json(body),
        ));
    }
    for request in requests {
        // As a plain GET or whatever it is, as an event stream, and as an upgrade.
        let _ = database.send(request.clone()).await;
        drop(EventSource::open(&database.server, request.clone()).await);
        drop(WebSocket::open(&database.server, request).await);
    }

    let mut reasons = Vec::new();
    let open = async |inner: String, protocol: &str| {
        let request = dressed(Request::get(path(&inner)).header("sec-websocket-protocol", protocol));
        let opened = WebSocket::open(&database.server, request).await;
        opened.unwrap_or_else(|refused| panic!("{inner}: {}", refused.text()))
    };
    // One that fails on an event, one that sends much and is closed, and one that stays until its definition changes.
    let mut failing = open(format!("log/_streams/fails?{}", avars("avars-failing")), "tailrace.plain").await;
    let mut typed = open(format!("log/_streams/fails?{}", avars("avars-typed")), "tailrace.v1.json").await;
    let mut sends = open(format!("log/_streams/all?x={}", secret("sends")), "tailrace.v1.json").await;
    let mut stays = open(format!("log/_streams/mine?{}", avars("avars-stays")), "tailrace.plain").await;
    let log = database.mongo.collection::<Document>("log");
    log.insert_one(doc! { "n": 1, "t": secret("document") }).await.expect("the insert");
    reasons.push(format!("{:?}", failing.closed().await));
    let mut told = typed.event().await;
    while told["type"] != "error" {
        told = typed.event().await;
    }
    reasons.push(told.to_string());
    sends.send(format!(r#"{{"type":"auth","token":"{}"}}"#, secret("in-band"))).await;
    sends.send(secret("message")).await;
    sends.send(Message::Ping(secret("ping").into())).await;
    sends.send("x".repeat(70_000)).await;
    reasons.push(format!("{:?}", sends.closed().await));
    let properties = database.mongo.collection::<Document>("_properties");
    let other = doc! { "$set": { "streams": [] } };
    properties.update_one(doc! { "_id": "_properties.log" }, other).await.expect("the write");
    reasons.push(format!("{:?}", stays.closed().await));
    reasons
}

fn clean(what: &str, text: &str) {
    let found: Vec<&str> = text.lines().filter(|line| line.contains("s3cret")).collect();
    assert!(found.is_empty(), "{what} tells {} times:\n{}", found.len(), found.join("\n"));
}

async fn nothing_is_told(front: Front, open: bool) {
    let mongodb = &addresses().await.mongodb;
    let name = format!("logs-{}-{front:?}", if open { "open" } else { "guarded" }).to_lowercase();
    let options = if open { open_backend(&name, mongodb) } else { guarded_backend(&name, mongodb) };
    let backend = Backend::start(options.set("TAILRACE_LOG__LEVEL", "trace")).await.expect("a backend");
    let worker = match (front, open) {
        (Front::Native, _) => None,
        (Front::Edge, true) => Some(open_worker(&name, &[&backend.url()])),
        (Front::Edge, false) => Some(guarded_worker(&name, &[&backend.url()])),
    };
    let worker = match worker {
        Some(options) => Some(Worker::start(options).await.expect("a worker")),
        None => None,
    };
    let declared = Front::Native.database().await;
    declared.put("log", STREAMS).await;
    let database = declared.at(&worker.as_ref().map_or_else(|| backend.url(), Worker::url));
    let good = token::valid(&json!({ "sub": secret("subject") }));
    let reasons = put_secrets_everywhere(&database, (!open).then_some(&good)).await;
    clean("a reason", &reasons.join("\n"));
    let logged = backend.logged();
    assert!(logged.contains("DEBUG") && logged.contains("the pipeline fails on an event"), "all is logged");
    clean("the backend's log", &logged);
    for part in good.split('.') {
        assert!(!logged.contains(part), "a part of a token is logged");
    }
    if let Some(worker) = worker {
        clean("the worker's log", &std::fs::read_to_string(worker.log()).expect("its log"));
    }
}

#[tokio::test]
async fn the_log_of_an_open_backend_tells_nothing_of_what_clients_keep_for_themselves() {
    bounded(nothing_is_told(Front::Native, true)).await;
}

#[tokio::test]
async fn the_log_of_a_guarded_backend_tells_nothing_of_what_clients_keep_for_themselves() {
    bounded(nothing_is_told(Front::Native, false)).await;
}

#[tokio::test]
async fn neither_log_tells_anything_behind_the_edge() {
    bounded(nothing_is_told(Front::Edge, false)).await;
}
