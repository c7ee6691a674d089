//! Positions as clients hold them: opaque, encrypted, and bound to one stream.
//!
//! A resume token shows `_id` and shard key of other people's documents, and a shared source hands it on. So it travels
//! under AES-256-GCM-SIV (RFC 8452), with database, collection, and stream as associated data. The nonce is constant, which
//! that mode is made to bear: equal tokens give equal positions, on every node, and nothing else is told.

use aes_gcm_siv::{
    Aes256GcmSiv, KeyInit, Nonce,
    aead::{Aead, AeadInOut, Payload},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bson::{Binary, Document, doc, spec::BinarySubtype};
use mongodb::{Client, error::Error, options::ReturnDocument};
use sha2::{Digest, Sha256};
use shared::name::{Namespace, StreamName};
use tokio::sync::OnceCell;

use crate::{metadata, position::Position};

/// The collection, not reachable by any address, where a key is kept that nobody configured.
const COLLECTION: &str = "_tailrace";
const KEY_ID: &str = "position-key";

/// The key that all nodes of a deployment share: configured, or created once and kept in MongoDB.
#[derive(Debug)]
pub struct PositionKey {
    database: String,
    key: OnceCell<[u8; 32]>,
}

impl PositionKey {
    /// A key from the configuration, or from `database` when it is first needed.
    pub fn new(configured: Option<&str>, database: &str) -> Self {
        let key = configured.map(|secret| Sha256::digest(secret.as_bytes()).into());
        Self { database: database.to_owned(), key: OnceCell::new_with(key) }
    }

    /// What seals the positions of one stream.
    pub async fn seal(
        &self,
        client: &Client,
        namespace: &Namespace,
        stream: &StreamName,
    ) -> Result<Seal, Error> {
        let key = self.key.get_or_try_init(|| stored_key(client, &self.database)).await?;
        Ok(Seal::new(key, namespace, stream))
    }

    /// A key for something else, which says nothing of this one; the same on every node.
    pub async fn derived(&self, client: &Client, purpose: &str) -> Result<[u8; 32], Error> {
        let key = self.key.get_or_try_init(|| stored_key(client, &self.database)).await?;
        Ok(Sha256::new().chain_update(purpose).chain_update([0]).chain_update(key).finalize().into())
    }

    /// The database in which nodes keep what they share.
    pub fn database(&self) -> &str {
        &self.database
    }
}

async fn stored_key(client: &Client, database: &str) -> Result<[u8; 32], Error> {
    let fresh = Binary { subtype: BinarySubtype::Generic, bytes: rand::random::<[u8; 32]>().to_vec() };
    let stored = client
        .database(database)
        .collection_with_options::<Document>(COLLECTION, metadata::majority())
        // Whoever comes first creates it; everybody gets that one.
        .find_one_and_update(doc! { "_id": KEY_ID }, doc! { "$setOnInsert": { "key": fresh } })
        .upsert(true)
        .return_document(ReturnDocument::After)
        .await?;
    let bytes = stored.as_ref().and_then(|stored| stored.get_binary_generic("key").ok());
    bytes.and_then(|bytes| bytes.as_slice().try_into().ok()).ok_or_else(|| {
        Error::custom(format!("{database}.{COLLECTION} holds no position key of 32 bytes at _id {KEY_ID}"))
    })
}

/// Seals and opens the positions of one stream.
pub struct Seal {
    cipher: Aes256GcmSiv,
    bound_to: Vec<u8>,
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// What seals under this key. Nodes get it from their [`PositionKey`].
    pub fn new(key: &[u8; 32], namespace: &Namespace, stream: &StreamName) -> Self {
        // Names hold no NUL.
        let bound_to =
            format!("tailrace position\0{}\0{}\0{stream}", namespace.database, namespace.collection);
        Self { cipher: Aes256GcmSiv::new(key.into()), bound_to: bound_to.into_bytes() }
    }

    /// The position as text that fits an address and a header.
    pub fn seal(&self, position: &Position) -> String {
        let mut text = String::new();
        self.write(position, &mut text);
        text
    }

    /// Appends what [`Seal::seal`] gives.
    pub fn write(&self, position: &Position, text: &mut String) {
        let mut sealed = position.to_bytes();
        self.cipher
            .encrypt_in_place(&Nonce::default(), &self.bound_to, &mut sealed)
            .expect("a token is short");
        URL_SAFE_NO_PAD.encode_string(sealed, text);
    }

    /// The position of a text that this deployment sealed for this stream; `None` for any other.
    pub fn open(&self, text: &str) -> Option<Position> {
        let sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
        let payload = Payload { msg: &sealed, aad: &self.bound_to };
        let bytes = self.cipher.decrypt(&Nonce::default(), payload).ok()?;
        Position::from_bytes(&bytes)
    }
}

/// A seal for tests of what is sealed.
#[cfg(test)]
pub(crate) fn for_tests() -> Seal {
    use shared::name::{CollectionName, DatabaseName};
    let namespace = Namespace {
        database: DatabaseName::new("db").expect("a name"),
        collection: CollectionName::new("coll").expect("a name"),
    };
    Seal::new(&[0; 32], &namespace, &StreamName::new("s").expect("a name"))
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;
    use shared::name::{CollectionName, DatabaseName};

    use super::*;

    fn seal(key: u8, stream: &str) -> Seal {
        let namespace = Namespace {
            database: DatabaseName::new("db").expect("name"),
            collection: CollectionName::new("coll").expect("name"),
        };
        Seal::new(&[key; 32], &namespace, &StreamName::new(stream).expect("name"))
    }

    #[test]
    fn a_position_opens_only_with_its_key_at_its_stream_and_whole() {
        let token = rawdoc! { "_data": "8263F5C8A10000000B2B0229296E04" };
        let position = Position::of_token(&token).expect("a token");
        let sealed = seal(1, "s").seal(&position);
        assert_eq!(seal(1, "s").open(&sealed), Some(position.clone()));
        assert_eq!(seal(1, "s").seal(&position), sealed, "the same on every node");
        assert_eq!(seal(2, "s").open(&sealed), None);
        assert_eq!(seal(1, "t").open(&sealed), None);
        assert_eq!(seal(1, "s").open(&sealed[1..]), None);
        assert_eq!(seal(1, "s").open(&sealed[..sealed.len() - 2]), None);
        assert_eq!(seal(1, "s").open(""), None);
        assert_eq!(seal(1, "s").open("8263F5C8A10000000B2B0229296E04"), None);
    }
}
