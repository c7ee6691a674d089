//! A change stream of MongoDB that is read in batches, knows where it stands, and steps over what its pipeline cannot
//! compute.

mod step_over;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bson::{Bson, Document, RawDocument, RawDocumentBuf, Timestamp, doc};
use mongodb::{
    Client,
    error::Error,
    raw_batch_cursor::{RawBatch, RawBatchCursor},
};
use shared::{
    definition::{FullDocument, StreamOptions},
    name::Namespace,
    readable::readable,
    visibility::Screened,
};
use tokio::time::timeout;

use crate::{
    event::{self, Event, Head},
    metrics::Metrics,
    mongo::{Fault, fault},
    position::Position,
    read_ahead::{AWAIT, ReadAhead, STALLED, next, stalled},
    seal::Seal,
};

/// Events in one reply. Above zero, so that a lost position fails when the cursor opens and not later.
const BATCH: u32 = 1000;

/// The part of the time that was missed that a reply may take to look through it, and the longest that is.
const PATIENCE: u32 = 2;
const LONGEST: Duration = Duration::from_mins(10);

/// What reading brings.
#[derive(Debug)]
pub enum Progress {
    /// Events in their order, and where the stream stands behind them.
    Events(Vec<Arc<Event>>, Position),
    /// MongoDB ended the stream: `invalidate`, which the pipeline may have hidden.
    Invalidated,
}

/// A change stream with a binding's pipeline behind what its subscribers may see.
#[derive(Debug)]
pub struct Cursor {
    client: Client,
    namespace: Namespace,
    screened: Arc<Screened>,
    seal: Arc<Seal>,
    metrics: Arc<Metrics>,
    splits: bool,
    position: Option<Position>,
    open: Option<Open>,
    opened_at: Option<Timestamp>,
    fragments: Vec<RawDocumentBuf>,
}

#[derive(Debug)]
struct Open {
    replies: ReadAhead,
    /// The reply to the command that opened it.
    first: Option<RawBatch>,
    /// Whether the last reply held nothing.
    drained: bool,
}

impl Cursor {
    /// A cursor that continues behind `position`, or begins now. `splits`: the server knows `$changeStreamSplitLargeEvent`.
    pub fn new(
        client: Client,
        namespace: Namespace,
        screened: Arc<Screened>,
        seal: Arc<Seal>,
        metrics: Arc<Metrics>,
        splits: bool,
        position: Option<Position>,
    ) -> Self {
        Self {
            client,
            namespace,
            screened,
            seal,
            metrics,
            splits,
            position,
            open: None,
            opened_at: None,
            fragments: Vec::new(),
        }
    }

    /// Where it stands: behind everything that it has handed out.
    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// The cluster time at which it was opened last: what is behind it happened since.
    pub fn opened_at(&self) -> Option<Timestamp> {
        self.opened_at
    }

    /// Forgets where it stood: it begins anew when it is opened next.
    pub fn restart(&mut self) {
        self.position = None;
        self.open = None;
    }

    /// Opens it, and says from where on it sees everything.
    pub async fn open(&mut self) -> Result<Position, Error> {
        self.open_in_batches(BATCH).await
    }

    async fn open_in_batches(&mut self, batch: u32) -> Result<Position, Error> {
        let resumed = self.position.is_some();
        let opened = self.try_open(batch).await;
        match &opened {
            Ok(_) => self.metrics.cursor_opened(resumed),
            Err(error) => self.metrics.cursor_failed(fault(error)),
        }
        opened
    }

    async fn try_open(&mut self, batch: u32) -> Result<Position, Error> {
        self.open = None;
        self.fragments.clear();
        let pipeline = self.pipeline(self.position.as_ref().map(|position| position.only_behind(None)));
        let mut cursor = self.aggregate(pipeline, batch).await?;
        let first = next(&mut cursor, self.patience()).await?;
        let from = match (&self.position, &first) {
            (Some(position), _) => position.clone(),
            (None, Some(first)) => beginning(first)?,
            (None, None) => return Err(Error::custom("a change stream without a first reply")),
        };
        self.opened_at =
            first.as_ref().and_then(|reply| reply.as_raw_document().get_timestamp("operationTime").ok());
        self.position = Some(from.clone());
        self.open = Some(Open { replies: ReadAhead::new(cursor), first, drained: false });
        Ok(from)
    }

    /// Reads on; opens the cursor where it is not. Waits up to a second for events.
    pub async fn advance(&mut self) -> Result<Progress, Error> {
        match self.read().await {
            Err(error) => {
                self.open = None;
                match (fault(&error), self.position.clone()) {
                    (Fault::Refused(_), Some(position)) => self.step_over(error, position).await,
                    _ => Err(error),
                }
            }
            progress => progress,
        }
    }

    async fn read(&mut self) -> Result<Progress, Error> {
        if self.open.is_none() {
            self.open().await?;
        }
        let patience = self.patience();
        let Some(open) = &mut self.open else { return Err(Error::custom("the cursor is not open")) };
        let batch = match open.first.take() {
            Some(first) => Some(first),
            None => open.replies.next(patience).await?,
        };
        let Some(batch) = batch else {
            self.open = None;
            return Ok(Progress::Invalidated);
        };
        open.drained = batch.doc_slices()?.is_empty();
        let before = self.position.clone();
        let taken = self.take(&batch);
        if taken.is_err() {
            // What was read was not handed out: it is read again.
            self.position = before;
        }
        taken
    }

    fn take(&mut self, batch: &RawBatch) -> Result<Progress, Error> {
        let mut events = Vec::new();
        for document in batch.doc_slices()? {
            if let Some(document) = document?.as_document() {
                events.extend(self.event(document)?);
            }
        }
        // The token of the whole reply is ahead of its last event: it keeps a quiet stream resumable. Not while an event
        // has arrived in part.
        if self.fragments.is_empty()
            && let Some(ahead) = post_batch_position(batch)
        {
            self.position = self.position.take().max(Some(ahead));
        }
        match &self.position {
            Some(position) => Ok(Progress::Events(events, position.clone())),
            None => Err(Error::custom("a reply without a resume token")),
        }
    }

    fn event(&mut self, document: &RawDocument) -> Result<Option<Arc<Event>>, Error> {
        let document = readable(document)?;
        let head = Head::of(&document)?;
        if head.operation == Some("invalidate") {
            return Ok(None);
        }
        let position = head.token.and_then(Position::of_token);
        let whole = match head.fragment {
            None => document.into_owned(),
            Some((fragment, of)) => {
                self.fragments.push(document.into_owned());
                if fragment < of {
                    return Ok(None);
                }
                event::joined(&std::mem::take(&mut self.fragments))?
            }
        };
        let position = position.ok_or_else(|| Error::custom("an event without a resume token"))?;
        self.position = Some(position.clone());
        Ok(Some(Arc::new(if self.screened.hands_out_images() {
            Event::recorded(whole, position, &self.seal)
        } else {
            Event::change(whole, self.screened.residual(), position, &self.seal)
        })))
    }

    fn pipeline(&self, range: Option<Document>) -> Vec<Document> {
        let start = self.position.as_ref().map(Position::start_at);
        let stages = [self.screened.ahead(), self.screened.declared()].concat();
        let mut pipeline = pipeline(self.screened.options(), start, range, &stages);
        if self.splits {
            pipeline.push(doc! { "$changeStreamSplitLargeEvent": {} });
        }
        pipeline
    }

    fn patience(&self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let then = self.position.as_ref().map(|position| u64::from(position.start_at().time));
        patience(then.map_or(Duration::ZERO, |then| now.saturating_sub(Duration::from_secs(then))))
    }

    async fn aggregate(&mut self, pipeline: Vec<Document>, batch: u32) -> Result<RawBatchCursor, Error> {
        let database = self.client.database(self.namespace.database.as_str());
        let collection = database.collection::<Document>(self.namespace.collection.as_str());
        let opening = collection.aggregate(pipeline).batch_size(batch).max_await_time(AWAIT).batch();
        match timeout(self.patience(), opening).await {
            Ok(opened) => opened,
            Err(_) => Err(stalled("aggregate")),
        }
    }
}

/// How long a reply may take to a cursor that stands so far back. MongoDB looks through all that was written anywhere since then
/// before it answers, however little of it passes the pipeline; it does so many times faster than it was written.
fn patience(behind: Duration) -> Duration {
    STALLED + (behind / PATIENCE).min(LONGEST)
}

/// The whole pipeline: MongoDB's own stage, the range of positions, and what was declared.
pub fn pipeline(
    options: StreamOptions,
    start: Option<Timestamp>,
    range: Option<Document>,
    declared: &[Document],
) -> Vec<Document> {
    let mut change_stream = doc! {
        "fullDocumentBeforeChange": options.full_document_before_change.as_str(),
    };
    // MongoDB spells "none" by leaving the option out.
    if options.full_document != FullDocument::Off {
        change_stream.insert("fullDocument", options.full_document.as_str());
    }
    if let Some(start) = start {
        change_stream.insert("startAtOperationTime", Bson::Timestamp(start));
    }
    let mut pipeline = vec![doc! { "$changeStream": change_stream }];
    pipeline.extend(range);
    pipeline.extend_from_slice(declared);
    pipeline
}

fn post_batch_position(batch: &RawBatch) -> Option<Position> {
    let cursor = batch.as_raw_document().get_document("cursor").ok()?;
    Position::of_token(cursor.get_document("postBatchResumeToken").ok()?)
}

/// From where on a cursor sees everything that began now: before its first event, or where it stands without one.
fn beginning(first: &RawBatch) -> Result<Position, Error> {
    let event = first.doc_slices()?.into_iter().next().transpose()?;
    let token = event
        .as_ref()
        .and_then(|event| event.as_document())
        .and_then(|event| event.get_document("_id").ok())
        .and_then(Position::of_token);
    token
        .map(|token| Position::before(token.start_at()))
        .or_else(|| post_batch_position(first))
        .ok_or_else(|| Error::custom("a reply without a resume token"))
}

#[cfg(test)]
mod tests {
    use bson::{DateTime, bson};
    use shared::{
        definition::Definitions,
        event_json::JsonMode,
        following::Following,
        name::{CollectionName, DatabaseName},
        variables::{OperatorCheck, ServerVariables, Variables},
        visibility::Template,
    };

    use super::*;
    use crate::{
        event::{Form, Frame},
        seal,
    };

    /// A cursor for somebody who does not see the field `secret` of documents that have pre- and post-images.
    async fn cursor() -> (Cursor, Following) {
        let definitions = Definitions::written(&bson!([{ "uri": "s", "stages": [] }])).expect("definitions");
        let (_, definition) = definitions.iter().next().expect("a stream");
        let server = ServerVariables { user: None, now: DateTime::from_millis(0) };
        let client = Variables::parse(None, OperatorCheck::On).expect("no variables");
        let binding = definition.as_ref().expect("a definition").bind(&client, &server).expect("a binding");
        let template = Template::check(None, None, Some(&doc! { "secret": 0 })).expect("a visibility");
        let visibility = template.resolve(&server).expect("its values");
        let following = Following::new(&binding, &visibility, true);
        let screened = Arc::clone(following.source());
        assert!(screened.hands_out_images(), "events are judged here");
        let namespace = Namespace {
            database: DatabaseName::new("db").expect("a name"),
            collection: CollectionName::new("log").expect("a name"),
        };
        let client = Client::with_uri_str("mongodb://127.0.0.1:1").await.expect("a connection string");
        let seal = Arc::new(seal::for_tests());
        (Cursor::new(client, namespace, screened, seal, Arc::default(), true, None), following)
    }

    /// An event of an insert; `~` stands for a byte that no UTF-8 holds.
    fn insert(increment: u32, document: &Document) -> RawDocumentBuf {
        let event = doc! {
            "_id": { "_data": format!("8200000001{increment:08X}") },
            "operationType": "insert",
            "fullDocument": document,
            "documentKey": { "_id": 1 },
        };
        let mut bytes = event.to_vec().expect("BSON");
        bytes.iter_mut().filter(|byte| **byte == b'~').for_each(|byte| *byte = 0xff);
        RawDocumentBuf::from_bytes(bytes).expect("a document")
    }

    #[tokio::test]
    async fn text_that_is_no_utf8_is_shown_with_a_replacement_character_and_takes_no_event_with_it() {
        let (mut cursor, following) = cursor().await;
        let wanted = following.wanted().expect("a judge");
        let mut told = Vec::new();
        for event in [
            insert(1, &doc! { "n": 1, "secret": 1 }),
            insert(2, &doc! { "n": 2, "secret": 1, "text": "~" }),
            insert(3, &doc! { "na~me": 3, "secret": 1 }),
            insert(4, &doc! { "n": 4, "secret": 1 }),
        ] {
            let event = cursor.event(&event).expect("no error").expect("an event");
            assert_eq!(cursor.position(), Some(event.position()));
            let event = event.seen_by(&wanted.asked).expect("it is seen");
            told.push(match event.encoded(Form::Plain(JsonMode::Plain)) {
                Ok(Some(Frame::Text(text))) => {
                    text.split_once(",\"documentKey\"").expect("a member").0.to_owned()
                }
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(
            told,
            [
                r#"{"fullDocument":{"n":1}"#,
                "{\"fullDocument\":{\"n\":2,\"text\":\"\u{fffd}\"}",
                "{\"fullDocument\":{\"na\u{fffd}me\":3}",
                r#"{"fullDocument":{"n":4}"#,
            ]
        );
    }

    #[test]
    fn who_stands_far_back_waits_longer_for_a_reply_and_nobody_without_an_end() {
        for (behind, waits) in [(0, 10), (2, 11), (1_000, 510), (86_400, 610)] {
            let waits = Duration::from_secs(waits);
            let patience = patience(Duration::from_secs(behind));
            assert!(patience >= waits && patience < waits + Duration::from_secs(1), "{behind}: {patience:?}");
        }
    }
}
