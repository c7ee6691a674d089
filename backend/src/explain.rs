//! What a configuration comes to, told to people.
//!
//! - `tailrace check-config --explain METHOD PATH --as CLAIMS`: which rule decides about a request, and why;
//! - `tailrace explain ADDRESS`: what becomes of a stream, in `stream`.

mod stream;

use std::{sync::Arc, time::Duration};

use bson::DateTime;
use http::Method;
use shared::{
    identity::{Claims, Identity},
    permission::{Access, Question},
};

pub use self::stream::{Asked, stream};
use crate::{
    config::{Config, ConfigError},
    mongo::Mongo,
    permission::Permissions,
    sessions::Sessions,
};

/// How long MongoDB has to answer each question.
const READS_WITHIN: Duration = Duration::from_secs(10);

/// The lines to print. `target` is a path, with or without a query; `claims` are those of a token, as JSON.
///
/// Rules of a collection are read from MongoDB; without such a collection nothing is reached out to.
pub async fn explain(
    config: &Config,
    mongo: &Mongo,
    method: &str,
    target: &str,
    claims: Option<&str>,
) -> Result<Vec<String>, ConfigError> {
    let method: Method =
        method.parse().map_err(|_| ConfigError(format!("--explain {method}: expected a method")))?;
    let identity = identity(claims)?;
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let access = access(config, mongo).await?;
    let address = match config.mounts(mongo.default_database())?.resolve(path) {
        Ok(address) => address,
        Err(refusal) => return Ok(vec![format!("refused  {}", access.unresolved(&identity, refusal))]),
    };
    let mut lines = vec![format!("request  {method} {}", address.canonical)];
    lines.extend(access.explain(&Question {
        identity: &identity,
        method: &method,
        address: &address,
        query,
        now: DateTime::now(),
    }));
    Ok(lines)
}

/// Who calls, with the claims that `--as` gives.
fn identity(claims: Option<&str>) -> Result<Identity, ConfigError> {
    let Some(text) = claims else { return Ok(Identity::Anonymous) };
    match serde_json::from_str(text) {
        Ok(serde_json::Value::Object(claims)) => Ok(Identity::Verified(Claims::new(claims, u64::MAX))),
        _ => Err(ConfigError(format!("--as {text}: expected the claims as a JSON object"))),
    }
}

/// What decides, with the rules of MongoDB's collection read if there is one.
async fn access(config: &Config, mongo: &Mongo) -> Result<Arc<Access>, ConfigError> {
    let permissions =
        Permissions::new(config, &mongo.operations, Arc::new(Sessions::default())).map_err(ConfigError)?;
    if let Some(collection) = permissions.collection() {
        let told =
            |why: &dyn std::fmt::Display| ConfigError(format!("permissions-collection {collection}: {why}"));
        match tokio::time::timeout(READS_WITHIN, permissions.read()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(told(&error)),
            Err(_) => return Err(told(&"MongoDB does not answer")),
        }
    }
    permissions.current().map_err(|refusal| ConfigError(refusal.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn explained(method: &str, target: &str, claims: Option<&str>) -> Result<Vec<String>, String> {
        let config: Config = toml::from_str(
            r#"
            [[permissions]]
            id = "own orders"
            roles = ["user"]
            methods = ["GET"]
            path = "/orders/_streams/{s}"
            avars = { set = { tenant = "@user.tenant" } }
            "#,
        )
        .expect("a configuration");
        let mongo =
            Mongo::new(&config.mongodb, &std::sync::Arc::default()).await.expect("a connection string");
        explain(&config, &mongo, method, target, claims).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn the_rule_that_decides_is_named_with_what_comes_of_it() {
        let user = r#"{"roles": ["user"], "tenant": "a"}"#;
        assert_eq!(
            explained("GET", "/orders/_streams/mine", Some(user)).await.expect("lines"),
            [
                "request  GET /orders/_streams/mine",
                "roles    $authenticated, user",
                "rule     own orders decides",
                "allowed  avars set: { \"tenant\": \"a\" }",
            ]
        );
        assert_eq!(
            explained("POST", "/orders", None).await.expect("lines"),
            [
                "request  POST /orders",
                "roles    $unauthenticated",
                "rule     own orders is for other roles",
                "refused  401 credentials needed",
            ]
        );
        assert_eq!(
            explained("GET", "/_x", Some(user)).await.expect("lines"),
            ["refused  403 no permission allows this"]
        );
    }

    #[tokio::test]
    async fn what_cannot_be_asked_is_told() {
        assert_eq!(
            explained("GET", "/", Some("[]")).await.unwrap_err(),
            "--as []: expected the claims as a JSON object"
        );
        assert_eq!(explained("G T", "/", None).await.unwrap_err(), "--explain G T: expected a method");
    }
}
