//! One thing to tell a subscriber, and each form in which clients get it, made once and shared by all.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bson::{RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};
use bytes::Bytes;
use shared::{
    close::Close,
    event_json::{JsonMode, plain_event, plain_event_bson, write_value},
};

use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{position::Position, seal::Seal};

/// What is told.
#[derive(Debug)]
enum Kind {
    /// A change, as MongoDB sent it.
    Change(RawDocumentBuf),
    /// The pipeline fails on a change, with this code of MongoDB's. Its message may carry data and is not told.
    Failure(i32),
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
    made: Mutex<Vec<(Form, Frame)>>,
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

    /// A change on which the pipeline fails.
    pub fn failure(code: i32, position: Position, seal: &Arc<Seal>) -> Self {
        Self::new(Kind::Failure(code), position, seal)
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
            Kind::Change(raw) => raw.get_datetime("wallTime").ok(),
            Kind::Failure(_) | Kind::Gap => None,
        };
        let of_cluster = || i64::from(self.position.start_at().time) * 1_000;
        wall_time.map_or_else(of_cluster, bson::DateTime::timestamp_millis)
    }

    /// How much of a subscriber's queue the event takes, in bytes.
    pub fn weight(&self) -> usize {
        match &self.kind {
            Kind::Change(raw) => raw.as_bytes().len(),
            Kind::Failure(_) | Kind::Gap => 128,
        }
    }

    /// Whether it tells of a loss.
    pub fn is_gap(&self) -> bool {
        matches!(self.kind, Kind::Gap)
    }

    /// Whether the pipeline fails on it.
    pub fn is_failure(&self) -> bool {
        matches!(self.kind, Kind::Failure(_))
    }

    /// What the client gets, or the close where its form has no word for it: the reason names MongoDB's code.
    pub fn encoded(&self, form: Form) -> Result<Frame, (Close, String)> {
        let typed = matches!(form, Form::V1Json(_) | Form::V1Bson);
        match self.kind {
            Kind::Failure(code) if !typed => {
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
            Frame::text("null".to_owned())
        });
        made.push((form, frame.clone()));
        Ok(frame)
    }

    /// The position as the client may send it back.
    pub fn sealed(&self) -> &str {
        self.sealed.get_or_init(|| self.seal.seal(&self.position))
    }

    fn encode(&self, form: Form) -> Result<Frame, bson::error::Error> {
        let position = self.sealed();
        Ok(match (&self.kind, form) {
            (Kind::Change(raw), Form::Plain(mode)) => Frame::text(plain_event(raw, mode, None)?),
            (Kind::Change(raw), Form::PlainWithPosition(mode)) => {
                Frame::text(plain_event(raw, mode, Some(position))?)
            }
            (Kind::Change(raw), Form::V1Json(mode)) => {
                let event = plain_event(raw, mode, None)?;
                Frame::text(format!(r#"{{"type":"event","position":"{position}","event":{event}}}"#))
            }
            // JSON stays on one line: it escapes the line breaks that `data:` could not take.
            (Kind::Change(raw), Form::Sse(mode)) => {
                let event = plain_event(raw, mode, None)?;
                Frame::text(format!("id: {position}\nevent: change\ndata: {event}\n\n"))
            }
            (Kind::Change(raw), Form::V1Bson) => Frame::bson(
                rawdoc! { "type": "event", "position": position, "event": plain_event_bson(raw)? },
            ),
            (Kind::Failure(code), Form::V1Bson) => {
                Frame::bson(rawdoc! { "type": "error", "code": *code, "position": position })
            }
            (Kind::Gap, Form::V1Bson) => {
                Frame::bson(rawdoc! { "type": "gap", "reason": GAP, "position": position })
            }
            (Kind::Failure(code), _) => {
                Frame::text(format!(r#"{{"type":"error","code":{code},"position":"{position}"}}"#))
            }
            (Kind::Gap, _) => {
                Frame::text(format!(r#"{{"type":"gap","reason":"{GAP}","position":"{position}"}}"#))
            }
        })
    }
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
