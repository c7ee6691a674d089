//! `tailrace check-config --explain METHOD PATH --as CLAIMS`: which rule decides about a request, and why.

use std::time::Duration;

use bson::DateTime;
use http::Method;
use shared::{
    identity::{Claims, Identity},
    permission::Question,
};

use crate::{
    config::{Config, ConfigError},
    mongo::Mongo,
    permission::Permissions,
    sessions::Sessions,
};

/// How long MongoDB has to give the stored rules.
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
    let wrong = |what: String| ConfigError(what);
    let method: Method =
        method.parse().map_err(|_| wrong(format!("--explain {method}: expected a method")))?;
    let identity = match claims {
        None => Identity::Anonymous,
        Some(text) => match serde_json::from_str(text) {
            Ok(serde_json::Value::Object(claims)) => Identity::Verified(Claims::new(claims, u64::MAX)),
            _ => return Err(wrong(format!("--as {text}: expected the claims as a JSON object"))),
        },
    };
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let permissions = Permissions::new(config, &mongo.operations, std::sync::Arc::new(Sessions::default()));
    let permissions = permissions.map_err(ConfigError)?;
    if let Some(collection) = permissions.collection() {
        match tokio::time::timeout(READS_WITHIN, permissions.read()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(wrong(format!("permissions-collection {collection}: {error}"))),
            Err(_) => {
                return Err(wrong(format!("permissions-collection {collection}: MongoDB does not answer")));
            }
        }
    }
    let access = permissions.current().map_err(|refusal| wrong(refusal.to_string()))?;
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
