//! Metadata of collections: where it is stored, and how it is read and written.
//!
//! It lives in `<db>._properties`, as RESTHeart keeps it: `_id: "_properties.<collection>"` for a collection and
//! `_id: "_properties"` for the database itself. What is stored is the escaped form.

use bson::{Bson, Document, doc, oid::ObjectId};
use mongodb::{
    Client, Collection,
    error::{Error, ErrorKind},
    options::{Acknowledgment, CollectionOptions, ReturnDocument, WriteConcern},
};
use shared::{
    escape::{escape, unescape},
    name::{CollectionName, DatabaseName, Namespace},
};

use crate::mongo;

/// The collection that holds the metadata of its database.
pub const PROPERTIES: &str = "_properties";

/// Whose metadata it is, within its database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner<'a> {
    /// The database itself.
    Database,
    /// A collection.
    Collection(&'a CollectionName),
}

impl Owner<'_> {
    fn id(&self) -> String {
        match self {
            Self::Database => PROPERTIES.to_owned(),
            Self::Collection(name) => format!("{PROPERTIES}.{name}"),
        }
    }
}

/// What `If-Match` wants of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nothing was asked for.
    Anything,
    /// Something must be stored.
    Existing,
    /// The stored `_etag` must be this one.
    Etag(ObjectId),
    /// `If-Match` was no `_etag`: nothing can fit it.
    Nothing,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// There was nothing before.
    Created,
    /// Something was there before.
    Replaced,
    /// `If-Match` names another version; nothing was written.
    Mismatch,
}

/// The metadata of one database.
#[derive(Clone, Debug)]
pub struct Properties {
    collection: Collection<Document>,
}

/// Writes are acknowledged by a majority: only then does a change stream show them, and no fail-over takes them back.
pub fn majority() -> CollectionOptions {
    CollectionOptions::builder()
        .write_concern(WriteConcern::builder().w(Acknowledgment::Majority).build())
        .build()
}

impl Properties {
    /// The metadata of `database`.
    pub fn of(client: &Client, database: &DatabaseName) -> Self {
        Self {
            collection: client.database(database.as_str()).collection_with_options(PROPERTIES, majority()),
        }
    }

    /// The metadata, as it is stored.
    pub async fn stored(&self, owner: &Owner<'_>) -> Result<Option<Document>, Error> {
        self.collection.find_one(doc! { "_id": owner.id() }).await
    }

    /// Replaces the metadata; `properties` is in the plain form.
    pub async fn replace(
        &self,
        owner: &Owner<'_>,
        properties: &Document,
        etag: ObjectId,
        expected: Expected,
    ) -> Result<Written, Error> {
        let mut stored = escaped(properties);
        stored.insert("_etag", etag);
        stored.remove("_id");
        let id = owner.id();
        let Some(filter) = filter(&id, expected) else { return Ok(Written::Mismatch) };
        let replaced = self
            .collection
            .find_one_and_replace(filter, stored)
            .upsert(expected == Expected::Anything)
            .return_document(ReturnDocument::Before)
            .await?;
        Ok(written(replaced.is_some(), expected))
    }

    /// Sets top-level members of the metadata; `null` stays a value, as RESTHeart has it.
    pub async fn patch(
        &self,
        owner: &Owner<'_>,
        properties: &Document,
        etag: ObjectId,
        expected: Expected,
    ) -> Result<Written, Error> {
        let mut set = escaped(properties);
        set.insert("_etag", etag);
        set.remove("_id");
        let id = owner.id();
        let Some(filter) = filter(&id, expected) else { return Ok(Written::Mismatch) };
        let updated = self
            .collection
            .find_one_and_update(filter, doc! { "$set": set })
            .upsert(expected == Expected::Anything)
            .await?;
        Ok(written(updated.is_some(), expected))
    }

    /// Removes the metadata if it is of this version, and tells what was stored.
    pub async fn remove(&self, owner: &Owner<'_>, expected: Expected) -> Result<Option<Document>, Error> {
        let id = owner.id();
        let Some(filter) = filter(&id, expected) else { return Ok(None) };
        self.collection.find_one_and_delete(filter).await
    }

    /// Stores again what was removed, unless somebody has written other metadata since.
    pub async fn restore(&self, removed: Document) -> Result<(), Error> {
        match self.collection.insert_one(removed).await {
            // 11000 DuplicateKey
            Err(error) if mongo::code(&error) == Some(11_000) => Ok(()),
            stored => stored.map(drop),
        }
    }
}

fn filter(id: &str, expected: Expected) -> Option<Document> {
    match expected {
        Expected::Anything | Expected::Existing => Some(doc! { "_id": id }),
        Expected::Etag(etag) => Some(doc! { "_id": id, "_etag": etag }),
        Expected::Nothing => None,
    }
}

fn written(existed: bool, expected: Expected) -> Written {
    match (existed, expected) {
        (true, _) => Written::Replaced,
        (false, Expected::Anything) => Written::Created,
        (false, _) => Written::Mismatch,
    }
}

fn escaped(properties: &Document) -> Document {
    match escape(&Bson::Document(properties.clone())) {
        Bson::Document(document) => document,
        _ => unreachable!("an object stays an object"),
    }
}

/// The plain form of stored metadata, without the `_id` that is ours.
pub fn plain(mut stored: Document) -> Document {
    stored.remove("_id");
    match unescape(&Bson::Document(stored)) {
        Bson::Document(document) => document,
        _ => unreachable!("an object stays an object"),
    }
}

/// Creates the collection if it is not there.
pub async fn create_collection(client: &Client, namespace: &Namespace) -> Result<(), Error> {
    let database = client.database(namespace.database.as_str());
    match database.create_collection(namespace.collection.as_str()).await {
        // 48 NamespaceExists
        Err(error) if matches!(error.kind.as_ref(), ErrorKind::Command(command) if command.code == 48) => {
            Ok(())
        }
        other => other,
    }
}

/// Whether the collection records pre- and post-images (MongoDB manual, "Change Streams with Document Pre- and Post-Images").
pub async fn records_images(client: &Client, namespace: &Namespace) -> Result<bool, Error> {
    let database = client.database(namespace.database.as_str());
    let filter = doc! {
        "name": namespace.collection.as_str(),
        "options.changeStreamPreAndPostImages.enabled": true,
    };
    database.list_collections().filter(filter).await?.advance().await
}

/// Whether the collection exists.
pub async fn collection_exists(client: &Client, namespace: &Namespace) -> Result<bool, Error> {
    let database = client.database(namespace.database.as_str());
    let names =
        database.list_collection_names().filter(doc! { "name": namespace.collection.as_str() }).await?;
    Ok(!names.is_empty())
}
