//! One thing to tell a subscriber, and each form in which clients get it, made once and shared by all.

mod recorded;

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
};

use bson::{RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};
use bytes::Bytes;
use shared::{
    close::Close,
    event_json::{JsonMode, plain_event_bson, write_document, write_plain_event, write_value},
    following::Asked,
    planner::Residual,
    visibility::Verdict,
};

use tokio_tungstenite::tungstenite::Utf8Bytes;

use self::recorded::Recorded;
use crate::{position::Position, seal::Seal, view::View};

/// MongoDB's code for bytes that are no BSON (`InvalidBSON`).
pub const INVALID_BSON: i32 = 22;

/// What is told.
#[derive(Debug)]
enum Kind {
    /// A change, as MongoDB sent it, or as much as is seen of it.
    Change {
        whole: RawDocumentBuf,
        /// What is told of it is what this makes of it.
        residual: Arc<Residual>,
    },
    /// A change with the images of its document. What somebody is told of it, [`Event::seen_by`] says; by itself it tells no
    /// more than that something was missed.
    Recorded(Recorded),
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

impl Form {
    /// Whether it has messages besides events, as [`notice`] writes them.
    pub fn has_notices(self) -> bool {
        matches!(self, Self::V1Json(_) | Self::V1Bson)
    }
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
    // Few forms are in use at one time, most often one.
    made: Mutex<Vec<(Form, Option<Frame>)>>,
}

/// What an event is in one form.
#[derive(Debug)]
pub(crate) enum Encoded {
    /// The text that it was written to.
    Text,
    /// A document.
    Binary(RawDocumentBuf),
    /// The form has no word for it.
    Nothing,
}

impl Event {
    fn new(kind: Kind, position: Position, seal: &Arc<Seal>) -> Self {
        let seal = Arc::clone(seal);
        Self { kind, position, seal, made: Mutex::default() }
    }

    /// A change that MongoDB sent, of which is told what the residual makes of it.
    pub fn change(
        whole: RawDocumentBuf,
        residual: &Arc<Residual>,
        position: Position,
        seal: &Arc<Seal>,
    ) -> Self {
        Self::new(Kind::Change { whole, residual: Arc::clone(residual) }, position, seal)
    }

    /// A change that MongoDB sent with the images of its document.
    pub fn recorded(whole: RawDocumentBuf, position: Position, seal: &Arc<Seal>) -> Self {
        Self::new(Kind::Recorded(Recorded::new(whole)), position, seal)
    }

    /// A change by which the document of this key goes out of view.
    #[cfg(test)]
    pub(crate) fn leave(key: RawDocumentBuf, position: Position, seal: &Arc<Seal>) -> Self {
        Self::new(Kind::Leave { key, event: None }, position, seal)
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
            Kind::Change { whole: raw, .. } | Kind::Enter(raw) | Kind::Leave { event: Some(raw), .. } => {
                raw.get_datetime("wallTime").ok()
            }
            Kind::Recorded(recorded) => recorded.whole().get_datetime("wallTime").ok(),
            Kind::Leave { event: None, .. } | Kind::Failure { .. } | Kind::Gap => None,
        };
        let of_cluster = || i64::from(self.position.start_at().time) * 1_000;
        wall_time.map_or_else(of_cluster, bson::DateTime::timestamp_millis)
    }

    /// How much of a subscriber's queue the event takes, in bytes.
    pub fn weight(&self) -> usize {
        match &self.kind {
            Kind::Change { whole: raw, .. } | Kind::Enter(raw) => raw.as_bytes().len(),
            Kind::Recorded(recorded) => recorded.whole().as_bytes().len(),
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
            // What is told of it is kept with it, most often one thing.
            Kind::Recorded(_) => 2 * self.weight(),
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

    /// What somebody is told of this by whom it is asked so; none where it is not for them.
    pub fn seen_by(self: &Arc<Self>, asked: &Asked) -> Option<Arc<Self>> {
        match (asked, &self.kind) {
            (Asked::Judge(judge), Kind::Recorded(recorded)) => {
                recorded.seen_by(judge, &self.position, &self.seal)
            }
            (Asked::Judge(judge), Kind::Failure { of: Some(of), .. }) => {
                let concerns = !matches!(judge.judge(of), Ok(Verdict::Nothing));
                concerns.then(|| Arc::clone(self))
            }
            // It has no images to judge by.
            (Asked::Judge(_), Kind::Change { .. }) | (Asked::Filter(_), Kind::Recorded(_)) => None,
            (Asked::Filter(filter), _) => {
                let is_for = self.document().is_none_or(|document| filter.matches(document));
                is_for.then(|| Arc::clone(self))
            }
            (Asked::Judge(_), _) => Some(Arc::clone(self)),
        }
    }

    /// The change that decides for whom this is; without one it is for everybody. It may hold more than is told.
    pub fn document(&self) -> Option<&RawDocument> {
        match &self.kind {
            Kind::Recorded(recorded) => Some(recorded.whole()),
            Kind::Change { whole: raw, .. } | Kind::Enter(raw) | Kind::Failure { of: Some(raw), .. } => {
                Some(raw)
            }
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
    /// names MongoDB's code. It is made once for all who ask.
    pub fn encoded(&self, form: Form) -> Result<Option<Frame>, (Close, String)> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, frame)) = made.iter().find(|(other, _)| *other == form) {
            return Ok(frame.clone());
        }
        let mut text = String::with_capacity(self.length());
        let frame = match self.encode(form, &mut text)? {
            Encoded::Text => Some(Frame::text(text)),
            Encoded::Binary(document) => Some(Frame::bson(document)),
            Encoded::Nothing => None,
        };
        made.reserve_exact(1);
        made.push((form, frame.clone()));
        Ok(frame)
    }

    /// Writes what [`Event::encoded`] gives: a text behind what is in `text` already.
    pub(crate) fn encode(&self, form: Form, text: &mut String) -> Result<Encoded, (Close, String)> {
        let typed = matches!(form, Form::V1Json(_) | Form::V1Bson);
        match self.kind {
            Kind::Failure { code, .. } if !typed => {
                return Err((Close::EventFailed, code.to_string()));
            }
            Kind::Gap | Kind::Recorded(_) if !typed => {
                return Err((Close::HistoryLost, Close::HistoryLost.reason().to_owned()));
            }
            _ => {}
        }
        let begin = text.len();
        self.write(form, text).or_else(|_| {
            // MongoDB does not check all that it stores. What is wrong with it may quote it.
            tracing::warn!("an event is no valid BSON");
            text.truncate(begin);
            Self::failure(INVALID_BSON, None, self.position.clone(), &self.seal).encode(form, text)
        })
    }

    /// About how long it is as text.
    fn length(&self) -> usize {
        2 * self.weight()
    }

    /// The position as the client may send it back.
    pub fn sealed(&self) -> String {
        let mut sealed = String::new();
        self.seal.write(&self.position, &mut sealed);
        sealed
    }

    fn write(&self, form: Form, text: &mut String) -> Result<Encoded, bson::error::Error> {
        match form {
            Form::V1Json(mode) => self.write_typed(mode, text)?,
            Form::V1Bson => return self.typed_bson().map(Encoded::Binary),
            Form::Plain(mode) | Form::PlainWithPosition(mode) => {
                let Some(event) = self.event()? else { return Ok(Encoded::Nothing) };
                let position = matches!(form, Form::PlainWithPosition(_)).then(|| self.sealed());
                write_plain_event(text, &event, mode, position.as_deref())?;
            }
            // JSON stays on one line: it escapes the line breaks that `data:` could not take.
            Form::Sse(mode) => match (&self.kind, self.event()?) {
                (_, Some(event)) => {
                    self.write_id(text);
                    text.push_str("event: change\ndata: ");
                    write_plain_event(text, &event, mode, None)?;
                    text.push_str("\n\n");
                }
                (Kind::Leave { key, .. }, None) => {
                    self.write_id(text);
                    text.push_str("event: leave\ndata: {\"documentKey\":");
                    write_document(text, key, mode)?;
                    text.push_str("}\n\n");
                }
                (_, None) => return Ok(Encoded::Nothing),
            },
        }
        Ok(Encoded::Text)
    }

    /// The change as MongoDB tells of it, for a form without a type; none where a document only goes out of view.
    fn event(&self) -> Result<Option<Cow<'_, RawDocument>>, bson::error::Error> {
        Ok(match &self.kind {
            Kind::Change { whole, residual } => Some(told(whole, residual)?),
            Kind::Enter(event) => Some(Cow::Borrowed(event)),
            Kind::Leave { event, .. } => event.as_deref().map(Cow::Borrowed),
            Kind::Failure { .. } | Kind::Gap | Kind::Recorded(_) => None,
        })
    }

    /// The line of an event stream that tells the position.
    fn write_id(&self, text: &mut String) {
        text.push_str("id: ");
        self.seal.write(&self.position, text);
        text.push('\n');
    }

    fn write_typed(&self, mode: JsonMode, text: &mut String) -> Result<(), bson::error::Error> {
        let position = |text: &mut String| {
            text.push_str(r#""position":""#);
            self.seal.write(&self.position, text);
            text.push('"');
        };
        match &self.kind {
            Kind::Change { whole, residual } => {
                text.push_str(r#"{"type":"event","#);
                position(text);
                text.push_str(r#","event":"#);
                write_plain_event(text, &told(whole, residual)?, mode, None)?;
            }
            Kind::Enter(event) => {
                text.push_str(r#"{"type":"enter","#);
                position(text);
                text.push_str(r#","event":"#);
                write_plain_event(text, &without_history(event)?, mode, None)?;
            }
            Kind::Leave { key, .. } => {
                text.push_str(r#"{"type":"leave","#);
                position(text);
                text.push_str(r#","documentKey":"#);
                write_document(text, key, mode)?;
            }
            Kind::Failure { code, .. } => {
                text.extend([r#"{"type":"error","code":"#, &code.to_string(), ","]);
                position(text);
            }
            Kind::Gap | Kind::Recorded(_) => {
                text.extend([r#"{"type":"gap","reason":""#, GAP, r#"","#]);
                position(text);
            }
        }
        text.push('}');
        Ok(())
    }

    fn typed_bson(&self) -> Result<RawDocumentBuf, bson::error::Error> {
        let position = self.sealed();
        Ok(match &self.kind {
            Kind::Change { whole, residual } => {
                let event = plain_event_bson(&told(whole, residual)?)?;
                rawdoc! { "type": "event", "position": position, "event": event }
            }
            Kind::Enter(event) => {
                let event = plain_event_bson(&without_history(event)?)?;
                rawdoc! { "type": "enter", "position": position, "event": event }
            }
            Kind::Leave { key, .. } => {
                rawdoc! { "type": "leave", "position": position, "documentKey": key.clone() }
            }
            Kind::Failure { code, .. } => rawdoc! { "type": "error", "code": *code, "position": position },
            Kind::Gap | Kind::Recorded(_) => rawdoc! { "type": "gap", "reason": GAP, "position": position },
        })
    }
}

/// What is told of a change that is this as a whole.
fn told<'a>(whole: &'a RawDocument, residual: &Residual) -> Result<Cow<'a, RawDocument>, bson::error::Error> {
    Ok(residual.apply(whole)?.map_or(Cow::Borrowed(whole), Cow::Owned))
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

/// Why there is a gap: the only reason there is today.
const GAP: &str = "history lost";

/// The first message of the v1 protocol. Other forms have no word for it.
pub fn ready(position: &str, view: &View, form: Form) -> Option<Frame> {
    let view = view.as_str();
    match form {
        Form::V1Json(_) => {
            Some(Frame::text(format!(r#"{{"type":"ready","position":"{position}","view":"{view}"}}"#)))
        }
        Form::V1Bson => Some(Frame::bson(rawdoc! { "type": "ready", "position": position, "view": view })),
        Form::Plain(_) | Form::PlainWithPosition(_) | Form::Sse(_) => None,
    }
}

/// A message of the v1 protocol that is only a type and a position: `keepalive`, `snapshotEnd`. Other forms have no word for it.
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

/// What a cursor has to know of an event, found in one pass.
#[derive(Debug, Default)]
pub struct Head<'a> {
    /// The resume token.
    pub token: Option<&'a RawDocument>,
    /// `operationType`.
    pub operation: Option<&'a str>,
    /// Of an event that MongoDB has split: which fragment this is, and of how many.
    pub fragment: Option<(i32, i32)>,
}

impl<'a> Head<'a> {
    /// Reads it.
    pub fn of(event: &'a RawDocument) -> Result<Self, bson::error::Error> {
        let mut head = Self::default();
        for member in event.iter_elements() {
            let member = member?;
            let value = || member.value();
            match member.key().as_str() {
                "_id" => head.token = value()?.as_document(),
                "operationType" => head.operation = value()?.as_str(),
                "splitEvent" => {
                    let number = |split: &RawDocument, name| split.get_i32(name).ok();
                    let split = value()?.as_document();
                    head.fragment =
                        split.and_then(|split| Some((number(split, "fragment")?, number(split, "of")?)));
                }
                _ => {}
            }
        }
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use bson::{Timestamp, bson, doc};
    use shared::{
        definition::Definitions,
        planner::Plan,
        variables::{OperatorCheck, ServerVariables, Variables},
    };

    use super::*;
    use crate::seal;

    /// `~` stands for a byte that no UTF-8 holds.
    fn stored(event: &bson::Document) -> RawDocumentBuf {
        let mut bytes = event.to_vec().expect("BSON");
        bytes.iter_mut().filter(|byte| **byte == b'~').for_each(|byte| *byte = 0xff);
        RawDocumentBuf::from_bytes(bytes).expect("a document")
    }

    fn change(event: &bson::Document) -> Event {
        change_behind(event, &Arc::default())
    }

    fn change_behind(event: &bson::Document, residual: &Arc<Residual>) -> Event {
        let position = Position::after(Timestamp { time: 7, increment: 0 });
        Event::change(stored(event), residual, position, &Arc::new(seal::for_tests()))
    }

    /// That of a stream which asks for a name, and shows a text.
    fn residual() -> Arc<Residual> {
        let streams = bson!([{ "uri": "s", "stages": [
            { "$match": { "fullDocument.name": { "$var": "n" } } },
            { "$project": { "fullDocument.text": 1, "operationType": 1 } },
        ] }]);
        let definitions = Definitions::written(&streams).expect("definitions");
        let definition = definitions.iter().next().expect("one").1.as_ref().expect("good");
        let server = ServerVariables { user: None, now: bson::DateTime::from_millis(0) };
        let client = Variables::parse(Some(r#"{"n": "ada"}"#), OperatorCheck::On).expect("variables");
        let plan = Plan::new(&[], &definition.bind(&client, &server).expect("a binding"));
        Arc::new(plan.residual().clone())
    }

    const FORMS: [Form; 3] =
        [Form::Plain(JsonMode::Plain), Form::V1Json(JsonMode::Plain), Form::Sse(JsonMode::Plain)];

    #[test]
    fn what_is_asked_for_and_not_shown_is_in_no_form() {
        let document = doc! { "name": "ada", "text": "ab" };
        let event = change_behind(
            &doc! { "operationType": "insert", "fullDocument": document, "documentKey": { "_id": "ada" } },
            &residual(),
        );
        let whole = event.document().and_then(|event| event.get_document("documentKey").ok());
        assert!(whole.is_some(), "it is asked of the whole");
        for form in FORMS {
            let Ok(Some(Frame::Text(text))) = event.encoded(form) else { panic!("a text") };
            assert!(text.contains(r#""fullDocument":{"text":"ab"},"documentKey":null"#), "{text}");
            assert!(!text.contains("ada"), "{text}");
        }
        let Ok(Some(Frame::Binary(bytes))) = event.encoded(Form::V1Bson) else { panic!("bytes") };
        assert!(!bytes.windows(3).any(|bytes| bytes == b"ada"));
    }

    #[test]
    fn an_event_that_nobody_can_read_is_told_as_a_failure_and_never_as_another_value() {
        let event = change(&doc! { "operationType": "insert", "fullDocument": { "na~me": 1 } });
        let [plain, typed, sse] = FORMS.map(|form| event.encoded(form));
        let closed = Err((Close::EventFailed, "22".to_owned()));
        assert_eq!((&plain, &sse), (&closed, &closed));
        let position = event.sealed();
        let told = format!(r#"{{"type":"error","code":22,"position":"{position}"}}"#);
        assert_eq!(typed, Ok(Some(Frame::text(told))));
    }

    #[test]
    fn fragments_are_put_together() {
        let fragments = [
            stored(&doc! { "_id": { "_data": "1" }, "splitEvent": { "fragment": 1, "of": 2 }, "title": "x" }),
            stored(&doc! { "_id": { "_data": "2" }, "splitEvent": { "fragment": 2, "of": 2 }, "n": 1 }),
        ];
        let whole = doc! { "_id": { "_data": "2" }, "title": "x", "n": 1 };
        let joined = joined(&fragments).expect("a document");
        assert_eq!(bson::Document::try_from(joined).expect("valid"), whole);
    }
}
