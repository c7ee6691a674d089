//! One cursor of MongoDB's for all who follow a stream, whatever their variables: each gets its own events, each once, in order.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tailrace_tests::{Database, Front, Request, WebSocket, both_fronts, rules, soon, token, until};

const MINE: &str = r#"{"streams": [
    {"uri": "mine", "stages": [
        {"$match": {"operationType": "insert"}},
        {"$match": {"fullDocument.name": {"$var": "n"}, "fullDocument.price": {"$gte": {"$var": ["least", 0]}}}}
    ]},
    {"uri": "own", "stages": [
        {"$match": {"fullDocument.name": {"$var": "n"}}},
        {"$set": {"fullDocument.name": "hidden"}}
    ]},
    {"uri": "all", "stages": []}
]}"#;

async fn declared(front: Front) -> Database {
    let database = front.database().await;
    database.put("log", MINE).await;
    database
}

/// A cursor between two of its commands may be missing for a moment from what MongoDB tells.
async fn has_cursors(database: &Database, count: usize) {
    until("as many cursors as there should be", async || database.cursors("log").await == count).await;
}

fn mine(avars: &Value) -> String {
    let avars = avars.to_string().replace('"', "%22");
    format!("log/_streams/mine?avars={avars}")
}

async fn a_hundred_bindings_share_one_cursor_and_each_gets_its_own_events_in_order(front: Front) {
    const BINDINGS: usize = 100;
    let database = declared(front).await;
    let names: Vec<String> = (0..BINDINGS).map(|number| format!("user-{number}")).collect();
    let sockets = names.iter().map(|name| {
        let address = mine(&json!({ "n": name }));
        let database = &database;
        async move { database.connect(&address).await }
    });
    let sockets = join_all(sockets).await;
    has_cursors(&database, 1).await;
    let log = database.mongo.collection::<bson::Document>("log");
    let mut written = Vec::new();
    for round in 0..5 {
        for name in &names {
            written.push(bson::doc! { "name": name, "round": round, "price": 1 });
        }
        written.push(bson::doc! { "name": "nobody", "round": round, "price": 1 });
    }
    log.insert_many(written).await.expect("MongoDB takes them");
    join_all(names.iter().zip(sockets).map(|(name, mut socket)| async move {
        for round in 0..5 {
            let event = socket.event().await;
            let found = &event["fullDocument"];
            assert_eq!((&found["name"], &found["round"]), (&json!(name), &json!(round)));
        }
    }))
    .await;
}

async fn values_are_compared_as_mongodb_does_and_ranges_too(front: Front) {
    let database = declared(front).await;
    let mut cheap = database.connect(&mine(&json!({ "n": 7 }))).await;
    let mut dear = database.connect(&mine(&json!({ "n": 7, "least": 10 }))).await;
    let mut text = database.connect(&mine(&json!({ "n": "7" }))).await;
    has_cursors(&database, 1).await;
    for document in [
        r#"{"name": 7.0, "price": 5, "k": 1}"#,
        r#"{"name": [1, 7], "price": 10, "k": 2}"#,
        r#"{"name": "7", "price": 1, "k": 3}"#,
        r#"{"name": 7, "price": "20", "k": 4}"#,
        r#"{"name": 7, "price": 20, "k": 5}"#,
    ] {
        database.post("log", document).await;
    }
    for k in [1, 2, 5] {
        assert_eq!(cheap.event().await["fullDocument"]["k"], k);
    }
    for k in [2, 5] {
        assert_eq!(dear.event().await["fullDocument"]["k"], k);
    }
    assert_eq!(text.event().await["fullDocument"]["k"], 3);
}

async fn who_comes_back_gets_its_own_of_what_it_missed(front: Front) {
    let database = declared(front).await;
    let v1 = async |name: &str, after: Option<&str>| {
        let after = after.map(|position| format!("&resumeAfter={position}")).unwrap_or_default();
        let address = format!("{}{after}", mine(&json!({ "n": name })));
        let request =
            Request::get(database.path(&address)).header("sec-websocket-protocol", "tailrace.v1.json");
        let mut socket = WebSocket::open(&database.server, request).await.expect("it opens");
        let ready: Value = serde_json::from_str(&socket.text().await).expect("JSON");
        assert_eq!(ready["type"], "ready");
        (socket, ready["position"].as_str().expect("a position").to_owned())
    };
    let next = async |socket: &mut WebSocket| -> Value {
        loop {
            let message: Value = serde_json::from_str(&socket.text().await).expect("JSON");
            if message["type"] == "event" {
                return message["event"]["fullDocument"]["k"].clone();
            }
        }
    };
    let (_keeps, _) = v1("carol", None).await;
    let (ada, start) = v1("ada", None).await;
    drop(ada);
    for (k, name) in ["ada", "bob", "ada", "carol", "bob", "ada"].into_iter().enumerate() {
        database.post("log", &json!({ "name": name, "price": 1, "k": k }).to_string()).await;
    }
    // One position serves any values: a position is of the stream.
    for (name, missed) in [("ada", vec![0, 2, 5]), ("bob", vec![1, 4])] {
        let (mut socket, _) = v1(name, Some(&start)).await;
        for k in missed {
            assert_eq!(next(&mut socket).await, k, "{name}");
        }
        database.post("log", &json!({ "name": name, "price": 1, "k": 99 }).to_string()).await;
        assert_eq!(next(&mut socket).await, 99, "{name}");
    }
}

async fn what_cannot_be_shared_has_a_cursor_for_each_value(front: Front) {
    let database = declared(front).await;
    let own = async |name: &str| {
        database.connect(&format!("log/_streams/own?avars={{%22n%22:%22{name}%22}}")).await
    };
    let (mut ada, mut bob) = (own("ada").await, own("bob").await);
    has_cursors(&database, 2).await;
    database.post("log", r#"{"name": "ada", "k": 1}"#).await;
    database.post("log", r#"{"name": "bob", "k": 2}"#).await;
    for (socket, k) in [(&mut ada, 1), (&mut bob, 2)] {
        let event = socket.event().await;
        assert_eq!(
            (&event["fullDocument"]["k"], &event["fullDocument"]["name"]),
            (&json!(k), &json!("hidden"))
        );
    }
}

async fn permissions_that_show_each_its_own_share_a_cursor_too(front: Front) {
    let database = declared(front).await;
    let server = front.ruled().await;
    let rule = json!({
        "_id": "tenants", "roles": ["tenant"], "methods": ["GET"],
        "path": format!("/{}/log/_streams/all", database.name), "readFilter": { "tenant": "@user.tenant" },
    });
    rules::add(&database, server, &[rule]).await;
    let follow = async |tenant: &str| {
        let claims = json!({ "roles": ["tenant"], "tenant": tenant });
        let request = Request::get(database.path("log/_streams/all")).bearer(&token::valid(&claims));
        WebSocket::open(server, request).await.unwrap_or_else(|refused| panic!("{}", refused.text()))
    };
    let (mut a, mut b) = (follow("a").await, follow("b").await);
    has_cursors(&database, 1).await;
    let log = database.mongo.collection::<bson::Document>("log");
    for (tenant, k) in [("a", 1), ("b", 2), ("a", 3), ("b", 4)] {
        log.insert_one(bson::doc! { "tenant": tenant, "k": k }).await.expect("MongoDB takes it");
    }
    for (socket, tenant, numbers) in [(&mut a, "a", [1, 3]), (&mut b, "b", [2, 4])] {
        for k in numbers {
            let event = soon("an event", socket.event()).await;
            assert_eq!(event["fullDocument"]["tenant"], tenant);
            assert_eq!(event["fullDocument"]["k"], k);
        }
    }
}

both_fronts!(
    a_hundred_bindings_share_one_cursor_and_each_gets_its_own_events_in_order,
    values_are_compared_as_mongodb_does_and_ranges_too,
    who_comes_back_gets_its_own_of_what_it_missed,
    what_cannot_be_shared_has_a_cursor_for_each_value,
    permissions_that_show_each_its_own_share_a_cursor_too,
);
