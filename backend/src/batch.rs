//! Events that go out together, and the bytes of them that every client of one form gets.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Data, OpCode},
};

use crate::event::{Encoded, Event, Form, Frame};
#[cfg(test)]
use crate::position::Position;

/// Events in their order, for everybody whom they concern.
#[derive(Debug)]
pub(crate) struct Batch {
    events: Vec<Arc<Event>>,
    is_for_all: bool,
    /// What it is joined of, whose frames are made already; nothing otherwise.
    parts: Vec<Arc<Batch>>,
    // Few forms are in use at one time, most often one.
    made: Mutex<Vec<(Form, Option<Frames>)>>,
    written_at: OnceLock<i64>,
}

/// What is written to the socket of a client that gets a whole batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frames {
    /// WebSocket frames, one behind the other.
    pub(crate) bytes: Bytes,
    /// How many events they tell of, and how many bytes the messages have in all.
    pub(crate) figures: Figures,
}

/// What a batch counts for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
}

impl Batch {
    /// Events that may be in other batches as well: each is encoded once, and kept in its form.
    pub(crate) fn new(events: Vec<Arc<Event>>) -> Self {
        Self {
            events,
            is_for_all: false,
            parts: Vec::new(),
            made: Mutex::default(),
            written_at: OnceLock::new(),
        }
    }

    /// All events for everybody. Many of them are encoded one behind the other, and none is kept in that form by itself: whoever
    /// does not get the whole batch is one who lags.
    pub(crate) fn for_all(events: Vec<Arc<Event>>) -> Self {
        Self { is_for_all: true, ..Self::new(events) }
    }

    /// One batch and the one behind it, for those who get both at one time.
    pub(crate) fn join(first: &Arc<Self>, second: &Arc<Self>) -> Self {
        let parts = |batch: &Arc<Self>| match &batch.parts[..] {
            [] => vec![Arc::clone(batch)],
            parts => parts.to_vec(),
        };
        let events = [&first.events[..], &second.events].concat();
        Self { parts: [parts(first), parts(second)].concat(), ..Self::new(events) }
    }

    /// Whether it is of just these.
    pub(crate) fn is_of(&self, events: &[Arc<Event>]) -> bool {
        self.events.len() == events.len()
            && self.events.iter().zip(events).all(|(one, other)| Arc::ptr_eq(one, other))
    }

    fn written_at(&self) -> i64 {
        *self.written_at.get_or_init(|| self.events.first().map_or(0, |oldest| oldest.written_at()))
    }

    /// The batch, with what was looked up of it at hand.
    pub(crate) fn at_hand(&self) -> AtHand<'_> {
        AtHand { batch: self, frames: Vec::new() }
    }

    /// The frames of all events; none where one of them ends the connection, which is for its session to do.
    fn frames(&self, form: Form) -> Option<Frames> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, frames)) = made.iter().find(|(other, _)| *other == form) {
            return frames.clone();
        }
        let frames = self.make(form);
        made.push((form, frames.clone()));
        frames
    }

    fn make(&self, form: Form) -> Option<Frames> {
        if self.parts.is_empty() { self.encode(form) } else { self.gather(form) }
    }

    /// The frames of the parts, one behind the other.
    fn gather(&self, form: Form) -> Option<Frames> {
        let mut bytes = Vec::new();
        let mut figures = Figures::default();
        for part in &self.parts {
            let frames = part.frames(form)?;
            bytes.extend_from_slice(&frames.bytes);
            figures.events += frames.figures.events;
            figures.bytes += frames.figures.bytes;
        }
        Some(Frames { bytes: bytes.into(), figures })
    }

    fn encode(&self, form: Form) -> Option<Frames> {
        let mut bytes = Vec::new();
        let mut figures = Figures::default();
        let mut frame = |message: &[u8], kind| {
            figures.events += 1;
            figures.bytes += message.len() as u64;
            let head = FrameHeader { opcode: OpCode::Data(kind), ..FrameHeader::default() };
            head.format(message.len() as u64, &mut bytes).ok()?;
            bytes.extend_from_slice(message);
            Some(())
        };
        // One for all events.
        let mut text = String::new();
        for event in &self.events {
            if self.is_for_all && self.events.len() > 1 {
                text.clear();
                match event.encode(form, &mut text).ok()? {
                    Encoded::Text => frame(text.as_bytes(), Data::Text)?,
                    Encoded::Binary(document) => frame(document.as_bytes(), Data::Binary)?,
                    Encoded::Nothing => {}
                }
            } else {
                match event.encoded(form).ok()? {
                    Some(Frame::Text(text)) => frame(text.as_bytes(), Data::Text)?,
                    Some(Frame::Binary(bytes)) => frame(&bytes, Data::Binary)?,
                    None => {}
                }
            }
        }
        Some(Frames { bytes: bytes.into(), figures })
    }
}

/// A batch for one thread, which gives it to many.
#[derive(Debug)]
pub(crate) struct AtHand<'a> {
    batch: &'a Batch,
    frames: Vec<(Form, Option<Frames>)>,
}

impl AtHand<'_> {
    pub(crate) fn events(&self) -> &[Arc<Event>] {
        &self.batch.events
    }

    /// When the oldest of its events was written in MongoDB, in Unix milliseconds.
    pub(crate) fn written_at(&self) -> i64 {
        self.batch.written_at()
    }

    /// The frames of all its events; none where one of them ends the connection, which is for its session to do.
    pub(crate) fn frames(&mut self, form: Form) -> Option<&Frames> {
        let known = self.frames.iter().position(|(other, _)| *other == form);
        let index = known.unwrap_or_else(|| {
            self.frames.push((form, self.batch.frames(form)));
            self.frames.len() - 1
        });
        self.frames[index].1.as_ref()
    }
}

#[cfg(test)]
pub(crate) fn position(time: u32) -> Position {
    Position::before(bson::Timestamp { time, increment: 0 })
}

/// One event at each of these times.
#[cfg(test)]
pub(crate) fn of(times: impl IntoIterator<Item = u32>) -> Batch {
    let seal = Arc::new(crate::seal::for_tests());
    let event =
        |time| Arc::new(Event::change(bson::rawdoc! { "n": 1 }, &Arc::default(), position(time), &seal));
    Batch::new(times.into_iter().map(event).collect())
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;
    use shared::event_json::JsonMode;

    use super::{position as at, *};
    use crate::seal;

    const PLAIN: Form = Form::Plain(JsonMode::Relaxed);

    fn change(padding: usize) -> Arc<Event> {
        let raw = rawdoc! { "x": "y".repeat(padding) };
        Arc::new(Event::change(raw, &Arc::default(), at(1), &Arc::new(seal::for_tests())))
    }

    #[test]
    fn the_frames_of_a_batch_are_those_of_its_events_one_behind_the_other() {
        let batch = Batch::new(vec![change(1), change(200), change(70_000)]);
        let frames = batch.frames(PLAIN).expect("frames");
        let mut expected = Vec::new();
        let headers: [&[u8]; 3] = [b"\x81\x5e", b"\x81\x7e\x01\x25", b"\x81\x7f\0\0\0\0\0\x01\x11\xcd"];
        for (header, event) in headers.into_iter().zip(&batch.events) {
            let Ok(Some(Frame::Text(text))) = event.encoded(PLAIN) else { panic!("a text") };
            expected.extend_from_slice(header);
            expected.extend_from_slice(text.as_bytes());
        }
        assert!(frames.bytes == expected, "the frames");
        assert_eq!(frames.figures, Figures { events: 3, bytes: 94 + 293 + 70_093 });
        assert_eq!(batch.frames(Form::V1Bson).expect("frames").bytes[0], 0x82, "binary");
    }

    #[test]
    fn what_ends_a_connection_has_no_frames_and_what_has_no_word_is_left_out() {
        let seal = Arc::new(seal::for_tests());
        let batch = Batch::new(vec![change(1), Arc::new(Event::failure(7, None, at(2), &seal))]);
        assert_eq!(batch.frames(PLAIN), None);
        assert_eq!(batch.frames(Form::V1Bson).map(|frames| frames.figures.events), Some(2));
        let leave = Event::leave(rawdoc! { "_id": 1 }, at(3), &seal);
        let batch = Batch::new(vec![change(1), Arc::new(leave)]);
        let frames = batch.frames(PLAIN).expect("frames");
        assert_eq!(frames.figures, Figures { events: 1, bytes: 94 });
    }

    #[test]
    fn joined_batches_have_the_frames_of_both_and_neither_is_encoded_again() {
        let [first, second, third] = [1, 2, 3].map(|time| Arc::new(of([time])));
        let joined = Batch::join(&Arc::new(Batch::join(&first, &second)), &third);
        assert_eq!(joined.events.len(), 3);
        let parts = [&first, &second, &third].map(|batch| batch.frames(PLAIN).expect("frames"));
        let frames = joined.frames(PLAIN).expect("frames");
        assert!(frames.bytes == parts.each_ref().map(|part| &part.bytes[..]).concat());
        assert_eq!(frames.figures.events, 3);
        assert_eq!(frames.figures.bytes, parts.iter().map(|part| part.figures.bytes).sum::<u64>());
        assert!(
            joined.parts.iter().zip([&first, &second, &third]).all(|(part, batch)| Arc::ptr_eq(part, batch))
        );
        let seal = Arc::new(seal::for_tests());
        let failure = Arc::new(Batch::new(vec![Arc::new(Event::failure(7, None, at(4), &seal))]));
        assert_eq!(Batch::join(&first, &failure).frames(PLAIN), None, "it ends the connection");
    }
}
