//! `/<coll>`: a collection's metadata, its documents as a list, and the creation of documents.

use std::sync::Arc;

use bson::{Bson, Document, RawDocumentBuf, doc, oid::ObjectId};
use futures_util::{Stream, TryStreamExt};
use http::{HeaderValue, Method, StatusCode, header};
use shared::{
    address::Address,
    definition::Definitions,
    event_json::JsonMode,
    limit::Limit,
    name::Namespace,
    permission::Grant,
    refusal::{Kind, Refusal},
    request::{Head, Query},
    visibility::Visibility,
};
use warp::reply::Response;

use super::{
    definition_check, document, precondition,
    query::DocumentQuery,
    representation::{Listing, Representation},
};
use crate::{
    answer,
    app::App,
    body::Body,
    metadata::{self, Expected, Owner, Properties, Written},
    mongo,
    permission::May,
    stream::encoded,
};

/// Answers a request for a collection.
pub async fn answer(
    app: &Arc<App>,
    may: &May<'_>,
    grant: &Grant,
    body: Body,
    address: &Address,
    namespace: &Namespace,
) -> Result<Response, Refusal> {
    let head = may.head;
    match head.method {
        Method::GET | Method::HEAD => list(app, may, grant, address, namespace).await,
        Method::POST => create(app, grant, body, address, namespace).await,
        Method::PUT => write(app, head, body, namespace, Manner::Replace).await,
        Method::PATCH => write(app, head, body, namespace, Manner::Patch).await,
        Method::DELETE => delete(app, head, namespace).await,
        _ => Err(Refusal::method_not_allowed(
            head.method.as_str(),
            "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        )),
    }
}

fn no_collection() -> Refusal {
    Refusal::new(Kind::NotFound, "Collection does not exist")
}

/// 404 unless the collection is there.
pub async fn check_exists(app: &App, namespace: &Namespace) -> Result<(), Refusal> {
    let declared = app.catalog.read(namespace).await?;
    if declared.exists { Ok(()) } else { Err(no_collection()) }
}

async fn list(
    app: &App,
    may: &May<'_>,
    grant: &Grant,
    address: &Address,
    namespace: &Namespace,
) -> Result<Response, Refusal> {
    let query = Query::parse(may.head.query.as_deref())?;
    let representation = Representation::parse(&query)?;
    let mode = JsonMode::parse(query.get("jsonMode"))?;
    let wanted = DocumentQuery::parse(&query)?;
    grant.visibility.check_filter(&wanted.filter)?;
    check_exists(app, namespace).await?;

    let refused = |error: mongodb::error::Error| mongo::refusal(&error);
    let items: Vec<RawDocumentBuf> = if wanted.limit == 0 {
        Vec::new()
    } else {
        let within = app.config.limits.read_timeout();
        app.mongo.read(within, found(app, namespace, &grant.visibility, wanted)).await??
    };

    let (properties, links) = if representation == Representation::Standard {
        (Document::new(), Vec::new())
    } else {
        let stored = Properties::of(&app.mongo.operations, &namespace.database)
            .stored(&Owner::Collection(&namespace.collection))
            .await
            .map_err(refused)?;
        let mut properties = doc! { "_id": namespace.collection.as_str() };
        properties.extend(stored.map(metadata::plain).unwrap_or_default());
        let links = Definitions::stored(properties.get("streams"))
            .iter()
            .filter_map(|(name, _)| {
                let href = format!("{}/_streams/{name}", address.canonical);
                let stream = app.mounts.resolve(&format!("{}/_streams/{}", address.canonical, encoded(name)));
                stream.is_ok_and(|stream| may.follows(&stream)).then(|| (name.to_string(), href))
            })
            .collect();
        (properties, links)
    };
    let listing = Listing { properties: &properties, items: &items, relation: "rh:doc", links: &links };
    listing.response(representation, mode)
}

/// The documents of a query. Where fields are hidden they are taken away first, so that neither a filter, nor an order,
/// nor a computed key can tell of them.
async fn found(
    app: &App,
    namespace: &Namespace,
    visibility: &Visibility,
    wanted: DocumentQuery,
) -> Result<Result<Vec<RawDocumentBuf>, Refusal>, mongodb::error::Error> {
    let limits = &app.config.limits;
    let collection = document::collection::<RawDocumentBuf>(app, namespace);
    if visibility.projection().is_everything() {
        let found = collection
            .find(visibility.reading(wanted.filter))
            .sort(wanted.sort)
            .projection(wanted.keys)
            .skip(wanted.skip)
            .limit(i64::from(wanted.limit))
            .max_time(limits.read_timeout());
        return page(found.await?, limits.page_bytes).await;
    }
    let mut pipeline = vec![
        doc! { "$match": visibility.reading(Document::new()) },
        doc! { "$project": visibility.projection().document() },
        doc! { "$match": wanted.filter },
        doc! { "$sort": wanted.sort },
        doc! { "$skip": i64::try_from(wanted.skip).unwrap_or(i64::MAX) },
        doc! { "$limit": i64::from(wanted.limit) },
    ];
    if !wanted.keys.is_empty() {
        pipeline.push(doc! { "$project": wanted.keys });
    }
    let found = collection.aggregate(pipeline).max_time(limits.read_timeout()).with_type::<RawDocumentBuf>();
    page(found.await?, limits.page_bytes).await
}

/// The documents that are found, if they are of no more than so many bytes, or only one; else the refusal.
async fn page<E>(
    mut found: impl Stream<Item = Result<RawDocumentBuf, E>> + Unpin,
    most: usize,
) -> Result<Result<Vec<RawDocumentBuf>, Refusal>, E> {
    let mut documents = Vec::new();
    let mut bytes = 0;
    while let Some(document) = found.try_next().await? {
        bytes += document.as_bytes().len();
        if bytes > most && !documents.is_empty() {
            return Ok(Err(Limit::PageBytes.refusal(u64::try_from(most).unwrap_or(u64::MAX))));
        }
        documents.push(document);
    }
    Ok(Ok(documents))
}

async fn create(
    app: &App,
    grant: &Grant,
    body: Body,
    address: &Address,
    namespace: &Namespace,
) -> Result<Response, Refusal> {
    check_exists(app, namespace).await?;
    match body.value().await? {
        Bson::Document(document) => {
            let created = document::create(app, grant, namespace, document).await?;
            let mut response = answer::with_etag(answer::empty(created.status), created.etag);
            let location = format!("{}/{}", address.canonical, document::segment_of(&created.id));
            if let Ok(location) = HeaderValue::try_from(location) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            Ok(response)
        }
        Bson::Array(array) => document::create_many(app, grant, namespace, array).await,
        _ => Err(Refusal::new(Kind::BadBody, "the body is not a JSON object or an array of them")),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Replace,
    Patch,
}

/// Writes the metadata. Nothing is stored when anything is refused.
async fn write(
    app: &App,
    head: &Head,
    body: Body,
    namespace: &Namespace,
    manner: Manner,
) -> Result<Response, Refusal> {
    let properties = body.object().await?;
    let client = &app.mongo.operations;
    if let Some(streams) = properties.get("streams") {
        let definitions = Definitions::written(streams)?;
        definition_check::accepted_by_mongo(client, namespace, &definitions).await?;
    }
    let refused = |error: mongodb::error::Error| mongo::refusal(&error);
    if manner == Manner::Patch {
        check_exists(app, namespace).await?;
    } else {
        metadata::create_collection(client, namespace).await.map_err(refused)?;
    }
    let expected = precondition::optional(head);
    let stored = Properties::of(client, &namespace.database);
    let owner = Owner::Collection(&namespace.collection);
    let etag = ObjectId::new();
    let written = match manner {
        Manner::Replace => stored.replace(&owner, &properties, etag, expected).await,
        Manner::Patch => stored.patch(&owner, &properties, etag, expected).await,
    };
    let status = match (written.map_err(refused)?, manner) {
        (Written::Mismatch, _) => return Err(precondition::failed()),
        (Written::Created, Manner::Replace) => StatusCode::CREATED,
        (Written::Created | Written::Replaced, _) => StatusCode::OK,
    };
    // Whoever connects after this answer gets the new definitions here; other nodes learn from their watchers.
    app.catalog.changed(namespace).await.map_err(refused)?;
    Ok(answer::with_etag(answer::empty(status), etag))
}

async fn delete(app: &App, head: &Head, namespace: &Namespace) -> Result<Response, Refusal> {
    let expected = precondition::required(head, "collection")?;
    check_exists(app, namespace).await?;
    let refused = |error: mongodb::error::Error| mongo::refusal(&error);
    let client = &app.mongo.operations;
    let stored = Properties::of(client, &namespace.database);
    let owner = Owner::Collection(&namespace.collection);
    let has_metadata = stored.stored(&owner).await.map_err(refused)?.is_some();
    // A collection without metadata has no version: `*` alone names it.
    let removed = if has_metadata { stored.remove(&owner, expected).await.map_err(refused)? } else { None };
    if removed.is_none() && (has_metadata || expected != Expected::Existing) {
        return Err(precondition::failed());
    }
    if let Err(error) = document::collection::<Document>(app, namespace).drop().await {
        // It stays, and so do its streams.
        if let Some(removed) = removed
            && let Err(error) = stored.restore(removed).await
        {
            let error = mongo::unquoted(&error);
            tracing::error!(%namespace, error, "a collection that was not dropped has lost its metadata");
        }
        return Err(mongo::refusal(&error));
    }
    app.catalog.dropped(namespace).await.map_err(refused)?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;

    use super::*;

    async fn of(sizes: &[usize]) -> Result<usize, String> {
        let document = |bytes: &usize| {
            let text = "x".repeat(bytes - 16);
            Ok::<_, Infallible>(RawDocumentBuf::try_from(&doc! { "text": text }).expect("BSON"))
        };
        let page = page(stream::iter(sizes.iter().map(document)), 1_000).await.expect("no error");
        page.map(|documents| documents.len()).map_err(|refusal| refusal.to_string())
    }

    #[tokio::test]
    async fn a_page_is_bounded_in_bytes_and_one_document_always_fits() {
        assert_eq!(of(&[400, 600]).await, Ok(2));
        assert_eq!(of(&[2_000]).await, Ok(1));
        let refused = "400 the documents are too large for one page, expected a smaller pagesize: limits.page-bytes is 1000";
        for sizes in [&[400, 601][..], &[1, 16, 2_000].map(|size: usize| size.max(17)), &[2_000, 17]] {
            assert_eq!(of(sizes).await, Err(refused.to_owned()), "{sizes:?}");
        }
    }
}
