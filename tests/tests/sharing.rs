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
    {"uri": "twice", "stages": [{"$set": {"again": "$fullDocument.body"}}]},
    {"uri": "mine-twice", "stages": [
        {"$match": {"fullDocument.tenant": {"$var": "n"}}}, {"$set": {"again": "$fullDocument.body"}}
    ]},
    {"uri": "bare", "stages": [
        {"$match": {"fullDocument.name": {"$var": "n"}}},
        {"$project": {"fullDocument.k": 1, "fullDocument.list.shown": 1, "operationType": 1}}
    ]},
    {"uri": "off", "fullDocument": "off", "stages": [
        {"$match": {"documentKey._id": {"$gte": {"$var": ["least", 0]}}}}
    ]},
    {"uri": "off-new", "fullDocument": "off", "stages": [
        {"$match": {"operationType": "insert", "fullDocument.k": {"$gte": {"$var": ["least", 0]}}}}
    ]},
    {"uri": "required", "fullDocument": "required", "stages": []},
    {"uri": "all", "stages": []},
    {"uri": "in-room", "fullDocumentBeforeChange": "whenAvailable", "stages": [
        {"$match": {"fullDocument.room": {"$var": "n"}}}
    ]},
    {"uri": "before", "fullDocumentBeforeChange": "whenAvailable", "stages": []}
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

/// A text that stands in no event, in whatever form, where this is hidden.
const HIDDEN: &str = "nobody's business";

fn with_something_hidden(name: &str, k: i32) -> bson::Document {
    let list = bson::bson!([{ "shown": k, "secret": HIDDEN }, { "secret": HIDDEN }, 5]);
    bson::doc! { "name": name, "k": k, "secret": HIDDEN, "list": list }
}

/// What is told of that.
fn shown(k: i32) -> Value {
    json!({ "k": k, "list": [{ "shown": k }, {}] })
}

async fn bindings_share_a_cursor_though_their_stream_hides_what_they_match_on(front: Front) {
    let database = declared(front).await;
    let address = |name: &str, more: &str| format!("log/_streams/bare?avars={{%22n%22:%22{name}%22}}{more}");
    let open = async |name: &str, form: &str, more: &str| {
        let request =
            Request::get(database.path(&address(name, more))).header("sec-websocket-protocol", form);
        WebSocket::open(&database.server, request)
            .await
            .unwrap_or_else(|refused| panic!("{}", refused.text()))
    };
    let mut typed = open("ada", "tailrace.v1.json", "").await;
    let ready: Value = serde_json::from_str(&typed.text().await).expect("JSON");
    let start = ready["position"].as_str().expect("a position").to_owned();
    let mut bob = open("bob", "tailrace.plain", "").await;
    let mut binary = open("ada", "tailrace.v1.bson", "").await;
    let mut source = database.event_source(&address("ada", "")).await;
    has_cursors(&database, 1).await;
    let log = database.mongo.collection::<bson::Document>("log");
    for (name, k) in [("ada", 1), ("bob", 2), ("carol", 3), ("ada", 4)] {
        log.insert_one(with_something_hidden(name, k)).await.expect("MongoDB takes it");
    }
    let event = bob.event().await;
    assert_eq!((&event["fullDocument"], &event["operationType"]), (&shown(2), &json!("insert")));
    assert_eq!(event["documentKey"], Value::Null, "what is not named is not told");
    let after = format!("&resumeAfter={start}");
    let mut back = open("ada", "tailrace.v1.json", &after).await;
    for k in [1, 4] {
        for socket in [&mut typed, &mut back] {
            let message = loop {
                let message: Value = serde_json::from_str(&socket.text().await).expect("JSON");
                if message["type"] == "event" {
                    break message;
                }
            };
            assert_eq!(message["event"]["fullDocument"], shown(k));
        }
        assert_eq!(source.event().await.json()["fullDocument"], shown(k));
        let message = loop {
            let bytes = soon("a message", binary.message()).await.expect("a message").into_data();
            let message = bson::Document::from_reader(&bytes[..]).expect("BSON");
            if message.get_str("type").is_ok_and(|kind| kind == "event") {
                break message;
            }
        };
        let document = message.get_document("event").and_then(|event| event.get_document("fullDocument"));
        let list = bson::bson!([{ "shown": k }, {}]);
        assert_eq!(document.expect("a document"), &bson::doc! { "k": k, "list": list });
        assert!(!message.to_string().contains(HIDDEN));
    }
}

async fn permissions_share_a_cursor_though_they_hide_what_they_ask_for(front: Front) {
    let database = declared(front).await;
    let hides = json!({ "tenant": 0, "secret": 0, "list.secret": 0 });
    let follow = tenants_with(&database, front, hides).await;
    let stream = "mine?avars={%22n%22:%22ada%22}";
    let follow = async |tenant| follow(tenant, "tailrace.plain", stream).await;
    let (mut a, mut b) = (follow("a").await, follow("b").await);
    has_cursors(&database, 1).await;
    let log = database.mongo.collection::<bson::Document>("log");
    for (tenant, k) in [("a", 1), ("b", 2), ("c", 3), ("a", 4), ("b", 5)] {
        let mut document = with_something_hidden("ada", k);
        document.extend(bson::doc! { "tenant": tenant, "price": 1 });
        log.insert_one(document).await.expect("MongoDB takes it");
    }
    for (socket, numbers) in [(&mut a, [1, 4]), (&mut b, [2, 5])] {
        for k in numbers {
            let mut document = soon("an event", socket.event()).await["fullDocument"].take();
            assert!(document["_id"].take().is_object());
            let list = json!([{ "shown": k }, {}, 5]);
            assert_eq!(document, json!({ "_id": null, "name": "ada", "k": k, "price": 1, "list": list }));
        }
    }
}

/// The next event in plain form, or out of a message in v1, which may come behind notices.
async fn next_event(socket: &mut WebSocket) -> Value {
    loop {
        let mut message: Value = serde_json::from_str(&soon("a message", socket.text()).await).expect("JSON");
        match message["type"].as_str() {
            None => return message,
            Some("event") => return message["event"].take(),
            Some("ready" | "keepalive") => {}
            Some(kind) => panic!("{kind} instead of an event"),
        }
    }
}

/// Of each tenant two documents are inserted, one of them is updated, the other replaced and deleted; a third is given away.
async fn tenants_share_a_cursor_that_shows_no_documents_of_updates(front: Front) {
    let database = declared(front).await;
    let follow = tenants_with(&database, front, json!({ "secret": 0 })).await;
    let names: Vec<String> = (0..10).map(|tenant| format!("tenant-{tenant}")).collect();
    let form = |tenant: usize| ["tailrace.plain", "tailrace.v1.json"][tenant % 2];
    let mut changed = Vec::new();
    for (tenant, name) in names.iter().enumerate() {
        let stream = format!("off?avars={{%22least%22:{}}}", -i32::from(tenant > 5));
        changed.push(follow(name, form(tenant), &stream).await);
    }
    has_cursors(&database, 1).await;
    let mut new = Vec::new();
    for (tenant, name) in names.iter().enumerate() {
        let stream = format!("off-new?avars={{%22least%22:{}}}", i32::from(tenant > 5));
        new.push(follow(name, form(tenant), &stream).await);
    }
    has_cursors(&database, 2).await;

    let log = database.mongo.collection::<bson::Document>("log");
    let document = |tenant: &str, id: i64, k: i32| {
        bson::doc! { "_id": id, "tenant": tenant, "k": k, "secret": HIDDEN }
    };
    for (name, id) in names.iter().zip((0_i64..).step_by(10)) {
        for k in [0, 1] {
            log.insert_one(document(name, id + i64::from(k), k)).await.expect("MongoDB takes it");
        }
        let update = bson::doc! { "$set": { "x": HIDDEN } };
        log.update_one(bson::doc! { "_id": id + 1 }, update).await.expect("the update");
        log.replace_one(bson::doc! { "_id": id }, document(name, id, 2)).await.expect("the replacement");
        log.delete_one(bson::doc! { "_id": id }).await.expect("the delete");
        // Nobody is told of the update by which it goes.
        log.insert_one(document(name, id + 3, 3)).await.expect("MongoDB takes it");
        let given = bson::doc! { "$set": { "tenant": "another" } };
        log.update_one(bson::doc! { "_id": id + 3 }, given).await.expect("the update");
        log.insert_one(document(name, id + 4, 4)).await.expect("MongoDB takes it");
    }
    for (mut socket, (name, id)) in changed.into_iter().zip(names.iter().zip((0_i64..).step_by(10))) {
        for (operation, at, k) in [
            ("insert", 0, Some(0)),
            ("insert", 1, Some(1)),
            ("update", 1, None),
            ("replace", 0, Some(2)),
            ("insert", 3, Some(3)),
            ("insert", 4, Some(4)),
        ] {
            let mut event = next_event(&mut socket).await;
            assert_eq!(
                (&event["operationType"], &event["documentKey"]["_id"]),
                (&json!(operation), &json!(id + at))
            );
            let shown = k.map(|k| json!({ "_id": id + at, "tenant": name, "k": k }));
            assert_eq!(event["fullDocument"].take(), json!(shown), "{operation}");
            assert!(!event.to_string().contains(HIDDEN), "{event}");
        }
    }
    for (tenant, mut socket) in new.into_iter().enumerate() {
        for k in if tenant > 5 { vec![1, 3, 4] } else { vec![0, 1, 3, 4] } {
            let event = next_event(&mut socket).await;
            assert_eq!(
                event["fullDocument"],
                json!({ "_id": tenant * 10 + k, "tenant": names[tenant], "k": k })
            );
        }
    }
}

/// A rule that shows each tenant its own, and who opens streams under it.
async fn tenants(database: &Database, front: Front) -> impl AsyncFn(&str, &str, &str) -> WebSocket {
    tenants_with(database, front, json!({})).await
}

/// The same with a `projectResponse`.
async fn tenants_with(
    database: &Database,
    front: Front,
    projection: Value,
) -> impl AsyncFn(&str, &str, &str) -> WebSocket {
    let server = front.ruled().await;
    let rule = json!({
        "_id": "tenants", "roles": ["tenant"], "methods": ["GET"],
        "path": format!("/{}/log/_streams/*", database.name), "readFilter": { "tenant": "@user.tenant" },
        "projectResponse": projection,
    });
    rules::add(database, server, &[rule]).await;
    async move |tenant, form, stream| {
        let claims = json!({ "roles": ["tenant"], "tenant": tenant });
        let request = Request::get(database.path(&format!("log/_streams/{stream}")))
            .bearer(&token::valid(&claims))
            .header("sec-websocket-protocol", form);
        WebSocket::open(server, request).await.unwrap_or_else(|refused| panic!("{}", refused.text()))
    }
}

/// What comes next but for notices: the `k` of an event, or the code of an error.
async fn told(socket: &mut WebSocket) -> (String, i64) {
    loop {
        let message: Value = serde_json::from_str(&soon("a message", socket.text()).await).expect("JSON");
        let (kind, number) = match message["type"].as_str() {
            Some("ready" | "keepalive") => continue,
            Some("error") => ("error", &message["code"]),
            _ => ("event", &message["event"]["fullDocument"]["k"]),
        };
        return (kind.to_owned(), number.as_i64().unwrap_or_else(|| panic!("{kind} without a number")));
    }
}

/// The large event of the tenant, number 2, as this server can send it.
async fn large(database: &Database) -> (&'static str, i64) {
    let info = database.mongo.run_command(bson::doc! { "buildInfo": 1 }).await.expect("MongoDB answers");
    // BSONObjectTooLarge where it cannot split an event.
    if info.get_str("version").is_ok_and(|version| version.starts_with("6.0.5")) {
        ("error", 10334)
    } else {
        ("event", 2)
    }
}

/// The stream's stages double the document, so that the event is larger than MongoDB can send.
async fn write_one_too_large(database: &Database) {
    let log = database.mongo.collection::<bson::Document>("log");
    for (tenant, k, bytes) in [("a", 1, 10), ("a", 2, 9_500_000), ("b", 3, 10), ("a", 4, 10)] {
        let document = bson::doc! { "tenant": tenant, "k": k, "body": "x".repeat(bytes) };
        log.insert_one(document).await.expect("MongoDB takes it");
    }
}

/// The first of the two is told of its large event, and the second of its own small one alone.
async fn each_is_told_its_own(database: &Database, [a, b]: [&mut WebSocket; 2]) {
    for expected in [("event", 1), large(database).await, ("event", 4)] {
        let told = told(a).await;
        assert_eq!((told.0.as_str(), told.1), expected);
    }
    assert_eq!(told(b).await, ("event".to_owned(), 3));
}

async fn an_event_that_is_too_large_is_told_to_whom_it_concerns_and_to_nobody_else(front: Front) {
    let database = declared(front).await;
    let follow = tenants(&database, front).await;
    let typed = "tailrace.v1.json";
    let (mut a, mut b) = (follow("a", typed, "twice").await, follow("b", typed, "twice").await);
    let (mut plain_a, mut plain_b) =
        (follow("a", "tailrace.plain", "twice").await, follow("b", "tailrace.plain", "twice").await);
    has_cursors(&database, 1).await;
    let mut start: Value = serde_json::from_str(&b.text().await).expect("JSON");
    let start = start["position"].take();
    write_one_too_large(&database).await;
    each_is_told_its_own(&database, [&mut a, &mut b]).await;
    assert_eq!(plain_b.event().await["fullDocument"]["k"], 3, "it lives");
    assert_eq!(plain_a.event().await["fullDocument"]["k"], 1);
    if large(&database).await.0 == "error" {
        assert_eq!(plain_a.closed().await, (4010, "10334".to_owned()));
    }

    // Who comes back is told the same of what is past.
    let again = format!("twice?resumeAfter={}", start.as_str().expect("a position"));
    let (mut a, mut b) = (follow("a", typed, &again).await, follow("b", typed, &again).await);
    each_is_told_its_own(&database, [&mut a, &mut b]).await;
}

async fn an_event_that_is_too_large_is_told_to_those_whose_values_it_matches(front: Front) {
    let database = declared(front).await;
    let follow = async |tenant: &str| {
        let address = format!("log/_streams/mine-twice?avars={{%22n%22:%22{tenant}%22}}");
        let request =
            Request::get(database.path(&address)).header("sec-websocket-protocol", "tailrace.v1.json");
        WebSocket::open(&database.server, request)
            .await
            .unwrap_or_else(|refused| panic!("{}", refused.text()))
    };
    let (mut a, mut b) = (follow("a").await, follow("b").await);
    has_cursors(&database, 1).await;
    write_one_too_large(&database).await;
    each_is_told_its_own(&database, [&mut a, &mut b]).await;
}

async fn an_image_that_is_required_and_missing_is_told_to_whom_it_concerns_and_to_nobody_else(front: Front) {
    let database = declared(front).await;
    let follow = tenants(&database, front).await;
    let (mut a, mut b) = (
        follow("a", "tailrace.v1.json", "required").await,
        follow("b", "tailrace.v1.json", "required").await,
    );
    let log = database.mongo.collection::<bson::Document>("log");
    for (tenant, k) in [("a", 1), ("b", 2)] {
        log.insert_one(bson::doc! { "_id": k, "tenant": tenant, "k": k }).await.expect("MongoDB takes it");
    }
    log.update_one(bson::doc! { "_id": 1 }, bson::doc! { "$set": { "x": 1 } }).await.expect("the update");
    log.insert_one(bson::doc! { "tenant": "b", "k": 3 }).await.expect("MongoDB takes it");
    assert_eq!(told(&mut a).await, ("event".to_owned(), 1));
    // NoMatchingDocument
    assert_eq!(told(&mut a).await, ("error".to_owned(), 47));
    for k in [2, 3] {
        assert_eq!(told(&mut b).await, ("event".to_owned(), k));
    }
}

async fn permissions_that_show_each_its_own_share_a_cursor_too(front: Front) {
    let database = declared(front).await;
    let follow = tenants(&database, front).await;
    let follow = async |tenant| follow(tenant, "tailrace.plain", "all").await;
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

/// A collection that records images, with these documents moved from one owner to the next: who they are goes by this field.
async fn with_images(front: Front) -> Database {
    let database = front.database().await;
    let recording = bson::doc! { "create": "log", "changeStreamPreAndPostImages": { "enabled": true } };
    database.mongo.run_command(recording).await.expect("the collection");
    database.put("log", MINE).await;
    database
}

/// Documents that are written, handed on, and deleted; `owner` is the field that says whose they are.
async fn hand_on(database: &Database, owner: &str, owners: &[String]) {
    let log = database.mongo.collection::<bson::Document>("log");
    for (k, (from, to)) in (0_i32..).zip(owners.iter().zip(owners.iter().cycle().skip(1))) {
        let key = bson::doc! { "_id": k };
        let mut document = key.clone();
        document.extend(bson::doc! { owner: from, "k": k });
        log.insert_one(document).await.expect("MongoDB takes it");
        log.update_one(key.clone(), bson::doc! { "$set": { "x": 1 } }).await.expect("the update");
        log.update_one(key.clone(), bson::doc! { "$set": { owner: to } }).await.expect("it is handed on");
        log.delete_one(key).await.expect("the delete");
    }
}

/// What comes next but for notices: its type, which document it is of, and whether anything is told of what was before.
async fn told_of(socket: &mut WebSocket) -> (String, i64, bool) {
    loop {
        let message: Value = serde_json::from_str(&soon("a message", socket.text()).await).expect("JSON");
        let kind = message["type"].as_str().expect("a type");
        let key = if kind == "leave" { &message["documentKey"] } else { &message["event"]["documentKey"] };
        if !matches!(kind, "ready" | "keepalive") {
            let before = message["event"].get("fullDocumentBeforeChange").is_some_and(Value::is_object);
            return (kind.to_owned(), key["_id"].as_i64().expect("a number"), before);
        }
    }
}

/// What the owner of this number is told of the documents that it had at first, and those that it was handed.
fn of_owner(number: i64, owners: i64) -> Vec<(String, i64, bool)> {
    let told = |kind: &str, k, before| (kind.to_owned(), k, before);
    let first = vec![told("event", number, false), told("event", number, true), told("leave", number, false)];
    let before = (number + owners - 1) % owners;
    let handed = vec![told("enter", before, false), told("leave", before, false)];
    // Documents are handed on one after the other.
    if number < before { [first, handed].concat() } else { [handed, first].concat() }
}

const OWNERS: usize = 20;

/// Each is told of all that is its own, by one cursor, and so is who comes back.
async fn each_owner_is_told_of_its_own(
    database: &Database,
    owner: &str,
    deletes: bool,
    follow: impl AsyncFn(&str, &str, &str) -> WebSocket,
) {
    let owners: Vec<String> = (0..OWNERS).map(|number| format!("owner-{number}")).collect();
    let (mut typed, mut plain) = (Vec::new(), Vec::new());
    for name in &owners {
        typed.push(follow(name, "tailrace.v1.json", "").await);
        plain.push(follow(name, "tailrace.plain", "").await);
    }
    has_cursors(database, 1).await;
    let ready: Value = serde_json::from_str(&typed[0].text().await).expect("JSON");
    let start = ready["position"].as_str().expect("a position");
    hand_on(database, owner, &owners).await;
    let count = i64::try_from(OWNERS).expect("few");
    for (number, (typed, plain)) in (0..).zip(typed.iter_mut().zip(&mut plain)) {
        for expected in of_owner(number, count) {
            assert_eq!(told_of(typed).await, expected, "owner {number}");
        }
        // It has no word for what only moves away. A delete is told where no stage asks for a field of the document.
        for (kind, k, _) in of_owner(number, count) {
            let is_deleted = kind == "leave" && k != number;
            if kind != "leave" || is_deleted && deletes {
                let event = soon("an event", plain.event()).await;
                assert_eq!(event["documentKey"]["_id"], k, "owner {number}");
                assert_eq!(event["operationType"] == "delete", is_deleted, "owner {number}");
            }
        }
    }
    for number in [0, 7] {
        let name = &owners[usize::try_from(number).expect("small")];
        let mut again = follow(name, "tailrace.v1.json", start).await;
        for expected in of_owner(number, count) {
            assert_eq!(told_of(&mut again).await, expected, "owner {number}, who comes back");
        }
    }
    has_cursors(database, 1).await;
}

fn behind(start: &str) -> String {
    if start.is_empty() { String::new() } else { format!("resumeAfter={start}") }
}

async fn bindings_share_a_cursor_though_it_brings_images_that_are_judged_for_each(front: Front) {
    let database = with_images(front).await;
    let follow = async |name: &str, form: &str, start: &str| {
        let address = format!("log/_streams/in-room?avars={{%22n%22:%22{name}%22}}&{}", behind(start));
        let request = Request::get(database.path(&address)).header("sec-websocket-protocol", form);
        WebSocket::open(&database.server, request)
            .await
            .unwrap_or_else(|refused| panic!("{}", refused.text()))
    };
    each_owner_is_told_of_its_own(&database, "room", false, follow).await;
}

async fn permissions_share_a_cursor_though_it_brings_images_that_are_judged_for_each(front: Front) {
    let database = with_images(front).await;
    let tenants = tenants(&database, front).await;
    let follow = async |name: &str, form: &str, start: &str| {
        tenants(name, form, &format!("before?{}", behind(start))).await
    };
    each_owner_is_told_of_its_own(&database, "tenant", true, follow).await;
}

both_fronts!(
    bindings_share_a_cursor_though_it_brings_images_that_are_judged_for_each,
    permissions_share_a_cursor_though_it_brings_images_that_are_judged_for_each,
    a_hundred_bindings_share_one_cursor_and_each_gets_its_own_events_in_order,
    values_are_compared_as_mongodb_does_and_ranges_too,
    who_comes_back_gets_its_own_of_what_it_missed,
    what_cannot_be_shared_has_a_cursor_for_each_value,
    permissions_that_show_each_its_own_share_a_cursor_too,
    bindings_share_a_cursor_though_their_stream_hides_what_they_match_on,
    permissions_share_a_cursor_though_they_hide_what_they_ask_for,
    tenants_share_a_cursor_that_shows_no_documents_of_updates,
    an_event_that_is_too_large_is_told_to_whom_it_concerns_and_to_nobody_else,
    an_event_that_is_too_large_is_told_to_those_whose_values_it_matches,
    an_image_that_is_required_and_missing_is_told_to_whom_it_concerns_and_to_nobody_else,
);
