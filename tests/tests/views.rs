//! The view that `ready` names: the same for as long as the same is shown, on every node, and another one for a client that
//! comes back when the definition or its rights have changed meanwhile.

use bson::{Document, doc};
use parts::backend::Backend;
use parts::deployment::open_backend;
use serde_json::{Value, json};
use tailrace_tests::database::encoded;
use tailrace_tests::front::{addresses, bounded};
use tailrace_tests::web_socket::Message;
use tailrace_tests::{Database, Front, Request, WebSocket, both_fronts, rules, token};

const JSON: &str = "tailrace.v1.json";

/// Metadata with the stream `mine`, whose `$match` has this condition besides, and the stream `other` with this one.
fn streams(mine: &str, other: &str) -> String {
    format!(
        r#"{{"streams": [
            {{"uri": "mine", "stages": [{{"$match": {{"fullDocument.room": {{"$var": ["room", "x"]}}{mine}}}}}]}},
            {{"uri": "other", "stages": [{{"$match": {{{other}}}}}]}},
            {{"uri": "since", "stages": [{{"$match": {{"fullDocument.at": {{"$gte": {{"$var": "@now"}}}}}}}}]}}
        ]}}"#
    )
}

/// What a client remembers of its last `ready`.
struct Remembered {
    position: String,
    view: String,
}

/// Opens a stream, and keeps it open with what its first message says.
async fn open(server: &str, request: Request) -> (WebSocket, Remembered) {
    let request = request.header("sec-websocket-protocol", JSON);
    let mut socket = WebSocket::open(server, request)
        .await
        .unwrap_or_else(|refused| panic!("{} {}", refused.status, refused.text()));
    let ready = socket.event().await;
    let members: Vec<&String> = ready.as_object().expect("an object").keys().collect();
    assert_eq!(members, ["type", "position", "view"]);
    assert_eq!(ready["type"], "ready");
    let member = |name: &str| ready[name].as_str().unwrap_or_else(|| panic!("{ready}")).to_owned();
    let remembered = Remembered { position: member("position"), view: member("view") };
    assert_eq!(remembered.view.len(), 11);
    (socket, remembered)
}

async fn view(database: &Database, inner: &str) -> String {
    open(&database.server, Request::get(database.path(inner))).await.1.view
}

/// The view that a client is shown who comes back to the stream `mine`.
async fn view_of_return(database: &Database, before: &Remembered) -> String {
    view(database, &format!("log/_streams/mine?resumeAfter={}", before.position)).await
}

async fn connections_that_show_the_same_name_one_view(front: Front) {
    let database = front.database().await;
    database.put("log", &streams("", "")).await;
    let (socket, first) = open(&database.server, Request::get(database.path("log/_streams/mine"))).await;
    assert_eq!(view(&database, "log/_streams/mine").await, first.view, "beside it");
    drop(socket);
    assert_eq!(view_of_return(&database, &first).await, first.view, "behind its position");
    let avars = encoded(r#"{"room": "x", "unused": 1}"#);
    assert_eq!(view(&database, &format!("log/_streams/mine?avars={avars}")).await, first.view);
    let canonical = "log/_streams/mine?jsonMode=canonical";
    assert_eq!(view(&database, canonical).await, first.view, "in whatever form");
    let request = Request::get(database.path("log/_streams/mine"));
    let request = request.header("sec-websocket-protocol", "tailrace.v1.bson");
    let mut bson = WebSocket::open(&database.server, request).await.expect("it opens");
    let Ok(Message::Binary(ready)) = bson.message().await else { panic!("BSON") };
    let ready = Document::from_reader(&ready[..]).expect("BSON");
    assert_eq!(ready.get_str("view").expect("a view"), first.view);
}

async fn other_values_other_streams_and_other_collections_are_other_views(front: Front) {
    let database = front.database().await;
    for collection in ["log", "copy"] {
        database.put(collection, &streams("", r#""fullDocument.room": {"$var": ["room", "x"]}"#)).await;
    }
    let room =
        |room: &str| format!("log/_streams/mine?avars={}", encoded(&json!({ "room": room }).to_string()));
    let mut views = Vec::new();
    for inner in
        [&room("x"), &room("y"), &room("z"), "log/_streams/other", "copy/_streams/mine", "log/_streams/since"]
    {
        let view = view(&database, inner).await;
        assert!(!views.contains(&view), "{inner} is another view");
        views.push(view);
    }
}

async fn who_was_away_while_the_definition_changed_comes_back_to_another_view(front: Front) {
    let database = front.database().await;
    database.put("log", &streams("", "")).await;
    let (socket, before) = open(&database.server, Request::get(database.path("log/_streams/mine"))).await;
    drop(socket);
    database.put("log", &streams("", r#""fullDocument.n": 1"#)).await;
    database.patch("log", r#"{"title": "a log"}"#).await;
    assert_eq!(view_of_return(&database, &before).await, before.view, "the stream is as it was");

    database.put("log", &streams(r#", "fullDocument.n": {"$gt": 3}"#, "")).await;
    let after = view_of_return(&database, &before).await;
    assert_ne!(after, before.view);
    database.put("log", &streams("", "")).await;
    assert_eq!(view_of_return(&database, &before).await, before.view, "what is shown again is the same view");
}

async fn who_was_away_while_rights_changed_comes_back_to_another_view(front: Front) {
    let database = front.database().await;
    database.put("log", &streams("", "")).await;
    let server = front.ruled().await;
    let rule = |role: &str, members: &Value| {
        let mut rule = json!({
            "_id": role, "roles": [role], "methods": ["GET"], "path": format!("/{}/log/_streams/*", database.name),
        });
        rule.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
        rule
    };
    rules::add(&database, server, &[rule("reader", &json!({})), rule("witness", &json!({}))]).await;
    let by = |role: &str, tenant: &str| {
        let claims = json!({ "roles": [role], "tenant": tenant });
        Request::get(database.path("log/_streams/mine")).bearer(&token::valid(&claims))
    };
    let view_of = async |tenant: &str| open(server, by("reader", tenant)).await.1.view;
    let everything = view_of("a").await;
    assert_eq!(view_of("b").await, everything, "a claim that is not used");
    let mut views = vec![everything.clone()];
    for members in [
        doc! { "readFilter": { "tenant": "@user.tenant" } },
        doc! { "readFilter": { "tenant": "@user.tenant", "public": true } },
        doc! { "projectResponse": { "salary": 0 } },
    ] {
        // It is there, and so it tells when the rules act.
        let (mut witness, _) = open(server, by("witness", "a")).await;
        let change = doc! { "$set": members.clone() };
        for role in ["reader", "witness"] {
            let rule = doc! { "_id": rules::id(&database, role) };
            rules::collection(&database).update_one(rule, change.clone()).await.expect("MongoDB answers");
        }
        assert_eq!(witness.closed().await.0, 4001);
        let view = view_of("a").await;
        assert!(!views.contains(&view), "{members} makes another view");
        assert_ne!(view_of("b").await, view, "of another tenant");
        views.push(view);
    }
    // Who may write, and what, shows nothing else.
    let rule = doc! { "_id": rules::id(&database, "reader") };
    let (mut witness, before) = open(server, by("reader", "a")).await;
    let change = doc! { "$set": { "writeFilter": { "locked": false } } };
    rules::collection(&database).update_one(rule, change).await.expect("MongoDB answers");
    assert_eq!(witness.closed().await.0, 4001);
    assert_eq!(view_of("a").await, before.view);
}

async fn the_time_of_the_opening_makes_no_other_view(front: Front) {
    let database = front.database().await;
    database.put("log", &streams("", "")).await;
    let mut views = Vec::new();
    for _ in 0..3 {
        views.push(view(&database, "log/_streams/since").await);
    }
    views.dedup();
    assert_eq!(views.len(), 1);
}

async fn the_other_forms_have_no_word_for_it(front: Front) {
    let database = front.database().await;
    database.put("log", &streams("", "")).await;
    let mut plain = database.connect("log/_streams/mine?position=true").await;
    let mut source = database.event_source("log/_streams/mine").await;
    database.post("log", r#"{"room": "x"}"#).await;
    let of_plain = plain.event().await;
    let first = of_plain.as_object().expect("an object");
    assert!(first.contains_key("position") && !first.contains_key("view"), "{of_plain}");
    let event = source.event().await;
    assert_eq!(event.event.as_deref(), Some("change"));
    assert_eq!(event.json()["fullDocument"]["room"], "x");
    assert!(event.json().get("view").is_none());
}

both_fronts!(
    connections_that_show_the_same_name_one_view,
    other_values_other_streams_and_other_collections_are_other_views,
    who_was_away_while_the_definition_changed_comes_back_to_another_view,
    who_was_away_while_rights_changed_comes_back_to_another_view,
    the_time_of_the_opening_makes_no_other_view,
    the_other_forms_have_no_word_for_it,
);

#[tokio::test]
async fn a_view_has_one_name_on_every_node() {
    bounded(async {
        let here = Front::Native.database().await;
        here.put("log", &streams("", "")).await;
        let other =
            Backend::start(open_backend("other-node", &addresses().await.mongodb)).await.expect("a node");
        let there = here.at(&other.url());
        assert_eq!(
            view(&there, "log/_streams/mine").await,
            view(&here, "log/_streams/mine").await,
            "by the key that they share"
        );
        let avars = encoded(r#"{"room": "y"}"#);
        let inner = format!("log/_streams/mine?avars={avars}");
        assert_eq!(view(&there, &inner).await, view(&here, &inner).await);
    })
    .await;
}
