//! Two tenants in one collection and one stream: neither is ever told a byte of the other's documents.
//!
//! Whatever belongs to a tenant carries its mark: values, names of fields, and names of documents, but for documents that
//! move between the two, whose names are neutral. So a byte too much is found by looking for the other's mark in all that
//! came over the wire.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bson::{Bson, Document, doc};
use mongodb::Collection;
use parts::mongod::Mongod;
use parts::replica_set::ReplicaSet;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tailrace_tests::ruled::{Ruled, admin, by};
use tailrace_tests::soak::Scale;
use tailrace_tests::web_socket::Message;
use tailrace_tests::{Database, EventSource, Front, Request, WebSocket};

const MARKS: [&str; 2] = ["tenantmarkaa", "tenantmarkbb"];

const PERMISSIONS: &str = r#"
[[permissions]]
roles = ["tenant"]
methods = ["GET"]
path = "/{db}/items/**"
priority = 1
readFilter = { tenant = "@user.tenant" }
"#;

/// The stream itself, and one whose stages copy whatever they can get at.
const STREAMS: &str = r#"{"streams": [
    {"uri": "all", "stages": [], "fullDocumentBeforeChange": "whenAvailable", "snapshot": {}},
    {"uri": "copies", "fullDocumentBeforeChange": "whenAvailable", "snapshot": {}, "stages": [
        {"$set": {"now": "$fullDocument", "was": "$fullDocumentBeforeChange", "how": "$updateDescription", "key": "$documentKey"}},
        {"$set": {"fullDocument.v": "$fullDocument.v"}}
    ]}
]}"#;

/// The forms in which each stream is followed, as sub-protocols; the last is an event stream.
const FORMS: [&str; 4] = ["tailrace.plain", "tailrace.v1.json", "tailrace.v1.bson", "sse"];

/// One thing that a client was told: `event`, `enter`, or `leave`, of which document, and its version.
type Told = (String, String, Option<i64>);

/// What a tenant must be told, where images are recorded: each change in its order.
#[derive(Default)]
struct Expected {
    told: [Vec<Told>; 2],
    /// Every document that was the tenant's at some time.
    owned: [BTreeSet<String>; 2],
    /// The documents as they are, with their tenants and versions.
    now: BTreeMap<String, (usize, i64)>,
}

impl Expected {
    fn becomes(&mut self, id: &str, tenant: Option<usize>, v: i64) {
        let before = self.now.get(id).map(|(tenant, _)| *tenant);
        for side in 0..2 {
            let kind = match (before == Some(side), tenant == Some(side)) {
                (true, true) => "event",
                (false, true) if before.is_none() => "event",
                (false, true) => "enter",
                (true, false) => "leave",
                (false, false) => continue,
            };
            let version = (kind != "leave").then_some(v);
            self.told[side].push((kind.to_owned(), id.to_owned(), version));
        }
        match tenant {
            Some(tenant) => {
                self.owned[tenant].insert(id.to_owned());
                self.now.insert(id.to_owned(), (tenant, v));
            }
            None => drop(self.now.remove(id)),
        }
    }
}

fn content(tenant: usize, v: i64) -> Document {
    let mark = MARKS[tenant];
    let inner = doc! { format!("inner_{mark}"): [mark, v] };
    doc! { "tenant": mark, "v": v, "text": format!("{mark} {v}"), format!("field_{mark}"): inner, "list": [mark, mark] }
}

/// Writes at random, as fast as it should, and returns what came of it.
async fn write(items: Collection<Document>, writes: i64, pause: Duration, seed: u64) -> Expected {
    let mut random = StdRng::seed_from_u64(seed);
    let mut expected = Expected::default();
    let started = Instant::now();
    for v in 1..=writes {
        let id = match random.random_range(0..4) {
            0 => format!("{}-{}", MARKS[0], random.random_range(0..20)),
            1 => format!("{}-{}", MARKS[1], random.random_range(0..20)),
            _ => format!("moving-{}", random.random_range(0..30)),
        };
        let fixed = MARKS.iter().position(|mark| id.starts_with(mark));
        let key = doc! { "_id": &id };
        let other = |tenant: usize| fixed.unwrap_or(1 - tenant);
        let Some(&(tenant, _)) = expected.now.get(&id) else {
            let tenant = fixed.unwrap_or_else(|| random.random_range(0..2));
            let mut document = key;
            document.extend(content(tenant, v));
            items.insert_one(document).await.expect("insert");
            expected.becomes(&id, Some(tenant), v);
            continue;
        };
        let mark = MARKS[tenant];
        let moved = other(tenant);
        let becomes = match random.random_range(0..8) {
            0 => {
                items.delete_one(key).await.expect("delete");
                None
            }
            1 => {
                items.replace_one(key, content(tenant, v)).await.expect("replace");
                Some(tenant)
            }
            2 => {
                items.replace_one(key, content(moved, v)).await.expect("replace");
                Some(moved)
            }
            3 => {
                let unset = if moved == tenant {
                    doc! { "nothing": "" }
                } else {
                    doc! { format!("field_{mark}"): "" }
                };
                let update = doc! { "$set": content(moved, v), "$unset": unset };
                items.update_one(key, update).await.expect("update");
                Some(moved)
            }
            4 => {
                let set = content(moved, v);
                let mut stages = vec![doc! { "$set": { "v": v } }];
                if moved != tenant {
                    stages = vec![doc! { "$unset": format!("field_{mark}") }, doc! { "$set": set }];
                }
                items.update_one(key, stages).await.expect("update");
                Some(moved)
            }
            5 => {
                let path = format!("field_{mark}.inner_{mark}.0");
                let update = doc! { "$set": { path: format!("{mark} {v}"), "v": v } };
                items.update_one(key, update).await.expect("update");
                Some(tenant)
            }
            6 => {
                let update =
                    doc! { "$set": { "v": v }, "$push": { "list": { "$each": [mark], "$slice": -3 } } };
                items.update_one(key, update).await.expect("update");
                Some(tenant)
            }
            _ => {
                items
                    .update_one(key, doc! { "$set": { "v": v }, "$unset": { "text": "" } })
                    .await
                    .expect("update");
                Some(tenant)
            }
        };
        expected.becomes(&id, becomes, v);
        let due = started + pause * u32::try_from(v).expect("few writes");
        tokio::time::sleep_until(due.into()).await;
    }
    for (tenant, mark) in MARKS.iter().enumerate() {
        let id = format!("{mark}-last");
        let mut document = doc! { "_id": &id };
        document.extend(content(tenant, writes + 1));
        items.insert_one(document).await.expect("insert");
        expected.becomes(&id, Some(tenant), writes + 1);
    }
    println!(
        "{writes} writes, {:.0}/s",
        f64::from(u32::try_from(writes).expect("few")) / started.elapsed().as_secs_f64()
    );
    expected
}

enum Wire {
    Socket(Box<WebSocket>),
    Source(Box<EventSource>),
}

/// A client of one tenant, and all that it was told.
struct Client {
    tenant: usize,
    form: &'static str,
    wire: Wire,
    told: Vec<Told>,
    bytes: usize,
}

impl Client {
    async fn open(database: &Database, tenant: usize, form: &'static str, inner: &str) -> Self {
        let claims = json!({ "roles": ["tenant"], "tenant": MARKS[tenant] });
        let request = by(&claims, Request::get(database.path(inner)));
        let refused = "the stream opens";
        let wire = if form == "sse" {
            Wire::Source(Box::new(EventSource::open(&database.server, request).await.expect(refused)))
        } else {
            let request = request.header("sec-websocket-protocol", form);
            Wire::Socket(Box::new(WebSocket::open(&database.server, request).await.expect(refused)))
        };
        Self { tenant, form, wire, told: Vec::new(), bytes: 0 }
    }

    /// What the bytes say that came over the wire; and not one of them may be the other tenant's.
    async fn message(&mut self) -> Option<Value> {
        let (raw, message) = match &mut self.wire {
            Wire::Source(source) => {
                let block = source.block().await.expect("the connection holds").expect("the stream goes on");
                let message = block.data.is_some().then(|| {
                    let kind = block.event.clone().unwrap_or_default();
                    json!({ "type": kind, "position": block.id, "event": block.json(), "documentKey": block.json()["documentKey"], "document": block.json() })
                });
                (format!("{block:?}").into_bytes(), message)
            }
            Wire::Socket(socket) => match socket.message().await.expect("the connection holds") {
                Message::Text(text) => {
                    let message: Value = serde_json::from_str(&text).expect("JSON");
                    let message = if self.form == "tailrace.plain" {
                        json!({ "type": "event", "event": message })
                    } else {
                        message
                    };
                    (text.as_bytes().to_vec(), Some(message))
                }
                Message::Binary(bytes) => {
                    let message = Document::from_reader(&bytes[..]).expect("BSON");
                    (bytes.to_vec(), Some(Bson::Document(message).into_relaxed_extjson()))
                }
                Message::Ping(_) | Message::Pong(_) => return None,
                other => panic!("unexpected: {other:?}"),
            },
        };
        self.bytes += raw.len();
        self.holds_nothing_of_the_other(&raw);
        if let Some(position) = message.as_ref().and_then(|message| message["position"].as_str()) {
            self.holds_nothing_of_the_other(&URL_SAFE_NO_PAD.decode(position).expect("base64"));
        }
        message
    }

    fn holds_nothing_of_the_other(&self, bytes: &[u8]) {
        let other = MARKS[1 - self.tenant].as_bytes();
        assert!(
            !bytes.windows(other.len()).any(|window| window == other),
            "{} is told of {}: {}",
            MARKS[self.tenant],
            MARKS[1 - self.tenant],
            String::from_utf8_lossy(bytes)
        );
    }

    /// Reads until the last document of its tenant.
    async fn follow(mut self) -> Self {
        let last = format!("{}-last", MARKS[self.tenant]);
        loop {
            let Some(message) = self.message().await else { continue };
            let kind = message["type"].as_str().unwrap_or_default();
            let (id, document) = match kind {
                "leave" => (&message["documentKey"]["_id"], &Value::Null),
                "event" | "enter" | "change" => {
                    (&message["event"]["documentKey"]["_id"], &message["event"]["fullDocument"])
                }
                "ready" | "snapshot" | "snapshotEnd" | "keepalive" => continue,
                _ => panic!("out of place: {message}"),
            };
            let id = id.as_str().expect("an id").to_owned();
            let done = id == last;
            // A form without a word for leaving tells of a delete as MongoDB does.
            let kind = match (kind, document) {
                ("event" | "change", Value::Null) if message["event"]["operationType"] == "delete" => "leave",
                ("change", _) => "event",
                (kind, _) => kind,
            };
            self.told.push((kind.to_owned(), id, document["v"].as_i64()));
            if done {
                return self;
            }
        }
    }
}

/// Runs it all on a MongoDB of its own.
async fn two_tenants(images: bool) {
    let whole = Scale::given() == Scale::Whole;
    let (count, pause) =
        if whole { (18_000, Duration::from_micros(3_333)) } else { (600, Duration::from_millis(2)) };
    let mongodb = ReplicaSet::start(&Mongod::find().expect("a mongod"), 1).await.expect("a replica set");
    let ruled = Ruled::start(Front::Native, "tenants", &mongodb.uri(), PERMISSIONS).await;
    let database = Database::new(&ruled.server, &mongodb.uri()).await;
    if images {
        let recording = doc! { "create": "items", "changeStreamPreAndPostImages": { "enabled": true } };
        database.mongo.run_command(recording).await.expect("the collection");
    }
    let declare = Request::new(http::Method::PUT, database.path("items")).json(STREAMS);
    assert!(database.send(by(&admin(), declare)).await.status.is_success());

    let mut clients = Vec::new();
    for tenant in 0..2 {
        for form in FORMS {
            for stream in ["all", "copies"] {
                let inner = format!("items/_streams/{stream}");
                clients.push(tokio::spawn(Client::open(&database, tenant, form, &inner).await.follow()));
            }
        }
    }
    let seed = rand::random();
    println!("seed {seed}, images {images}");
    let items = database.mongo.collection::<Document>("items");
    let writer = tokio::spawn(write(items, count, pause, seed));
    // Who comes late gets a snapshot, and what follows.
    let mut late = Vec::new();
    for round in 0..4 {
        tokio::time::sleep(pause * u32::try_from(count / 6).expect("few writes")).await;
        let (tenant, stream) = (round % 2, if round < 2 { "all" } else { "copies" });
        let inner = format!("items/_streams/{stream}?snapshot=true");
        late.push(tokio::spawn(Client::open(&database, tenant, "tailrace.v1.json", &inner).await.follow()));
    }
    let expected = writer.await.expect("the writer");
    for client in late {
        client.await.expect("a late client");
    }
    let mut leaves = 0;
    for (index, client) in clients.into_iter().enumerate() {
        let client = client.await.expect("a client");
        let Client { tenant, form, told, .. } = &client;
        let stream = if index % 2 == 0 { "all" } else { "copies" };
        let who = format!("{} {form} {stream}", MARKS[*tenant]);
        for (_, id, _) in told {
            assert!(expected.owned[*tenant].contains(id), "{who}: {id} never was its own");
        }
        leaves += told.iter().filter(|(kind, ..)| kind == "leave").count();
        if images && stream == "all" {
            let all = &expected.told[*tenant];
            match *form {
                "tailrace.v1.json" | "tailrace.v1.bson" => assert_eq!(told, all, "{who}"),
                // These have no word for an enter; and plain has none for what only moves away.
                _ => {
                    let documents = |told: &[Told]| -> Vec<(String, Option<i64>)> {
                        told.iter()
                            .filter(|(kind, ..)| kind != "leave")
                            .map(|(_, id, v)| (id.clone(), *v))
                            .collect()
                    };
                    assert_eq!(documents(told), documents(all), "{who}");
                }
            }
            if *form == "sse" {
                let leaves = |told: &[Told]| told.iter().filter(|(kind, ..)| kind == "leave").count();
                assert_eq!(leaves(told), leaves(all), "{who}");
            }
        }
        // The last that it was told of what is its own is how that is.
        let mut last = BTreeMap::new();
        for (_, id, v) in told {
            last.insert(id, *v);
        }
        for (id, (owner, v)) in &expected.now {
            if owner == tenant {
                assert_eq!(last.get(id), Some(&Some(*v)), "{who}: {id}");
            }
        }
        println!("{who}: {} messages, {} bytes", told.len(), client.bytes);
    }
    assert_eq!(leaves > 0, images, "a leave is told exactly where images are recorded");
}

/// As `cargo xtask soak` runs it: 60 s at 300 writes/s.
#[tokio::test]
async fn with_images_each_tenant_is_told_of_all_that_is_its_own_and_of_every_leave() {
    two_tenants(true).await;
}

/// As `cargo xtask soak` runs it: 60 s at 300 writes/s.
#[tokio::test]
async fn without_images_each_tenant_is_told_the_last_state_of_all_that_is_its_own() {
    two_tenants(false).await;
}
