//! `/` and `/<db>`: the databases and collections that there are, and the metadata of a database.

use std::sync::Arc;

use bson::{RawDocumentBuf, oid::ObjectId, rawdoc};
use http::{Method, StatusCode};
use serde_json::json;
use shared::{
    address::Address,
    event_json::JsonMode,
    name::{CollectionName, DatabaseName},
    refusal::{Kind, Refusal},
    request::{Head, Query},
};
use warp::reply::Response;

use super::{
    precondition,
    representation::{Listing, Representation},
};
use crate::{
    answer,
    app::App,
    body::Body,
    metadata::{self, Expected, Owner, PROPERTIES, Properties, Written},
    mongo,
};

fn refused(error: &mongodb::error::Error) -> Refusal {
    mongo::refusal(error)
}

/// Answers a request for the root of a mount of every database.
pub async fn root(app: &App, head: &Head) -> Result<Response, Refusal> {
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return Err(Refusal::method_not_allowed(head.method.as_str(), "GET, HEAD, OPTIONS"));
    }
    let mut names = app.mongo.operations.list_database_names().await.map_err(|error| refused(&error))?;
    names.retain(|name| DatabaseName::new(name).is_some());
    names.sort();
    Ok(answer::json(json!(names).to_string()))
}

/// Answers a request for a database.
pub async fn answer(
    app: &Arc<App>,
    head: &Head,
    body: Body,
    address: &Address,
    database: &DatabaseName,
) -> Result<Response, Refusal> {
    match head.method {
        Method::GET | Method::HEAD => list(app, head, address, database).await,
        Method::PUT => replace(app, head, body, database).await,
        Method::DELETE => delete(app, head, database).await,
        _ => Err(Refusal::method_not_allowed(head.method.as_str(), "GET, HEAD, PUT, DELETE, OPTIONS")),
    }
}

/// The names of what an address may reach; empty where the database does not exist.
async fn collections(app: &App, database: &DatabaseName) -> Result<Vec<String>, Refusal> {
    let client = &app.mongo.operations;
    let names = client.database(database.as_str()).list_collection_names().await;
    let mut names = names.map_err(|error| refused(&error))?;
    if names.is_empty() {
        return Err(Refusal::new(Kind::NotFound, "Database does not exist"));
    }
    names.retain(|name| CollectionName::new(name).is_some());
    names.sort();
    Ok(names)
}

async fn list(
    app: &App,
    head: &Head,
    address: &Address,
    database: &DatabaseName,
) -> Result<Response, Refusal> {
    let query = Query::parse(head.query.as_deref())?;
    let representation = Representation::parse(&query)?;
    let names = collections(app, database).await?;
    if representation == Representation::Standard {
        return Ok(answer::json(json!(names).to_string()));
    }
    let stored = Properties::of(&app.mongo.operations, database)
        .stored(&Owner::Database)
        .await
        .map_err(|error| refused(&error))?;
    let mut properties = bson::doc! { "_id": database.as_str() };
    properties.extend(stored.map(metadata::plain).unwrap_or_default());
    let items: Vec<RawDocumentBuf> = names.iter().map(|name| rawdoc! { "_id": name.as_str() }).collect();
    let base = address.canonical.trim_end_matches('/');
    let links: Vec<_> = names.iter().map(|name| (name.clone(), format!("{base}/{name}"))).collect();
    let listing = Listing { properties: &properties, items: &items, relation: "rh:coll", links: &links };
    listing.response(representation, JsonMode::parse(query.get("jsonMode"))?)
}

async fn replace(app: &App, head: &Head, body: Body, database: &DatabaseName) -> Result<Response, Refusal> {
    let properties = body.object().await?;
    let etag = ObjectId::new();
    let written = Properties::of(&app.mongo.operations, database)
        .replace(&Owner::Database, &properties, etag, precondition::optional(head))
        .await
        .map_err(|error| refused(&error))?;
    let status = match written {
        Written::Created => StatusCode::CREATED,
        Written::Replaced => StatusCode::OK,
        Written::Mismatch => return Err(precondition::failed()),
    };
    Ok(answer::with_etag(answer::empty(status), etag))
}

async fn delete(app: &App, head: &Head, database: &DatabaseName) -> Result<Response, Refusal> {
    let expected = precondition::required(head, "database")?;
    let client = &app.mongo.operations;
    let names = client.database(database.as_str()).list_collection_names().await;
    let names = names.map_err(|error| refused(&error))?;
    if names.is_empty() {
        return Err(Refusal::new(Kind::NotFound, "Database does not exist"));
    }
    let stored = Properties::of(client, database);
    let has_metadata = names.iter().any(|name| name == PROPERTIES)
        && stored.stored(&Owner::Database).await.map_err(|error| refused(&error))?.is_some();
    // A database without metadata has no version: `*` alone names it.
    let fits = if has_metadata {
        stored.remove(&Owner::Database, expected).await.map_err(|error| refused(&error))?.is_some()
    } else {
        expected == Expected::Existing
    };
    if !fits {
        return Err(precondition::failed());
    }
    client.database(database.as_str()).drop().await.map_err(|error| refused(&error))?;
    app.catalog.database_dropped(database);
    Ok(answer::empty(StatusCode::NO_CONTENT))
}
