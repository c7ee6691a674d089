//! `/<coll>/<id>`: one document. Every write gets a new `_etag`, and waits for a majority.

use std::sync::Arc;

use bson::{Bson, Document, RawDocumentBuf, doc, oid::ObjectId};
use http::{Method, StatusCode};
use mongodb::{Collection, error::Error, options::ReturnDocument};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use shared::{
    event_json::{JsonMode, write_document},
    name::Namespace,
    permission::Grant,
    readable::readable,
    refusal::{Kind, Refusal},
    request::{Head, Query},
    visibility::{Visibility, merge_into, merge_into_update},
};
use warp::reply::Response;

use super::{collection::check_exists, precondition};
use crate::{
    answer,
    app::App,
    body::Body,
    metadata::{self, Expected},
    mongo::{self, Fault},
};

/// The collection, for writes that a majority acknowledges.
pub fn collection<T: Send + Sync>(app: &App, namespace: &Namespace) -> Collection<T> {
    app.mongo
        .operations
        .database(namespace.database.as_str())
        .collection_with_options(namespace.collection.as_str(), metadata::majority())
}

/// Answers a request for a document.
pub async fn answer(
    app: &Arc<App>,
    head: &Head,
    grant: &Grant,
    body: Body,
    namespace: &Namespace,
    id: &str,
) -> Result<Response, Refusal> {
    let query = Query::parse(head.query.as_deref())?;
    let id = id_of_segment(id, query.get("id_type"))?;
    match head.method {
        Method::GET | Method::HEAD => {
            let mode = JsonMode::parse(query.get("jsonMode"))?;
            read(app, &grant.visibility, namespace, id, mode).await
        }
        Method::PUT => replace(app, head, grant, body, namespace, id).await,
        Method::PATCH => patch(app, head, grant, body, namespace, id).await,
        Method::DELETE => delete(app, head, grant, namespace, id).await,
        _ => Err(Refusal::method_not_allowed(head.method.as_str(), "GET, HEAD, PUT, PATCH, DELETE, OPTIONS")),
    }
}

fn no_document() -> Refusal {
    Refusal::new(Kind::NotFound, "Document does not exist")
}

fn refused(error: &Error) -> Refusal {
    mongo::refusal(error)
}

/// The answer to a write that MongoDB did not carry out. Its message can hold what the caller may not see.
fn write_refused(visibility: &Visibility, error: &Error) -> Refusal {
    if visibility.is_everything() {
        return refused(error);
    }
    match mongo::code(error) {
        // Upserts take the place of no document that is out of view.
        Some(DUPLICATE_KEY) => {
            Refusal::new(Kind::Conflict, "the _id or another unique value is taken by another document")
        }
        Some(code) if mongo::fault(error) != Fault::Unreachable => {
            tracing::info!(error = mongo::unquoted(error), "a write is refused");
            Refusal::new(Kind::RefusedByMongo, format!("MongoDB refuses the write, error {code}"))
        }
        _ => refused(error),
    }
}

const DUPLICATE_KEY: i32 = 11000;

/// The `_id` that a path segment names: an object id if it looks like one, else a string; `id_type` says otherwise.
fn id_of_segment(segment: &str, id_type: Option<&str>) -> Result<Bson, Refusal> {
    let wrong = |expected: &str| {
        Refusal::new(Kind::BadRequest, format!("document id {segment:?} is not {expected}, as id_type asks"))
    };
    match id_type.map(str::to_ascii_uppercase).as_deref() {
        None | Some("STRING_OID") => {
            Ok(ObjectId::parse_str(segment).map_or_else(|_| Bson::String(segment.to_owned()), Bson::ObjectId))
        }
        Some("STRING") => Ok(Bson::String(segment.to_owned())),
        Some("OID") => ObjectId::parse_str(segment).map(Bson::ObjectId).map_err(|_| wrong("an object id")),
        Some("NUMBER") => segment
            .parse::<i64>()
            .map(Bson::Int64)
            .or_else(|_| segment.parse::<f64>().map(Bson::Double))
            .map_err(|_| wrong("a number")),
        Some("DATE") => segment
            .parse()
            .map(|millis| Bson::DateTime(bson::DateTime::from_millis(millis)))
            .map_err(|_| wrong("a date in milliseconds")),
        Some("BOOLEAN") => segment.parse().map(Bson::Boolean).map_err(|_| wrong("a boolean")),
        Some(_) => Err(Refusal::new(
            Kind::BadRequest,
            format!(
                "parameter id_type is {:?}, expected STRING_OID, STRING, OID, NUMBER, DATE, or BOOLEAN",
                id_type.unwrap_or_default()
            ),
        )),
    }
}

/// The path segment of an `_id`, with the `id_type` that reads it back where it needs one.
pub fn segment_of(id: &Bson) -> String {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    match id {
        Bson::ObjectId(id) => id.to_hex(),
        Bson::String(text) if ObjectId::parse_str(text).is_ok() => format!("{text}?id_type=STRING"),
        Bson::String(text) => encode(text),
        Bson::Int32(number) => format!("{number}?id_type=NUMBER"),
        Bson::Int64(number) => format!("{number}?id_type=NUMBER"),
        Bson::DateTime(date) => format!("{}?id_type=DATE", date.timestamp_millis()),
        Bson::Boolean(value) => format!("{value}?id_type=BOOLEAN"),
        other => encode(&other.clone().into_relaxed_extjson().to_string()),
    }
}

async fn read(
    app: &App,
    visibility: &Visibility,
    namespace: &Namespace,
    id: Bson,
    mode: JsonMode,
) -> Result<Response, Refusal> {
    check_exists(app, namespace).await?;
    let within = app.config.limits.read_timeout();
    let target = collection::<RawDocumentBuf>(app, namespace);
    let found = target
        .find_one(visibility.reading(doc! { "_id": id }))
        .projection(visibility.projection().document())
        .max_time(within);
    let found = app.mongo.read(within, found.into_future()).await?.ok_or_else(no_document)?;
    let mut body = String::new();
    let written = readable(&found).and_then(|found| write_document(&mut body, &found, mode));
    written.map_err(|_| {
        tracing::error!("a document is no valid BSON");
        Refusal::new(Kind::Internal, "the document is no valid BSON")
    })?;
    let response = answer::json(body);
    Ok(match found.get_object_id("_etag") {
        Ok(etag) => answer::with_etag(response, etag),
        Err(_) => response,
    })
}

/// A document that was just written.
#[derive(Debug)]
pub struct Created {
    /// Its `_id`.
    pub id: Bson,
    /// Its version.
    pub etag: ObjectId,
    /// 201, or 200 where it replaced one of the same `_id`.
    pub status: StatusCode,
}

/// Writes a new document. One with an `_id` that exists is replaced, as RESTHeart does.
pub async fn create(
    app: &App,
    grant: &Grant,
    namespace: &Namespace,
    mut document: Document,
) -> Result<Created, Refusal> {
    let visibility = &grant.visibility;
    let refused = |error: Error| write_refused(visibility, &error);
    merge_into(&mut document, &grant.merge);
    let etag = ObjectId::new();
    document.insert("_etag", etag);
    let target = collection::<Document>(app, namespace);
    match document.get("_id").cloned() {
        None => {
            let id = Bson::ObjectId(ObjectId::new());
            let mut with_id = doc! { "_id": id.clone() };
            with_id.extend(document);
            target.insert_one(with_id).await.map_err(refused)?;
            Ok(Created { id, etag, status: StatusCode::CREATED })
        }
        Some(id) => {
            let result = target
                .replace_one(visibility.writing(doc! { "_id": id.clone() }), document)
                .upsert(true)
                .await
                .map_err(refused)?;
            let status = if result.matched_count == 0 { StatusCode::CREATED } else { StatusCode::OK };
            Ok(Created { id, etag, status })
        }
    }
}

/// Writes several new documents, all or as many as fit before the first that does not.
pub async fn create_many(
    app: &App,
    grant: &Grant,
    namespace: &Namespace,
    array: Vec<Bson>,
) -> Result<Response, Refusal> {
    let etag = ObjectId::new();
    let mut documents = Vec::with_capacity(array.len());
    for (index, element) in array.into_iter().enumerate() {
        let Bson::Document(mut document) = element else {
            return Err(Refusal::new(Kind::BadBody, format!("body[{index}] is not a JSON object")));
        };
        merge_into(&mut document, &grant.merge);
        document.insert("_etag", etag);
        documents.push(document);
    }
    if documents.is_empty() {
        return Err(Refusal::new(
            Kind::BadBody,
            "the body is an empty array, expected at least one document",
        ));
    }
    let written = collection::<Document>(app, namespace)
        .insert_many(documents)
        .await
        .map_err(|error| write_refused(&grant.visibility, &error))?;
    let body = serde_json::json!({ "inserted": written.inserted_ids.len() });
    Ok(answer::with_etag(answer::json(body.to_string()), etag))
}

/// The document to write, in the version that is asked for, if the caller may write it.
fn filter(visibility: &Visibility, id: Bson, expected: Expected) -> Result<Document, Refusal> {
    Ok(visibility.writing(match expected {
        Expected::Anything | Expected::Existing => doc! { "_id": id },
        Expected::Etag(etag) => doc! { "_id": id, "_etag": etag },
        Expected::Nothing => return Err(precondition::failed()),
    }))
}

/// What it means that nothing was found: 404, or 412 where a version was asked for and the document is there.
fn absent(expected: Expected) -> Refusal {
    if expected == Expected::Anything { no_document() } else { precondition::failed() }
}

async fn replace(
    app: &App,
    head: &Head,
    grant: &Grant,
    body: Body,
    namespace: &Namespace,
    id: Bson,
) -> Result<Response, Refusal> {
    check_exists(app, namespace).await?;
    let mut document = body.object().await?;
    if document.get("_id").is_some_and(|other| *other != id) {
        return Err(Refusal::new(Kind::BadBody, "_id in the body differs from the one in the address"));
    }
    let expected = precondition::optional(head);
    merge_into(&mut document, &grant.merge);
    let etag = ObjectId::new();
    document.insert("_etag", etag);
    document.insert("_id", id.clone());
    let before = collection::<Document>(app, namespace)
        .find_one_and_replace(filter(&grant.visibility, id, expected)?, document)
        .upsert(expected == Expected::Anything)
        .return_document(ReturnDocument::Before)
        .projection(doc! { "_id": 1 })
        .await
        .map_err(|error| write_refused(&grant.visibility, &error))?;
    let status = match (before, expected) {
        (Some(_), _) => StatusCode::OK,
        (None, Expected::Anything) => StatusCode::CREATED,
        (None, _) => return Err(precondition::failed()),
    };
    Ok(answer::with_etag(answer::empty(status), etag))
}

async fn patch(
    app: &App,
    head: &Head,
    grant: &Grant,
    body: Body,
    namespace: &Namespace,
    id: Bson,
) -> Result<Response, Refusal> {
    check_exists(app, namespace).await?;
    let expected = precondition::optional(head);
    let etag = ObjectId::new();
    let mut update = update_of(body.object().await?, &id, etag)?;
    grant.visibility.check_update(&update)?;
    merge_into_update(&mut update, &grant.merge);
    collection::<Document>(app, namespace)
        .find_one_and_update(filter(&grant.visibility, id, expected)?, update)
        .projection(doc! { "_id": 1 })
        .await
        .map_err(|error| write_refused(&grant.visibility, &error))?
        .ok_or_else(|| absent(expected))?;
    Ok(answer::with_etag(answer::empty(StatusCode::OK), etag))
}

/// Members are set; members that begin with `$` are update operators of MongoDB's.
fn update_of(body: Document, id: &Bson, etag: ObjectId) -> Result<Document, Refusal> {
    let mut set = Document::new();
    let mut update = Document::new();
    for (name, value) in body {
        match (name.as_str(), value) {
            ("$set", Bson::Document(members)) => set.extend(members),
            ("_id", value) if value == *id => {}
            ("_id", _) => {
                return Err(Refusal::new(
                    Kind::BadBody,
                    "_id in the body differs from the one in the address",
                ));
            }
            (operator, value) if operator.starts_with('$') => {
                update.insert(name, value);
            }
            (_, value) => {
                set.insert(name, value);
            }
        }
    }
    set.insert("_etag", etag);
    update.insert("$set", set);
    Ok(update)
}

async fn delete(
    app: &App,
    head: &Head,
    grant: &Grant,
    namespace: &Namespace,
    id: Bson,
) -> Result<Response, Refusal> {
    check_exists(app, namespace).await?;
    let expected = precondition::optional(head);
    collection::<Document>(app, namespace)
        .find_one_and_delete(filter(&grant.visibility, id, expected)?)
        .projection(doc! { "_id": 1 })
        .await
        .map_err(|error| refused(&error))?
        .ok_or_else(|| absent(expected))?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_an_object_id_if_it_looks_like_one() {
        let id = "010101010101010101010101";
        assert_eq!(id_of_segment(id, None), Ok(Bson::ObjectId(ObjectId::from_bytes([1; 12]))));
        assert_eq!(id_of_segment(id, Some("string")), Ok(Bson::String(id.to_owned())));
        assert_eq!(id_of_segment("x", None), Ok(Bson::String("x".to_owned())));
        assert_eq!(id_of_segment("7", Some("NUMBER")), Ok(Bson::Int64(7)));
        assert_eq!(
            id_of_segment("x", Some("OID")).expect_err("no object id").message(),
            "document id \"x\" is not an object id, as id_type asks"
        );
        assert_eq!(
            id_of_segment("x", Some("UUID")).expect_err("unknown").message(),
            "parameter id_type is \"UUID\", expected STRING_OID, STRING, OID, NUMBER, DATE, or BOOLEAN"
        );
    }

    #[test]
    fn members_of_a_patch_are_set_and_operators_are_operators() {
        let etag = ObjectId::from_bytes([2; 12]);
        let update =
            update_of(doc! { "a": 1, "$inc": { "b": 2 }, "$set": { "c": 3 } }, &Bson::Int32(1), etag);
        assert_eq!(update, Ok(doc! { "$inc": { "b": 2 }, "$set": { "a": 1, "c": 3, "_etag": etag } }));
    }
}
