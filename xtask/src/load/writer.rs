//! Inserts: at a steady rate, or so many.

use std::time::Duration;

use anyhow::{Context as _, Result};
use bson::{Document, doc};
use clap::Args;
use mongodb::Collection;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use super::endpoints::Namespace;
use super::volley::Volley;
use super::{now, orders};

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    namespace: Namespace,
    /// Inserts a second.
    #[arg(long, default_value_t = 1)]
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

/// Writes from each `go` to the next `stop`, and each volley at once. The answer to `stop` tells how many documents there are
/// by then.
pub(crate) async fn run(options: Options) -> Result<()> {
    let collection = options.namespace.open(4).await?;
    let mut writer =
        Writer { collection, names: options.names, padding: "x".repeat(options.padding), written: 0 };
    let mut ticks = interval(Duration::from_secs(1) * options.batch / options.rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut orders = orders();
    let mut goes = false;
    println!("{}", json!({ "rate": options.rate }));
    loop {
        tokio::select! {
            _ = ticks.tick(), if goes => writer.write(options.batch).await?,
            order = orders.recv() => {
                let Some(order) = order else { return Ok(()) };
                match Volley::of_order(&order)? {
                    Some(volley) => volley.fire(async |batch| writer.write(batch).await).await?,
                    None => goes = order == "go",
                }
                println!("{}", json!({ "written": writer.written }));
            }
        }
    }
}

struct Writer {
    collection: Collection<Document>,
    names: u32,
    padding: String,
    /// Each document bears its number, from zero.
    written: i64,
}

impl Writer {
    async fn write(&mut self, batch: u32) -> Result<()> {
        let at = i64::try_from(now())?;
        let first = self.written;
        let documents = (first..first + i64::from(batch)).map(|number| {
            let name = (number + 1) % i64::from(self.names);
            doc! { "at": at, "n": number, "name": name, "padding": &self.padding }
        });
        self.collection.insert_many(documents).await.context("an insert")?;
        self.written += i64::from(batch);
        Ok(())
    }
}
