//! The client's live query in a real browser, at real servers: documents come into view and go out of it, by a permission's
//! filter and by the stream's own.

use std::process::Stdio;

use bson::{Document, doc};
use http::Method;
use parts::{chromium, npm, workspace};
use serde_json::{Value, json};
use tailrace_tests::front::addresses;
use tailrace_tests::ruled::{Ruled, by};
use tailrace_tests::{Database, Front, Request, both_fronts, token};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Duration, timeout};

const PERMISSIONS: &str = r#"
[[permissions]]
roles = ["admin"]
methods = ["*"]
path = "/**"

[[permissions]]
roles = ["tenant"]
methods = ["GET"]
path = "/{db}/tasks/_streams/{stream}"
readFilter = { tenant = "@user.tenant" }
"#;

const STREAMS: &str = r#"{"streams": [{
    "uri": "byRoom", "snapshot": {}, "fullDocument": "whenAvailable", "fullDocumentBeforeChange": "whenAvailable",
    "stages": [{"$match": {"fullDocument.room": {"$var": "room"}}}]
}]}"#;

/// How long a browser may take to start and to show, on a machine that is busy.
const SHOWN: Duration = Duration::from_secs(90);

/// A page with a live query; the browser ends with it.
struct Page {
    states: Lines<BufReader<ChildStdout>>,
    _input: ChildStdin,
    _node: Child,
}

impl Page {
    fn open(stream: &str, claims: &Value, avars: &Value) -> Self {
        npm::install().expect("playwright-core is installed");
        npm::build_client().expect("the client is built");
        let mut node = Command::new("node")
            .arg("tests/browser/live-query.mjs")
            .current_dir(workspace::root())
            .env("TAILRACE_CHROMIUM", chromium::find().expect("a Chromium"))
            .env("TAILRACE_STREAM", stream.replacen("http", "ws", 1))
            .env("TAILRACE_TOKEN", token::valid(claims))
            .env("TAILRACE_AVARS", avars.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node starts");
        let input = node.stdin.take().expect("a pipe");
        let states = BufReader::new(node.stdout.take().expect("a pipe")).lines();
        Self { states, _input: input, _node: node }
    }

    /// Waits until the query is live with these documents, by their `_id` and `n`, in whatever order.
    async fn shows(&mut self, expected: &[(i32, i32)]) {
        let mut last = Value::Null;
        let shown = timeout(SHOWN, async {
            while let Some(line) = self.states.next_line().await.expect("lines of text") {
                last = serde_json::from_str(&line).expect("JSON");
                if last["status"] == "live" && documents(&last) == expected {
                    return;
                }
            }
            panic!("the browser has ended; it showed {last}");
        });
        assert!(shown.await.is_ok(), "it does not come to {expected:?}, but shows {last}");
    }
}

fn documents(state: &Value) -> Vec<(i32, i32)> {
    let number = |document: &Value, name: &str| document[name].as_i64().and_then(|n| n.try_into().ok());
    let documents = state["documents"].as_array().expect("an array").iter();
    let mut shown: Vec<(i32, i32)> = documents
        .map(|document| (number(document, "_id").expect("an _id"), number(document, "n").expect("an n")))
        .collect();
    shown.sort_unstable();
    shown
}

async fn a_live_query_follows_what_comes_into_view_and_goes_out_of_it(front: Front) {
    let ruled = Ruled::start(front, "live-query", &addresses().await.mongodb, PERMISSIONS).await;
    let database = Database::new(&ruled.server, &addresses().await.mongodb).await;
    let recording = doc! { "create": "tasks", "changeStreamPreAndPostImages": { "enabled": true } };
    database.mongo.run_command(recording).await.expect("the collection");
    let declare = async |streams: &str| {
        let put = Request::new(Method::PUT, database.path("tasks")).json(streams);
        assert!(database.send(by(&json!({ "roles": ["admin"] }), put)).await.status.is_success());
    };
    declare(STREAMS).await;
    let tasks = database.mongo.collection::<Document>("tasks");
    let task = |id: i32, tenant: &str, room: &str, n: i32| doc! { "_id": id, "tenant": tenant, "room": room, "n": n };
    let tasks_of_before =
        [task(1, "a", "x", 1), task(2, "a", "y", 2), task(3, "b", "x", 3), task(4, "a", "x", 4)];
    tasks.insert_many(tasks_of_before).await.expect("the inserts");

    let stream = format!("{}{}", database.server, database.path("tasks/_streams/byRoom"));
    let claims = json!({ "roles": ["tenant"], "tenant": "a" });
    let mut page = Page::open(&stream, &claims, &json!({ "room": "x" }));
    page.shows(&[(1, 1), (4, 4)]).await;

    let set = async |id: i32, change: Document| {
        tasks.update_one(doc! { "_id": id }, doc! { "$set": change }).await.expect("the update");
    };
    set(1, doc! { "n": 10 }).await;
    page.shows(&[(1, 10), (4, 4)]).await;
    set(2, doc! { "room": "x" }).await;
    page.shows(&[(1, 10), (2, 2), (4, 4)]).await;
    set(3, doc! { "tenant": "a" }).await;
    page.shows(&[(1, 10), (2, 2), (3, 3), (4, 4)]).await;
    set(1, doc! { "room": "y", "n": 11 }).await;
    page.shows(&[(2, 2), (3, 3), (4, 4)]).await;
    tasks.replace_one(doc! { "_id": 4 }, task(4, "b", "x", 40)).await.expect("the replacement");
    page.shows(&[(2, 2), (3, 3)]).await;
    tasks.delete_one(doc! { "_id": 2 }).await.expect("the delete");
    page.shows(&[(3, 3)]).await;
    tasks.insert_many([task(5, "b", "x", 5), task(6, "a", "x", 6)]).await.expect("the inserts");
    page.shows(&[(3, 3), (6, 6)]).await;

    // No event tells of a document that goes with the definition that showed it.
    let of_room = r#"{"fullDocument.room": {"$var": "room"}"#;
    declare(&STREAMS.replace(of_room, &format!(r#"{of_room}, "fullDocument.n": {{"$gt": 3}}"#))).await;
    page.shows(&[(6, 6)]).await;
}

both_fronts!(a_live_query_follows_what_comes_into_view_and_goes_out_of_it);
