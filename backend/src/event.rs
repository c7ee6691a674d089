//! One event on its way: the bytes that MongoDB sent, and each form in which clients get it, made once.

use std::sync::OnceLock;

use bson::{RawDocument, RawDocumentBuf};
use shared::event_json::{JsonMode, plain_event};
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// An event, shared by everybody who receives it.
#[derive(Debug)]
pub struct Event {
    raw: RawDocumentBuf,
    plain: [OnceLock<Utf8Bytes>; 4],
}

impl Event {
    /// Keeps the bytes as they came.
    pub fn new(raw: &RawDocument) -> Self {
        Self { raw: raw.to_owned(), plain: Default::default() }
    }

    /// How much of a subscriber's queue the event takes.
    pub fn weight(&self) -> usize {
        self.raw.as_bytes().len()
    }

    /// The plain form; its bytes are shared by all who receive it.
    pub fn plain(&self, mode: JsonMode) -> Utf8Bytes {
        let slot = match mode {
            JsonMode::Plain => 0,
            JsonMode::Relaxed => 1,
            JsonMode::Canonical => 2,
            JsonMode::Strict => 3,
        };
        self.plain[slot]
            .get_or_init(|| {
                let json = plain_event(&self.raw, mode);
                // MongoDB checks what it stores; bytes that are no BSON would be a broken connection.
                Utf8Bytes::from(json.unwrap_or_else(|error| {
                    tracing::error!(%error, "an event is no valid BSON");
                    "null".to_owned()
                }))
            })
            .clone()
    }
}
