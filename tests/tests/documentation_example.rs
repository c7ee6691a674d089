//! The example of the documentation, as it stands there, and where it may be addressed.

use http::StatusCode;
use parts::{chromium, npm, workspace};
use serde_json::{Value, json};
use tailrace_tests::database::json as body_of;
use tailrace_tests::{Database, Front, both_fronts};
use tokio::process::Command;

/// In the spelling that RESTHeart's documentation uses, and in the plain one.
const ESCAPED: &str = r#"{"streams": [
    {"uri": "all", "stages": [{"_$match": {"_$or": [{"operationType": "insert"}, {"operationType": "update"}]}}]},
    {"uri": "mine", "stages": [{"_$match": {"fullDocument::name": {"_$var": "n"}}}]}
]}"#;
const PLAIN: &str = r#"{"streams": [
    {"uri": "all", "stages": [{"$match": {"$or": [{"operationType": "insert"}, {"operationType": "update"}]}}]},
    {"uri": "mine", "stages": [{"$match": {"fullDocument.name": {"$var": "n"}}}]}
]}"#;

async fn the_example_works_in_the_escaped_spelling(front: Front) {
    the_example_works(front, ESCAPED).await;
}

async fn the_example_works_in_the_plain_spelling(front: Front) {
    the_example_works(front, PLAIN).await;
}

async fn the_example_works(front: Front, metadata: &str) {
    let database = front.database().await;
    assert_eq!(database.put("messages", metadata).await.status, StatusCode::CREATED);
    shows_both_streams(&database, "SHAL").await;
    shows_both_streams(&database, "HAL").await;

    let refused = database.refused("messages/_streams/mine").await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        refused.text(),
        r#"{"http status code":400,"http status description":"Bad Request","message":"variable n not bound","_exceptions":[{"exception":"QueryVariableNotBoundException","exception message":"variable n not bound"}]}"#
    );

    let mut mine = database.connect(r#"messages/_streams/mine?avars={"n":"uji"}"#).await;
    let mut all = database.connect("messages/_streams/all").await;
    database.post("messages", r#"{"name": "somebody else"}"#).await;
    let created = database.post("messages", r#"{"name": "uji", "n": 1.0, "at": {"$date": 1500}}"#).await;
    let id = created.header("location").rsplit('/').next().expect("an id").to_owned();

    // What does not match would have come first.
    let text = mine.text().await;
    let etag = created.header("etag");
    assert_eq!(
        text,
        format!(
            r#"{{"fullDocument":{{"_id":{{"$oid":"{id}"}},"name":"uji","n":1.0,"at":{{"$date":1500}},"_etag":{{"$oid":"{etag}"}}}},"documentKey":{{"_id":{{"$oid":"{id}"}}}},"updateDescription":null,"operationType":"insert"}}"#
        )
    );
    assert_eq!(all.event().await["fullDocument"]["name"], "somebody else");
    assert_eq!(all.event().await["fullDocument"]["name"], "uji");

    database.patch(&format!("messages/{id}"), r#"{"n": 2}"#).await;
    let updated = all.event().await;
    assert_eq!(updated["operationType"], "update");
    assert_eq!(updated["updateDescription"]["updatedFields"]["n"], 2);
    assert_eq!(updated["fullDocument"]["n"], 2);
}

async fn shows_both_streams(database: &Database, representation: &str) {
    let shown = database.get(&format!("messages?rep={representation}")).await;
    assert_eq!(shown.status, StatusCode::OK);
    assert_eq!(shown.header("content-type"), "application/hal+json");
    let body: Value = body_of(&shown);
    let base = database.path("messages/_streams");
    assert_eq!(
        body["_links"],
        json!({ "all": { "href": format!("{base}/all") }, "mine": { "href": format!("{base}/mine") } })
    );
    assert_eq!(
        body["streams"][1]["stages"],
        json!([{ "$match": { "fullDocument.name": { "$var": "n" } } }]),
        "what is read back is the plain spelling"
    );
}

async fn the_streams_of_a_collection_are_listed_with_what_they_need(front: Front) {
    let database = front.database().await;
    database.put("messages", PLAIN).await;
    let base = database.path("messages/_streams");
    assert_eq!(
        body_of(&database.get("messages/_streams").await),
        json!([
            { "uri": "all", "href": format!("{base}/all"), "variables": [] },
            { "uri": "mine", "href": format!("{base}/mine"), "variables": [{ "name": "n", "required": true }] },
        ])
    );
}

async fn streams_is_matched_in_any_letter_case_and_the_name_exactly(front: Front) {
    let database = front.database().await;
    database.put("messages", PLAIN).await;
    database.connect("messages/_STREAMS/all").await.close().await;
    assert_eq!(database.refused("messages/_streams/ALL").await.status, StatusCode::NOT_FOUND);
}

async fn the_page_of_the_readme_shows_what_is_written(front: Front) {
    npm::install().expect("playwright-core is installed");
    npm::build_client().expect("the client is built");
    let database = front.database().await;
    database.put("messages", PLAIN).await;
    let page = Command::new("node")
        .arg("tests/browser/readme.mjs")
        .current_dir(workspace::root())
        .env("TAILRACE_API_URL", format!("{}/{}", database.server, database.name))
        .env("TAILRACE_CHROMIUM", chromium::find().expect("a Chromium"))
        .kill_on_drop(true)
        .output()
        .await
        .expect("node runs");
    let [said, failed] = [page.stdout, page.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert_eq!(said.trim(), "shown", "{failed}");
}

both_fronts!(
    the_page_of_the_readme_shows_what_is_written,
    the_example_works_in_the_escaped_spelling,
    the_example_works_in_the_plain_spelling,
    the_streams_of_a_collection_are_listed_with_what_they_need,
    streams_is_matched_in_any_letter_case_and_the_name_exactly,
);
