//! One connection of a client, in any form: what it is told, with as little work as possible.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bson::RawDocument;
use futures_util::StreamExt as _;
use http::StatusCode;
use parts::http::{Answer, Request};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::event_source;

/// How long what has to come may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a client asks for its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// A WebSocket without a sub-protocol, with `position=true`.
    Plain,
    /// `tailrace.v1.json`
    V1Json,
    /// `tailrace.v1.bson`
    V1Bson,
    /// Server-sent events.
    EventSource,
}

impl Form {
    /// All of them, in the order in which a mixed crowd takes them.
    pub const ALL: [Self; 4] = [Self::Plain, Self::V1Json, Self::V1Bson, Self::EventSource];

    /// The request that opens `path`, behind `position` where there is one.
    pub fn request(self, path: &str, position: Option<&str>) -> Request {
        let mut target = path.to_owned();
        let mut add = |parameter: &str| {
            target.push(if target.contains('?') { '&' } else { '?' });
            target.push_str(parameter);
        };
        if self == Self::Plain {
            add("position=true");
        }
        if let Some(position) = position.filter(|_| self != Self::EventSource) {
            add(&format!("resumeAfter={position}"));
        }
        let request = Request::get(target);
        let request = match self {
            Self::Plain => request,
            Self::V1Json => request.header("sec-websocket-protocol", "tailrace.v1.json"),
            Self::V1Bson => request.header("sec-websocket-protocol", "tailrace.v1.bson"),
            Self::EventSource => {
                let request = request.header("accept", "text/event-stream");
                return match position {
                    Some(position) => request.header("last-event-id", position),
                    None => request,
                };
            }
        };
        request.upgrade()
    }
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A numbered document, written at this time, and the position behind it.
    Number {
        /// Its number.
        n: i64,
        /// When it was written, in microseconds since 1970.
        at: i64,
        /// The position behind it.
        position: String,
    },
    /// `ready`, `keepalive`, `gap`, `error`, or an id alone: its name and its position.
    Notice(String, String),
    /// The close and its reason; nothing follows.
    Close(u16, String),
    /// Nothing to heed: a ping, a comment.
    Nothing,
    /// What no client would understand.
    Strange(String),
}

/// The answer of a server that does not open the stream.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: String,
}

/// An open connection.
#[derive(Debug)]
pub enum Wire {
    /// A WebSocket in one of its forms.
    WebSocket(Form, Box<WebSocketStream<TcpStream>>),
    /// An event stream, and what of it was read and not yet taken apart.
    EventSource(Box<Answer>, Vec<u8>),
}

impl Wire {
    /// Opens one. The outer error is a connection that fails, the inner one a refusal.
    pub async fn open(
        server: &str,
        form: Form,
        path: &str,
        position: Option<&str>,
    ) -> Result<Result<Self, Refused>> {
        let answer = form.request(path, position).open(server).await?;
        let opened = if form == Form::EventSource { StatusCode::OK } else { StatusCode::SWITCHING_PROTOCOLS };
        if answer.status != opened {
            let answer = answer.whole().await?;
            return Ok(Err(Refused { status: answer.status, body: answer.text() }));
        }
        if form == Form::EventSource {
            return Ok(Ok(Self::EventSource(Box::new(answer), Vec::new())));
        }
        let (stream, read) = answer.into_upgraded();
        // There are a thousand of them in one process.
        let config =
            WebSocketConfig::default().read_buffer_size(4096).max_message_size(None).max_frame_size(None);
        let socket = WebSocketStream::from_partially_read(stream, read, Role::Client, Some(config)).await;
        Ok(Ok(Self::WebSocket(form, Box::new(socket))))
    }

    /// Opens one that nobody refuses.
    ///
    /// # Panics
    /// When it does not open.
    pub async fn opened(server: &str, form: Form, path: &str, position: Option<&str>) -> Self {
        let wire = Self::open(server, form, path, position).await.expect("an answer");
        wire.unwrap_or_else(|refused| panic!("{form:?} is refused: {refused:?}"))
    }

    /// What comes next that is neither a ping nor a keepalive.
    ///
    /// # Panics
    /// When nothing comes for long, or the connection ends without a close.
    pub async fn heeded(&mut self) -> Told {
        let next = async {
            loop {
                match self.next().await.expect("the connection holds") {
                    Told::Nothing => {}
                    Told::Notice(what, _) if ["ready", "keepalive", "id"].contains(&what.as_str()) => {}
                    told => return told,
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("something comes")
    }

    /// The number that comes next, and the position behind it.
    ///
    /// # Panics
    /// When something else comes.
    pub async fn number(&mut self) -> (i64, String) {
        match self.heeded().await {
            Told::Number { n, position, .. } => (n, position),
            told => panic!("a number was expected, and this came: {told:?}"),
        }
    }

    /// What comes next; an error is a connection that ended without a close.
    pub async fn next(&mut self) -> Result<Told> {
        match self {
            Self::WebSocket(form, socket) => {
                match socket.next().await.unwrap_or(Err(Error::ConnectionClosed))? {
                    Message::Text(text) => Ok(json(*form, &text).unwrap_or_else(strange)),
                    Message::Binary(bytes) => Ok(bson(&bytes).unwrap_or_else(strange)),
                    Message::Close(Some(close)) => {
                        Ok(Told::Close(close.code.into(), close.reason.to_string()))
                    }
                    Message::Close(None) => bail!("a close without a code"),
                    _ => Ok(Told::Nothing),
                }
            }
            Self::EventSource(answer, buffer) => loop {
                if let Some(end) = buffer.windows(2).position(|pair| pair == b"\n\n") {
                    let lines: Vec<u8> = buffer.drain(..end + 2).collect();
                    let block = block(event_source::parse(&String::from_utf8_lossy(&lines)));
                    return Ok(block.unwrap_or_else(strange));
                }
                buffer.extend(answer.piece().await?.context("the event stream ended without a close")?);
            },
        }
    }
}

#[derive(Deserialize)]
struct Numbered {
    n: i64,
    at: i64,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "fullDocument")]
    document: Numbered,
}

#[derive(Deserialize)]
struct WithPosition<'a> {
    #[serde(rename = "fullDocument")]
    document: Numbered,
    position: &'a str,
}

#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    position: &'a str,
    event: Option<Event>,
}

fn json(form: Form, text: &str) -> Result<Told> {
    let what = || format!("not what was expected: {}", &text[..text.len().min(300)]);
    if form == Form::Plain {
        let event: WithPosition<'_> = serde_json::from_str(text).with_context(what)?;
        return Ok(number(event.document, event.position));
    }
    let typed: Typed<'_> = serde_json::from_str(text).with_context(what)?;
    Ok(match typed.event {
        Some(event) => number(event.document, typed.position),
        None => Told::Notice(typed.kind.to_owned(), typed.position.to_owned()),
    })
}

fn bson(message: &[u8]) -> Result<Told> {
    let message = RawDocument::from_bytes(message)?;
    let position = message.get_str("position")?;
    let kind = message.get_str("type")?;
    if kind != "event" {
        return Ok(Told::Notice(kind.to_owned(), position.to_owned()));
    }
    let document = message.get_document("event")?.get_document("fullDocument")?;
    Ok(number(Numbered { n: document.get_i64("n")?, at: document.get_i64("at")? }, position))
}

fn block(block: event_source::Block) -> Result<Told> {
    let position = block.id.unwrap_or_default();
    match (block.event.as_deref(), block.data) {
        (Some("change"), Some(data)) => {
            let event: Event = serde_json::from_str(&data).with_context(|| data.clone())?;
            Ok(number(event.document, &position))
        }
        (Some("close"), Some(data)) => {
            let close: serde_json::Value = serde_json::from_str(&data)?;
            let code = close["code"].as_u64().and_then(|code| u16::try_from(code).ok());
            let reason = close["reason"].as_str().unwrap_or_default().to_owned();
            Ok(Told::Close(code.context("a close without a code")?, reason))
        }
        (None, None) if !position.is_empty() => Ok(Told::Notice("id".to_owned(), position)),
        (None, None) => Ok(Told::Nothing),
        (event, data) => bail!("an unknown block: {event:?} {data:?}"),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `unwrap_or_else` has it")]
fn strange(error: anyhow::Error) -> Told {
    Told::Strange(format!("{error:#}"))
}

fn number(Numbered { n, at }: Numbered, position: &str) -> Told {
    Told::Number { n, at, position: position.to_owned() }
}
