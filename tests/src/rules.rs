//! Rules of the ruled servers: each test adds its own, for the addresses of its own database.

use bson::{Bson, Document, doc};
use parts::deployment::RULES;
use serde_json::Value;

use crate::{Database, Request, until};

/// The collection of rules.
pub fn collection(database: &Database) -> mongodb::Collection<Document> {
    database.mongo.client().database(RULES.0).collection(RULES.1)
}

/// The `_id` of a test's rule, which no other test has.
pub fn id(database: &Database, name: &str) -> String {
    format!("{}: {name}", database.name)
}

/// Adds rules, and waits until the server at `server` decides by them.
///
/// # Panics
/// When they are no objects with an `_id`, or take long to act.
pub async fn add(database: &Database, server: &str, rules: &[Value]) {
    let stored: Vec<Document> = rules
        .iter()
        .map(|rule| {
            let Ok(Bson::Document(mut rule)) = Bson::try_from(rule.clone()) else {
                panic!("{rule} is no rule")
            };
            let name = rule.get_str("_id").expect("an _id").to_owned();
            rule.insert("_id", id(database, &name));
            rule
        })
        .collect();
    // The last one tells that those before it are there.
    let probe = doc! {
        "_id": id(database, "probe"), "roles": ["$unauthenticated"], "methods": ["GET"], "path": format!("/{}/probe", database.name),
    };
    let rules = collection(database);
    rules.insert_many(stored).await.expect("MongoDB takes the rules");
    rules.insert_one(probe).await.expect("MongoDB takes the probe");
    until("the rules act", async || {
        let answer = Request::get(database.path("probe")).send(server).await.expect("an answer");
        answer.status != http::StatusCode::UNAUTHORIZED
    })
    .await;
}
