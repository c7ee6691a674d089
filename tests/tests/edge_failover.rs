//! Backends that do not answer: the next one serves, and what writes is never sent twice.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use parts::backend::Backend;
use parts::deployment::{open_backend, open_worker};
use parts::worker::Worker;
use shared::refusal::Kind;
use shared::rendezvous::Backends;
use tailrace_tests::front::{addresses, bounded};
use tailrace_tests::witness::Witness;
use tailrace_tests::{Database, EventSource, Front, Request, Response, WebSocket, refusal};
use tokio::sync::OnceCell;

/// How long the edge waits for a backend that says nothing.
const PATIENCE: Duration = Duration::from_secs(8);

/// Far from [`PATIENCE`], however busy the machine is.
const AT_ONCE: Duration = Duration::from_secs(4);

/// What is asked of each: an upgrade, server-sent events, and a GET of documents.
const WAYS: usize = 3;

/// The backend behind all witnesses.
async fn backend() -> String {
    static SHARED: OnceCell<Backend> = OnceCell::const_new();
    let options = async || open_backend("fail-over", &addresses().await.mongodb);
    SHARED.get_or_init(|| async { Backend::start(options().await).await.expect("a backend") }).await.url()
}

/// Two witnesses before a backend, and a worker that takes them for two backends.
struct Deployment {
    /// Asked first.
    first: Witness,
    second: Witness,
    worker: Worker,
    /// A database whose requests go through the worker.
    database: Database,
}

impl Deployment {
    /// Starts one in which all has been asked for once, so that the worker knows what is declared.
    async fn start(name: &str) -> Self {
        let backend = backend().await;
        let (first, second) = (Witness::before(&backend).await, Witness::before(&backend).await);
        let both = format!("{},{}", first.url, second.url);
        let worker = Worker::start(open_worker(name, &[&both])).await.expect("a worker");
        let order = Backends::parse(&both).expect("two addresses");
        let database = loop {
            let database = Front::Native.database().await;
            if order.order(&format!("{}.log", database.name))[0].as_str() == first.url {
                break database.at(&worker.url());
            }
        };
        database.put("log", r#"{"streams": [{"uri": "all", "stages": []}]}"#).await;
        database.connect("log/_streams/all").await.close().await;
        assert_eq!((first.upgrades(), second.upgrades()), (1, 0), "the order is the one of the hash");
        Self { first, second, worker, database }
    }

    /// How many requests of these methods came to the first and to the second.
    fn count(&self, methods: &[Method]) -> (usize, usize) {
        let count = |witness: &Witness| {
            let wanted = |method: &str| methods.iter().any(|wanted| wanted == method);
            witness.seen().iter().filter(|seen| wanted(&seen.method)).count()
        };
        (count(&self.first), count(&self.second))
    }
}

/// Asks in each of the [`WAYS`] at the same time, so that none learns from another, and all must be served.
async fn served_in_every_way(database: &Database) {
    let ask = |inner: &str| Request::get(database.path(inner));
    let (upgrade, events, documents) = tokio::join!(
        WebSocket::open(&database.server, ask("log/_streams/all")),
        EventSource::open(&database.server, ask("log/_streams/all")),
        database.get("log"),
    );
    let mut upgrade = upgrade.unwrap_or_else(|refused| panic!("upgrade: {}", refused.text()));
    let mut events = events.unwrap_or_else(|refused| panic!("events: {}", refused.text()));
    assert_eq!(documents.status, StatusCode::OK, "{}", documents.text());
    // What opened is a stream, not only an answer.
    database.mongo.collection("log").insert_one(bson::doc! { "n": 1 }).await.expect("the insert");
    assert_eq!(upgrade.event().await["fullDocument"]["n"], 1);
    assert_eq!(events.event().await.json()["fullDocument"]["n"], 1);
}

/// Writes in every way at the same time.
async fn write_in_every_way(database: &Database) {
    let answers: [Response; 4] = tokio::join!(
        database.request(Method::POST, "log", r#"{"written": true}"#),
        database.request(Method::PUT, "log/one", r#"{"written": true}"#),
        database.request(Method::PATCH, "log/one", r#"{"written": true}"#),
        database.request(Method::DELETE, "log/one", ""),
    )
    .into();
    for answer in answers {
        if answer.status == StatusCode::SERVICE_UNAVAILABLE {
            refusal::is(&answer, Kind::Unavailable, "no backend answered", "it may have been done");
        }
    }
}

const WRITES: [Method; 4] = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

async fn written(database: &Database) -> u64 {
    let collection = database.mongo.collection::<bson::Document>("log");
    collection.count_documents(bson::doc! { "written": true }).await.expect("a count")
}

#[tokio::test]
async fn a_backend_that_accepts_and_says_nothing_is_passed_over() {
    bounded(async {
        let deployment = Deployment::start("silent").await;
        let (first, second) = deployment.count(&[Method::GET]);
        deployment.first.falls_silent();
        let began = Instant::now();
        served_in_every_way(&deployment.database).await;
        assert!(began.elapsed() >= PATIENCE, "it has its time: {:?}", began.elapsed());
        assert_eq!(deployment.count(&[Method::GET]), (first + WAYS, second + WAYS));

        // It rests for a while: nobody else waits for it, and what writes goes to the other at once.
        let began = Instant::now();
        served_in_every_way(&deployment.database).await;
        deployment.database.post("log", r#"{"written": true}"#).await;
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
        assert_eq!(deployment.count(&[Method::GET]), (first + WAYS, second + 2 * WAYS));
        assert_eq!(written(&deployment.database).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_dead_backend_is_passed_over_at_once_and_without_any_the_answer_is_503() {
    bounded(async {
        let deployment = Deployment::start("dead").await;
        let before = deployment.count(&[Method::GET]).1;
        let Deployment { first, second, worker, database } = deployment;
        // Its port is closed from now on.
        drop(first);
        let began = Instant::now();
        served_in_every_way(&database).await;
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
        assert_eq!(second.seen().iter().filter(|seen| seen.method == "GET").count(), before + WAYS);

        drop(second);
        let stream = Request::get(database.path("log/_streams/all")).header("accept", "text/event-stream");
        let unknown = Request::get(database.path("log/_streams/other"));
        let post = Request::new(Method::POST, database.path("log")).json("{}");
        for request in [stream, unknown, Request::get(database.path("log")), post] {
            let answer = database.send(request).await;
            refusal::is(&answer, Kind::Unavailable, "no backend answered", "all are dead");
            assert_eq!(answer.header("retry-after"), "2");
            assert_eq!(answer.header("access-control-allow-origin"), "*", "a page may read it");
        }
        let upgrade = database.refused("log/_streams/all").await;
        refusal::is(&upgrade, Kind::Unavailable, "no backend answered", "an upgrade");
        let answer = Request::get("/_health").send(&worker.url()).await.expect("an answer");
        assert_eq!(answer.status, StatusCode::OK, "the edge itself is up");
    })
    .await;
}

#[tokio::test]
async fn a_write_is_sent_once_whatever_becomes_of_it() {
    bounded(async {
        let deployment = Deployment::start("writes").await;
        let database = &deployment.database;
        deployment.first.hangs_up();
        let before = WRITES.map(|method| deployment.count(&[method]));
        write_in_every_way(database).await;
        let after = WRITES.map(|method| deployment.count(&[method]));
        let came = |index: usize| (after[index].0 - before[index].0, after[index].1 - before[index].1);
        assert!((0..WRITES.len()).all(|index| came(index).0 + came(index).1 == 1), "{before:?} {after:?}");
        assert!((0..WRITES.len()).any(|index| came(index).0 == 1), "one at least met the one that hangs up");
        // Sent again by whoever sent it, it goes to the other.
        database.post("log", r#"{"written": true}"#).await;
    })
    .await;
}

#[tokio::test]
async fn a_backend_that_hangs_up_is_passed_over() {
    bounded(async {
        let deployment = Deployment::start("hangs-up").await;
        let (first, second) = deployment.count(&[Method::GET]);
        deployment.first.hangs_up();
        served_in_every_way(&deployment.database).await;
        let (first_now, second_now) = deployment.count(&[Method::GET]);
        // Who asks after another one was let down goes to the second at once.
        assert!(first_now > first, "nobody asked the first");
        assert_eq!(second_now, second + WAYS);
    })
    .await;
}

#[tokio::test]
async fn a_backends_own_503_is_its_answer_and_the_platforms_530_is_none() {
    bounded(async {
        let deployment = Deployment::start("statuses").await;
        let database = &deployment.database;
        let (first, second) = deployment.count(&[Method::GET]);
        deployment.first.answers(503);
        let refused = database.refused("log/_streams/all").await;
        assert_eq!((refused.status, refused.text().as_str()), (StatusCode::SERVICE_UNAVAILABLE, ""));
        assert_eq!(database.get("log").await.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(deployment.count(&[Method::GET]), (first + 2, second));

        deployment.first.answers(530);
        served_in_every_way(database).await;
        let (first_now, second_now) = deployment.count(&[Method::GET]);
        assert!(first_now > first + 2, "nobody asked the first");
        assert_eq!(second_now, second + WAYS);
    })
    .await;
}
