//! What names a view to clients. Who comes back behind a position and is given another name knows that the documents of before
//! may not be in view any more, though nobody was there to be closed with 4001.
//!
//! It is a hash under a key that the nodes share: the same on every node, and of no use to find out the values of a
//! permission's filter, which a plain hash would let anybody try.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mongodb::{Client, error::Error};
use ring::hmac;
use shared::name::Namespace;

use crate::seal::PositionKey;

/// What this key is for, and nothing else: tickets and positions have keys of their own.
const PURPOSE: &str = "tailrace views";

/// How much of the hash is told, in bytes. By chance two views have one name once in 2^64.
const TOLD: usize = 8;

/// The name of one view of a stream: 11 letters, digits, `-`, and `_`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View(String);

impl View {
    /// The name of the view of a stream in this collection whose [`shared::view::key`] is given.
    pub async fn named(
        keys: &PositionKey,
        client: &Client,
        namespace: &Namespace,
        view: &[u8],
    ) -> Result<Self, Error> {
        Ok(Self::under(&keys.derived(client, PURPOSE).await?, namespace, view))
    }

    fn under(key: &[u8; 32], namespace: &Namespace, view: &[u8]) -> Self {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
        let Namespace { database, collection } = namespace;
        // Names hold no NUL.
        for part in [database.as_str().as_bytes(), &[0], collection.as_str().as_bytes(), &[0], view] {
            context.update(part);
        }
        Self(URL_SAFE_NO_PAD.encode(&context.sign().as_ref()[..TOLD]))
    }

    /// It as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use shared::name::{CollectionName, DatabaseName};

    use super::*;

    fn named(key: u8, collection: &str, view: &[u8]) -> View {
        let namespace = Namespace {
            database: DatabaseName::new("db").expect("a name"),
            collection: CollectionName::new(collection).expect("a name"),
        };
        View::under(&[key; 32], &namespace, view)
    }

    #[test]
    fn equal_views_have_one_name_under_one_key_and_in_one_collection() {
        let view = named(1, "log", b"view");
        assert_eq!(view, named(1, "log", b"view"));
        assert_ne!(view, named(1, "log", b"another"));
        assert_ne!(view, named(1, "other", b"view"));
        assert_ne!(view, named(2, "log", b"view"), "who has no key can try no values");
    }

    #[test]
    fn a_name_is_short_and_stands_in_json_and_in_an_address_as_it_is() {
        for n in 0..100_u8 {
            let View(name) = named(1, "log", &[n]);
            assert_eq!(name.len(), 11);
            assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{name}");
        }
    }
}
