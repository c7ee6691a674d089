//! What the edge refuses ends at the edge, and what it refuses by is never stale.

use std::time::{Duration, Instant};

use bson::{Document, doc};
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use http::{Method, StatusCode};
use parts::backend::Backend;
use parts::deployment::{guarded_backend, guarded_worker, open_backend, open_worker};
use parts::worker::{self, Worker};
use serde_json::json;
use shared::refusal::Kind;
use tailrace_tests::front::{addresses, bounded};
use tailrace_tests::ruled::{ADMIN, admin};
use tailrace_tests::witness::Witness;
use tailrace_tests::{Database, EventSource, Front, Request, WebSocket, refusal, token};

const STREAMS: &str = r#"{"streams": [
    {"uri": "all", "stages": []},
    {"uri": "mine", "stages": [{"$match": {"fullDocument.n": {"$var": "n"}}}]},
    {"uri": "tenants", "stages": [{"$match": {"fullDocument.tenant": {"$var": "@user.tenant"}}}]}
]}"#;

#[tokio::test]
async fn a_refused_stream_never_reaches_the_backend() {
    bounded(async {
        let options = guarded_backend("refusals", &addresses().await.mongodb);
        let backend = Backend::start(options).await.expect("a backend");
        let witness = Witness::before(&backend.url()).await;
        let worker = Worker::start(guarded_worker("refusals", &[&witness.url])).await.expect("a worker");
        let database = Front::Native.database().await;
        database.put("log", STREAMS).await;
        let good = token::valid(&json!({ "sub": "uji" }));
        let ask = |inner: &str| Request::get(database.path(inner));

        for (inner, kind, message) in [
            ("log/_streams/other", Kind::NotFound, "Change Stream does not exist"),
            ("absent/_streams/all", Kind::NotFound, "Change Stream does not exist"),
            ("log/_streams/All", Kind::NotFound, "Change Stream does not exist"),
            ("log/_streams/mine", Kind::VariableNotBound, "variable n not bound"),
            ("log/_streams/tenants", Kind::ClaimMissing, "variable @user.tenant not bound"),
        ] {
            let answer = refusal::of_any_kind(&worker.url(), ask(inner).bearer(&good)).await;
            refusal::is(&answer, kind, message, inner);
            let native = refusal::of_any_kind(&backend.url(), ask(inner).bearer(&good)).await;
            assert_eq!((native.status, native.text()), (answer.status, answer.text()), "{inner}");
        }
        for avars in [
            r#"{"n":{"$gt":1}}"#,
            r#"{"n":{"$regex":".*"}}"#,
            r#"{"n":[{"a":{"$ne":null}}]}"#,
            r#"{"@user.sub":"root","n":1}"#,
            r#"{"@now":1,"n":1}"#,
            "[1]",
            "{",
        ] {
            let inner = format!("log/_streams/mine?avars={avars}");
            let answer = refusal::of_any_kind(&worker.url(), ask(&inner).bearer(&good)).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{avars}: {}", answer.text());
            let native = refusal::of_any_kind(&backend.url(), ask(&inner).bearer(&good)).await;
            assert_eq!((native.status, native.text()), (answer.status, answer.text()), "{avars}");
        }
        for request in [ask("log/_streams/all"), ask("log/_streams/all").bearer("e30.e30.e30")] {
            let answer = refusal::of_any_kind(&worker.url(), request).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.text());
        }

        // What has not changed is not sent again: the backend is asked whether it has.
        let about = format!("/_edge/{}/log", database.name);
        let asked = witness.seen().into_iter().filter(|seen| seen.target == about);
        let of_known = asked.filter(|seen| seen.header("if-none-match").is_some()).count();
        assert!(of_known > 5, "{of_known} of {:#?}", witness.seen());

        let streams: Vec<_> =
            witness.seen().into_iter().filter(|seen| seen.target.contains("/_streams/")).collect();
        assert!(streams.is_empty(), "the edge alone should have judged: {streams:#?}");
        assert_eq!(witness.upgrades(), 0);
        // And the witness does see what is let in.
        let open = ask("log/_streams/all").bearer(&good);
        WebSocket::open(&worker.url(), open).await.expect("a good request").close().await;
        assert_eq!(witness.upgrades(), 1);
    })
    .await;
}

/// What of a witness went to find out about collections of a database.
fn asked_about(witness: &Witness, database: &Database) -> usize {
    let about = format!("/_edge/{}/", database.name);
    witness.seen().iter().filter(|seen| seen.target.starts_with(&about)).count()
}

#[tokio::test]
async fn nobody_makes_the_edge_ask_about_collections_that_he_may_not_follow() {
    bounded(async {
        let mut options = guarded_backend("invented", &addresses().await.mongodb);
        options.config.push_str(ADMIN);
        let backend = Backend::start(options).await.expect("a backend");
        let witness = Witness::before(&backend.url()).await;
        let worker = Worker::start(guarded_worker("invented", &[&witness.url])).await.expect("a worker");
        let database = Front::Native.database().await.at(&worker.url());
        for number in 0..10 {
            let ask = || Request::get(database.path(&format!("invented{number}/_streams/all")));
            let answer = refusal::of_any_kind(&worker.url(), ask()).await;
            refusal::is(&answer, Kind::Unauthenticated, "credentials needed", "nobody");
            let user = token::valid(&json!({ "sub": "uji", "roles": ["user"] }));
            let answer = refusal::of_any_kind(&worker.url(), ask().bearer(&user)).await;
            refusal::is(&answer, Kind::Forbidden, "no permission allows this", "a user");
        }
        assert_eq!(asked_about(&witness, &database), 0, "{:#?}", witness.seen());
        // And who may follow it is told what there is.
        let root = Request::get(database.path("invented/_streams/all")).bearer(&token::valid(&admin()));
        let answer = refusal::of_any_kind(&worker.url(), root).await;
        refusal::is(&answer, Kind::NotFound, "Change Stream does not exist", "an admin");
        assert!(asked_about(&witness, &database) > 0);
    })
    .await;
}

#[tokio::test]
async fn invented_collections_cost_the_backend_fifty_questions_a_second_from_one_address() {
    bounded(async {
        let backend =
            Backend::start(open_backend("many", &addresses().await.mongodb)).await.expect("a backend");
        let witness = Witness::before(&backend.url()).await;
        let worker = Worker::start(open_worker("many", &[&witness.url])).await.expect("a worker");
        let database = Front::Native.database().await.at(&worker.url());
        database.put("log", STREAMS).await;
        database.connect("log/_streams/all").await.close().await;
        let began = Instant::now();
        let ask = async |number: usize| {
            database.send(Request::get(database.path(&format!("invented{number}/_streams/all")))).await
        };
        let answers: Vec<_> = stream::iter(0..1_000).map(ask).buffer_unordered(50).collect().await;
        let seconds = began.elapsed().as_secs() + 2; // it begins and ends within one
        let told = |status| answers.iter().filter(|answer| answer.status == status).count();
        let (absent, refused) = (told(StatusCode::NOT_FOUND), told(StatusCode::TOO_MANY_REQUESTS));
        assert_eq!(absent + refused, answers.len(), "{absent} are absent, {refused} for later");
        let asked = u64::try_from(asked_about(&witness, &database)).expect("few");
        assert!(asked <= 50 * seconds, "{asked} questions in {seconds} s");
        let last = answers.iter().rfind(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS);
        let last = last.expect("a thousand are too many");
        refusal::is(
            last,
            Kind::TooMany,
            "too many collections are asked for from this address",
            "a thousand at once",
        );
        // What is there is known, and stays so.
        database.connect("log/_streams/all").await.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_crowd_that_comes_to_an_edge_that_knows_nothing_is_let_in_for_few_questions() {
    const CROWD: usize = 300;
    bounded(async {
        let backend =
            Backend::start(open_backend("crowd", &addresses().await.mongodb)).await.expect("a backend");
        let witness = Witness::before(&backend.url()).await;
        let worker = Worker::start(open_worker("crowd", &[&witness.url])).await.expect("a worker");
        let database = Front::Native.database().await;
        database.put("log", STREAMS).await;
        let at_edge = database.at(&worker.url());
        let sockets = join_all((0..CROWD).map(|_| at_edge.connect("log/_streams/all"))).await;
        let questions = witness.seen().iter().filter(|seen| seen.target.starts_with("/_edge")).count();
        // The worker itself asks for the settings when it is started.
        assert!(questions <= 5, "{questions} questions");
        database.post("log", r#"{"k": 1}"#).await;
        for mut socket in sockets {
            assert_eq!(socket.event().await["fullDocument"]["k"], 1);
        }
    })
    .await;
}

#[tokio::test]
async fn credentials_are_refused_by_settings_of_this_moment_only() {
    bounded(async {
        let mongodb = &addresses().await.mongodb;
        let before = Backend::start(guarded_backend("settings", mongodb)).await.expect("a backend");
        let options =
            guarded_backend("newer-settings", mongodb).set("TAILRACE_AUTH__QUERY_PARAMETER", "securetoken");
        let after = Backend::start(options).await.expect("a backend");
        let witness = Witness::before(&before.url()).await;
        let worker = Worker::start(guarded_worker("settings", &[&witness.url])).await.expect("a worker");
        let database = Front::Native.database().await;
        database.put("log", STREAMS).await;
        let token = token::valid(&json!({ "sub": "uji" }));
        let ask = || Request::get(database.path(&format!("log/_streams/all?securetoken={token}")));
        let none = refusal::of_any_kind(&worker.url(), ask()).await;
        assert_eq!(
            none.status,
            StatusCode::UNAUTHORIZED,
            "it is a parameter like any other: {}",
            none.text()
        );
        witness.turns_to(&after.url());
        let opened = WebSocket::open(&worker.url(), ask()).await;
        opened.unwrap_or_else(|refused| panic!("{}", refused.text())).close().await;
        let shown = witness.seen().into_iter().filter(|seen| seen.target.contains(&token)).count();
        assert_eq!(shown, 0, "the token was taken off by the settings that counted");
    })
    .await;
}

/// Two nodes, and a worker that knows the first alone.
struct TwoNodes {
    _here: Backend,
    _there: Backend,
    _worker: Worker,
    edge: Database,
    other: Database,
}

impl TwoNodes {
    async fn start(name: &str) -> Self {
        let mongodb = &addresses().await.mongodb;
        let here = Backend::start(open_backend(name, mongodb)).await.expect("a backend");
        let there = Backend::start(open_backend("another-node", mongodb)).await.expect("a backend");
        let worker = Worker::start(open_worker(name, &[&here.url()])).await.expect("a worker");
        let database = Front::Native.database().await;
        let (edge, other) = (database.at(&worker.url()), database.at(&there.url()));
        Self { _here: here, _there: there, _worker: worker, edge, other }
    }
}

#[tokio::test]
async fn what_was_declared_a_moment_ago_is_never_refused() {
    bounded(async {
        let nodes = TwoNodes::start("fresh").await;
        let properties = nodes.edge.mongo.collection::<Document>("_properties");
        for round in 0..50 {
            // Two rounds a collection: the other node creates it, then MongoDB is written to directly. With more, the
            // edge would ask too often: for the sake of refusals it does so twenty times a second and collection.
            let (collection, name) = (format!("c{}", round / 2), format!("s{round}"));
            let inner = format!("{collection}/_streams/{name}");
            // Known to be absent, this very moment: that is what must not be believed a moment later.
            let refused = nodes.edge.refused(&inner).await;
            assert_eq!(refused.status, StatusCode::NOT_FOUND, "round {round}: {}", refused.text());
            if round % 2 == 0 {
                let streams = json!({ "streams": [{ "uri": name, "stages": [] }] });
                nodes.other.put(&collection, &streams.to_string()).await;
            } else {
                let declared = doc! { "$set": { "streams": [{ "uri": &name, "stages": [] }] } };
                let filter = doc! { "_id": format!("_properties.{collection}") };
                properties.update_one(filter, declared).upsert(true).await.expect("the write");
            }
            let opened = WebSocket::open(&nodes.edge.server, Request::get(nodes.edge.path(&inner))).await;
            let socket = opened
                .unwrap_or_else(|refused| panic!("round {round}: {} {}", refused.status, refused.text()));
            drop(socket);
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_definition_needs_from_now_on_is_judged_by_the_new_one() {
    bounded(async {
        let nodes = TwoNodes::start("changed").await;
        let strict =
            r#"{"streams": [{"uri": "s", "stages": [{"$match": {"fullDocument.n": {"$var": "n"}}}]}]}"#;
        for round in 0..10 {
            nodes.other.put("log", strict).await;
            tailrace_tests::until("the new need is known", async || {
                let opened =
                    WebSocket::open(&nodes.edge.server, Request::get(nodes.edge.path("log/_streams/s")));
                opened.await.is_err_and(|refused| refused.status == StatusCode::BAD_REQUEST)
            })
            .await;
            // The kept definition refuses this one; the declared one does not.
            nodes.other.put("log", r#"{"streams": [{"uri": "s", "stages": []}]}"#).await;
            let opened =
                WebSocket::open(&nodes.edge.server, Request::get(nodes.edge.path("log/_streams/s"))).await;
            opened.unwrap_or_else(|refused| panic!("round {round}: {}", refused.text()));
        }
    })
    .await;
}

#[tokio::test]
async fn what_was_removed_is_refused_within_a_second() {
    bounded(async {
        let nodes = TwoNodes::start("removed").await;
        let properties = nodes.edge.mongo.collection::<Document>("_properties");
        for (round, by_a_node) in [true, false, true, false].into_iter().enumerate() {
            nodes.other.put("log", STREAMS).await;
            nodes.edge.connect("log/_streams/all").await.close().await;
            let since = Instant::now();
            if by_a_node {
                nodes.other.put("log", r#"{"streams": []}"#).await;
            } else {
                let removed = doc! { "$set": { "streams": [] } };
                properties.update_one(doc! { "_id": "_properties.log" }, removed).await.expect("the write");
            }
            // As a stream of events it would be let in with the same cached definitions.
            loop {
                let ask = Request::get(nodes.edge.path("log/_streams/all"));
                match EventSource::open(&nodes.edge.server, ask).await {
                    Err(refused) => {
                        refusal::is(&refused, Kind::NotFound, "Change Stream does not exist", "removed");
                        break;
                    }
                    Ok(_) => assert!(
                        since.elapsed() < Duration::from_secs(1),
                        "round {round}: it opens after {:?}",
                        since.elapsed()
                    ),
                }
            }
            assert_eq!(nodes.edge.refused("log/_streams/all").await.status, StatusCode::NOT_FOUND);
        }
    })
    .await;
}

#[tokio::test]
async fn the_addresses_of_the_machines_do_not_exist_from_outside() {
    bounded(async {
        let edge = Front::Edge.open().await;
        for path in [
            "/_edge",
            "/_edge/",
            "/_edge/app/log",
            "/_EDGE/app/log",
            "/%5Fedge/app/log",
            "/%5f%65%64%67%65/app/log",
            "/%255Fedge/app/log",
            "//_edge/app/log",
            "/./_edge/app/log",
            "/x/../_edge/app/log",
            "/x/%2e%2e/_edge/app/log",
            "/%2F_edge/app/log",
            "/_edge;x/app/log",
            "/_edge%20/app/log",
            "/_edge?x=1",
            "/\\_edge",
            "/_metrics",
            "/_Metrics",
            "/%5Fmetrics",
            "/_ready",
            "/_READY",
            "/_read%79",
            "/_ready/",
            "/_ready?verbose",
        ] {
            for method in [Method::GET, Method::HEAD, Method::POST, Method::OPTIONS] {
                let answer = Request::new(method.clone(), path).send(edge).await.expect("an answer");
                assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {path}: {}", answer.text());
                if method != Method::HEAD {
                    refusal::is(&answer, Kind::NotFound, "Resource does not exist", path);
                }
            }
        }
        // Those who may not know hear the same, and the edge's own health is for everybody.
        let guarded = Front::Edge.guarded().await;
        for server in [edge, guarded] {
            let answer = Request::get("/_edge/app/log").send(server).await.expect("an answer");
            refusal::is(&answer, Kind::NotFound, "Resource does not exist", server);
            let answer = Request::get("/_health").send(server).await.expect("an answer");
            assert_eq!(answer.status, StatusCode::OK);
        }
        let ready = Request::get("/_ready").send(Front::Native.open().await).await.expect("an answer");
        assert_eq!(ready.status, StatusCode::OK, "it exists behind the edge");
    })
    .await;
}

/// A first line: the backend has limits of its own.
#[tokio::test]
async fn who_asks_too_often_is_refused_where_a_rate_limit_is_bound() {
    bounded(async {
        let page = "https://app.example";
        let options =
            open_backend("rate", &addresses().await.mongodb).set("TAILRACE_ORIGINS", format!("['{page}']"));
        let backend = Backend::start(options).await.expect("a backend");
        let witness = Witness::before(&backend.url()).await;
        let options = worker::Options { rate: Some(5), ..open_worker("rate", &[&witness.url]) };
        let worker = Worker::start(options).await.expect("a worker");
        let database = Front::Native.database().await.at(&worker.url());
        database.put("log", STREAMS).await;
        let mut answers = Vec::new();
        for _ in 0..10 {
            answers.push(database.get("log").await);
        }
        let passed = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
        assert!((1..=5).contains(&passed), "{passed} of 10");
        let asked = |method: &str| {
            witness
                .seen()
                .iter()
                .filter(|seen| seen.method == method && seen.target == database.path("log"))
                .count()
        };
        assert_eq!(asked("GET"), passed, "the others end at the edge");
        let refused = answers.last().expect("ten answers");
        refusal::is(refused, Kind::TooMany, "too many requests from this address", "the tenth");
        let stream =
            refusal::of_any_kind(&worker.url(), Request::get(database.path("log/_streams/all"))).await;
        refusal::is(&stream, Kind::TooMany, "too many requests from this address", "a stream");
        // A page may read that, and is not counted for having asked whether it may ask.
        let told = database.send(Request::get(database.path("log")).header("origin", page)).await;
        refusal::is(&told, Kind::TooMany, "too many requests from this address", "a page");
        assert_eq!(told.header("access-control-allow-origin"), page);
        let preflight = Request::new(Method::OPTIONS, database.path("log"))
            .header("origin", page)
            .header("access-control-request-method", "POST");
        assert_eq!(database.send(preflight).await.status, StatusCode::NO_CONTENT);
        let healthy = database.send(Request::get("/_health")).await;
        assert_eq!(healthy.status, StatusCode::OK, "its own health is not limited");
    })
    .await;
}
