//! The hash of a password leaves by no way, not even for those whom a rule lets into the collection of users.

use bson::{Document, doc};
use http::{Method, StatusCode};
use parts::deployment::guarded_backend;
use serde_json::{Value, json};
use shared::refusal::Kind;
use tailrace_tests::database::{encoded, json as body_of};
use tailrace_tests::front::addresses;
use tailrace_tests::web_socket::Message;
use tailrace_tests::{
    Database, EventSource, Front, Own, Request, Response, WebSocket, both_fronts, refusal, token,
};
use tokio::sync::OnceCell;

/// Who may do everything with users, and who is shown what nobody is.
const ROLES: [&str; 2] = ["admin", "greedy"];

const STREAMS: &str = r#"{"streams": [
    {"uri": "all", "stages": [], "snapshot": {"sort": {"password": 1}}},
    {"uri": "images", "stages": [], "fullDocument": "whenAvailable", "fullDocumentBeforeChange": "whenAvailable"},
    {"uri": "copies", "snapshot": {}, "stages": [{"$set": {"fullDocument.copy": "$fullDocument.password",
        "fullDocument.all": "$fullDocument", "how": "$updateDescription", "was": "$fullDocumentBeforeChange"}}]},
    {"uri": "asks", "snapshot": {}, "stages": [{"$match": {"$or": [
        {"fullDocument.password": {"$var": "p"}}, {"fullDocument.last": true}
    ]}}]}
]}"#;

/// A deployment whose users are in this database.
struct Deployment {
    parts: Own,
    database: String,
}

async fn deployment() -> &'static Deployment {
    static SHARED: OnceCell<Deployment> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let mongodb = &addresses().await.mongodb;
            let database = Front::Native.database().await;
            let recording = doc! { "create": "people", "changeStreamPreAndPostImages": { "enabled": true } };
            database.mongo.run_command(recording).await.expect("the collection");
            let mut streams: Document = serde_json::from_str(STREAMS).expect("JSON");
            streams.insert("_id", "_properties.people");
            database.mongo.collection("_properties").insert_one(streams).await.expect("metadata");
            let database = database.name;
            let mut options = guarded_backend("hashes", mongodb)
                .set("TAILRACE_AUTH__USERS_COLLECTION", format!("{database}.people"))
                .set("TAILRACE_LOG__LEVEL", "info,tailrace=trace");
            let path = format!("/{database}/people/**");
            let permissions = format!(
                "[[permissions]]\nroles = [\"admin\"]\nmethods = [\"*\"]\npath = \"{path}\"\n\
                 [[permissions]]\nroles = [\"greedy\"]\nmethods = [\"*\"]\npath = \"{path}\"\n\
                 projectResponse = {{ password = 1, last = 1, n = 1 }}\n"
            );
            options.config.push_str(&permissions);
            Deployment { parts: Own::start(options).await, database }
        })
        .await
}

/// The database of the users, in which there are two more now, whose names begin so; and the hash of the first one's password.
async fn people(front: Front, names: &str) -> (Database, [String; 2], String) {
    let deployment = deployment().await;
    let here = Front::Native.database().await;
    let database = Database {
        mongo: here.mongo.client().database(&deployment.database),
        name: deployment.database.clone(),
        server: deployment.parts.server(front),
    };
    let ids = ["ada", "bob"].map(|name| format!("{name}-{names}-{front:?}"));
    let hashes = ["secret", "other"].map(|password| bcrypt::hash(password, 4).expect("a hash"));
    let users = ids.iter().zip(&hashes);
    let users = users.map(|(id, hash)| doc! { "_id": id, "password": hash, "roles": ["user"] });
    let people = database.mongo.collection::<Document>("people");
    people.insert_many(users).await.expect("the inserts");
    let [hash, _] = hashes;
    (database, ids, hash)
}

fn token(role: &str) -> String {
    token::valid(&json!({ "roles": [role] }))
}

/// The answer, in which nothing of a hash may be.
async fn send(database: &Database, role: &str, request: Request) -> Response {
    let answer = database.send(request.bearer(&token(role))).await;
    holds_no_hash(answer.text().as_bytes());
    holds_no_hash(format!("{:?}", answer.headers).as_bytes());
    answer
}

fn holds_no_hash(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    assert!(!text.contains("$2b$") && !text.contains("$2y$"), "{text}");
}

async fn no_answer_about_documents_shows_a_hash_or_tells_of_one(front: Front) {
    let (database, [ada, bob], hash) = people(front, "documents").await;
    let mine = format!("{{_id:{{$in:['{ada}','{bob}']}}}}");
    for role in ROLES {
        let get = async |inner: String| {
            let answer = send(&database, role, Request::get(database.path(&inner))).await;
            assert_eq!(answer.status, StatusCode::OK, "{role} {inner}: {}", answer.text());
            answer
        };
        get(format!("people/{ada}")).await;
        for rep in ["STANDARD", "HAL", "SHAL"] {
            get(format!("people?rep={rep}")).await;
            get(format!("people/{ada}?rep={rep}")).await;
        }
        let ids = async |parameters: String| {
            let listed = body_of(&get(format!("people?{parameters}")).await);
            let listed = listed.as_array().expect("a list").clone();
            listed.iter().map(|user| user["_id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
        };
        let mine = encoded(&mine);
        for keys in ["{password:1}", "{x:'$password',y:'$$ROOT'}", "{x:{$getField:'password'}}"] {
            ids(format!("filter={mine}&keys={}", encoded(keys))).await;
        }
        // Neither the order nor what is found tells one hash from another.
        for direction in [1, -1] {
            let sort = encoded(&format!("{{password:{direction},_id:1}}"));
            assert_eq!(ids(format!("filter={mine}&sort={sort}")).await, [ada.clone(), bob.clone()], "{role}");
        }
        for filter in [
            format!("{{password:'{hash}'}}"),
            r"{password:/^\$2b/}".to_owned(),
            "{password:{$exists:true}}".to_owned(),
            "{password:{$gt:''}}".to_owned(),
            "{$expr:{$gt:['$password',null]}}".to_owned(),
            "{$expr:{$gt:['$$ROOT.password',null]}}".to_owned(),
            "{$nor:[{password:null}]}".to_owned(),
            "{$jsonSchema:{required:['password']}}".to_owned(),
        ] {
            let found = ids(format!("filter={}", encoded(&filter))).await;
            assert!(found.is_empty(), "{role} {filter}: {found:?}");
        }
        for patch in [
            r#"{"$rename": {"password": "n"}}"#,
            r#"{"$max": {"password": "a"}}"#,
            r#"{"$set": {"password.x": 1}}"#,
        ] {
            let patch = Request::new(Method::PATCH, database.path(&format!("people/{ada}"))).json(patch);
            assert_eq!(send(&database, role, patch).await.status, StatusCode::FORBIDDEN);
        }
    }
    // A rule that only happens to fit does not open the collection at all.
    let other = send(&database, "user", Request::get(database.path("people"))).await;
    refusal::is(&other, Kind::Forbidden, "no permission allows this", "another role");
    let stored = database.mongo.collection::<Document>("people").find_one(doc! { "_id": ada }).await;
    let stored = stored.expect("MongoDB answers").expect("Ada is there");
    assert_eq!(stored.get_str("password").ok(), Some(hash.as_str()));
}

/// The next message, in any form; there is no hash in it.
async fn told(socket: &mut WebSocket) -> Value {
    loop {
        match socket.message().await.expect("the connection holds") {
            Message::Text(text) => {
                holds_no_hash(text.as_bytes());
                return serde_json::from_str(&text).expect("JSON");
            }
            Message::Binary(bytes) => {
                holds_no_hash(&bytes);
                let message = Document::from_reader(&bytes[..]).expect("BSON");
                return bson::Bson::Document(message).into_relaxed_extjson();
            }
            _ => {}
        }
    }
}

async fn no_event_and_no_snapshot_shows_a_hash_or_tells_of_one(front: Front) {
    let (database, [ada, _], hash) = people(front, "events").await;
    let avars = encoded(&json!({ "p": hash }).to_string());
    let (mut sockets, mut sources) = (Vec::new(), Vec::new());
    for role in ROLES {
        for stream in [
            "all?snapshot=true",
            "images",
            "copies?snapshot=true",
            &format!("asks?snapshot=true&avars={avars}"),
        ] {
            let ask =
                || Request::get(database.path(&format!("people/_streams/{stream}"))).bearer(&token(role));
            for form in ["tailrace.plain", "tailrace.v1.json", "tailrace.v1.bson"] {
                if form == "tailrace.plain" && stream.contains("snapshot") {
                    continue;
                }
                let socket =
                    WebSocket::open(&database.server, ask().header("sec-websocket-protocol", form)).await;
                let socket = socket.unwrap_or_else(|refused| panic!("{stream}: {}", refused.text()));
                sockets.push((format!("{role} {stream} {form}"), socket));
            }
            let source = EventSource::open(&database.server, ask()).await;
            let source = source.unwrap_or_else(|refused| panic!("{stream}: {}", refused.text()));
            sources.push((format!("{role} {stream}"), source));
        }
    }
    let users = database.mongo.collection::<Document>("people");
    let last = format!("last-{front:?}");
    let ada = doc! { "_id": ada };
    let changed = bcrypt::hash("changed", 4).expect("a hash");
    for change in [
        doc! { "$set": { "password": &changed } },
        doc! { "$set": { "password": { "was": &changed } } },
        doc! { "$set": { "password.was": &hash, "n": 1 } },
        doc! { "$unset": { "password": "" } },
        doc! { "$set": { "password": &hash } },
    ] {
        users.update_one(ada.clone(), change).await.expect("the update");
    }
    users.replace_one(ada.clone(), doc! { "password": &changed, "n": 2 }).await.expect("the replace");
    users.delete_one(ada).await.expect("the delete");
    users.insert_one(doc! { "_id": &last, "password": &hash, "last": true }).await.expect("the insert");
    for (what, mut socket) in sockets {
        loop {
            let message = told(&mut socket).await;
            let of_ada = message.to_string().contains("ada-");
            assert!(
                !of_ada || !what.contains("asks"),
                "{what}: what is asked of a hash is true of none: {message}"
            );
            if message.to_string().contains(&last) {
                break;
            }
        }
    }
    for (what, mut source) in sources {
        loop {
            let block = source.block().await.expect("the connection holds").expect("the stream goes on");
            holds_no_hash(format!("{block:?}").as_bytes());
            let Some(data) = &block.data else { continue };
            assert!(!data.contains("ada-") || !what.contains("asks"), "{what}: {data}");
            if data.contains(&last) {
                break;
            }
        }
    }
    holds_no_hash(deployment().await.parts.backend.logged().as_bytes());
}

both_fronts!(
    no_answer_about_documents_shows_a_hash_or_tells_of_one,
    no_event_and_no_snapshot_shows_a_hash_or_tells_of_one,
);
