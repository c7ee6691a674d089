//! A source: one open cursor of MongoDB, and the subscribers that its events go to.
//!
//! The cursor lives in a task of its own. It continues by itself behind its last position when a server goes away, for as
//! long as that takes, and it ends when its last subscriber leaves or when there is nothing left to follow.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bson::{Document, doc};
use futures_util::StreamExt;
use mongodb::{Client, error::Error, raw_batch_cursor::RawBatchCursor};
use shared::{
    close::Close,
    definition::{Definition, FullDocument, StreamOptions},
    name::Namespace,
    refusal::{Kind, Refusal},
};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use crate::{
    backoff::Backoff,
    event::Event,
    hub::SourceKey,
    metadata,
    mongo::{self, Fault},
    position::Position,
    subscription::{Queue, Subscription},
};

/// How long MongoDB holds an empty reply back for an event.
const AWAIT: Duration = Duration::from_secs(1);

/// A reply that takes longer than this will not come: the server hangs.
const STALLED: Duration = Duration::from_secs(15);

/// Events in one reply. Above zero, so that a lost position fails when the cursor opens and not later.
const BATCH: u32 = 1000;

#[derive(Clone, Debug)]
enum State {
    Opening,
    Open,
    /// MongoDB does not answer; the cursor comes back behind its position.
    Interrupted,
    Ended(Option<Refusal>),
}

/// A cursor that is open, or about to be, for at least one subscriber.
#[derive(Debug)]
pub struct Source {
    key: SourceKey,
    /// As it was when the source opened, to tell whether it has changed since.
    definition: Definition,
    state: watch::Sender<State>,
    // `None` once the source has ended: nobody joins any more.
    subscribers: Mutex<Option<Vec<Arc<Queue>>>>,
    abandoned: Notify,
}

/// Why a subscriber did not get in.
#[derive(Debug)]
pub enum JoinError {
    /// The source ended in the meantime; another one will do.
    Ended,
    /// The request is refused.
    Refused(Refusal),
}

impl Source {
    pub(crate) fn new(key: SourceKey, definition: Definition) -> Arc<Self> {
        Arc::new(Self {
            key,
            definition,
            state: watch::Sender::new(State::Opening),
            subscribers: Mutex::new(Some(Vec::new())),
            abandoned: Notify::new(),
        })
    }

    /// What it follows, and for whom.
    pub fn key(&self) -> &SourceKey {
        &self.key
    }

    /// The definition that it was opened under.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    fn subscribers(&self) -> MutexGuard<'_, Option<Vec<Arc<Queue>>>> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a subscriber, and waits until the cursor is open.
    pub(crate) async fn join(self: &Arc<Self>, queue_bytes: usize) -> Result<Subscription, JoinError> {
        let queue = Arc::new(Queue::new(queue_bytes));
        self.subscribers().as_mut().ok_or(JoinError::Ended)?.push(Arc::clone(&queue));
        let subscription = Subscription::new(Arc::clone(self), queue);
        let mut state = self.state.subscribe();
        let settled = state.wait_for(|state| !matches!(state, State::Opening)).await;
        match settled.map(|state| state.clone()) {
            Ok(State::Open) => Ok(subscription),
            Ok(State::Ended(Some(refusal))) => Err(JoinError::Refused(refusal)),
            Ok(State::Interrupted) => {
                Err(JoinError::Refused(Refusal::new(Kind::Unavailable, "MongoDB is not reachable")))
            }
            Ok(State::Ended(None) | State::Opening) | Err(_) => Err(JoinError::Ended),
        }
    }

    /// Takes a subscriber off the list. The last one ends the source.
    pub(crate) fn leave(&self, queue: &Arc<Queue>) {
        let mut subscribers = self.subscribers();
        if let Some(list) = subscribers.as_mut() {
            if let Some(index) = list.iter().position(|other| Arc::ptr_eq(other, queue)) {
                list.swap_remove(index);
            }
            if list.is_empty() {
                *subscribers = None;
                self.abandoned.notify_one();
            }
        }
    }

    /// How many subscribers there are.
    pub fn len(&self) -> usize {
        self.subscribers().as_ref().map_or(0, Vec::len)
    }

    /// Whether nobody is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn publish(&self, events: &[Arc<Event>]) {
        if let Some(list) = self.subscribers().as_ref() {
            for queue in list {
                queue.push(events);
            }
        }
    }

    /// Ends the source: closes every subscriber, behind what waits for it.
    pub(crate) fn close(&self, close: Close) {
        let list = self.subscribers().take();
        for queue in list.into_iter().flatten() {
            queue.close(close);
        }
        self.state.send_replace(State::Ended(None));
        self.abandoned.notify_one();
    }

    fn refuse(&self, refusal: Refusal) {
        *self.subscribers() = None;
        self.state.send_replace(State::Ended(Some(refusal)));
    }
}

/// Follows the cursor until the source ends.
pub(crate) async fn run(source: Arc<Source>, client: Client) {
    let namespace = source.key.namespace.clone();
    let stream = source.key.stream.clone();
    tracing::debug!(%namespace, %stream, "source opens");
    tokio::select! {
        () = source.abandoned.notified() => {}
        () = follow(&source, &client) => {}
    }
    tracing::debug!(%namespace, %stream, "source ended");
}

async fn follow(source: &Source, client: &Client) {
    let namespace = &source.key.namespace;
    let mut position = None;
    let mut backoff = Backoff::default();
    loop {
        let opened = open(client, source, position.as_ref()).await;
        let error = match opened {
            Ok(cursor) => {
                backoff = Backoff::default();
                source.state.send_replace(State::Open);
                match read(source, cursor, &mut position).await {
                    Ok(()) => {
                        // MongoDB ended the cursor: `invalidate`, which the pipeline may have hidden.
                        source.close(after_invalidate(client, namespace).await);
                        return;
                    }
                    Err(error) => error,
                }
            }
            // Nobody was promised anything yet, so the request is refused rather than kept waiting.
            Err(error) if position.is_none() => {
                source.refuse(mongo::refusal(&error));
                return;
            }
            Err(error) => error,
        };
        match mongo::fault(&error) {
            Fault::Unreachable => {
                source.state.send_replace(State::Interrupted);
                let pause = backoff.next_pause();
                tracing::warn!(%namespace, stream = %source.key.stream, %error, ?pause, "source interrupted");
                tokio::time::sleep(pause).await;
            }
            Fault::HistoryLost => {
                tracing::warn!(%namespace, stream = %source.key.stream, %error, "source lost its history");
                source.close(Close::HistoryLost);
                return;
            }
            Fault::Refused(code) => {
                // The message may carry data of the document: it goes to the log, never to a client.
                tracing::warn!(%namespace, stream = %source.key.stream, code, %error, "the pipeline fails on an event");
                source.close(Close::EventFailed);
                return;
            }
        }
    }
}

/// Reads until MongoDB ends the cursor. `position` follows what was handed on.
async fn read(
    source: &Source,
    mut cursor: RawBatchCursor,
    position: &mut Option<Position>,
) -> Result<(), Error> {
    loop {
        let batch = match timeout(STALLED, cursor.next()).await {
            Ok(Some(batch)) => batch?,
            Ok(None) => return Ok(()),
            Err(_) => {
                return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "no reply to getMore").into());
            }
        };
        let mut events = Vec::new();
        for document in batch.doc_slices()? {
            let Some(document) = document?.as_document() else { continue };
            let invalidate = document.get_str("operationType").is_ok_and(|kind| kind == "invalidate");
            if !invalidate {
                events.push(Arc::new(Event::new(document)));
            }
            if let Ok(Some(behind)) = document.get_document("_id").map(Position::of_token) {
                *position = Some(behind);
            }
        }
        if !events.is_empty() {
            source.publish(&events);
        }
        // The token of the whole reply is ahead of its last event: it keeps a quiet stream resumable.
        let token = batch
            .as_raw_document()
            .get_document("cursor")
            .and_then(|cursor| cursor.get_document("postBatchResumeToken"));
        if let Ok(Some(ahead)) = token.map(Position::of_token) {
            *position = Some(ahead);
        }
    }
}

async fn open(
    client: &Client,
    source: &Source,
    position: Option<&Position>,
) -> Result<RawBatchCursor, Error> {
    let namespace = &source.key.namespace;
    let binding = &source.key.binding;
    let pipeline = pipeline(binding.options(), position, binding.pipeline());
    client
        .database(namespace.database.as_str())
        .collection::<Document>(namespace.collection.as_str())
        .aggregate(pipeline)
        .batch_size(BATCH)
        .max_await_time(AWAIT)
        .batch()
        .await
}

/// The whole pipeline: MongoDB's own stage, the position, and what was declared.
pub(crate) fn pipeline(
    options: StreamOptions,
    position: Option<&Position>,
    declared: &[Document],
) -> Vec<Document> {
    let mut change_stream = doc! {
        "fullDocumentBeforeChange": options.full_document_before_change.as_str(),
    };
    // MongoDB spells "none" by leaving the option out.
    if options.full_document != FullDocument::Off {
        change_stream.insert("fullDocument", options.full_document.as_str());
    }
    if let Some(position) = position {
        change_stream.insert("startAtOperationTime", position.start_at());
    }
    let mut pipeline = vec![doc! { "$changeStream": change_stream }];
    pipeline.extend(position.map(Position::only_behind));
    pipeline.extend_from_slice(declared);
    pipeline
}

/// `invalidate` is not "gone": `$out` or a rename onto the name leaves the name there, with other documents.
async fn after_invalidate(client: &Client, namespace: &Namespace) -> Close {
    match metadata::collection_exists(client, namespace).await {
        Ok(false) => Close::Gone,
        Ok(true) => Close::HistoryLost,
        Err(error) => {
            tracing::warn!(%namespace, %error, "cannot tell whether the collection still exists");
            Close::HistoryLost
        }
    }
}
