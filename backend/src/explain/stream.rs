//! `tailrace explain ADDRESS`: what MongoDB evaluates of a stream once for many, what the node does for each binding, and
//! why clients share a cursor or do not.

use std::path::Path;

use bson::{Bson, DateTime};
use http::Method;
use shared::{
    address::Route,
    definition::{Definition, Definitions},
    explanation::Explanation,
    identity::Claims,
    name::Namespace,
    permission::Question,
    request::Query,
    shell_json,
    variables::{ServerVariables, Variables},
};
use tokio::time::timeout;

use super::{READS_WITHIN, access, identity};
use crate::{
    config::{Config, ConfigError},
    metadata::{self, Owner, Properties},
    mongo::Mongo,
};

/// What is to be explained.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The path of a stream; its query may hold `avars`.
    pub address: &'a str,
    /// The variables of the client, in the place of those of the address.
    pub avars: Option<&'a str>,
    /// The claims of the caller's token, as JSON.
    pub claims: Option<&'a str>,
    /// A file that declares the stream: then the metadata is not asked.
    pub definition: Option<&'a Path>,
    /// Whether the collection is to be taken for one that records pre- and post-images. Without a file MongoDB says it.
    pub images: bool,
}

/// The lines to print.
///
/// Reads the metadata from MongoDB; with a file, and rules in the configuration alone, nothing is reached out to.
pub async fn stream(config: &Config, mongo: &Mongo, asked: &Asked<'_>) -> Result<Vec<String>, ConfigError> {
    let (path, query) =
        asked.address.split_once('?').map_or((asked.address, None), |(path, query)| (path, Some(query)));
    let refused = |refusal: shared::refusal::Refusal| ConfigError(format!("{path}: {refusal}"));
    let address = config.mounts(mongo.default_database())?.resolve(path).map_err(refused)?;
    let Route::Stream(namespace, name) = &address.route else {
        return Err(ConfigError(format!(
            "{path}: expected the address of a stream, as /messages/_streams/all"
        )));
    };
    let identity = identity(asked.claims)?;
    let now = DateTime::now();
    let access = access(config, mongo).await?;
    let question = Question { identity: &identity, method: &Method::GET, address: &address, query, now };
    let grant = access.decide(&question).map_err(refused)?;
    let definitions = match asked.definition {
        Some(file) => declared_in(file)?,
        None => declared(mongo, namespace).await?,
    };
    let definition = definitions
        .get(name)
        .ok_or_else(|| {
            ConfigError(format!("{path}: no stream {name} is declared there{}", known(&definitions)))
        })?
        .as_ref()
        .map_err(|fault| refused(fault.clone()))?;

    let in_address = Query::parse(query).map_err(refused)?;
    let avars = asked.avars.or_else(|| in_address.get("avars"));
    let variables = Variables::parse(avars, config.operator_check()).map_err(refused)?;
    let variables = grant.variables(variables).map_err(refused)?;
    let server = ServerVariables { user: identity.claims().map(Claims::document), now };
    let binding = definition
        .bind(&variables, &server)
        .map_err(|refusal| ConfigError(format!("{path}: {refusal}{}", needed(definition))))?;
    let images = match asked.definition {
        Some(_) => asked.images,
        None => asked.images || answered(metadata::records_images(&mongo.operations, namespace)).await?,
    };

    let mut lines = vec![format!("stream   {} of {namespace}", address.canonical)];
    if let Some(rule) = &grant.rule {
        lines.push(format!("rule     {rule} decides"));
    }
    if !binding.values().is_empty() {
        lines.push(format!("values   {}", binding.values()));
    }
    let explanation = Explanation::new(&binding, &grant.visibility.of_reads(), images);
    lines.extend(explanation.to_string().lines().map(str::to_owned));
    Ok(lines)
}

/// The streams that a file declares: the property `streams`, an object that has it, or one stream.
fn declared_in(file: &Path) -> Result<Definitions, ConfigError> {
    let place = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| ConfigError(format!("{place}: {error}")))?;
    let value = shell_json::parse(&text).map_err(|error| ConfigError(format!("{place}: {error}")))?;
    let streams = match &value {
        Bson::Document(object) if object.contains_key("uri") => Bson::Array(vec![value.clone()]),
        Bson::Document(object) => object.get("streams").cloned().unwrap_or(value),
        _ => value,
    };
    Definitions::written(&streams).map_err(|refusal| ConfigError(format!("{place}: {}", refusal.message())))
}

/// The streams that the metadata declares.
async fn declared(mongo: &Mongo, namespace: &Namespace) -> Result<Definitions, ConfigError> {
    let properties = Properties::of(&mongo.operations, &namespace.database);
    let stored = answered(properties.stored(&Owner::Collection(&namespace.collection))).await?;
    Ok(Definitions::stored(stored.as_ref().and_then(|stored| stored.get("streams"))))
}

async fn answered<T>(
    question: impl Future<Output = Result<T, mongodb::error::Error>>,
) -> Result<T, ConfigError> {
    match timeout(READS_WITHIN, question).await {
        Ok(answer) => answer.map_err(|error| ConfigError(format!("MongoDB: {error}"))),
        Err(_) => Err(ConfigError("MongoDB does not answer".to_owned())),
    }
}

/// What is declared instead, for who has mistyped.
fn known(definitions: &Definitions) -> String {
    let names: Vec<String> = definitions.iter().map(|(name, _)| name.to_string()).collect();
    if names.is_empty() { String::new() } else { format!(", expected one of {}", names.join(", ")) }
}

/// The variables that the definition cannot do without.
fn needed(definition: &Definition) -> String {
    let needed = definition.variables();
    let names: Vec<&str> =
        needed.iter().filter(|needed| needed.required).map(|needed| needed.name.as_str()).collect();
    if names.is_empty() { String::new() } else { format!("; the stream needs {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"
        [[permissions]]
        id = "own tasks"
        roles = ["user"]
        methods = ["GET"]
        path = "/tasks/_streams/{s}"
        avars = { allow = ["room"] }
        readFilter = { tenant = "@user.tenant" }
    "#;

    const USER: &str = r#"{"roles": ["user"], "tenant": "a"}"#;

    /// What is told of a stream of this file, with the rules; nothing listens where MongoDB would be.
    async fn told(file: &str, asked: Asked<'_>) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("streams.json");
        std::fs::write(&path, file).expect("a file");
        let mut config: Config = toml::from_str(RULES).expect("a configuration");
        config.mongodb.uri = "mongodb://127.0.0.1:1/shop".to_owned();
        let mongo =
            Mongo::new(&config.mongodb, &std::sync::Arc::default()).await.expect("a connection string");
        let asked = Asked { definition: Some(&path), ..asked };
        let place = path.display().to_string();
        stream(&config, &mongo, &asked).await.map_err(|error| error.to_string().replace(&place, "FILE"))
    }

    #[tokio::test]
    async fn a_stream_of_a_file_is_explained_without_mongodb() {
        let file = r#"{"uri": "byRoom", "stages": [{"$match": {"fullDocument.room": {"$var": "room"}}}]}"#;
        let asked = Asked {
            address: "/tasks/_streams/byRoom",
            avars: Some("{room: 'x'}"),
            claims: Some(USER),
            ..Asked::default()
        };
        let expected = [
            "stream   /tasks/_streams/byRoom of shop.tasks",
            "rule     own tasks decides",
            r#"values   { "room": "x" }"#,
            "cursor   one, shared by all for whom MongoDB evaluates the same",
            r#"options  { "fullDocument": "updateLookup", "fullDocumentBeforeChange": "off" }"#,
            r#"mongodb  permission: { "$unset": "updateDescription" }"#,
            r#"node     permission: { "$and": [{ "fullDocument": { "$type": "object" } }, { "fullDocument.tenant": "a" }] }"#,
            r#"node     stages[0]: { "fullDocument.room": "x" }"#,
            "index    hash of fullDocument.tenant or hash of fullDocument.room, whichever leads to fewer",
        ];
        for file in [file.to_owned(), format!("[{file}]"), format!(r#"{{"streams": [{file}]}}"#)] {
            assert_eq!(told(&file, asked).await.expect("lines"), expected);
        }
        let address = "/tasks/_streams/byRoom?avars={\"room\":\"x\"}";
        assert_eq!(told(file, Asked { address, avars: None, ..asked }).await.expect("lines"), expected);
        let judged = told(file, Asked { images: true, ..asked }).await.expect("lines");
        assert_eq!(judged[3], expected[3]);
        let index =
            "index    of a document's images: hash of room or hash of tenant, whichever leads to fewer";
        assert_eq!(judged.last().map(String::as_str), Some(index));
    }

    #[tokio::test]
    async fn what_cannot_be_explained_is_told() {
        let file = r#"{"uri": "byRoom", "stages": [{"$match": {"fullDocument.room": {"$var": "room"}}}]}"#;
        let asked = Asked { address: "/tasks/_streams/byRoom", claims: Some(USER), ..Asked::default() };
        for (file, asked, message) in [
            (file, asked, "/tasks/_streams/byRoom: 400 variable room not bound; the stream needs room"),
            (
                file,
                Asked { address: "/tasks", ..asked },
                "/tasks: expected the address of a stream, as /messages/_streams/all",
            ),
            (
                file,
                Asked { address: "/tasks/_streams/all", ..asked },
                "/tasks/_streams/all: no stream all is declared there, expected one of byRoom",
            ),
            (file, Asked { claims: None, ..asked }, "/tasks/_streams/byRoom: 401 credentials needed"),
            (
                file,
                Asked { avars: Some(r#"{"x": 1}"#), ..asked },
                "/tasks/_streams/byRoom: 403 variable x is not permitted here",
            ),
            (r#"{"uri": "s", "stages": 1}"#, asked, "FILE: streams[0].stages: expected an array of stages"),
        ] {
            assert_eq!(told(file, asked).await.unwrap_err(), message);
        }
    }
}
