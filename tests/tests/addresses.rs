//! Addresses as they are sent: what is odd, given twice, too long, or the system's own is refused before anything is read.

use http::{Method, StatusCode};
use parts::backend::Backend;
use parts::deployment::{open_backend, open_worker};
use parts::worker::Worker;
use serde_json::json;
use shared::refusal::Kind;
use tailrace_tests::front::{addresses, bounded};
use tailrace_tests::witness::{Seen, Witness};
use tailrace_tests::{Database, Front, Request, WebSocket, both_fronts, refusal, token};

const STREAMS: &str = r#"{"streams": [
    {"uri": "all", "stages": []},
    {"uri": "mine", "stages": [{"$match": {"fullDocument.n": {"$var": "n"}}}]}
]}"#;

async fn declared(front: Front) -> Database {
    let database = front.database().await;
    database.put("log", STREAMS).await;
    database
}

/// What no parser between the client and the judgement takes for something else, with the word for what is odd.
const ODD: &[(&str, &str)] = &[
    ("log//_streams/all", "an empty segment"),
    ("log/_streams/all/", "an empty segment"),
    ("log/_streams%2Fall", "an encoded slash or a backslash"),
    ("log/_streams%2fall", "an encoded slash or a backslash"),
    ("log%5C_streams/all", "an encoded slash or a backslash"),
    ("log/_streams/a%00ll", "a control character"),
    ("log/_streams/a%0d%0all", "a control character"),
    ("log/_streams/a%7fll", "a control character"),
    ("log/_streams/all%", "a bad percent code"),
    ("log/_streams/all%2", "a bad percent code"),
    ("log/_streams/%zzall", "a bad percent code"),
    ("log/_streams/%ffall", "not UTF-8"),
];

/// What the runtime of the edge mends before the worker sees it: there it names what it says when mended.
const MENDED: &[(&str, &str)] = &[
    ("log/./_streams/all", "a dot segment"),
    ("log/_streams/../_streams/all", "a dot segment"),
    ("log/%2e/_streams/all", "a dot segment"),
    ("log/_streams/%2E%2e/_streams/all", "a dot segment"),
    (r"log\_streams\all", "a backslash"),
];

async fn an_odd_path_is_400_in_whatever_way_it_is_asked(front: Front) {
    let database = declared(front).await;
    for (inner, why) in ODD {
        let answer = refusal::of_any_kind(&database.server, Request::get(database.path(inner))).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{inner}: {}", answer.text());
        assert!(answer.text().contains("odd path: ") && answer.text().contains(why), "{}", answer.text());
        let post = Request::new(Method::POST, database.path(inner)).json("{}");
        assert_eq!(database.send(post).await.status, StatusCode::BAD_REQUEST, "POST {inner}");
    }
    for (inner, why) in MENDED {
        let request = Request::get(database.path(inner));
        if front == Front::Native {
            let answer = refusal::of_any_kind(&database.server, request).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{inner}: {}", answer.text());
            assert!(answer.text().contains(why), "{inner}: {}", answer.text());
        } else {
            // The plain GET of the stream that it comes to.
            let answer = database.send(request).await;
            assert!(answer.text().contains("requires WebSocket or SSE"), "{inner}: {}", answer.text());
        }
    }
    // Who may not know hears of no path whether it is odd.
    let guarded = database.at(front.guarded().await);
    let answer = guarded.get("log//_streams/all").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.text());
}

async fn a_path_is_decoded_once_and_names_what_it_says_then(front: Front) {
    let database = declared(front).await;
    database.connect("l%6Fg/_StReAmS/%61ll").await.close().await;
    for inner in ["l%256Fg/_streams/all", "log/_streams/All", "log/_streams/%2561ll"] {
        refusal::is(&database.refused(inner).await, Kind::NotFound, "Change Stream does not exist", inner);
    }
}

#[tokio::test]
async fn the_backend_sees_one_spelling_of_an_address_whatever_the_client_sent() {
    bounded(async {
        let options = open_backend("canonical", &addresses().await.mongodb);
        let backend = Backend::start(options).await.expect("a backend");
        let witness = Witness::before(&backend.url()).await;
        let worker = Worker::start(open_worker("canonical", &[&witness.url])).await.expect("a worker");
        let database = declared(Front::Native).await.at(&worker.url());
        for inner in [
            "log/_streams/all",
            "log/_STREAMS/all",
            "%6c%6F%67/_streams/%61%6c%6C",
            "log/./_streams/all",
            "x/../log/_streams/all",
            r"log\_streams\all",
        ] {
            let opened = WebSocket::open(&worker.url(), Request::get(database.path(inner))).await;
            opened.unwrap_or_else(|refused| panic!("{inner}: {}", refused.text())).close().await;
        }
        let canonical = database.path("log/_streams/all");
        let streams: Vec<_> = witness.seen().into_iter().filter(Seen::is_upgrade).collect();
        assert_eq!(streams.len(), 6);
        for seen in streams {
            assert_eq!(seen.target, canonical);
        }
    })
    .await;
}

async fn a_known_parameter_given_twice_is_400_whatever_its_values(front: Front) {
    let database = declared(front).await;
    for (name, value) in [
        ("avars", "{}"),
        ("jsonMode", "strict"),
        ("position", "true"),
        ("resumeAfter", ""),
        ("snapshot", "false"),
    ] {
        // Its name may be spelled with percent codes.
        let coded = format!("%{:02X}{}", name.as_bytes()[0], &name[1..]);
        for other in [name, &coded] {
            let inner = format!("log/_streams/all?{name}={value}&x=1&{other}={value}");
            let answer = refusal::of_any_kind(&database.server, Request::get(database.path(&inner))).await;
            let message = format!("parameter {name} is given twice, expected once");
            refusal::is(&answer, Kind::BadRequest, &message, &inner);
        }
    }
    // What is not ours may repeat.
    database.connect("log/_streams/all?x=1&x=2").await.close().await;
}

async fn a_url_may_be_16_kib_long(front: Front) {
    let database = declared(front).await;
    let path = database.path("log/_streams/all");
    let of = |length: usize| format!("{path}?x={}", "y".repeat(length - path.len() - 3));
    let socket = WebSocket::open(&database.server, Request::get(of(16 * 1024))).await;
    socket.unwrap_or_else(|refused| panic!("{}", refused.text())).close().await;
    let answer = refusal::of_any_kind(&database.server, Request::get(of(16 * 1024 + 1))).await;
    refusal::is(&answer, Kind::UrlTooLong, "URL of 16385 bytes, expected at most 16384", "a byte more");
    let documents = database.get(&format!("log?filter={{a:'{}'}}", "x".repeat(17_000))).await;
    assert_eq!(documents.status, StatusCode::URI_TOO_LONG);
}

async fn avars_may_be_4_kib_long(front: Front) {
    let database = declared(front).await;
    let of = |length: usize| {
        // As it is counted: after the percent codes are decoded.
        format!("log/_streams/mine?avars=%7B%22n%22%3A%22{}%22%7D", "y".repeat(length - r#"{"n":""}"#.len()))
    };
    database.connect(&of(4096)).await.close().await;
    let answer = refusal::of_any_kind(&database.server, Request::get(database.path(&of(4097)))).await;
    refusal::is(&answer, Kind::BadVariables, "avars: 4097 bytes, expected at most 4096", "a byte more");
}

async fn no_address_reaches_what_is_the_systems(front: Front) {
    let database = declared(front).await;
    let own = database.name.clone();
    for namespace in [
        "admin/system.version".to_owned(),
        "admin/x".to_owned(),
        "Admin/x".to_owned(),
        "%61dmin/x".to_owned(),
        "config/system.sessions".to_owned(),
        "CONFIG/x".to_owned(),
        "local/oplog.rs".to_owned(),
        format!("{own}/_properties"),
        format!("{own}/%5Fproperties"),
        format!("{own}/_tailrace"),
        format!("{own}/system.profile"),
        format!("{own}/system%2Eviews"),
    ] {
        for inner in ["", "/1", "/_streams", "/_streams/all"] {
            for method in [Method::GET, Method::PUT, Method::PATCH, Method::POST, Method::DELETE] {
                let request = Request::new(method.clone(), format!("/{namespace}{inner}"));
                let request = if method == Method::GET { request } else { request.json(STREAMS) };
                let answer = database.send(request).await;
                assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {namespace}{inner}");
                assert_eq!(answer.header("cache-control"), "no-store", "{method} {namespace}{inner}");
            }
        }
        let stream = Request::get(format!("/{namespace}/_streams/all"));
        let answer = refusal::of_any_kind(&database.server, stream).await;
        refusal::is(&answer, Kind::NotFound, "Resource does not exist", &namespace);
    }
    let kept = database.mongo.list_collection_names().await.expect("MongoDB answers");
    assert!(!kept.iter().any(|name| name == "_tailrace" || name.starts_with("system.")), "{kept:?}");
    // Its metadata is still what it was.
    database.connect("log/_streams/all").await.close().await;
}

async fn every_answer_says_that_it_must_not_be_stored(front: Front) {
    let database = declared(front).await;
    database.put("log/1", r#"{"n": 1}"#).await;
    let (open, guarded) = (database.server.clone(), front.guarded().await.to_owned());
    let good = token::valid(&json!({}));
    let ask = |method: Method, inner: &str| Request::new(method, database.path(inner));
    let long = format!("log?x={}", "y".repeat(17_000));
    let preflight = ask(Method::OPTIONS, "log/_streams/all")
        .header("origin", "https://app.example")
        .header("access-control-request-method", "GET");
    let returns = ask(Method::GET, "log/_streams/gone")
        .header("accept", "text/event-stream")
        .header("last-event-id", "x");
    for (server, request, status) in [
        (&open, ask(Method::GET, "log"), 200),
        (&open, ask(Method::GET, "log/1"), 200),
        (&open, ask(Method::HEAD, "log/1"), 200),
        (&open, ask(Method::GET, "log/_streams"), 200),
        (&open, Request::get("/"), 200),
        (&open, ask(Method::POST, "log").json("{}"), 201),
        (&open, preflight, 204),
        (&open, returns, 204),
        (&open, ask(Method::GET, "log/_streams/all"), 400),
        (&open, ask(Method::GET, "log/_streams/mine"), 400),
        (&open, ask(Method::GET, "log//1"), 400),
        (&open, ask(Method::POST, "log").json("{"), 400),
        (&guarded, ask(Method::GET, "log"), 401),
        (&guarded, ask(Method::GET, "log/_streams/all").bearer("e30.e30.e30"), 401),
        (&guarded, ask(Method::POST, "log").json("{}").bearer(&good), 403),
        (&open, ask(Method::GET, "log/none"), 404),
        (&open, ask(Method::GET, "absent"), 404),
        (&open, ask(Method::GET, "log/_streams/none"), 404),
        (&open, Request::get("/_edge/a/b"), if front == Front::Native { 401 } else { 404 }),
        (&open, Request::get("/_metrics"), 404),
        (&open, ask(Method::POST, "log/_streams/all").json("{}"), 405),
        (&open, ask(Method::DELETE, "log"), 409),
        (&open, ask(Method::DELETE, "log").header("if-match", "000000000000000000000000"), 412),
        (&open, ask(Method::GET, &long), 414),
    ] {
        let what = format!("{request:?}");
        let answer = tailrace_tests::soon("an answer", request.send(server)).await.expect("an answer");
        assert_eq!(answer.status.as_u16(), status, "{what}: {}", answer.text());
        assert_eq!(answer.header("cache-control"), "no-store", "{what}");
    }
    let socket = database.connect("log/_streams/all").await;
    assert_eq!(socket.headers["cache-control"], "no-store", "the 101");
    let events = database.event_source("log/_streams/all").await;
    assert_eq!(events.headers["cache-control"], "no-store", "the stream of events");
}

both_fronts!(
    an_odd_path_is_400_in_whatever_way_it_is_asked,
    a_path_is_decoded_once_and_names_what_it_says_then,
    a_known_parameter_given_twice_is_400_whatever_its_values,
    a_url_may_be_16_kib_long,
    avars_may_be_4_kib_long,
    no_address_reaches_what_is_the_systems,
    every_answer_says_that_it_must_not_be_stored,
);
