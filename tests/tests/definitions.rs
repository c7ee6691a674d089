//! The rules of definitions and variables over HTTP, and what they accept on the real MongoDB.

#[path = "../../shared/tests/table/mod.rs"]
mod table;

use bson::{Bson, Document, doc};
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use parts::backend::Backend;
use parts::deployment::guarded_backend;
use serde_json::{Value, json};
use tailrace_tests::database::{encoded, json as body_of};
use tailrace_tests::front::{addresses, bounded};
use tailrace_tests::{Database, Front, Request, WebSocket, both_fronts, token};

/// How many cases are tried at once.
const AT_ONCE: usize = 8;

fn metadata(streams: &Bson) -> String {
    json!({ "streams": streams.clone().into_canonical_extjson() }).to_string()
}

async fn every_bad_definition_is_refused_with_its_message_and_nothing_is_stored(front: Front) {
    let database = front.database().await;
    let cases = table::refused();
    assert!(cases.len() >= 80, "{} cases", cases.len());
    let failures: Vec<String> = stream::iter(cases.iter().enumerate())
        .map(|(index, case)| {
            let database = &database;
            async move {
                let collection = format!("bad{index}");
                let answer =
                    database.request(http::Method::PUT, &collection, &metadata(&case.streams())).await;
                let expected = case.text("message").expect("a message");
                let stored = database
                    .mongo
                    .collection::<Document>("_properties")
                    .find_one(doc! { "_id": format!("_properties.{collection}") })
                    .await
                    .expect("MongoDB answers");
                let refused =
                    answer.status == StatusCode::BAD_REQUEST && body_of(&answer)["message"] == expected;
                (!refused || stored.is_some()).then(|| format!("{expected}: {}", answer.text()))
            }
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

async fn bad_variables_are_refused_with_their_message(front: Front) {
    let database = front.database().await;
    let mut tried = 0;
    for (index, case) in table::variables().iter().enumerate() {
        // A claim needs a token, and the setting that allows operators a server of its own: elsewhere.
        let (Some(error), false) = (case.text("error"), case.has("user") || case.has("operatorCheck")) else {
            continue;
        };
        let collection = format!("bad{index}");
        database.put(&collection, &metadata(&case.streams())).await;
        let query = case.avars().map(|avars| format!("?avars={}", encoded(avars))).unwrap_or_default();
        let answer = database.get(&format!("{collection}/_streams/s{query}")).await;
        let message = body_of(&answer)["message"].as_str().unwrap_or_default().to_owned();
        assert_eq!(format!("{} {message}", answer.status.as_u16()), error);
        tried += 1;
    }
    assert!(tried >= 20, "{tried} cases");
}

/// A database with a stream of what matches.
async fn matching(front: Front, uri: &str, filter: &str) -> Database {
    let database = front.database().await;
    let streams = format!(r#"{{"streams": [{{"uri": "{uri}", "stages": [{{"$match": {filter}}}]}}]}}"#);
    database.put("log", &streams).await;
    database
}

async fn variables_are_taken_in_the_lenient_forms_of_the_shells(front: Front) {
    let database = matching(front, "s", r#"{"fullDocument.v": {"$var": "v"}}"#).await;
    for (avars, stored) in [
        ("{v:'uji'}", doc! { "v": "uji" }),
        ("{'v':NumberLong(7)}", doc! { "v": 7_i64 }),
        ("{v:ISODate('2020-01-01T00:00:00Z')}", doc! { "v": bson::DateTime::from_millis(1_577_836_800_000) }),
        (
            "{v:ObjectId('5f0000000000000000000001')}",
            doc! { "v": bson::oid::ObjectId::parse_str("5f0000000000000000000001").expect("an id") },
        ),
        (r#"{"v":{"$date":1577836800000}}"#, doc! { "v": bson::DateTime::from_millis(1_577_836_800_000) }),
        (
            r#"{"v":{"$numberDecimal":"1.5"}}"#,
            doc! { "v": "1.5".parse::<bson::Decimal128>().expect("a number") },
        ),
        (r#"{"v":null}"#, doc! { "v": null }),
    ] {
        let mut socket = database.connect(&format!("log/_streams/s?avars={}", encoded(avars))).await;
        database.mongo.collection::<Document>("log").insert_one(stored).await.expect("the insert");
        assert_eq!(socket.event().await["operationType"], "insert", "{avars}");
    }
}

async fn a_text_in_an_expression_is_a_text_and_never_a_field(front: Front) {
    let database = front.database().await;
    database
        .put(
            "staff",
            r#"{"streams": [
                {"uri": "set", "stages": [{"$set": {"shown": {"$var": "n"}}}]},
                {"uri": "expr", "stages": [{"$match": {"$expr": {"$eq": ["$fullDocument.salary", {"$var": "n"}]}}}]}
            ]}"#,
        )
        .await;
    let avars = encoded(r#"{"n":"$fullDocument.salary"}"#);
    let mut set = database.connect(&format!("staff/_streams/set?avars={avars}")).await;
    let mut expr = database.connect(&format!("staff/_streams/expr?avars={avars}")).await;
    database.post("staff", r#"{"salary": 5000}"#).await;
    database.post("staff", r#"{"salary": {"$numberLong": "7"}, "text": true}"#).await;
    database
        .mongo
        .collection::<Document>("staff")
        .insert_one(doc! { "salary": "$fullDocument.salary" })
        .await
        .expect("the insert");
    assert_eq!(set.event().await["shown"], "$fullDocument.salary");
    // As a field path it would have equalled itself in every document.
    assert_eq!(expr.event().await["fullDocument"]["salary"], "$fullDocument.salary");
}

async fn what_mongodb_refuses_is_refused_when_written_with_its_message(front: Front) {
    let database = front.database().await;
    let bad = r#"{"streams": [{"uri": "good", "stages": []}, {"uri": "bad", "stages": [{"$match": {"fullDocument.a": {"$regex": "("}}}]}]}"#;
    let refused = database.request(http::Method::PUT, "log", bad).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    let message = body_of(&refused)["message"].as_str().unwrap_or_default().to_owned();
    assert!(
        message.starts_with("streams[1].stages: MongoDB refuses the pipeline: Regular expression is invalid"),
        "{message}"
    );
    assert_eq!(database.get("log").await.status, StatusCode::NOT_FOUND);
}

async fn where_a_variable_shapes_the_syntax_the_client_is_refused_before_the_101(front: Front) {
    let database = matching(front, "in", r#"{"fullDocument.a": {"$in": {"$var": "list"}}}"#).await;
    let refused = database.refused("log/_streams/in?avars={list:1}").await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(refused.text().contains("$in needs an array"), "{}", refused.text());
    let mut socket = database.connect("log/_streams/in?avars={list:[1,2]}").await;
    database.post("log", r#"{"a": 3}"#).await;
    database.post("log", r#"{"a": 2}"#).await;
    assert_eq!(socket.event().await["fullDocument"]["a"], 2);
}

async fn variables_that_no_stage_uses_and_equal_values_do_not_matter_and_twins_stay_apart(front: Front) {
    let database = matching(front, "s", r#"{"fullDocument.n": {"$var": "n"}}"#).await;
    // Equal hashes in Java: RESTHeart hands each of these the other's events.
    let mut aa = database.connect("log/_streams/s?avars={n:'Aa',unused:1}").await;
    let mut bb = database.connect("log/_streams/s?avars={n:'BB'}").await;
    database.post("log", r#"{"n": "BB"}"#).await;
    database.post("log", r#"{"n": "Aa"}"#).await;
    assert_eq!(aa.event().await["fullDocument"]["n"], "Aa");
    assert_eq!(bb.event().await["fullDocument"]["n"], "BB");
}

both_fronts!(
    every_bad_definition_is_refused_with_its_message_and_nothing_is_stored,
    bad_variables_are_refused_with_their_message,
    variables_are_taken_in_the_lenient_forms_of_the_shells,
    a_text_in_an_expression_is_a_text_and_never_a_field,
    what_mongodb_refuses_is_refused_when_written_with_its_message,
    where_a_variable_shapes_the_syntax_the_client_is_refused_before_the_101,
    variables_that_no_stage_uses_and_equal_values_do_not_matter_and_twins_stay_apart,
);

/// Every definition that the rules accept is written, opened, and outlives an insert, an update, and a delete.
#[tokio::test]
async fn every_accepted_definition_lives_on_the_real_mongodb() {
    bounded(async {
        let database = Front::Native.database().await;
        let lenient = guarded_backend("lenient", &addresses().await.mongodb)
            .set("TAILRACE_AGGREGATION_CHECK_OPERATORS", "false");
        let lenient = Backend::start(lenient).await.expect("a backend");
        let guarded = Front::Native.guarded().await;
        let cases: Vec<_> = table::accepted()
            .into_iter()
            .chain(table::variables().into_iter().filter(|case| case.text("error").is_none()))
            .collect();
        let failures: Vec<String> = stream::iter(cases.iter().enumerate())
            .map(|(index, case)| {
                let server = if case.has("operatorCheck") { lenient.url() } else { guarded.to_owned() };
                let database = &database;
                async move {
                    let lived = lives(database, &server, &format!("c{index}"), case).await;
                    lived.err().map(|why| format!("{}: {why}", case.name()))
                }
            })
            .buffer_unordered(AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await;
        assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), cases.len(), failures.join("\n"));
    })
    .await;
}

async fn lives(database: &Database, server: &str, name: &str, case: &table::Case) -> Result<(), String> {
    let here = database.at(server);
    // With images, so that a definition may require them.
    let images = doc! { "create": name, "changeStreamPreAndPostImages": { "enabled": true } };
    database.mongo.run_command(images).await.map_err(|error| error.to_string())?;
    let Bson::Array(mut streams) = case.streams() else { return Err("no array".to_owned()) };
    streams.push(Bson::Document(doc! { "uri": "sentinel", "stages": [] }));
    let put = database.request(http::Method::PUT, name, &metadata(&Bson::Array(streams))).await;
    if !put.status.is_success() {
        return Err(format!("PUT: {}", put.text()));
    }
    let claims =
        case.user().map_or_else(|| json!({}), |user| Bson::Document(user.clone()).into_relaxed_extjson());
    let token = token::valid(&claims);
    let uri = case.definition().uri().to_string();
    let query = case.avars().map(|avars| format!("?avars={}", encoded(avars))).unwrap_or_default();
    let open = async |stream: &str| {
        let path = here.path(&format!("{name}/_streams/{stream}"));
        WebSocket::open(server, Request::get(path).bearer(&token))
            .await
            .map_err(|refused| format!("connect: {}", refused.text()))
    };
    let mut socket = open(&format!("{}{query}", encoded(&uri))).await?;
    let mut sentinel = open("sentinel").await?;

    let collection = database.mongo.collection::<Document>(name);
    let document =
        doc! { "_id": 1, "name": "uji", "n": 3, "price": 2.5, "tags": ["a", "b"], "nested": { "x": 1 } };
    for round in 0..2 {
        let failed = |error: mongodb::error::Error| error.to_string();
        collection.insert_one(document.clone()).await.map_err(failed)?;
        collection.update_one(doc! { "_id": 1 }, doc! { "$set": { "n": 4 } }).await.map_err(failed)?;
        collection.delete_one(doc! { "_id": 1 }).await.map_err(failed)?;
        for operation in ["insert", "update", "delete"] {
            let event: Value = sentinel.event().await;
            if event["operationType"] != operation {
                return Err(format!("round {round}: the sentinel saw {event}"));
            }
        }
    }
    // A stream that an event had killed would have closed with another code before.
    database.put(name, r#"{"streams": []}"#).await;
    match socket.closed().await {
        (4002, _) => Ok(()),
        (code, reason) => Err(format!("closed with {code} {reason}")),
    }
}
