//! The past, read as fast as it comes: by the driver alone, and as the one client of a server.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bson::{Document, RawDocumentBuf, Timestamp, doc};
use clap::Args;
use futures_util::{StreamExt as _, TryStreamExt as _};
use mongodb::Collection;
use mongodb::options::FullDocumentType;
use serde_json::json;
use tokio::time::timeout;

use super::endpoints::{Namespace, Stream};
use super::frames::{kind, number, position};
use super::orders;
use super::socket::{Socket, buffer};
use super::volley::PATIENCE;

/// Events in one reply of MongoDB: as many as a source of Tailrace's asks for.
const REPLY: u32 = 1000;

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    stream: Stream,
    #[command(flatten)]
    namespace: Namespace,
}

/// Where the past begins, for the driver and for a client.
struct Beginning {
    time: Timestamp,
    position: String,
}

/// Remembers where it stands now, says so, and reads so many events from there on, in the way that an order says:
/// `replies`, `driver`, or `client`, and a number.
pub(crate) async fn run(options: Options) -> Result<()> {
    let collection = options.namespace.open(8).await?;
    let hello = collection.client().database("admin").run_command(doc! { "hello": 1 }).await?;
    let beginning = Beginning {
        time: hello.get_timestamp("operationTime").context("MongoDB tells no operationTime")?,
        position: present(&options.stream).await?,
    };
    let mut orders = orders();
    println!("{}", json!({}));
    while let Some(order) = orders.recv().await {
        let (way, events) = order.split_once(' ').context("a way and a number")?;
        let events: u64 = events.parse()?;
        let began = Instant::now();
        let reading = async {
            match way {
                "replies" => replies(&collection, &beginning, events).await,
                "driver" => driver(&collection, &beginning, events).await,
                "client" => as_client(&options.stream, &beginning, events).await,
                other => bail!("{other}: not a way to read"),
            }
        };
        timeout(PATIENCE, reading).await.with_context(|| order.clone())??;
        println!("{}", json!({ "events": events, "seconds": began.elapsed().as_secs_f64() }));
    }
    Ok(())
}

/// The driver's batches as they come, each event looked at and none decoded: the least that it can do.
async fn replies(collection: &Collection<Document>, beginning: &Beginning, events: u64) -> Result<()> {
    let stage =
        doc! { "$changeStream": { "fullDocument": "updateLookup", "startAtOperationTime": beginning.time } };
    let reading = collection.aggregate([stage]).batch_size(REPLY).max_await_time(Duration::from_secs(1));
    let mut replies = reading.batch().await?;
    let mut next = Next::default();
    while next.0 < events {
        let reply = replies.next().await.context("the change stream has ended")??;
        for event in reply.doc_slices()? {
            next.take(
                event?.as_document().context("an event")?.get_document("fullDocument")?.get_i64("n").ok(),
            )?;
        }
    }
    Ok(())
}

/// The driver's change stream as applications use it, without the cost of a type.
async fn driver(collection: &Collection<Document>, beginning: &Beginning, events: u64) -> Result<()> {
    let opening = collection
        .watch()
        .start_at_operation_time(beginning.time)
        .full_document(FullDocumentType::UpdateLookup)
        .batch_size(REPLY);
    let mut stream = opening.await?.with_type::<RawDocumentBuf>();
    let mut next = Next::default();
    while next.0 < events {
        let event = stream.try_next().await?.context("the change stream has ended")?;
        next.take(event.get_document("fullDocument")?.get_i64("n").ok())?;
    }
    Ok(())
}

/// A client that resumes.
async fn as_client(stream: &Stream, beginning: &Beginning, events: u64) -> Result<()> {
    let path = format!("{}?resumeAfter={}", stream.path, beginning.position);
    let mut socket = Socket::open(&stream.server, path, Some("tailrace.v1.json")).await?;
    let (mut buffer, mut next) = (buffer(), Next::default());
    while next.0 < events {
        let bytes = poll_fn(|polled| {
            socket.poll_messages(polled, &mut buffer, |message| match kind(message) {
                Some(b"event") => next.take(number(message).and_then(|number| number.try_into().ok())),
                _ => Ok(()),
            })
        });
        ensure!(bytes.await? > 0, "the server has closed the stream");
    }
    Ok(())
}

/// The position with which a stream begins now.
async fn present(stream: &Stream) -> Result<String> {
    let mut socket = Socket::open(&stream.server, stream.path.clone(), Some("tailrace.v1.json")).await?;
    let mut buffer = buffer();
    let mut found = None;
    while found.is_none() {
        let bytes = poll_fn(|polled| {
            socket.poll_messages(polled, &mut buffer, |message| {
                found = position(message).map(|position| String::from_utf8_lossy(position).into_owned());
                Ok(())
            })
        });
        ensure!(bytes.await? > 0, "the server has closed the stream");
    }
    found.context("a position")
}

/// The number of the event that comes next.
#[derive(Default)]
struct Next(u64);

impl Next {
    fn take(&mut self, number: Option<i64>) -> Result<()> {
        ensure!(
            number.is_some_and(|number| u64::try_from(number) == Ok(self.0)),
            "{number:?} came, not {}",
            self.0
        );
        self.0 += 1;
        Ok(())
    }
}
