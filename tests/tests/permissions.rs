//! Who may do what, at the backend and through the edge: the table that `shared` is tested with, and rules that change
//! while streams are open.

#[path = "../../shared/tests/permission_table/mod.rs"]
mod permission_table;

use bson::doc;
use futures_util::{StreamExt as _, future::join_all, stream};
use http::StatusCode;
use permission_table::Case;
use serde_json::{Value, json};
use shared::limit::Limit;
use shared::refusal::Kind;
use tailrace_tests::database::json as body_of;
use tailrace_tests::{
    Database, EventSource, Front, Request, Response, WebSocket, both_fronts, refusal, rules, soon, token,
    until,
};

/// How many questions are asked at once.
const AT_ONCE: usize = 8;

fn request(case: &Case) -> Request {
    let request = Request::new(case.method.parse().expect("a method"), case.target.clone());
    let request = match case.method.as_str() {
        "POST" | "PUT" | "PATCH" => request.json("{}"),
        _ => request,
    };
    match &case.claims {
        Value::Null => request,
        claims => request.bearer(&token::valid(claims)),
    }
}

/// What is wrong with the answer, if anything.
async fn fault(server: &str, case: &Case) -> Option<String> {
    let answer = soon("an answer", request(case).send(server)).await.expect("an answer");
    let status = answer.status.as_u16();
    let what = || format!("{} {} {}: {status} {}", case.who, case.method, case.target, answer.text());
    if case.method == "HEAD" {
        return (answer.status != StatusCode::OK).then(what);
    }
    if let Some(expected) = case.message() {
        let found = (status, body_of(&answer)["message"].as_str().unwrap_or_default().to_owned());
        return (found != expected).then(what);
    }
    // A document that is absent, a collection without `If-Match`, a stream that wants an upgrade: all past the rules.
    let past = answer.status.is_success()
        || matches!(status, 404 | 409)
        || answer.text().contains("Change Stream requires WebSocket or SSE");
    (!past).then(what)
}

async fn each_identity_may_do_what_the_table_says(front: Front) {
    let open = front.database().await;
    let table = permission_table::of(&open.name);
    for (collection, streams) in &table.collections {
        open.put(collection, &json!({ "streams": streams }).to_string()).await;
    }
    let server = front.ruled().await;
    rules::add(&open, server, &table.rules).await;
    assert!(table.cases.len() >= 80);
    let failures: Vec<String> = stream::iter(&table.cases)
        .map(|case| fault(server, case))
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    assert!(
        failures.is_empty(),
        "{} of {} fail:\n{}",
        failures.len(),
        table.cases.len(),
        failures.join("\n")
    );
}

/// A rule that lets a role follow everything in a database.
fn followers(database: &Database, role: &str) -> Value {
    let path = format!("/{}/log/_streams/*", database.name);
    json!({ "_id": role, "roles": [role], "methods": ["GET"], "path": path })
}

async fn declared(front: Front) -> Database {
    let database = front.database().await;
    database.put("log", r#"{"streams": [{"uri": "all", "stages": []}]}"#).await;
    database
}

async fn follower(database: &Database, server: &str, role: &str) -> WebSocket {
    let request =
        Request::get(database.path("log/_streams/all")).bearer(&token::valid(&json!({ "roles": [role] })));
    WebSocket::open(server, request).await.unwrap_or_else(|refused| panic!("{}", refused.text()))
}

async fn a_permission_that_is_removed_closes_those_concerned_within_a_second_and_nobody_else(front: Front) {
    let database = declared(front).await;
    let server = front.ruled().await;
    let both = [followers(&database, "leaving"), followers(&database, "staying")];
    rules::add(&database, server, &both).await;
    let leaving = join_all((0..50).map(|_| follower(&database, server, "leaving"))).await;
    let mut staying = join_all((0..50).map(|_| follower(&database, server, "staying"))).await;
    let events = Request::get(database.path("log/_streams/all"))
        .bearer(&token::valid(&json!({ "roles": ["leaving"] })));
    let mut events = EventSource::open(server, events).await.expect("a stream of events");

    let removed = doc! { "_id": rules::id(&database, "leaving") };
    rules::collection(&database).delete_one(removed).await.expect("MongoDB answers");
    let since = std::time::Instant::now();
    for mut socket in leaving {
        let (code, reason) = socket.closed().await;
        assert_eq!((code, reason.as_str()), (4403, "no longer permitted"));
    }
    println!("50 sockets were closed {:?} after the rule was removed", since.elapsed());
    let end = events.event().await;
    assert_eq!((end.event.as_deref(), end.json()["code"].clone()), (Some("close"), json!(4403)));
    database.post("log", r#"{"n": 1}"#).await;
    for socket in &mut staying {
        assert_eq!(socket.event().await["fullDocument"]["n"], 1);
    }
    let refused = Request::get(database.path("log/_streams/all"))
        .bearer(&token::valid(&json!({ "roles": ["leaving"] })));
    assert_eq!(refused.send(server).await.expect("an answer").status, StatusCode::FORBIDDEN);
}

async fn a_permission_that_shows_something_else_closes_with_4001_and_the_new_one_decides(front: Front) {
    let database = declared(front).await;
    let server = front.ruled().await;
    rules::add(&database, server, &[followers(&database, "reader")]).await;
    let mut socket = follower(&database, server, "reader").await;
    let rule = doc! { "_id": rules::id(&database, "reader") };
    let narrower = doc! { "$set": { "readFilter": { "public": true } } };
    rules::collection(&database).update_one(rule, narrower).await.expect("MongoDB answers");
    assert_eq!(socket.closed().await.0, 4001);
    let mut socket = follower(&database, server, "reader").await;
    database.post("log", r#"{"n": 1}"#).await;
    database.post("log", r#"{"n": 2, "public": true}"#).await;
    assert_eq!(socket.event().await["fullDocument"]["n"], 2);
}

async fn a_permission_that_is_added_acts_within_a_second(front: Front) {
    let database = declared(front).await;
    let server = front.ruled().await;
    let asks = async || {
        let request = Request::get(database.path("log/_streams/all"))
            .bearer(&token::valid(&json!({ "roles": ["new"] })));
        request.send(server).await.expect("an answer").status
    };
    assert_eq!(asks().await, StatusCode::FORBIDDEN);
    rules::add(&database, server, &[followers(&database, "new")]).await;
    // 400: a plain GET of a stream that would open.
    assert_eq!(asks().await, StatusCode::BAD_REQUEST);
}

async fn a_broken_stored_rule_refuses_what_it_is_for_and_says_so(front: Front) {
    let database = declared(front).await;
    let server = front.ruled().await;
    let path = format!("/{}/log/_streams/all", database.name);
    let broken = json!({ "_id": "broken", "priority": -1, "roles": ["reader"], "methods": ["GET"], "path": path, "readfilter": {} });
    rules::add(&database, server, &[broken, followers(&database, "reader"), followers(&database, "other")])
        .await;
    let ask = async |role: &str| {
        let request = Request::get(path.as_str()).bearer(&token::valid(&json!({ "roles": [role] })));
        request.send(server).await.expect("an answer")
    };
    let answer = ask("reader").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    let message = body_of(&answer)["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("broken.readfilter: unknown member, expected"), "{message}");
    assert_eq!(ask("other").await.status, StatusCode::BAD_REQUEST);
}

async fn the_list_of_streams_shows_those_that_the_caller_may_open(front: Front) {
    let database = front.database().await;
    database
        .put("log", r#"{"streams": [{"uri": "open", "stages": []}, {"uri": "closed", "stages": []}]}"#)
        .await;
    let server = front.ruled().await;
    let rule = |id: &str, path: &str| {
        let path = format!("/{}/{path}", database.name);
        json!({ "_id": id, "roles": ["reader"], "methods": ["GET"], "path": path })
    };
    let both = [rule("list", "log/_streams"), rule("one", "log/_streams/open"), rule("documents", "log")];
    rules::add(&database, server, &both).await;
    let get = async |target: &str| {
        let request =
            Request::get(database.path(target)).bearer(&token::valid(&json!({ "roles": ["reader"] })));
        body_of(&request.send(server).await.expect("an answer"))
    };
    let listed = get("log/_streams").await;
    let names: Vec<_> =
        listed.as_array().expect("an array").iter().map(|stream| stream["uri"].clone()).collect();
    assert_eq!(names, ["open"]);
    let links = get("log?rep=HAL").await["_links"].clone();
    assert!(links.get("open").is_some() && links.get("closed").is_none(), "{links}");
}

async fn a_rule_narrows_what_those_may_take_whom_it_lets_in(front: Front) {
    let database = front.database().await;
    let streams =
        r#"{"streams": [{"uri": "mine", "stages": [{"$match": {"fullDocument.n": {"$var": "n"}}}]}]}"#;
    database.put("log", streams).await;
    let server = front.ruled().await;
    let rule = |role: &str, limits: Value| {
        let path = format!("/{}/log/**", database.name);
        json!({ "_id": role, "roles": [role], "methods": ["*"], "path": path, "limits": limits })
    };
    let narrow =
        json!({ "connections-per-user": 3, "bindings-per-user": 1, "avars-bytes": 16, "body-bytes": 20.0 });
    rules::add(
        &database,
        server,
        &[rule("narrow", narrow), rule("wide", json!({ "avars-bytes": 1_000_000 }))],
    )
    .await;
    let by = |role: &str, user: &str, request: Request| {
        request.bearer(&token::valid(&json!({ "roles": [role], "sub": format!("{user}-{}", database.name) })))
    };
    let open = async |role: &str, user: &str, n: &str| {
        let stream = Request::get(database.path(&format!("log/_streams/mine?avars={{n:{n}}}")));
        WebSocket::open(server, by(role, user, stream)).await
    };
    let is_refused = |refused: Response, limit: Limit, most: u64| {
        let expected = limit.refusal(most);
        assert_eq!((refused.status, refused.text()), (expected.status(), expected.body()));
        assert_ne!(refused.header("retry-after"), "");
    };
    let mut held = vec![open("narrow", "ada", "1").await.expect("a place")];
    is_refused(*open("narrow", "ada", "2").await.expect_err("another binding"), Limit::BindingsPerUser, 1);
    for _ in 0..2 {
        held.push(open("narrow", "ada", "1").await.expect("a place"));
    }
    is_refused(*open("narrow", "ada", "1").await.expect_err("no place"), Limit::ConnectionsPerUser, 3);
    // Neither another user nor another rule is concerned.
    for (role, user) in [("narrow", "bob"), ("wide", "ada")] {
        open(role, user, "2").await.expect("a place").close().await;
    }
    drop(held);
    until("the places are free", async || open("narrow", "ada", "2").await.is_ok()).await;

    let long = format!("'{}'", "y".repeat(11));
    let refused = open("narrow", "bob", &long).await.expect_err("too long");
    refusal::is(&refused, Kind::BadVariables, "avars: 17 bytes, expected at most 16", "narrow");
    open("wide", "bob", &long).await.expect("short enough").close().await;
    // No rule widens what the configuration gives.
    let refused = open("wide", "bob", &format!("'{}'", "y".repeat(4_200))).await.expect_err("too long");
    refusal::is(&refused, Kind::BadVariables, "avars: 4206 bytes, expected at most 4096", "wide");
    let post = async |role: &str, document: &str| {
        let post = Request::new(http::Method::POST, database.path("log")).json(document);
        by(role, "bob", post).send(server).await.expect("an answer")
    };
    let large = r#"{"text": "0123456789"}"#;
    refusal::is(&post("narrow", large).await, Kind::BodyTooLarge, "body over 20 bytes", "narrow");
    for (role, document) in [("narrow", r#"{"n": 1}"#), ("wide", large)] {
        assert_eq!(post(role, document).await.status, StatusCode::CREATED, "{role}");
    }
}

both_fronts!(
    each_identity_may_do_what_the_table_says,
    a_permission_that_is_removed_closes_those_concerned_within_a_second_and_nobody_else,
    a_permission_that_shows_something_else_closes_with_4001_and_the_new_one_decides,
    a_permission_that_is_added_acts_within_a_second,
    a_broken_stored_rule_refuses_what_it_is_for_and_says_so,
    the_list_of_streams_shows_those_that_the_caller_may_open,
    a_rule_narrows_what_those_may_take_whom_it_lets_in,
);
