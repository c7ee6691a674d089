//! The body of a request: read only where it is wanted, and never beyond its limit.

use std::pin::Pin;

use bson::{Bson, Document};
use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use shared::{
    refusal::{Kind, Refusal},
    shell_json,
};

type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, String>> + Send>>;

/// A body that has not been read yet.
pub struct Body {
    chunks: Chunks,
    limit: usize,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Body {
    /// Wraps the body of a request; more than `limit` bytes are refused.
    pub fn new<S, B, E>(chunks: S, limit: usize) -> Self
    where
        S: Stream<Item = Result<B, E>> + Send + 'static,
        B: Buf,
        E: std::fmt::Display,
    {
        let chunks = chunks.map(|chunk| {
            chunk.map(|mut chunk| chunk.copy_to_bytes(chunk.remaining())).map_err(|error| error.to_string())
        });
        Self { chunks: Box::pin(chunks), limit }
    }

    async fn text(mut self) -> Result<String, Refusal> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunks.next().await {
            let chunk = chunk.map_err(|error| {
                Refusal::new(Kind::BadBody, format!("the body did not arrive whole: {error}"))
            })?;
            if bytes.len() + chunk.len() > self.limit {
                let message = format!("body over {} bytes", self.limit);
                return Err(Refusal::new(Kind::BodyTooLarge, message));
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
