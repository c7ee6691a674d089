//! The document and metadata API, as RESTHeart's clients know it.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tailrace_tests::database::json as body_of;
use tailrace_tests::{Database, Front, Request, Response, both_fronts};

async fn chat(front: Front) -> Database {
    let database = front.database().await;
    database.put("messages", "{}").await;
    database
}

async fn conditional(database: &Database, method: Method, inner: &str, etag: &str) -> Response {
    let request = Request::new(method, database.path(inner)).header("if-match", etag);
    database.send(request.json("{}")).await
}

async fn a_collection_is_created_replaced_patched_and_deleted_by_version(front: Front) {
    let database = front.database().await;
    let created = database.put("log", r#"{"title": "a", "other": 1}"#).await;
    assert_eq!((created.status, created.body.len()), (StatusCode::CREATED, 0));
    assert_ne!(created.header("etag"), "");
    let replaced = database.put("log", r#"{"title": "b", "kept": true}"#).await;
    assert_eq!((replaced.status, replaced.body.len()), (StatusCode::OK, 0));
    assert_ne!(replaced.header("etag"), created.header("etag"));
    let patched = database.patch("log", r#"{"title": "c"}"#).await;
    assert_eq!(patched.status, StatusCode::OK);
    let shown = body_of(&database.get("log?rep=HAL").await);
    assert_eq!((&shown["title"], &shown["kept"], &shown["other"]), (&json!("c"), &json!(true), &Value::Null));
    assert_eq!(shown["_etag"]["$oid"], patched.header("etag"));

    let without = database.request(Method::DELETE, "log", "").await;
    assert_eq!(without.status, StatusCode::CONFLICT);
    assert!(without.text().contains("deleting a collection needs If-Match with its current ETag"));
    let wrong = conditional(&database, Method::DELETE, "log", created.header("etag")).await;
    assert_eq!(wrong.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(database.get("log").await.status, StatusCode::OK, "nothing was deleted");
    let deleted = conditional(&database, Method::DELETE, "log", patched.header("etag")).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    let gone = database.get("log").await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
    assert!(gone.text().contains("Collection does not exist"));
}

async fn a_document_is_created_read_replaced_patched_and_deleted(front: Front) {
    let database = chat(front).await;
    let created = database.post("messages", r#"{"from": "uji", "text": "hello"}"#).await;
    assert_eq!((created.status, created.body.len()), (StatusCode::CREATED, 0));
    let location = created.header("location").to_owned();
    let inner =
        location.strip_prefix(&database.path("")).expect("an address in the same database").to_owned();

    let read = database.get(&inner).await;
    assert_eq!(read.header("etag"), created.header("etag"));
    let document = body_of(&read);
    assert_eq!((&document["from"], &document["text"]), (&json!("uji"), &json!("hello")));
    assert_eq!(document["_etag"]["$oid"], created.header("etag"));

    let wrong = conditional(&database, Method::PUT, &inner, "5f0000000000000000000001").await;
    assert_eq!(wrong.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(database.put(&inner, r#"{"text": "again"}"#).await.status, StatusCode::OK);
    database.patch(&inner, r#"{"likes": 1, "$inc": {"reads": 2}}"#).await;
    let document = body_of(&database.get(&inner).await);
    assert_eq!(
        (&document["from"], &document["text"], &document["likes"], &document["reads"]),
        (&Value::Null, &json!("again"), &json!(1), &json!(2))
    );
    assert_eq!(database.request(Method::DELETE, &inner, "").await.status, StatusCode::NO_CONTENT);
    for method in [Method::GET, Method::DELETE, Method::PATCH] {
        let gone = database.request(method, &inner, "").await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND);
        assert!(gone.text().contains("Document does not exist"), "{}", gone.text());
    }
    assert_eq!(database.put("messages/by-name", "{}").await.status, StatusCode::CREATED);
    assert_eq!(body_of(&database.get("messages/by-name").await)["_id"], "by-name");
}

async fn documents_are_listed_sorted_filtered_and_in_pages(front: Front) {
    let database = chat(front).await;
    let documents: Vec<Value> = (0..25)
        .map(|n| json!({ "_id": n, "n": n, "even": n % 2 == 0, "timestamp": { "$date": 1000 * n } }))
        .collect();
    let written = database.post("messages", &json!(documents).to_string()).await;
    assert_eq!((written.status, body_of(&written)), (StatusCode::OK, json!({ "inserted": 25 })));

    let numbers = async |query: &str| -> Vec<i64> {
        let body = body_of(&database.get(&format!("messages{query}")).await);
        let list = body.as_array().unwrap_or_else(|| panic!("no array: {body}"));
        list.iter().filter_map(|document| document["n"].as_i64()).collect()
    };
    assert_eq!(numbers("").await, (0..25).rev().collect::<Vec<_>>(), "newest first");
    // As the web chat of RESTHeart asks, braces and all.
    assert_eq!(numbers("?page=2&pagesize=10&sort={timestamp:-1}").await, (5..15).rev().collect::<Vec<_>>());
    assert_eq!(numbers("?filter={even:true}&filter={n:{$lt:5}}&sort=n").await, [0, 2, 4]);
    let kept = body_of(&database.get("messages?keys={n:1,_id:0}&pagesize=1").await);
    assert_eq!(kept, json!([{ "n": 24 }]));
    let dated = body_of(&database.get("messages/3?id_type=NUMBER").await);
    assert_eq!(dated["timestamp"], json!({ "$date": 3000 }));

    for (query, message) in [
        ("?pagesize=2000", "parameter pagesize is \\\"2000\\\", expected a number from 0 to 1000"),
        ("?filter={", "parameter filter is not a JSON object"),
        ("?rep=XML", "parameter rep is \\\"XML\\\", expected STANDARD, HAL, or SHAL"),
        ("?filter={$where:'1'}", "parameter filter runs code"),
    ] {
        let refused = database.get(&format!("messages{query}")).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        assert!(refused.text().contains(message), "{}", refused.text());
    }
}

async fn what_cannot_be_read_is_refused_and_nothing_is_stored(front: Front) {
    let database = chat(front).await;
    for (body, message) in [
        ("{\"a\":", "the body is not JSON"),
        ("5", "the body is not a JSON object or an array of them"),
        ("[{\"a\":1}, 5]", "body[1] is not a JSON object"),
        ("[]", "the body is an empty array"),
    ] {
        let refused = database.request(Method::POST, "messages", body).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        assert!(refused.text().contains(message), "{}", refused.text());
    }
    assert_eq!(body_of(&database.get("messages").await), json!([]));
    let absent = database.request(Method::POST, "absent", "{}").await;
    assert_eq!(absent.status, StatusCode::NOT_FOUND);
}

both_fronts!(
    a_collection_is_created_replaced_patched_and_deleted_by_version,
    a_document_is_created_read_replaced_patched_and_deleted,
    documents_are_listed_sorted_filtered_and_in_pages,
    what_cannot_be_read_is_refused_and_nothing_is_stored,
);
