//! One WebSocket of very many, read in turn with one buffer for all.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::pin::Pin;
use std::task::{Context as Polled, Poll, ready};

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use http::StatusCode;
use parts::http::Request;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

use super::frames::{Frame, PONG, first, text};
use super::now;
use super::stamps::Stamps;

/// What is read at once.
const BUFFER: usize = 64 * 1024;

/// Asks for the events of a channel of Centrifugo's.
const SUBSCRIBE: &str = r#"{"id":2,"subscribe":{"channel":"all"}}"#;

/// A buffer for all sockets of a thread.
pub(super) fn buffer() -> Vec<u8> {
    vec![0; BUFFER]
}

/// What is in the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    /// Each is an event, from the first on.
    Events,
    /// Each is some lines, answers or events of the channel `all`, which the client asks for first. An empty one wants another.
    Centrifugo,
}

/// A client's socket.
pub(super) struct Socket {
    stream: TcpStream,
    language: Language,
    /// What has come of a frame that is not whole.
    begun: Vec<u8>,
    /// Whether there may be whole ones in it: such as came with the answer to the upgrade.
    unread: bool,
    stamps: Option<Stamps>,
}

impl Socket {
    /// Opens a stream of this server, `http://host:port`.
    pub(super) async fn open(server: &str, path: String, protocol: Option<&str>) -> Result<Self> {
        Self::open_in(Language::Events, server, path, protocol).await
    }

    /// The same, and asks for events where this language wants it.
    pub(super) async fn open_in(
        language: Language,
        server: &str,
        path: String,
        protocol: Option<&str>,
    ) -> Result<Self> {
        let request = Request::get(path).upgrade();
        let request = match protocol {
            Some(protocol) => request.header("sec-websocket-protocol", protocol),
            None => request,
        };
        let answer = request.open(server).await?;
        let status = answer.status;
        ensure!(status == StatusCode::SWITCHING_PROTOCOLS, "the upgrade is answered {status}");
        let (stream, begun) = answer.into_upgraded();
        let mut socket = Self { stream, language, unread: !begun.is_empty(), begun, stamps: None };
        if language == Language::Centrifugo {
            socket.subscribe().await?;
        }
        Ok(socket)
    }

    /// From now on it is read when its owner wants to: for what comes meanwhile nobody is woken.
    pub(super) fn unhurried(self) -> Result<Unhurried> {
        Ok(Unhurried { stream: self.stream.into_std()?, language: self.language, begun: self.begun })
    }

    /// From now on [`Socket::came`] is what the kernel says.
    pub(super) fn stamp(&mut self) -> Result<()> {
        self.stamps = Some(Stamps::new(&self.stream)?);
        Ok(())
    }

    /// When the newest came of what was read last, in microseconds since 1970: to the socket, where that is stamped, or else to
    /// who asks.
    pub(super) fn came(&self) -> u64 {
        self.stamps.as_ref().and_then(Stamps::newest).unwrap_or_else(now)
    }

    /// Subscribes to a channel of Centrifugo's.
    async fn subscribe(&mut self) -> Result<()> {
        let asked = format!("{{\"id\":1,\"connect\":{{}}}}\n{SUBSCRIBE}");
        self.stream.write_all(&text(asked.as_bytes(), true)).await?;
        let mut is_subscribed = false;
        while !is_subscribed {
            ensure!(self.stream.read_buf(&mut self.begun).await? > 0, "the subscription has no answer");
            let done = apart(&mut reply(&self.stream), self.language, &self.begun, &mut |answer| {
                ensure!(!answer.starts_with(b"{\"id\":2,\"error\""), "{}", String::from_utf8_lossy(answer));
                is_subscribed |= answer.starts_with(b"{\"id\":2,");
                Ok(())
            })?;
            self.begun.drain(..done);
        }
        self.unread = false;
        Ok(())
    }

    /// Gives the messages that have come to `take`, if any have; how many bytes were read, none at the end.
    ///
    /// One call to the kernel where one event has come: tokio knows from a buffer that is not full that nothing is left.
    pub(super) fn poll_messages(
        &mut self,
        polled: &mut Polled<'_>,
        buffer: &mut [u8],
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Poll<Result<usize>> {
        if std::mem::take(&mut self.unread) {
            let done = apart(&mut reply(&self.stream), self.language, &self.begun, &mut take)?;
            let bytes = self.begun.len();
            self.begun.drain(..done);
            return Poll::Ready(Ok(bytes));
        }
        let bytes = if let Some(stamps) = &mut self.stamps {
            ready!(stamps.poll_read(&self.stream, polled, buffer))?
        } else {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.stream).poll_read(polled, &mut buffer))?;
            buffer.filled().len()
        };
        let bytes = &buffer[..bytes];
        if self.begun.is_empty() {
            let done = apart(&mut reply(&self.stream), self.language, bytes, &mut take)?;
            self.begun.extend_from_slice(&bytes[done..]);
        } else {
            self.begun.extend_from_slice(bytes);
            let done = apart(&mut reply(&self.stream), self.language, &self.begun, &mut take)?;
            self.begun.drain(..done);
        }
        if self.begun.is_empty() {
            self.begun = Vec::new();
        }
        Poll::Ready(Ok(bytes.len()))
    }
}

/// A client's socket that nobody waits for.
pub(super) struct Unhurried {
    stream: std::net::TcpStream,
    language: Language,
    /// What has come of a frame that is not whole.
    begun: Vec<u8>,
}

impl Unhurried {
    /// Gives all messages that have come to `take`. False at the end.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<bool> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(bytes) => {
                    self.begun.extend_from_slice(&buffer[..bytes]);
                    let mut reply = |answer: &[u8]| (&self.stream).write(answer).map(drop);
                    let done = apart(&mut reply, self.language, &self.begun, &mut take)?;
                    self.begun.drain(..done);
                    if bytes < buffer.len() {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// There is always room for what is never more than one answer.
fn reply(stream: &TcpStream) -> impl FnMut(&[u8]) -> io::Result<()> {
    |answer| stream.try_write(answer).map(drop)
}

/// Takes frames apart; how many bytes they were.
fn apart(
    reply: &mut impl FnMut(&[u8]) -> io::Result<()>,
    language: Language,
    bytes: &[u8],
    take: &mut impl FnMut(&[u8]) -> Result<()>,
) -> Result<usize> {
    let mut done = 0;
    while let Some((frame, length)) = first(&bytes[done..]) {
        done += length;
        match frame {
            Frame::Message(message) if language == Language::Events => take(message)?,
            Frame::Message(lines) => {
                for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    if line == b"{}" {
                        reply(&text(line, true))?;
                    } else {
                        take(line)?;
                    }
                }
            }
            Frame::Ping => {
                reply(&PONG)?;
            }
            // The server waits until the client has closed too: it does so by leaving.
            Frame::Close(_) => bail!("the server closes"),
            Frame::Other => {}
        }
    }
    Ok(done)
}
