//! One-time tickets: signed here, and burned here, in a collection that all nodes share.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bson::{DateTime, Document, doc};
use mongodb::{
    Client, IndexModel,
    error::{Error, ErrorKind, WriteFailure},
    options::IndexOptions,
};
use shared::{
    edge_key::EdgeKeys,
    identity::Claims,
    refusal::{Kind, Refusal},
    ticket::{self, TicketId},
};
use tokio::sync::OnceCell;

use super::refused;
use crate::{metadata, mongo, seal::PositionKey};

/// The collection, not reachable by any address, that holds the ids of tickets that were used.
const COLLECTION: &str = "_tailrace_tickets";

/// How long an id is remembered after its ticket ran out, in seconds: an edge's clock may be behind.
const REMEMBERED: u64 = 120;

/// What a duplicate `_id` is answered with.
const DUPLICATE: i32 = 11_000;

#[derive(Debug)]
pub(super) struct Tickets {
    client: Client,
    database: String,
    deployment: String,
    /// Those of the edge, which has to check tickets; else one that all nodes derive from what they share.
    keys: OnceCell<EdgeKeys>,
    indexed: OnceCell<()>,
}

impl Tickets {
    pub(super) fn new(client: Client, database: &str, edge_keys: &EdgeKeys, deployment: &str) -> Self {
        let keys = (!edge_keys.is_empty()).then(|| edge_keys.clone());
        Self {
            client,
            database: database.to_owned(),
            deployment: deployment.to_owned(),
            keys: OnceCell::new_with(keys),
            indexed: OnceCell::new(),
        }
    }

    async fn keys(&self, shared_key: &PositionKey) -> Result<&EdgeKeys, Refusal> {
        let derive = || async {
            let key = shared_key.derived(&self.client, "tailrace tickets").await?;
            EdgeKeys::new([("nodes", URL_SAFE_NO_PAD.encode(key).as_str())]).map_err(Error::custom)
        };
        self.keys.get_or_try_init(derive).await.map_err(|error| mongo::refusal(&error))
    }

    /// A ticket for the stream at a canonical path. `now` is in Unix seconds.
    pub(super) async fn issue(
        &self,
        claims: &Claims,
        stream: &str,
        shared_key: &PositionKey,
        now: u64,
    ) -> Result<String, Refusal> {
        let keys = self.keys(shared_key).await?;
        ticket::issue(claims, stream, keys, &self.deployment, rand::random(), now)
            .ok_or_else(|| Refusal::new(Kind::Internal, "there is no key for tickets"))
    }

    /// Whose ticket it is; 401 for one that is not good here and now.
    pub(super) async fn verify(
        &self,
        ticket: &str,
        stream: &str,
        shared_key: &PositionKey,
        now: u64,
    ) -> Result<(Claims, TicketId), Refusal> {
        ticket::verify(ticket, stream, self.keys(shared_key).await?, &self.deployment, now)
    }

    /// Takes a ticket that was not used before; 401 for one that was.
    pub(super) async fn burn(&self, ticket: &TicketId) -> Result<(), Refusal> {
        let refusal = |error: Error| mongo::refusal(&error);
        let collection = self
            .client
            .database(&self.database)
            .collection_with_options::<Document>(COLLECTION, metadata::majority());
        let index = || async {
            let options = IndexOptions::builder().expire_after(Duration::ZERO).build();
            let model = IndexModel::builder().keys(doc! { "expires": 1 }).options(options).build();
            collection.create_index(model).await.map(drop)
        };
        self.indexed.get_or_try_init(index).await.map_err(refusal)?;
        let until = ticket.expires.saturating_add(REMEMBERED).saturating_mul(1_000);
        let until = DateTime::from_millis(i64::try_from(until).unwrap_or(i64::MAX));
        match collection.insert_one(doc! { "_id": &ticket.id, "expires": until }).await {
            Ok(_) => Ok(()),
            Err(error) if is_duplicate(&error) => Err(refused("ticket was used before")),
            Err(error) => Err(refusal(error)),
        }
    }
}

fn is_duplicate(error: &Error) -> bool {
    matches!(error.kind.as_ref(), ErrorKind::Write(WriteFailure::WriteError(write)) if write.code == DUPLICATE)
}
