//! One thing to tell a subscriber, and each form in which clients get it, made once and shared by all.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bson::{RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};
use bytes::Bytes;
use shared::{
    close::Close,
    event_json::{JsonMode, plain_event, plain_event_bson, write_document, write_value},
};

use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{position::Position, seal::Seal};

/// What is told.
#[derive(Debug)]
enum Kind {
    /// A change, as MongoDB sent it, or as much as is seen of it.
    Change(RawDocumentBuf),
    /// A change by which a document comes into view that was there already.
    Enter(RawDocumentBuf),
    /// A change by which a document goes out of view.
    Leave {
        /// Its `documentKey`.
        key: RawDocumentBuf,
        /// The event for a form without a word for leaving: there is one where the document is deleted.
        event: Option<RawDocumentBuf>,
    },
    /// The pipeline fails on a change.
    Failure {
        /// MongoDB's code. Its message may carry data and is not told.
        code: i32,
        /// The change, where it decides whom the failure concerns; it is not told either.
        of: Option<RawDocumentBuf>,
    },
    /// Changes before this position cannot be had any more.
    Gap,
}

/// A form in which a client receives its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The JSON of the change alone.
    Plain(JsonMode),
    /// The same, with the position as its last member.
    PlainWithPosition(JsonMode),
    /// A typed message in JSON.
    V1Json(JsonMode),
    /// A typed message in BSON.
    V1Bson,
    /// A block of an event stream.
    Sse(JsonMode),
}

/// What goes over the wire; cloning it copies no data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Text.
    Text(Utf8Bytes),
    /// Binary.
    Binary(Bytes),
}

impl Frame {
    pub(crate) fn text(text: String) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn bson(document: RawDocumentBuf) -> Self {
        Self::Binary(document.into_bytes().into())
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes alone.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into(),
            Self::Binary(bytes) => bytes,
        }
    }
}

/// A change, or what stands in for it.
#[derive(Debug)]
pub struct Event {
    kind: Kind,
    position: Position,
    seal: Arc<Seal>,
    sealed: OnceLock<String>,
    // Few forms are in use at one time, most often one.
    made: Mutex<Vec<(Form, Option<Frame>)>>,
}

impl Event {
    fn new(kind: Kind, position: Position, seal: &Arc<Seal>) -> Self {
        let seal = Arc::clone(seal);
        Self { kind, position, seal, sealed: OnceLock::new(), made: Mutex::default() }
    }

    /// A change that MongoDB sent.
    pub fn change(raw: RawDocumentBuf, position: Position, seal: &Arc<Seal>) -> Self {
        Self::new(Kind::Change(raw), position, seal)
    }

    /// A change by which a document comes into view.
    pub fn enter(raw: RawDocumentBuf, position: Position, seal: &Arc<Seal>) -> Self {
        Self::new(Kind::Enter(raw), position, seal)
    }

    /// A change by which the document of this key goes out of view; `event` is its delete, where it is one.
    pub fn leave(
        key: RawDocumentBuf,
        event: Option<RawDocumentBuf>,
        position: Position,
        seal: &Arc<Seal>,
    ) -> Self {
        Self::new(Kind::Leave { key, event }, position, seal)
    }

    /// A change on which the pipeline fails with this code of MongoDB's. It concerns those for whom `of` is, or everybody.
    pub fn failure(code: i32, of: Option<RawDocumentBuf>, position: Position, seal: &Arc<Seal>) -> Self {
        Self::new(Kind::Failure { code, of }, position, seal)
    }

    /// A loss; what follows is behind `position`.
    pub fn gap(position: Position, seal: &Arc<Seal>) -> Self {
        Self::new(Kind::Gap, position, seal)
    }

    /// Where the stream stands behind this event.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// When it was written in MongoDB, in Unix milliseconds: the event's `wallTime`, or, where the pipeline leaves that out,
    /// the second of its cluster time.
    pub fn written_at(&self) -> i64 {
        let wall_time = match &self.kind {
            Kind::Change(raw) | Kind::Enter(raw) | Kind::Leave { event: Some(raw), .. } => {
                raw.get_datetime("wallTime").ok()
            }
            Kind::Leave { event: None, .. } | Kind::Failure { .. } | Kind::Gap => None,
        };
        let of_cluster = || i64::from(self.position.start_at().time) * 1_000;
        wall_time.map_or_else(of_cluster, bson::DateTime::timestamp_millis)
    }

    /// How much of a subscriber's queue the event takes, in bytes.
    pub fn weight(&self) -> usize {
        match &self.kind {
            Kind::Change(raw) | Kind::Enter(raw) => raw.as_bytes().len(),
            Kind::Leave { key, event } => {
                key.as_bytes().len() + event.as_ref().map_or(0, |event| event.as_bytes().len())
            }
            Kind::Failure { .. } | Kind::Gap => 128,
        }
    }

    /// How much memory it takes, in bytes, where it is kept whole.
    pub fn bytes(&self) -> usize {
        match &self.kind {
            Kind::Failure { of: Some(of), .. } => self.weight() + of.as_bytes().len(),
            _ => self.weight(),
        }
    }

    /// What waits for a subscriber whom it concerns: of a failure, no more than is told.
    pub fn to_tell(self: &Arc<Self>) -> Arc<Self> {
        match &self.kind {
            Kind::Failure { code, of: Some(_) } => {
                Arc::new(Self::failure(*code, None, self.position.clone(), &self.seal))
            }
            _ => Arc::clone(self),
        }
    }

    /// The change that decides for whom this is; without one it is for everybody.
    pub fn document(&self) -> Option<&RawDocument> {
        match &self.kind {
            Kind::Change(raw) | Kind::Enter(raw) | Kind::Failure { of: Some(raw), .. } => Some(raw),
            Kind::Leave { .. } | Kind::Failure { of: None, .. } | Kind::Gap => None,
        }
    }

    /// Whether it tells of a loss.
    pub fn is_gap(&self) -> bool {
        matches!(self.kind, Kind::Gap)
    }

    /// Whether the pipeline fails on it.
    pub fn is_failure(&self) -> bool {
        matches!(self.kind, Kind::Failure { .. })
    }

    /// What the client gets, if its form has a word for it; or the close where it must not go on without one: the reason
    /// names MongoDB's code.
    pub fn encoded(&self, form: Form) -> Result<Option<Frame>, (Close, String)> {
        let typed = matches!(form, Form::V1Json(_) | Form::V1Bson);
        match self.kind {
            Kind::Failure { code, .. } if !typed => {
                return Err((Close::EventFailed, code.to_string()));
            }
            Kind::Gap if !typed => return Err((Close::HistoryLost, Close::HistoryLost.reason().to_owned())),
            _ => {}
        }
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, frame)) = made.iter().find(|(other, _)| *other == form) {
            return Ok(frame.clone());
        }
        let frame = self.encode(form).unwrap_or_else(|error| {
            // MongoDB checks what it stores; bytes that are no BSON would be a broken connection.
            tracing::error!(%error, "an event is no valid BSON");
            Some(Frame::text("null".to_owned()))
        });
        made.push((form, frame.clone()));
        Ok(frame)
    }

    /// The position as the client may send it back.
    pub fn sealed(&self) -> &str {
        self.sealed.get_or_init(|| self.seal.seal(&self.position))
    }

    fn encode(&self, form: Form) -> Result<Option<Frame>, bson::error::Error> {
        let position = self.sealed();
        Ok(Some(match form {
            Form::V1Json(mode) => Frame::text(self.typed_json(mode)?),
            Form::V1Bson => Frame::bson(self.typed_bson()?),
            Form::Plain(mode) | Form::PlainWithPosition(mode) => {
                let Some(event) = self.event() else { return Ok(None) };
                let position = matches!(form, Form::PlainWithPosition(_)).then_some(position);
                Frame::text(plain_event(event, mode, position)?)
            }
            // JSON stays on one line: it escapes the line breaks that `data:` could not take.
            Form::Sse(mode) => match (&self.kind, self.event()) {
                (_, Some(event)) => {
                    let event = plain_event(event, mode, None)?;
                    Frame::text(format!("id: {position}\nevent: change\ndata: {event}\n\n"))
                }
                (Kind::Leave { key, .. }, None) => {
                    let key = json(key, mode)?;
                    Frame::text(format!("id: {position}\nevent: leave\ndata: {{\"documentKey\":{key}}}\n\n"))
                }
                (_, None) => return Ok(None),
            },
        }))
    }

    /// The change as MongoDB tells of it, for a form without a type; none where a document only goes out of view.
    fn event(&self) -> Option<&RawDocument> {
        match &self.kind {
            Kind::Change(event) | Kind::Enter(event) => Some(event),
            Kind::Leave { event, .. } => event.as_deref(),
            Kind::Failure { .. } | Kind::Gap => None,
        }
    }

    fn typed_json(&self, mode: JsonMode) -> Result<String, bson::error::Error> {
        let position = self.sealed();
        Ok(match &self.kind {
            Kind::Change(event) => {
                let event = plain_event(event, mode, None)?;
                format!(r#"{{"type":"event","position":"{position}","event":{event}}}"#)
            }
            Kind::Enter(event) => {
                let event = plain_event(&without_history(event)?, mode, None)?;
                format!(r#"{{"type":"enter","position":"{position}","event":{event}}}"#)
            }
            Kind::Leave { key, .. } => {
                let key = json(key, mode)?;
                format!(r#"{{"type":"leave","position":"{position}","documentKey":{key}}}"#)
            }
            Kind::Failure { code, .. } => {
                format!(r#"{{"type":"error","code":{code},"position":"{position}"}}"#)
            }
            Kind::Gap => format!(r#"{{"type":"gap","reason":"{GAP}","position":"{position}"}}"#),
        })
    }

    fn typed_bson(&self) -> Result<RawDocumentBuf, bson::error::Error> {
        let position = self.sealed();
        Ok(match &self.kind {
            Kind::Change(event) => {
                rawdoc! { "type": "event", "position": position, "event": plain_event_bson(event)? }
            }
            Kind::Enter(event) => {
                let event = plain_event_bson(&without_history(event)?)?;
                rawdoc! { "type": "enter", "position": position, "event": event }
            }
            Kind::Leave { key, .. } => {
                rawdoc! { "type": "leave", "position": position, "documentKey": key.clone() }
            }
            Kind::Failure { code, .. } => rawdoc! { "type": "error", "code": *code, "position": position },
            Kind::Gap => rawdoc! { "type": "gap", "reason": GAP, "position": position },
        })
    }
}

/// The event of a document that comes into view: what it was before, and how it came, is not told.
fn without_history(event: &RawDocument) -> Result<RawDocumentBuf, bson::error::Error> {
    let mut now = RawDocumentBuf::new();
    for member in event {
        let (name, value) = member?;
        if !matches!(name.as_str(), "updateDescription" | "fullDocumentBeforeChange") {
            now.append(name, value);
        }
    }
    Ok(now)
}

fn json(document: &RawDocument, mode: JsonMode) -> Result<String, bson::error::Error> {
    let mut json = String::new();
    write_document(&mut json, document, mode).map(|()| json)
}

/// Why there is a gap: the only reason there is today.
const GAP: &str = "history lost";

/// A message of the v1 protocol that is only a type and a position: `ready`, `keepalive`.
pub fn notice(kind: &str, position: &str, form: Form) -> Option<Frame> {
    match form {
        Form::V1Json(_) => Some(Frame::text(format!(r#"{{"type":"{kind}","position":"{position}"}}"#))),
        Form::V1Bson => Some(Frame::bson(rawdoc! { "type": kind, "position": position })),
        Form::Plain(_) | Form::PlainWithPosition(_) | Form::Sse(_) => None,
    }
}

/// One document of a snapshot. Only the typed forms and event streams have a word for it.
pub fn snapshot_document(document: Option<RawBsonRef<'_>>, form: Form) -> Result<Frame, bson::error::Error> {
    let document = document.unwrap_or(RawBsonRef::Null);
    let json = |mode| {
        let mut json = String::new();
        write_value(&mut json, document, mode).map(|()| json)
    };
    Ok(match form {
        Form::V1Bson => Frame::bson(rawdoc! { "type": "snapshot", "document": document }),
        Form::Sse(mode) => Frame::text(format!("event: snapshot\ndata: {}\n\n", json(mode)?)),
        Form::Plain(mode) | Form::PlainWithPosition(mode) | Form::V1Json(mode) => {
            Frame::text(format!(r#"{{"type":"snapshot","document":{}}}"#, json(mode)?))
        }
    })
}

/// The end of a snapshot: what follows is behind `position`.
pub fn snapshot_end(position: &str, form: Form) -> Frame {
    match form {
        Form::Sse(_) => Frame::text(format!("id: {position}\nevent: snapshotEnd\ndata: {{}}\n\n")),
        form => notice("snapshotEnd", position, form).unwrap_or_else(|| Frame::text(String::new())),
    }
}

/// Puts the fragments of a large event together (MongoDB manual, "$changeStreamSplitLargeEvent").
pub fn joined(fragments: &[RawDocumentBuf]) -> Result<RawDocumentBuf, bson::error::Error> {
    let mut whole = RawDocumentBuf::new();
    let last = fragments.last().map(|fragment| fragment.get("_id")).transpose()?.flatten();
    if let Some(id) = last {
        whole.append(bson::raw::cstr!("_id"), id);
    }
    for fragment in fragments {
        for member in fragment {
            let (name, value) = member?;
            if !matches!(name.as_str(), "_id" | "splitEvent") {
                whole.append(name, value);
            }
        }
    }
    Ok(whole)
}

/// Whether an event is a fragment, and the last one: `(fragment, of)`.
pub fn fragment(event: &RawDocument) -> Option<(i32, i32)> {
    let split = event.get_document("splitEvent").ok()?;
    Some((split.get_i32("fragment").ok()?, split.get_i32("of").ok()?))
}
