//! The body of a request: read only where it is wanted, and never beyond its limit.

use std::{pin::Pin, time::Duration};

use bson::{Bson, Document};
use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use shared::{
    limit::Limit,
    refusal::{Kind, Refusal},
    shell_json,
};
use tokio::time::timeout;

type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, String>> + Send>>;

/// A body that has not been read yet.
pub struct Body {
    chunks: Chunks,
    limits: Limits,
}

/// What a body may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    bytes: usize,
    time: Duration,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Body {
    /// Wraps the body of a request; one of more than `bytes` is refused, and one that takes longer than `time`.
    pub fn new<S, B, E>(chunks: S, bytes: usize, time: Duration) -> Self
    where
        S: Stream<Item = Result<B, E>> + Send + 'static,
        B: Buf,
        E: std::fmt::Display,
    {
        let chunks = chunks.map(|chunk| {
            chunk.map(|mut chunk| chunk.copy_to_bytes(chunk.remaining())).map_err(|error| error.to_string())
        });
        Self { chunks: Box::pin(chunks), limits: Limits { bytes, time } }
    }

    /// The same, refused when it has more than so many bytes.
    #[must_use]
    pub fn at_most(mut self, bytes: usize) -> Self {
        self.limits.bytes = bytes;
        self
    }

    async fn text(self) -> Result<String, Refusal> {
        let time = self.limits.time;
        match timeout(time, self.whole()).await {
            Ok(read) => read,
            Err(_) => Err(Limit::BodyTime.refusal(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))),
        }
    }

    async fn whole(mut self) -> Result<String, Refusal> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunks.next().await {
            let chunk = chunk.map_err(|error| {
                Refusal::new(Kind::BadBody, format!("the body did not arrive whole: {error}"))
            })?;
            if bytes.len() + chunk.len() > self.limits.bytes {
                let message = format!("body over {} bytes", self.limits.bytes);
                return Err(Refusal::new(Kind::BodyTooLarge, message).over(Limit::BodyBytes));
            }
            bytes.extend_from_slice(&chunk);
        }
        String::from_utf8(bytes).map_err(|_| Refusal::new(Kind::BadBody, "the body is not UTF-8"))
    }

    /// Reads any JSON value.
    pub async fn value(self) -> Result<Bson, Refusal> {
        let text = self.text().await?;
        shell_json::parse(&text)
            .map_err(|error| Refusal::new(Kind::BadBody, format!("the body is not JSON: {error}")))
    }

    /// Reads a JSON object. An empty body is an empty object.
    pub async fn object(self) -> Result<Document, Refusal> {
        let text = self.text().await?;
        if text.trim().is_empty() {
            return Ok(Document::new());
        }
        match shell_json::parse(&text) {
            Ok(Bson::Document(document)) => Ok(document),
            Ok(_) => Err(Refusal::new(Kind::BadBody, "the body is not a JSON object")),
            Err(error) => Err(Refusal::new(Kind::BadBody, format!("the body is not JSON: {error}"))),
        }
    }
}
