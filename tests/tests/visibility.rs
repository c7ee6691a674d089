//! `readFilter`, `writeFilter`, `projectResponse`, and `mergeRequest` of a permission: what they hide is in no answer, no
//! event, and no snapshot, and nobody finds it out by asking.

use bson::{Bson, Document, RawDocumentBuf, doc};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tailrace_tests::front::addresses;
use tailrace_tests::ruled::{Ruled, admin, by};
use tailrace_tests::web_socket::Message;
use tailrace_tests::{Database, EventSource, Front, Request, Response, WebSocket, both_fronts, database};
use tokio::sync::OnceCell;

const PERMISSIONS: &str = r#"
[[permissions]]
roles = ["reader"]
methods = ["*"]
path = "/{db}/people/**"
projectResponse = { salary = 0, "address.street" = 0 }

[[permissions]]
roles = ["visitor"]
methods = ["*"]
path = "/{db}/people/**"
projectResponse = { name = 1, "address.city" = 1 }

[[permissions]]
roles = ["tenant"]
methods = ["*"]
path = "/{db}/people/**"
readFilter = { tenant = "@user.tenant" }
writeFilter = { locked = { "$ne" = true } }
mergeRequest = { tenant = "@user.tenant", by = "@user.sub", at = "@now" }
"#;

/// What no frame and no answer may hold.
const SECRET: &str = "secretmark";

const STREAMS: &str = r#"{"streams": [
    {"uri": "all", "stages": [], "snapshot": {"sort": {"salary": 1}}},
    {"uri": "images", "stages": [], "fullDocument": "whenAvailable", "fullDocumentBeforeChange": "whenAvailable"},
    {"uri": "copies", "snapshot": {}, "stages": [
        {"$set": {"fullDocument.copy": "$fullDocument.salary", "how": "$updateDescription", "all": "$fullDocument"}}
    ]},
    {"uri": "asks", "snapshot": {}, "stages": [{"$match": {"$or": [
        {"fullDocument.salary": {"$exists": true}}, {"fullDocument.last": true}
    ]}}]},
    {"uri": "room", "fullDocumentBeforeChange": "whenAvailable", "stages": [{"$match": {"fullDocument.room": {"$var": "room"}}}]}
]}"#;

/// The servers with these permissions: one for all tests of a front.
async fn ruled(front: Front) -> &'static Ruled {
    static NATIVE: OnceCell<Ruled> = OnceCell::const_new();
    static EDGE: OnceCell<Ruled> = OnceCell::const_new();
    let ruled = if front == Front::Native { &NATIVE } else { &EDGE };
    ruled
        .get_or_init(async || {
            Ruled::start(front, "visibility", &addresses().await.mongodb, PERMISSIONS).await
        })
        .await
}

/// A database of the test's own with the collection `people`, and its streams.
async fn people(front: Front, images: bool) -> Database {
    let database = Database::new(&ruled(front).await.server, &addresses().await.mongodb).await;
    if images {
        let recording = doc! { "create": "people", "changeStreamPreAndPostImages": { "enabled": true } };
        database.mongo.run_command(recording).await.expect("the collection");
    }
    let declare = Request::new(Method::PUT, database.path("people")).json(STREAMS);
    assert!(database.send(by(&admin(), declare)).await.status.is_success());
    database
}

fn reader() -> Value {
    json!({ "roles": ["reader"] })
}

fn visitor() -> Value {
    json!({ "roles": ["visitor"] })
}

fn tenant(name: &str) -> Value {
    json!({ "roles": ["tenant"], "tenant": name, "sub": format!("{name}'s clerk") })
}

async fn send(database: &Database, claims: &Value, method: Method, inner: &str, body: &str) -> Response {
    let request = Request::new(method, database.path(inner));
    let request = if body.is_empty() { request } else { request.json(body) };
    database.send(by(claims, request)).await
}

async fn get(database: &Database, claims: &Value, inner: &str) -> Response {
    send(database, claims, Method::GET, inner, "").await
}

async fn follow(database: &Database, claims: &Value, form: &str, inner: &str) -> WebSocket {
    let request = by(claims, Request::get(database.path(inner))).header("sec-websocket-protocol", form);
    WebSocket::open(&database.server, request)
        .await
        .unwrap_or_else(|refused| panic!("{inner}: {} {}", refused.status, refused.text()))
}

/// The next message in any form, as JSON; it holds nothing secret.
async fn told(socket: &mut WebSocket) -> Value {
    loop {
        let (bytes, message) = match socket.message().await.expect("the connection holds") {
            Message::Text(text) => {
                (text.as_bytes().to_vec(), serde_json::from_str::<Value>(&text).expect("JSON"))
            }
            Message::Binary(bytes) => {
                let message = Document::from_reader(&bytes[..]).expect("BSON");
                (bytes.to_vec(), Bson::Document(message).into_relaxed_extjson())
            }
            _ => continue,
        };
        assert!(
            !bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()),
            "secret: {}",
            String::from_utf8_lossy(&bytes)
        );
        if !matches!(message["type"].as_str(), Some("ready" | "keepalive" | "snapshotEnd")) {
            return message;
        }
    }
}

fn person(id: i32) -> Document {
    doc! {
        "_id": id, "name": "ada", "salary": format!("{SECRET} {id}"),
        "address": { "street": format!("{SECRET} {id}"), "city": "paris" },
    }
}

/// Writes everything that may reveal a hidden field, then a document that shows that all of it has passed.
async fn write_secrets(database: &Database, images: bool) {
    let people = database.mongo.collection::<Document>("people");
    let update = async |update: Document| {
        people.update_one(doc! { "_id": 1 }, update).await.expect("the update");
    };
    people.insert_one(person(1)).await.expect("the insert");
    // Of hidden fields only.
    update(doc! { "$set": { "salary": format!("{SECRET} a") } }).await;
    update(doc! { "$set": { "address.street": format!("{SECRET} b") } }).await;
    update(doc! { "$set": { "salary": { SECRET: [SECRET] }, "address.street": [SECRET, SECRET] } }).await;
    update(doc! { "$set": { format!("salary.{SECRET}.0"): "x" }, "$pop": { "address.street": 1 } }).await;
    update(doc! { "$unset": { format!("salary.{SECRET}"): "" } }).await;
    let patch = format!(r#"{{"salary": "{SECRET} c"}}"#);
    let patched = send(database, &admin(), Method::PATCH, "people/1?id_type=NUMBER", &patch).await;
    assert_eq!(patched.status, StatusCode::OK);
    if images {
        let mut same = people.find_one(doc! { "_id": 1 }).await.expect("a find").expect("it is there");
        same.insert("salary", format!("{SECRET} d"));
        people.replace_one(doc! { "_id": 1 }, same).await.expect("the replace");
    }
    // Of both.
    update(doc! { "$set": { "name": "bob", "salary": format!("{SECRET} e") }, "$unset": { "address.street": "" } }).await;
    // An ancestor.
    update(doc! { "$set": { "address": { "street": SECRET, "city": "rome" }, "name": "cyd" } }).await;
    let homes = vec![doc! { "street": SECRET, "city": "oslo" }, doc! { "street": SECRET, "city": "bonn" }];
    update(doc! { "$set": { "address": homes, "name": "dan" } }).await;
    update(doc! { "$set": { "address.1.street": SECRET, "address.1.city": "bern", "name": "eve" } }).await;
    let mut last = person(9);
    last.insert("last", true);
    last.insert("name", "last");
    people.insert_one(last).await.expect("the insert");
}

async fn hidden_fields_are_in_no_event_and_an_update_of_them_alone_is_none(front: Front) {
    for images in [false, true] {
        let database = people(front, images).await;
        let mut sockets = Vec::new();
        for stream in ["all", "images", "copies"] {
            for form in ["tailrace.plain", "tailrace.v1.json", "tailrace.v1.bson"] {
                for claims in [reader(), visitor()] {
                    let inner = format!("people/_streams/{stream}");
                    sockets.push((stream, follow(&database, &claims, form, &inner).await));
                }
            }
        }
        let mut asks = follow(&database, &reader(), "tailrace.v1.json", "people/_streams/asks").await;
        let request = by(&reader(), Request::get(database.path("people/_streams/all")));
        let mut source = EventSource::open(&database.server, request).await.expect("it opens");
        write_secrets(&database, images).await;
        for (stream, socket) in &mut sockets {
            let mut names = Vec::new();
            loop {
                let message = told(socket).await;
                let event = if message.get("type").is_some() { &message["event"] } else { &message };
                let name = event["fullDocument"]["name"].as_str().unwrap_or("none").to_owned();
                if *stream == "images" && images && name == "cyd" {
                    assert_eq!(event["updateDescription"]["updatedFields"]["name"], "cyd");
                }
                let last = name == "last";
                names.push(name);
                if last {
                    break;
                }
            }
            // Without post-images the document is looked up, and may be newer than its event: then only their number is known.
            if images && *stream == "images" {
                assert_eq!(names, ["ada", "bob", "cyd", "dan", "eve", "last"]);
            } else {
                // A replacement tells of itself where no image decides.
                let told = if images && *stream == "copies" { 7 } else { 6 };
                assert_eq!(names.len(), told, "{stream}: {names:?}");
            }
        }
        // A stage cannot ask for what is hidden.
        assert_eq!(told(&mut asks).await["event"]["documentKey"]["_id"], 9);
        for index in 0..6 {
            let block = source.event().await;
            assert!(!format!("{block:?}").contains(SECRET), "{index}: {block:?}");
        }
    }
}

async fn hidden_fields_are_in_no_snapshot_and_do_not_order_it(front: Front) {
    let database = people(front, false).await;
    let people = database.mongo.collection::<Document>("people");
    people.insert_many([person(3), person(1), person(2)]).await.expect("the inserts");
    for stream in ["all", "copies"] {
        for claims in [reader(), visitor()] {
            let inner = format!("people/_streams/{stream}?snapshot=true");
            let mut socket = follow(&database, &claims, "tailrace.v1.bson", &inner).await;
            let mut ids = Vec::new();
            for _ in 0..3 {
                let message = told(&mut socket).await;
                assert_eq!(message["type"], "snapshot", "{message}");
                assert_eq!(message["document"]["name"], "ada");
                ids.push(message["document"]["_id"].as_i64().expect("an id"));
            }
            assert_eq!(ids, [3, 1, 2], "the order in which they were written");
        }
    }
    let mut last = person(9);
    last.insert("last", true);
    people.insert_one(last).await.expect("the insert");
    let mut asks =
        follow(&database, &reader(), "tailrace.v1.json", "people/_streams/asks?snapshot=true").await;
    assert_eq!(told(&mut asks).await["document"]["_id"], 9, "a stage cannot ask for what is hidden");
}

async fn hidden_fields_are_neither_read_nor_found_out_through_the_documents(front: Front) {
    let database = people(front, false).await;
    let people = database.mongo.collection::<Document>("people");
    people.insert_many([person(3), person(1), person(2)]).await.expect("the inserts");
    for claims in [reader(), visitor()] {
        let read = get(&database, &claims, "people/1?id_type=NUMBER").await;
        assert_eq!(read.status, StatusCode::OK);
        assert!(read.text().contains("paris") && !read.text().contains(SECRET), "{}", read.text());
        let ids = async |parameters: &str| {
            let listed = get(&database, &claims, &format!("people?{parameters}")).await;
            assert_eq!(listed.status, StatusCode::OK, "{parameters}: {}", listed.text());
            assert!(!listed.text().contains(SECRET), "{parameters}: {}", listed.text());
            let listed = database::json(&listed);
            let ids =
                listed.as_array().expect("a list").iter().map(|found| found["_id"].as_i64().expect("an id"));
            ids.collect::<Vec<_>>()
        };
        assert_eq!(ids("sort={_id:1}").await, [1, 2, 3]);
        assert_eq!(ids("sort={_id:1}&keys={salary:1,address:1}").await, [1, 2, 3]);
        assert_eq!(ids("sort={_id:1}&keys={x:'$salary',y:'$$ROOT',z:'$address.street'}").await, [1, 2, 3]);
        assert_eq!(ids("sort={_id:1}&keys={x:{$getField:'salary'}}").await, [1, 2, 3]);
        assert_eq!(ids("sort={salary:-1,_id:1}").await, [1, 2, 3], "the order tells nothing");
        assert_eq!(ids("sort={'address.street':-1,_id:1}").await, [1, 2, 3]);
        for filter in [
            r"{salary:{$exists:true}}",
            r"{salary:/secretmark/}",
            r"{'address.street':{$gt:''}}",
            r"{address:{$elemMatch:{street:'x'}}}",
            r"{$expr:{$gt:['$salary',null]}}",
            r"{$or:[{$expr:{$gt:['$$ROOT.address.street',null]}}]}",
            r"{$nor:[{salary:null}]}",
            r"{$jsonSchema:{required:['salary']}}",
        ] {
            let encoded = database::encoded(filter);
            assert_eq!(ids(&format!("filter={encoded}")).await, Vec::<i64>::new(), "{filter}");
        }
    }
    for patch in [
        r#"{"$rename": {"salary": "public"}}"#,
        r#"{"$rename": {"address": "public"}}"#,
        r#"{"$max": {"salary": 5}}"#,
        r#"{"$set": {"salary.x": 5}}"#,
    ] {
        let refused = send(&database, &reader(), Method::PATCH, "people/1?id_type=NUMBER", patch).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{patch}: {}", refused.text());
    }
    let patched =
        send(&database, &reader(), Method::PATCH, "people/1?id_type=NUMBER", r#"{"salary": 5, "name": "n"}"#)
            .await;
    assert_eq!(patched.status, StatusCode::OK, "a hidden field may be set");
    // MongoDB's message would show the street that is there.
    let people = database.mongo.collection::<Document>("people");
    let unique = mongodb::IndexModel::builder()
        .keys(doc! { "salary": 1 })
        .options(mongodb::options::IndexOptions::builder().unique(true).build())
        .build();
    people.create_index(unique).await.expect("the index");
    let taken = format!(r#"{{"_id": 7, "salary": "{SECRET} 2"}}"#);
    let refused = send(&database, &reader(), Method::POST, "people", &taken).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(!refused.text().contains(SECRET), "{}", refused.text());
}

async fn a_document_out_of_view_is_404_and_nobody_takes_it_over(front: Front) {
    let database = people(front, false).await;
    let people = database.mongo.collection::<Document>("people");
    let own = |id: i32| doc! { "_id": id, "tenant": "a", "v": 1 };
    let mut locked = own(3);
    locked.insert("locked", true);
    people
        .insert_many([own(1), doc! { "_id": 2, "tenant": "b", "v": SECRET }, locked])
        .await
        .expect("the inserts");
    let a = tenant("a");
    assert_eq!(get(&database, &a, "people/1?id_type=NUMBER").await.status, StatusCode::OK);
    let listed = get(&database, &a, "people?sort={_id:1}").await;
    assert_eq!(database::json(&listed).as_array().expect("a list").len(), 2);
    assert!(!listed.text().contains(SECRET));
    let by_filter = get(
        &database,
        &a,
        &format!("people?filter={}", database::encoded(r#"{"$or":[{"tenant":"b"},{"_id":2}]}"#)),
    )
    .await;
    assert_eq!(by_filter.text(), "[]");
    // It would fail on documents of others, and tell of them by that.
    let computes =
        database::encoded(r#"{"$expr":{"$eq":[{"$divide":[1,{"$cond":[{"$eq":["$v","x"]},0,1]}]},1]}}"#);
    assert_eq!(get(&database, &a, &format!("people?filter={computes}")).await.status, StatusCode::FORBIDDEN);
    for (id, name) in [(2, "another tenant's"), (4, "absent"), (3, "locked")] {
        let inner = format!("people/{id}?id_type=NUMBER");
        if id != 3 {
            assert_eq!(get(&database, &a, &inner).await.status, StatusCode::NOT_FOUND, "{name}");
        }
        for (method, body) in [(Method::PATCH, r#"{"v": 2}"#), (Method::DELETE, "")] {
            let refused = send(&database, &a, method.clone(), &inner, body).await;
            assert_eq!(refused.status, StatusCode::NOT_FOUND, "{method} {name}: {}", refused.text());
            assert!(!refused.text().contains(SECRET));
        }
    }
    for (method, inner, body) in [
        (Method::PUT, "people/2?id_type=NUMBER", r#"{"v": 2}"#),
        (Method::PUT, "people/3?id_type=NUMBER", r#"{"v": 2}"#),
        (Method::POST, "people", r#"{"_id": 2, "v": 2}"#),
        (Method::POST, "people", r#"[{"_id": 2, "v": 2}]"#),
    ] {
        let refused = send(&database, &a, method.clone(), inner, body).await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "{method} {inner}: {}", refused.text());
        assert!(!refused.text().contains(SECRET));
    }
    let kept = people.find_one(doc! { "_id": 2 }).await.expect("a find").expect("it is there");
    assert_eq!(kept, doc! { "_id": 2, "tenant": "b", "v": SECRET });

    // With the current ETag a write holds, with another one it does not.
    let written = send(&database, &a, Method::PUT, "people/1?id_type=NUMBER", r#"{"v": 3}"#).await;
    assert_eq!(written.status, StatusCode::OK);
    let etag = written.header("etag").to_owned();
    assert_eq!(get(&database, &a, "people/1?id_type=NUMBER").await.header("etag"), etag);
    for (etag, status) in [(etag.as_str(), StatusCode::OK), (etag.as_str(), StatusCode::PRECONDITION_FAILED)]
    {
        let patch = Request::new(Method::PATCH, database.path("people/1?id_type=NUMBER"))
            .json(r#"{"v": 4}"#)
            .header("if-match", etag);
        assert_eq!(database.send(by(&a, patch)).await.status, status);
    }
}

async fn what_is_written_gets_the_values_of_the_server_and_not_those_of_the_client(front: Front) {
    let database = people(front, false).await;
    let a = tenant("a");
    let forged = r#"{"_id": 1, "tenant": "b", "by": "nobody", "v": 1}"#;
    assert_eq!(send(&database, &a, Method::POST, "people", forged).await.status, StatusCode::CREATED);
    let forged = r#"[{"_id": 2, "tenant": "b"}]"#;
    assert_eq!(send(&database, &a, Method::POST, "people", forged).await.status, StatusCode::OK);
    let forged = r#"{"tenant": "b", "v": 2}"#;
    let put = send(&database, &a, Method::PUT, "people/3?id_type=NUMBER", forged).await;
    assert_eq!(put.status, StatusCode::CREATED);
    let forged =
        r#"{"v": 3, "tenant": "b", "$unset": {"by": ""}, "$rename": {"v2": "tenant"}, "$set": {"by.x": 1}}"#;
    let patch = send(&database, &a, Method::PATCH, "people/1?id_type=NUMBER", forged).await;
    assert_eq!(patch.status, StatusCode::OK, "{}", patch.text());
    for id in 1..=3 {
        let people = database.mongo.collection::<Document>("people");
        let stored = people.find_one(doc! { "_id": id }).await.expect("a find").expect("it is there");
        assert_eq!(stored.get_str("tenant").ok(), Some("a"), "{stored}");
        assert_eq!(stored.get_str("by").ok(), Some("a's clerk"), "{stored}");
        assert!(stored.get_datetime("at").is_ok());
    }
}

async fn a_document_that_comes_into_or_goes_out_of_view_is_an_enter_or_a_leave(front: Front) {
    let database = people(front, true).await;
    let inner = "people/_streams/room?avars={room:1}";
    let mut json = follow(&database, &tenant("a"), "tailrace.v1.json", inner).await;
    let mut bson = follow(&database, &tenant("a"), "tailrace.v1.bson", inner).await;
    let mut plain = follow(&database, &tenant("a"), "tailrace.plain", inner).await;
    let request = by(&tenant("a"), Request::get(database.path(inner)));
    let mut source = EventSource::open(&database.server, request).await.expect("it opens");
    // Without a filter a definition that asks for what was before has a view as well.
    let mut everything = follow(&database, &admin(), "tailrace.v1.json", inner).await;

    let people = database.mongo.collection::<Document>("people");
    let update = async |set: Document| {
        people.update_one(doc! { "_id": 1 }, doc! { "$set": set }).await.expect("the update");
    };
    people.insert_one(doc! { "_id": 1, "tenant": "b", "room": 1, "was": SECRET }).await.expect("the insert");
    people
        .update_one(doc! { "_id": 1 }, doc! { "$set": { "tenant": "a" }, "$unset": { "was": "" } })
        .await
        .expect("the update");
    update(doc! { "room": 2 }).await;
    update(doc! { "n": 1 }).await;
    update(doc! { "room": 1 }).await;
    update(doc! { "tenant": "b", "is": SECRET }).await;
    people.insert_one(doc! { "_id": 2, "tenant": "a", "room": 1 }).await.expect("the insert");
    people.delete_one(doc! { "_id": 2 }).await.expect("the delete");
    people.delete_one(doc! { "_id": 1 }).await.expect("the delete");
    people.insert_one(doc! { "_id": 3, "tenant": "a", "room": 1 }).await.expect("the insert");

    for socket in [&mut json, &mut bson] {
        for (kind, id) in
            [("enter", 1), ("leave", 1), ("enter", 1), ("leave", 1), ("event", 2), ("leave", 2), ("event", 3)]
        {
            let message = told(socket).await;
            assert_eq!(message["type"], kind, "{message}");
            assert!(message["position"].is_string());
            if kind == "leave" {
                let members: Vec<_> = message.as_object().expect("an object").keys().cloned().collect();
                assert_eq!(members, ["type", "position", "documentKey"], "it tells of nothing else");
                assert_eq!(message["documentKey"], json!({ "_id": id }));
            } else {
                assert_eq!(message["event"]["documentKey"]["_id"], id);
                assert_eq!(message["event"]["fullDocument"]["tenant"], "a");
                assert_eq!(message["event"]["updateDescription"], Value::Null);
                assert!(message["event"].get("fullDocumentBeforeChange").is_none_or(Value::is_null));
            }
        }
    }
    // The plain form has no word for an enter, nor for what only goes out of view.
    for (kind, id, how) in
        [("update", 1, false), ("update", 1, true), ("insert", 2, false), ("insert", 3, false)]
    {
        let message = told(&mut plain).await;
        assert_eq!(
            (message["operationType"].as_str(), message["documentKey"]["_id"].as_i64()),
            (Some(kind), Some(id))
        );
        assert_eq!(
            message["updateDescription"].is_object(),
            how,
            "how it came from elsewhere is not told: {message}"
        );
    }
    for (kind, id) in
        [("change", 1), ("leave", 1), ("change", 1), ("leave", 1), ("change", 2), ("leave", 2), ("change", 3)]
    {
        let block = source.event().await;
        assert_eq!(
            (block.event.as_deref(), block.json()["documentKey"]["_id"].as_i64()),
            (Some(kind), Some(id)),
            "{block:?}"
        );
        assert!(!format!("{block:?}").contains(SECRET));
    }
    for (kind, id) in [
        ("event", 1),
        ("event", 1),
        ("leave", 1),
        ("enter", 1),
        ("event", 1),
        ("event", 2),
        ("leave", 2),
        ("leave", 1),
        ("event", 3),
    ] {
        let message = everything.event().await;
        let message = if message["type"] == "ready" { everything.event().await } else { message };
        let key = if kind == "leave" { &message["documentKey"] } else { &message["event"]["documentKey"] };
        assert_eq!((message["type"].as_str(), key["_id"].as_i64()), (Some(kind), Some(id)), "{message}");
    }
}

async fn an_event_of_others_on_which_the_stages_fail_is_no_news(front: Front) {
    let database = people(front, false).await;
    let fails = r#"{"streams": [{"uri": "fails", "stages": [{"$set": {"x": {"$divide": [1, "$fullDocument.q"]}}}]}]}"#;
    let declare = Request::new(Method::PUT, database.path("people")).json(fails);
    assert!(database.send(by(&admin(), declare)).await.status.is_success());
    let mut socket = follow(&database, &tenant("a"), "tailrace.v1.json", "people/_streams/fails").await;
    let people = database.mongo.collection::<Document>("people");
    for (id, tenant, q) in [(1, "a", 1), (2, "b", 0), (3, "b", 0), (4, "a", 0), (5, "b", 0), (6, "a", 2)] {
        people.insert_one(doc! { "_id": id, "tenant": tenant, "q": q }).await.expect("the insert");
    }
    assert_eq!(told(&mut socket).await["event"]["documentKey"]["_id"], 1);
    let failed = told(&mut socket).await;
    assert_eq!(failed["type"], "error", "{failed}");
    let next = told(&mut socket).await;
    assert_eq!(next["event"]["documentKey"]["_id"], 6, "{next}");
}

/// What MongoDB makes of a projection, on any document, is what this crate makes of it.
async fn mongodb_and_the_judge_project_alike(front: Front) {
    let database = people(front, false).await;
    let documents = vec![
        person(1),
        doc! { "_id": 2, "salary": 1, "address": [{ "street": 1, "city": 2 }, 3, [{ "street": 4 }, []], {}] },
        doc! { "_id": 3, "address": { "street": { "a": 1 }, "city": { "street": 2 } }, "name": { "salary": 3 } },
        doc! { "_id": 4, "address": null, "name": [], "_etag": 7 },
        doc! { "_id": 5, "address": { "city": [[{ "x": 1 }]] }, "z": { "address": { "street": 1 } } },
    ];
    let people = database.mongo.collection::<Document>("people");
    people.insert_many(&documents).await.expect("the inserts");
    for claims in [reader(), visitor()] {
        for document in &documents {
            let id = document.get_i32("_id").expect("an id");
            let read =
                get(&database, &claims, &format!("people/{id}?id_type=NUMBER&jsonMode=canonical")).await;
            let read = database::json(&read);
            let projected: RawDocumentBuf = projection(&claims)
                .project(&RawDocumentBuf::try_from(document).expect("raw"))
                .expect("valid");
            let projected =
                Bson::Document(Document::try_from(projected).expect("valid")).into_canonical_extjson();
            assert_eq!(read, projected, "{document}");
        }
    }
}

fn projection(claims: &Value) -> shared::visibility::Projection {
    let written = if *claims == reader() {
        doc! { "salary": 0, "address.street": 0 }
    } else {
        doc! { "name": 1, "address.city": 1 }
    };
    shared::visibility::Projection::check(&written).expect("a projection")
}

both_fronts!(
    hidden_fields_are_in_no_event_and_an_update_of_them_alone_is_none,
    hidden_fields_are_in_no_snapshot_and_do_not_order_it,
    hidden_fields_are_neither_read_nor_found_out_through_the_documents,
    a_document_out_of_view_is_404_and_nobody_takes_it_over,
    what_is_written_gets_the_values_of_the_server_and_not_those_of_the_client,
    a_document_that_comes_into_or_goes_out_of_view_is_an_enter_or_a_leave,
    an_event_of_others_on_which_the_stages_fail_is_no_news,
    mongodb_and_the_judge_project_alike,
);
