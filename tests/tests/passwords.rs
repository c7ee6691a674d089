//! Users with passwords, and what becomes of their streams when they are changed or removed.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bson::{Document, doc};
use http::{Method, StatusCode};
use parts::deployment::{guarded_backend, guarded_worker};
use shared::refusal::Kind;
use tailrace_tests::front::addresses;
use tailrace_tests::ruled::ADMIN;
use tailrace_tests::{Database, EventSource, Front, Own, Request, Response, WebSocket, both_fronts, refusal};
use tokio::sync::OnceCell;

const LISTED: &str = "https://app.example";

/// A deployment with users in its configuration and in a collection, before which the worker has the rest from the backend.
struct Deployment {
    parts: Own,
    /// The name of the database that the collection of users is in.
    users: String,
}

/// The collection of users, by a connection of the test's own: each test has its own runtime.
async fn people() -> mongodb::Collection<Document> {
    let database = Front::Native.database().await;
    database.mongo.client().database(&deployment().await.users).collection("people")
}

fn hash(password: &str) -> String {
    bcrypt::hash(password, 4).expect("a hash")
}

async fn deployment() -> &'static Deployment {
    static SHARED: OnceCell<Deployment> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let mongodb = &addresses().await.mongodb;
            let database = Front::Native.database().await;
            let configured = format!(
                r#"[{{ id = "configured", password = "{}", roles = ["user"], team = "configured" }}]"#,
                hash("pass:word")
            );
            let options = guarded_backend("passwords", mongodb)
                .set("TAILRACE_AUTH__USERS", configured)
                .set("TAILRACE_AUTH__USERS_COLLECTION", format!("{}.people", database.name))
                .set("TAILRACE_ORIGINS", format!(r#"["{LISTED}"]"#));
            Deployment { parts: Own::start(options).await, users: database.name }
        })
        .await
}

const STREAMS: &str = r#"{"streams": [
    {"uri": "all", "stages": []},
    {"uri": "mine", "stages": [{"$match": {"fullDocument.team": {"$var": "@user.team"}}}]}
]}"#;

async fn declared(front: Front) -> Database {
    deployment().await.parts.declared(front, STREAMS).await
}

/// Somebody new, with the password `secret`.
async fn somebody(front: Front, name: &str) -> String {
    let name = format!("{name}-{front:?}");
    let user = doc! { "_id": &name, "password": hash("secret"), "roles": ["user"], "team": &name };
    people().await.insert_one(user).await.expect("inserted");
    name
}

fn basic(user: &str, password: &str) -> String {
    STANDARD.encode(format!("{user}:{password}"))
}

fn stream(database: &Database, name: &str, user: &str, password: &str) -> Request {
    Request::get(database.path(&format!("log/_streams/{name}")))
        .header("authorization", format!("Basic {}", basic(user, password)))
}

async fn opened(database: &Database, name: &str, user: &str, password: &str) -> WebSocket {
    let request = stream(database, name, user, password).header("origin", LISTED);
    let socket = WebSocket::open(&database.server, request).await;
    socket.unwrap_or_else(|refused| panic!("{user}: {} {}", refused.status, refused.text()))
}

async fn refused(database: &Database, user: &str, password: &str) -> Response {
    let request = stream(database, "all", user, password).header("origin", LISTED);
    *WebSocket::open(&database.server, request).await.expect_err("no WebSocket")
}

async fn users_of_the_configuration_and_of_the_collection_are_user(front: Front) {
    let database = declared(front).await;
    let stored = somebody(front, "stored").await;
    for (name, password, team) in [("configured", "pass:word", "configured"), (&stored, "secret", &stored)] {
        let mut socket = opened(&database, "mine", name, password).await;
        let open = database.at(front.open().await);
        open.post("log", r#"{"team": "another"}"#).await;
        open.post("log", &format!(r#"{{"team": "{team}"}}"#)).await;
        assert_eq!(socket.event().await["fullDocument"]["team"], *team);
    }
    let cookie = format!("rh_auth=Basic_{}", basic(&stored, "secret"));
    let request = Request::get(database.path("log/_streams/all")).header("cookie", cookie);
    let socket = WebSocket::open(&database.server, request.header("origin", LISTED)).await;
    socket.unwrap_or_else(|refused| panic!("{}", refused.text())).close().await;
}

async fn a_wrong_password_and_an_unknown_user_are_one_401_that_names_basic(front: Front) {
    let database = declared(front).await;
    let known = somebody(front, "known").await;
    for (name, password) in [(known.as_str(), "wrong"), ("nobody", "secret"), ("configured", "secret")] {
        let answer = refused(&database, name, password).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{name}");
        assert!(answer.text().contains(r#""message":"user or password is wrong""#), "{}", answer.text());
        let challenge = r#"Bearer realm="tailrace", Basic realm="tailrace", charset="UTF-8""#;
        assert_eq!(answer.header("www-authenticate"), challenge);
    }
    let none = database.send(Request::get(database.path("log/_streams/all"))).await;
    assert_eq!(none.status, StatusCode::UNAUTHORIZED);
    assert!(none.header("www-authenticate").contains("Basic"), "{:?}", none.headers);
    // For a page the browser would open a window of its own.
    let fetched = Request::get(database.path("log/_streams/all")).header("sec-fetch-mode", "cors");
    let fetched = database.send(fetched).await;
    assert_eq!(fetched.header("www-authenticate"), r#"Bearer realm="tailrace""#, "{}", fetched.text());
}

async fn too_many_wrong_passwords_are_429_for_that_user(front: Front) {
    let database = declared(front).await;
    let (guessed, other) = (somebody(front, "guessed").await, somebody(front, "other").await);
    for _ in 0..10 {
        assert_eq!(refused(&database, &guessed, "wrong").await.status, StatusCode::UNAUTHORIZED);
    }
    for password in ["wrong", "secret"] {
        let answer = refused(&database, &guessed, password).await;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{}", answer.text());
        let seconds: u64 = answer.header("retry-after").parse().expect("seconds");
        assert!((1..=60).contains(&seconds), "{seconds}");
    }
    opened(&database, "all", &other, "secret").await.close().await;
}

async fn a_password_needs_an_origin_wherever_a_page_could_have_sent_it(front: Front) {
    let database = declared(front).await;
    let name = somebody(front, "origin").await;
    let ask = || stream(&database, "all", &name, "secret");
    let missing = "origin missing, expected one that is allowed beside a cookie or a password";
    let upgrade = WebSocket::open(&database.server, ask()).await.expect_err("no Origin");
    let events = EventSource::open(&database.server, ask()).await.expect_err("no Origin");
    for answer in [upgrade, events] {
        refusal::is(&answer, Kind::Forbidden, missing, "no Origin");
    }
    for foreign in ["null", "https://evil.example"] {
        let answer = refusal::of_any_kind(&database.server, ask().header("origin", foreign)).await;
        refusal::is(&answer, Kind::Forbidden, "origin not allowed", foreign);
    }
    let post = Request::new(Method::POST, database.path("log"))
        .header("authorization", format!("Basic {}", basic(&name, "secret")));
    refusal::is(&database.send(post.json("{}")).await, Kind::Forbidden, missing, "a write");

    let own = database.server.clone();
    let own = WebSocket::open(&database.server, ask().header("origin", own)).await.expect("its own page");
    own.close().await;
    let read = Request::get(database.path("log"))
        .header("authorization", format!("Basic {}", basic(&name, "secret")));
    assert_eq!(database.send(read).await.status, StatusCode::OK, "a plain GET");
}

async fn who_is_changed_or_removed_is_shut_out_within_a_second(front: Front) {
    let database = declared(front).await;
    let people = people().await;
    let mut names = Vec::new();
    let mut sockets = Vec::new();
    for name in ["password", "role", "removed", "team", "stays"] {
        let name = somebody(front, name).await;
        sockets.push(opened(&database, "all", &name, "secret").await);
        names.push(name);
    }
    let mut stays = sockets.pop().expect("five sockets");
    let set = |name: &str, change: Document| people.update_one(doc! { "_id": name }, doc! { "$set": change });
    set(&names[0], doc! { "password": hash("changed") }).await.expect("updated");
    set(&names[1], doc! { "roles": ["admin"] }).await.expect("updated");
    people.delete_one(doc! { "_id": &names[2] }).await.expect("deleted");
    set(&names[3], doc! { "team": "another" }).await.expect("updated");
    let changed = Instant::now();
    for (socket, (name, code)) in sockets.iter_mut().zip(names.iter().zip([4403, 4403, 4403, 4401])) {
        assert_eq!(socket.closed().await.0, code, "{name}");
    }
    let took = changed.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");

    // What was kept of the old password, here and at the edge, opens nothing any more.
    for (name, password) in [(&names[0], "secret"), (&names[2], "secret")] {
        assert_eq!(refused(&database, name, password).await.status, StatusCode::UNAUTHORIZED, "{name}");
    }
    opened(&database, "all", &names[0], "changed").await.close().await;
    opened(&database, "all", &names[3], "secret").await.close().await;
    database.at(front.open().await).post("log", r#"{"n": 1}"#).await;
    assert_eq!(stays.event().await["fullDocument"]["n"], 1);
}

/// What the edge remembers of a password is good for one refusal of a write, which it cannot repeat.
async fn who_was_changed_writes_on_with_the_password_that_still_counts(front: Front) {
    let people = Front::Native.database().await;
    let mut options =
        guarded_backend(&format!("writers-{front:?}").to_lowercase(), &addresses().await.mongodb)
            .set("TAILRACE_AUTH__USERS_COLLECTION", format!("{}.people", people.name));
    options.config.push_str(ADMIN);
    let parts = Own::at(front, options, |backend| guarded_worker("writers", &[backend])).await;
    let people = people.mongo.collection::<Document>("people");
    let user = doc! { "_id": "root", "password": hash("secret"), "roles": ["admin"], "team": "one" };
    people.insert_one(user).await.expect("inserted");
    let database = parts.declared(front, STREAMS).await;
    let write = async || {
        let post = Request::new(Method::POST, database.path("log")).json("{}");
        let post = post.header("authorization", format!("Basic {}", basic("root", "secret")));
        database.send(post.header("origin", database.server.clone())).await.status
    };
    tailrace_tests::until("the user is known", async || write().await == StatusCode::CREATED).await;
    let change = doc! { "$set": { "team": "another" } };
    people.update_one(doc! { "_id": "root" }, change).await.expect("updated");
    tailrace_tests::until("the change acts", async || {
        write().await == StatusCode::UNAUTHORIZED || front == Front::Native
    })
    .await;
    assert_eq!(write().await, StatusCode::CREATED);
}

both_fronts!(
    who_was_changed_writes_on_with_the_password_that_still_counts,
    users_of_the_configuration_and_of_the_collection_are_user,
    a_wrong_password_and_an_unknown_user_are_one_401_that_names_basic,
    too_many_wrong_passwords_are_429_for_that_user,
    a_password_needs_an_origin_wherever_a_page_could_have_sent_it,
    who_is_changed_or_removed_is_shut_out_within_a_second,
);
