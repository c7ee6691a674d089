//! One subscriber's WebSocket (RFC 6455): events out, everything else in its place.
//!
//! warp's own websocket filter keeps a read buffer of 128 KiB for each client. Here the upgrade is taken from hyper, with
//! buffers fit for clients that send next to nothing.

use std::{
    future::Future,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use shared::{close::Close, event_json::JsonMode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};
use warp::reply::Response;

use crate::{
    config::Limits,
    event::Event,
    subscription::{Delivery, Subscription},
};

/// A client sends a Ping, a Close, now and then a text that is ignored.
const READ_BUFFER: usize = 512;
/// Frames are gathered up to this size before they are written.
const WRITE_BUFFER: usize = 16 * 1024;
/// How long a peer may take to answer a Close.
const CLOSES_WITHIN: Duration = Duration::from_secs(3);
/// What is read and thrown away of a client that sent too much, so that it can read why before the connection resets.
const DISCARDED: usize = 16 * 1024 * 1024;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The answer that accepts an upgrade.
#[derive(Debug)]
pub struct Handshake {
    /// The client's `Sec-WebSocket-Key`.
    pub key: String,
    /// The sub-protocol that was chosen, if one was offered.
    pub echo: Option<&'static str>,
}

impl Handshake {
    /// 101.
    pub fn response(&self) -> Response {
        let mut response = Response::new("".into());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(accept) = HeaderValue::try_from(derive_accept_key(self.key.as_bytes())) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        if let Some(echo) = self.echo {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(echo));
        }
        response
    }
}

/// Why a session is over.
enum Ending {
    /// We close, for this reason.
    Close(Close),
    /// As above, and what the client still sends cannot be read as frames any more.
    CloseUnreadable(Close),
    /// The peer closed, or is gone.
    Gone,
}

/// A subscriber and its socket.
#[derive(Debug)]
pub struct Session {
    subscription: Subscription,
    mode: JsonMode,
    expires: Option<Instant>,
    ping_every: Duration,
    pong_within: Duration,
    message_bytes: usize,
}

impl Session {
    /// A session that ends when the credentials do: `expires_at` is in Unix seconds.
    pub fn new(subscription: Subscription, mode: JsonMode, expires_at: Option<u64>, limits: &Limits) -> Self {
        Self {
            subscription,
            mode,
            expires: expires_at.and_then(instant_of),
            ping_every: Duration::from_secs(limits.ping_seconds),
            pong_within: Duration::from_secs(limits.pong_seconds),
            message_bytes: limits.message_bytes,
        }
    }

    /// Serves the client until one side ends it.
    pub async fn run(self, upgraded: Upgraded) {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_message_size(Some(self.message_bytes))
            .max_frame_size(Some(self.message_bytes));
        let mut socket =
            WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        match self.serve(&mut socket).await {
            Ending::Gone => {}
            ending @ (Ending::Close(close) | Ending::CloseUnreadable(close)) => {
                // The subscription goes first: what ends here must not hold its source open.
                drop(self);
                let readable = matches!(ending, Ending::Close(_));
                let _ = timeout(CLOSES_WITHIN, say_goodbye(&mut socket, close, readable)).await;
            }
        }
    }

    async fn serve(&self, socket: &mut Socket) -> Ending {
        let mut awaits_pong = false;
        // Spread over the interval, so that clients who came together are not pinged together.
        let mut timer = Instant::now() + self.ping_every.mul_f64(rand::random_range(0.5..=1.0));
        loop {
            let wake = self.expires.map_or(timer, |expires| expires.min(timer));
            tokio::select! {
                delivery = self.subscription.next() => match delivery {
                    Delivery::Close(close) => return Ending::Close(close),
                    Delivery::Event(event) => match self.within(self.send(socket, &event)).await {
                        Ok(None) => {}
                        Ok(Some(close)) => return Ending::Close(close),
                        Err(()) => return Ending::Gone,
                    },
                },
                message = socket.next() => match message {
                    Some(Ok(Message::Pong(_))) => {
                        awaits_pong = false;
                        timer = Instant::now() + self.ping_every;
                    }
                    // What clients send is ignored. tungstenite answers Ping and Close.
                    Some(Ok(_)) => {}
                    Some(Err(Error::Capacity(_))) => return Ending::CloseUnreadable(Close::MessageTooBig),
                    Some(Err(Error::Utf8(_))) => return Ending::CloseUnreadable(Close::InvalidText),
                    Some(Err(Error::Protocol(error))) => {
                        tracing::debug!(%error, "a client breaks the protocol");
                        return Ending::CloseUnreadable(Close::ProtocolError);
                    }
                    Some(Err(_)) | None => return Ending::Gone,
                },
                () = sleep_until(wake) => {
                    if self.expires.is_some_and(|expires| expires <= Instant::now()) {
                        return Ending::Close(Close::Expired);
                    }
                    if awaits_pong {
                        return Ending::Gone;
                    }
                    awaits_pong = true;
                    timer = Instant::now() + self.pong_within;
                    if self.within(async { socket.send(Message::Ping("".into())).await }).await.is_err() {
                        return Ending::Gone;
                    }
                }
            }
        }
    }

    /// Sends an event and all that waits behind it in one go.
    async fn send(&self, socket: &mut Socket, event: &Event) -> Result<Option<Close>, Error> {
        socket.feed(Message::Text(event.plain(self.mode))).await?;
        let mut close = None;
        while let Some(delivery) = self.subscription.try_next() {
            match delivery {
                Delivery::Event(event) => socket.feed(Message::Text(event.plain(self.mode))).await?,
                Delivery::Close(reason) => {
                    close = Some(reason);
                    break;
                }
            }
        }
        socket.flush().await?;
        Ok(close)
    }

    /// A peer that takes nothing for as long as it may take to answer a ping is gone.
    async fn within<T>(&self, write: impl Future<Output = Result<T, Error>>) -> Result<T, ()> {
        match timeout(self.ping_every + self.pong_within, write).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_)) | Err(_) => Err(()),
        }
    }
}

async fn say_goodbye(socket: &mut Socket, close: Close, readable: bool) -> Result<(), Error> {
    let frame = CloseFrame { code: CloseCode::from(close.code()), reason: close.reason().into() };
    socket.send(Message::Close(Some(frame))).await?;
    if readable {
        // Until the peer has closed too: RFC 6455, section 7.1.1.
        while let Some(Ok(_)) = socket.next().await {}
        return Ok(());
    }
    let stream = socket.get_mut();
    stream.shutdown().await?;
    // Unread bytes would make the kernel reset the connection, and the client lose the Close.
    let mut discarded = 0;
    let mut buffer = [0; 2048];
    while discarded < DISCARDED {
        match stream.read(&mut buffer).await? {
            0 => break,
            bytes => discarded += bytes,
        }
    }
    Ok(())
}

/// The moment of this runtime's clock at which a Unix time comes.
fn instant_of(unix_seconds: u64) -> Option<Instant> {
    let then = UNIX_EPOCH.checked_add(Duration::from_secs(unix_seconds))?;
    let left = then.duration_since(SystemTime::now()).unwrap_or_default();
    Instant::now().checked_add(left)
}
