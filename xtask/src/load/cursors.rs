//! The driver's own change streams, one for each value: what a server does that does not share them.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::Result;
use bson::{Document, RawDocumentBuf, doc};
use clap::Args;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use mongodb::Collection;
use mongodb::options::FullDocumentType;
use serde_json::json;
use tokio::task::LocalSet;

use super::delays::Delays;
use super::endpoints::Namespace;
use super::volley::PATIENCE;
use super::{now, orders, patiently};

/// Cursors that are opened at once.
const AT_ONCE: usize = 16;

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    namespace: Namespace,
    /// How many, each for the documents whose `name` is its number.
    #[arg(long)]
    count: u32,
}

/// Opens them, says so, and answers each `take` with what came since the last one, and `await <events>` with the same once so
/// many have come.
pub(crate) async fn run(options: Options) -> Result<()> {
    // Each occupies a connection while it waits.
    let collection = options.namespace.open(options.count + 8).await?;
    let followed = LocalSet::new();
    let (delays, ended) = (Rc::new(RefCell::new(Delays::default())), Rc::new(RefCell::new(0)));
    let cursors: Vec<_> = stream::iter(0..options.count)
        .map(|name| open(&collection, name))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    for mut events in cursors {
        let (delays, ended) = (Rc::clone(&delays), Rc::clone(&ended));
        followed.spawn_local(async move {
            while let Ok(Some(event)) = events.try_next().await {
                let at = event.get_document("fullDocument").and_then(|document| document.get_i64("at"));
                if let Some(at) = at.ok().and_then(|at| u64::try_from(at).ok()) {
                    delays.borrow_mut().add(at, now());
                }
            }
            *ended.borrow_mut() += 1;
        });
    }
    println!("{}", json!({ "open": options.count }));
    let mut orders = orders();
    followed
        .run_until(async {
            while let Some(order) = orders.recv().await {
                if let Some(events) = order.strip_prefix("await ") {
                    let events = events.parse()?;
                    patiently(PATIENCE, || delays.borrow().len() >= events).await;
                }
                let mut taken = delays.borrow_mut().take();
                taken["ended"] = json!(*ended.borrow());
                println!("{taken}");
            }
            Ok(())
        })
        .await
}

async fn open(
    collection: &Collection<Document>,
    name: u32,
) -> Result<mongodb::change_stream::ChangeStream<RawDocumentBuf>> {
    let pipeline = [doc! { "$match": { "fullDocument.name": i64::from(name) } }];
    let events = collection.watch().pipeline(pipeline).full_document(FullDocumentType::UpdateLookup).await?;
    Ok(events.with_type::<RawDocumentBuf>())
}
