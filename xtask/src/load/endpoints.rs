//! What a load is pointed at: a stream of a server, a collection of MongoDB's.

use anyhow::{Context as _, Result};
use bson::Document;
use clap::Args;
use mongodb::options::ClientOptions;
use mongodb::{Client, Collection};

/// A stream.
#[derive(Args)]
pub(super) struct Stream {
    /// The server, as `http://host:port`.
    #[arg(long)]
    pub(super) server: String,
    /// The address of the stream; where there are several clients, `{n}` in it is the number of the client.
    #[arg(long)]
    pub(super) path: String,
}

/// A collection.
#[derive(Args)]
pub(super) struct Namespace {
    /// MongoDB's connection string.
    #[arg(long)]
    mongodb: String,
    #[arg(long)]
    database: String,
    #[arg(long)]
    collection: String,
}

impl Namespace {
    /// The driver's collection; so many connections may be busy at once.
    pub(super) async fn open(&self, connections: u32) -> Result<Collection<Document>> {
        let mut options = ClientOptions::parse(&self.mongodb).await.context("MongoDB's address")?;
        options.max_pool_size = Some(connections);
        Ok(Client::with_options(options)?.database(&self.database).collection(&self.collection))
    }
}
