//! A client of server-sent events (HTML Living Standard, section 9.2) that shows comments and ids too.

use http::{HeaderMap, StatusCode};
use parts::http::Answer;
use serde_json::Value;

use crate::{Request, Response, soon};

/// An open stream of events.
#[derive(Debug)]
pub struct EventSource {
    /// The headers of the 200.
    pub headers: HeaderMap,
    answer: Answer,
    buffer: Vec<u8>,
}

/// One block of lines up to an empty one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// `id:`
    pub id: Option<String>,
    /// `event:`
    pub event: Option<String>,
    /// The lines of `data:`, joined.
    pub data: Option<String>,
    /// Lines that begin with a colon.
    pub comment: Option<String>,
}

impl Block {
    /// The data as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        let data = self.data.as_deref().unwrap_or_else(|| panic!("no data in {self:?}"));
        serde_json::from_str(data).unwrap_or_else(|error| panic!("no JSON ({error}): {data}"))
    }
}

impl EventSource {
    /// Opens one; the error is the answer of a server that refuses.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn open(server: &str, request: Request) -> Result<Self, Box<Response>> {
        let request = request.header("accept", "text/event-stream");
        let answer = soon("an answer", request.open(server)).await.expect("an answer");
        if answer.status != StatusCode::OK {
            return Err(Box::new(soon("the whole refusal", answer.whole()).await.expect("a whole refusal")));
        }
        Ok(Self { headers: answer.headers.clone(), answer, buffer: Vec::new() })
    }

    /// The next block; `None` when the server has ended the stream. An error is a connection that broke.
    pub async fn block(&mut self) -> anyhow::Result<Option<Block>> {
        soon("a block", async {
            loop {
                if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                    let lines: Vec<u8> = self.buffer.drain(..end + 2).collect();
                    return Ok(Some(parse(&String::from_utf8(lines)?)));
                }
                let Some(piece) = self.answer.piece().await? else { return Ok(None) };
                self.buffer.extend(piece);
            }
        })
        .await
    }

    /// The next block that has data; comments and blocks with an id alone are passed over.
    ///
    /// # Panics
    /// When the stream ends before.
    pub async fn event(&mut self) -> Block {
        loop {
            let block = self.block().await.expect("the connection holds").expect("the stream goes on");
            if block.data.is_some() {
                return block;
            }
        }
    }
}

pub(crate) fn parse(lines: &str) -> Block {
    let mut block = Block::default();
    for line in lines.lines().filter(|line| !line.is_empty()) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        let place = match field {
            "" => &mut block.comment,
            "id" => &mut block.id,
            "event" => &mut block.event,
            "data" => &mut block.data,
            _ => continue,
        };
        match place {
            Some(before) if matches!(field, "" | "data") => {
                before.push('\n');
                before.push_str(value);
            }
            _ => *place = Some(value.to_owned()),
        }
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_data_are_joined_and_unknown_fields_passed_over() {
        let block = parse(": hello\nid: 7\nevent: change\ndata: {\"a\":\ndata: 1}\nretry: 5\n\n");
        assert_eq!((block.id.as_deref(), block.event.as_deref()), (Some("7"), Some("change")));
        assert_eq!(block.comment.as_deref(), Some("hello"));
        assert_eq!(block.json(), serde_json::json!({"a": 1}));
    }
}
