//! The name of a collection in the configuration, with that of its database.

use bson::Document;
use mongodb::Client;
use serde::Deserialize;
use shared::name::{CollectionName, DatabaseName, Namespace};

/// A collection that the configuration names, as `app.users`. It may be one that no address reaches.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct CollectionPath {
    database: String,
    collection: String,
}

impl TryFrom<String> for CollectionPath {
    type Error = String;

    fn try_from(path: String) -> Result<Self, String> {
        match path.split_once('.') {
            Some((database, collection)) if !database.is_empty() && !collection.is_empty() => {
                Ok(Self { database: database.to_owned(), collection: collection.to_owned() })
            }
            _ => Err(format!("{path:?} is no collection, expected a database and a name, as app.users")),
        }
    }
}

impl std::fmt::Display for CollectionPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.database, self.collection)
    }
}

impl CollectionPath {
    /// The collection.
    pub fn of(&self, client: &Client) -> mongodb::Collection<Document> {
        client.database(&self.database).collection(&self.collection)
    }

    /// Its name, if an address may reach it.
    pub fn namespace(&self) -> Option<Namespace> {
        Some(Namespace {
            database: DatabaseName::new(&self.database)?,
            collection: CollectionName::new(&self.collection)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_is_named_with_its_database() {
        let path = |text: &str| CollectionPath::try_from(text.to_owned());
        let acl = path("app.acl.v2").expect("path");
        assert_eq!((acl.database.as_str(), acl.collection.as_str()), ("app", "acl.v2"));
        assert!(acl.namespace().is_some());
        assert!(path("app._acl").expect("path").namespace().is_none(), "no address reaches it");
        for wrong in ["users", ".users", "app."] {
            assert_eq!(
                path(wrong).unwrap_err(),
                format!("{wrong:?} is no collection, expected a database and a name, as app.users")
            );
        }
    }
}
