//! Inserts at a steady rate.

use std::time::Duration;

use anyhow::{Context as _, Result};
use bson::{Document, doc};
use clap::Args;
use mongodb::Client;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use super::{now, orders};

#[derive(Args)]
pub(crate) struct Options {
    /// MongoDB's connection string.
    #[arg(long)]
    mongodb: String,
    #[arg(long)]
    database: String,
    #[arg(long)]
    collection: String,
    /// Inserts a second.
    #[arg(long)]
    rate: u32,
    /// Documents in one insert: those of one insert come in one reply of the change stream.
    #[arg(long, default_value_t = 1)]
    batch: u32,
    /// How many names the documents have, in turn: `name` is a number below it.
    #[arg(long, default_value_t = 1)]
    names: u32,
    /// Bytes of padding in a document.
    #[arg(long)]
    padding: usize,
}

/// Writes from each `go` to the next `stop`.
pub(crate) async fn run(options: Options) -> Result<()> {
    let client = Client::with_uri_str(&options.mongodb).await.context("MongoDB's address")?;
    let collection = client.database(&options.database).collection::<Document>(&options.collection);
    let padding = "x".repeat(options.padding);
    let mut ticks = interval(Duration::from_secs(1) * options.batch / options.rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut orders = orders();
    let mut goes = false;
    let mut name = 0;
    println!("{}", json!({ "rate": options.rate }));
    loop {
        tokio::select! {
            _ = ticks.tick(), if goes => {
                let at = i64::try_from(now())?;
                let documents = (0..options.batch).map(|_| {
                    name = (name + 1) % options.names;
                    doc! { "at": at, "name": name, "padding": &padding }
                });
                collection.insert_many(documents).await.context("an insert")?;
            }
            order = orders.recv() => {
                let Some(order) = order else { return Ok(()) };
                goes = order == "go";
                println!("{}", json!({}));
            }
        }
    }
}
