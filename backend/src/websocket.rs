//! One subscriber's WebSocket (RFC 6455): events out, everything else in its place.
//!
//! warp's own websocket filter keeps a read buffer of 128 KiB for each client. Here the upgrade is taken from hyper, with
//! buffers fit for clients that send next to nothing.

use std::{borrow::Cow, future::Future, sync::Arc, time::Duration};

use futures_util::{FutureExt, SinkExt, StreamExt};
use http::{HeaderValue, StatusCode, header};
use hyper::upgrade::{Parts, Upgraded};
use shared::{
    client_message::ClientMessage,
    close::Close,
    refusal::{Kind, Refusal},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};
use tokio_util::{either::Either, task::AbortOnDropHandle};
use warp::reply::Response;

use crate::{
    beat,
    config::Limits,
    event::{self, Form, Frame, notice, snapshot_end},
    expiry::{Due, Expiry},
    metrics::{self, Written},
    mongo,
    renewal::{self, Renewal, Verdict},
    server::{Accepted, give_up_after},
    sessions::Registration,
    snapshot::Frames,
    stream::Client,
    subscription::{Delivery, Outlet, Subscription},
    view::View,
    wire::Wire,
};

/// A client sends a Ping, a Close, now and then a text that is ignored.
const READ_BUFFER: usize = 128;
/// Frames are gathered up to this size before they are written.
const WRITE_BUFFER: usize = 16 * 1024;
/// What is sent of a queue before the session looks up: for the end of credentials, for pongs, for what the client says.
const AT_ONCE: usize = 64 * 1024;
/// A write that takes longer waits until the peer takes something.
const SLOW_WRITE: Duration = Duration::from_millis(5);
/// A client that says more waits with it in its own buffers: a hundred messages a second are heard.
const BETWEEN_MESSAGES: Duration = Duration::from_millis(10);
/// How long a peer may take to answer a Close.
const CLOSES_WITHIN: Duration = Duration::from_secs(3);
/// What is read and thrown away of a client that sent too much, so that it can read why before the connection resets.
const DISCARDED: usize = 16 * 1024 * 1024;

/// A subscriber's socket.
pub(crate) type Socket = WebSocketStream<Either<Wire, Box<TlsStream<TcpStream>>>>;

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

/// The server's side of an upgraded connection, which takes messages of up to `message_bytes`.
pub async fn accepted<S: AsyncRead + AsyncWrite + Unpin>(
    connection: S,
    message_bytes: usize,
) -> WebSocketStream<S> {
    accepted_behind(connection, Vec::new(), message_bytes).await
}

/// The same, where these bytes were read already.
async fn accepted_behind<S: AsyncRead + AsyncWrite + Unpin>(
    connection: S,
    read: Vec<u8>,
    message_bytes: usize,
) -> WebSocketStream<S> {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(message_bytes))
        .max_frame_size(Some(message_bytes));
    WebSocketStream::from_partially_read(connection, read, Role::Server, Some(config)).await
}

/// Why a session is over.
enum Ending {
    /// We close, and say why.
    Close(Close, Cow<'static, str>),
    /// As above, and what the client still sends cannot be read as frames any more.
    CloseUnreadable(Close),
    /// The peer closed, or is gone.
    Gone,
}

/// A subscriber and its socket.
#[derive(Debug)]
pub struct Session {
    subscription: Subscription,
    figures: metrics::Subscriber,
    /// By what right the stream is open: it is judged again when rights change.
    registration: Arc<Registration>,
    /// The current documents, where the client wants them first.
    snapshot: Option<Frames>,
    form: Form,
    /// The connection, until the source may write to it too; `None` within TLS.
    wire: Option<Wire>,
    /// A client in the plain form that came back was told of a failure right behind its position when it was closed.
    told_of_failure: bool,
    expiry: Expiry,
    /// How long before the end of its credentials the client is told.
    warn_ahead: Duration,
    /// `None` where there is nothing to renew: the plain form, and callers without credentials.
    renewal: Option<Arc<Renewal>>,
    /// The judgement of a token that the client sent. Events do not wait for it.
    judging: Option<AbortOnDropHandle<Verdict>>,
    ping_every: Duration,
    pong_within: Duration,
    message_bytes: usize,
}

impl Session {
    /// A session that ends when the credentials do.
    pub fn new(
        subscription: Subscription,
        client: Client,
        snapshot: Option<Frames>,
        limits: &Limits,
    ) -> Self {
        Self {
            subscription,
            figures: client.figures,
            registration: Arc::new(client.registration),
            snapshot,
            form: client.form,
            wire: None,
            told_of_failure: client.returns,
            expiry: Expiry::at(client.expires_at),
            warn_ahead: Duration::ZERO,
            renewal: None,
            judging: None,
            ping_every: Duration::from_secs(limits.ping_seconds),
            pong_within: Duration::from_secs(limits.pong_seconds),
            message_bytes: limits.message_bytes,
        }
    }

    /// Lets the client renew its credentials, and tells it when they are about to end.
    #[must_use]
    pub fn renewed(
        mut self,
        renewal: impl FnOnce(Arc<Registration>) -> Renewal,
        warn_ahead: Duration,
    ) -> Self {
        self.expiry = self.expiry.with_warning(warn_ahead);
        self.warn_ahead = warn_ahead;
        self.renewal = Some(Arc::new(renewal(Arc::clone(&self.registration))));
        self
    }

    /// The session's socket on a connection that was upgraded.
    pub(crate) async fn accept(&mut self, upgraded: Upgraded) -> Option<Socket> {
        let Ok(Parts { io, read_buf, .. }) = upgraded.downcast::<Accepted>() else {
            tracing::error!("an upgraded connection is none that was accepted");
            return None;
        };
        let (transport, behind) = io.into_inner().into_parts();
        // A copy: most often there is nothing, and hyper's buffer is large.
        let read = [&read_buf[..], &behind].concat();
        // It has pings to answer, and may be told that it is too slow when it reads again.
        let unanswered = self.ping_every + self.pong_within;
        let connection = match transport {
            Either::Left(stream) => {
                give_up_after(&stream, unanswered);
                let wire = Wire::new(stream);
                self.wire = Some(wire.clone());
                Either::Left(wire)
            }
            Either::Right(stream) => {
                give_up_after(stream.get_ref().0, unanswered);
                Either::Right(stream)
            }
        };
        Some(accepted_behind(connection, read, self.message_bytes).await)
    }

    /// Tells a client of a typed form that its stream is open, and which view it is shown; an error when it is gone. Before
    /// [`Session::run`], which is then free of what this takes.
    pub(crate) async fn greet(&self, socket: &mut Socket, view: &View) -> Result<(), ()> {
        let ready = self.subscription.start().and_then(|position| event::ready(&position, view, self.form));
        self.tell(socket, ready).await
    }

    /// Serves the client until one side ends it, and holds its `places` for as long.
    ///
    /// What happens rarely is boxed: tens of thousands of sessions wait in here.
    #[expect(clippy::manual_async_fn, reason = "an `async fn` would keep its arguments twice")]
    pub(crate) fn run<P: Send>(mut self, mut socket: Socket, places: P) -> impl Future<Output = ()> + Send {
        async move {
            let (close, reason, readable) = match self.serve(&mut socket).await {
                Ending::Gone => return,
                Ending::Close(close, reason) => (close, reason, true),
                Ending::CloseUnreadable(close) => (close, close.reason().into(), false),
            };
            self.figures.closed(close);
            // The subscription goes first: what ends here must not hold its source open.
            drop(self);
            let goodbye = say_goodbye(&mut socket, close, &reason, readable);
            let _ = Box::pin(timeout(CLOSES_WITHIN, goodbye)).await;
            drop(places);
        }
    }

    async fn serve(&mut self, socket: &mut Socket) -> Ending {
        if self.snapshot.is_none() {
            self.lend();
        }
        let mut awaits_pong = false;
        // Clients who came together are not pinged together: the first pings come in the second half of the interval, and those
        // behind half of them in the first half of the next, so that they are spread over all of it.
        let mut timer = beat::after(self.ping_every.mul_f64(rand::random_range(0.5..=1.0)));
        let mut is_early = rand::random();
        // Until when the client is not listened to.
        let mut deaf = None;
        loop {
            let wake = [self.expiry.next(), deaf].into_iter().flatten().fold(timer, Instant::min);
            tokio::select! {
                // In this order: neither a client that never stops talking nor a stream that never pauses keeps pings or the end
                // of credentials back.
                biased;
                () = sleep_until(wake) => {
                    let told = match self.expiry.due() {
                        None => Ok(()),
                        Some(Due::End) => return ending(Close::Expired),
                        Some(Due::Warning(at)) => {
                            Box::pin(self.tell(socket, renewal::expiring(at, self.form))).await
                        }
                    };
                    if told.is_err() {
                        return Ending::Gone;
                    }
                    let now = Instant::now();
                    deaf = deaf.filter(|until| *until > now);
                    if timer > now {
                        continue;
                    }
                    if awaits_pong {
                        // It may have come while something long was written.
                        let Some(heard) = socket.next().now_or_never() else { return Ending::Gone };
                        if let Err(ending) = Box::pin(self.hear(socket, heard)).await {
                            return ending;
                        }
                        awaits_pong = false;
                        timer = self.next_ping(&mut is_early);
                        continue;
                    }
                    awaits_pong = true;
                    timer = beat::after(self.pong_within);
                    if Box::pin(self.within(self.ping(socket))).await.is_err() {
                        return Ending::Gone;
                    }
                }
                heard = socket.next(), if deaf.is_none() => {
                    if let Err(ending) = Box::pin(self.hear(socket, heard)).await {
                        return ending;
                    }
                    if std::mem::take(&mut awaits_pong) {
                        // Whatever it says, it is there.
                        timer = self.next_ping(&mut is_early);
                    } else {
                        deaf = Some(Instant::now() + BETWEEN_MESSAGES);
                    }
                }
                verdict = judged(&mut self.judging) => {
                    self.judging = None;
                    if let Err(ending) = Box::pin(self.renew(socket, verdict)).await {
                        return ending;
                    }
                }
                // Before the snapshot: a stream that is closed meanwhile, because rights have changed, ends at once. Events wait
                // until the snapshot is sent.
                delivery = self.subscription.next() => match delivery {
                    Delivery::Close(close) => return ending(close),
                    delivery => {
                        let began = Instant::now();
                        match Box::pin(self.send(socket, delivery)).await {
                            Ok(None) => {}
                            Ok(Some(ending)) => return ending,
                            Err(()) => return Ending::Gone,
                        }
                        if awaits_pong && began.elapsed() > SLOW_WRITE {
                            // The ping is behind what it has just made room for.
                            timer = beat::after(self.pong_within);
                        }
                    }
                },
                batch = next_batch(&mut self.snapshot) => {
                    if let Err(ending) = Box::pin(self.send_snapshot(socket, batch)).await {
                        return ending;
                    }
                }
            }
        }
    }

    fn next_ping(&self, is_early: &mut bool) -> Instant {
        beat::after(if std::mem::take(is_early) { self.ping_every / 2 } else { self.ping_every })
    }

    /// Takes note of what the client sent, or of its end. Boxed where it is called: most sessions hear nothing but pongs.
    async fn hear(
        &mut self,
        socket: &mut Socket,
        heard: Option<Result<Message, Error>>,
    ) -> Result<(), Ending> {
        let told = match heard {
            // tungstenite has put the answer behind what is to be written. It goes out before anything more is read, or one who
            // only asks would fill the memory with answers.
            Some(Ok(Message::Ping(_))) => self.within(socket.flush()).await,
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => self.heed(socket, &message).await,
            Some(Ok(Message::Pong(_) | Message::Frame(_))) => Ok(()),
            Some(Ok(Message::Close(_))) => {
                // The answer, which tungstenite has ready.
                let _ = self.within(socket.flush()).await;
                Err(())
            }
            Some(Err(Error::Capacity(_))) => return Err(Ending::CloseUnreadable(Close::MessageTooBig)),
            Some(Err(Error::Utf8(_))) => return Err(Ending::CloseUnreadable(Close::InvalidText)),
            Some(Err(Error::Protocol(error))) => {
                tracing::debug!(%error, "a client breaks the protocol");
                return Err(Ending::CloseUnreadable(Close::ProtocolError));
            }
            Some(Err(_)) | None => Err(()),
        };
        told.map_err(|()| Ending::Gone)
    }

    /// Begins to judge a token, if that is what the client sent, and ignores everything else. One is judged at a time.
    async fn heed(&mut self, socket: &mut Socket, message: &Message) -> Result<(), ()> {
        let heard = match (message, self.form) {
            (Message::Text(text), Form::V1Json(_)) => ClientMessage::of_json(text),
            (Message::Binary(bytes), Form::V1Bson) => ClientMessage::of_bson(bytes),
            _ => None,
        };
        let Some(ClientMessage::Auth(token)) = heard else { return Ok(()) };
        let refused = |message| renewal::refused(&Refusal::new(Kind::BadRequest, message), self.form);
        let answer = match &self.renewal {
            None => refused("this session was opened without credentials"),
            Some(_) if self.judging.is_some() => refused("another token is being judged"),
            Some(renewal) => {
                self.judging = Some(AbortOnDropHandle::new(tokio::spawn(Arc::clone(renewal).judge(token))));
                return Ok(());
            }
        };
        self.tell(socket, answer).await
    }

    /// Acts on the verdict on a token that the client sent.
    async fn renew(&mut self, socket: &mut Socket, verdict: Verdict) -> Result<(), Ending> {
        let answer = match verdict {
            Verdict::Ends(close) => return Err(ending(close)),
            Verdict::Refused(refusal) => renewal::refused(&refusal, self.form),
            Verdict::Extended(end) => {
                self.expiry = Expiry::at(Some(end)).with_warning(self.warn_ahead);
                renewal::accepted(end, self.form)
            }
        };
        self.tell(socket, answer).await.map_err(|()| Ending::Gone)
    }

    /// Sends what the client's form has a word for.
    async fn tell(&self, socket: &mut Socket, frame: Option<Frame>) -> Result<(), ()> {
        match frame {
            Some(frame) => self.within(socket.send(message(frame))).await,
            None => Ok(()),
        }
    }

    /// Sends current documents; behind the last of them the changes follow.
    async fn send_snapshot(
        &mut self,
        socket: &mut Socket,
        batch: Option<Result<Vec<Frame>, mongodb::error::Error>>,
    ) -> Result<(), Ending> {
        let Some(batch) = batch else {
            self.snapshot = None;
            let position = self.subscription.start().unwrap_or_default();
            let end = message(snapshot_end(&position, self.form));
            self.within(socket.send(end)).await.map_err(|()| Ending::Gone)?;
            self.lend();
            self.subscription.release();
            return Ok(());
        };
        let frames = batch.map_err(|error| {
            tracing::warn!(error = mongo::unquoted(&error), "a snapshot ended early");
            ending(Close::Internal)
        })?;
        let mut written = Written::default();
        for frame in frames {
            written.other(frame.len());
            self.within(socket.feed(message(frame))).await.map_err(|()| Ending::Gone)?;
        }
        self.within(socket.flush()).await.map_err(|()| Ending::Gone)?;
        self.figures.wrote(written);
        Ok(())
    }

    /// Lets the source write to the socket while the session has nothing to send. TLS is left to the session.
    fn lend(&mut self) {
        if let Some(wire) = self.wire.take() {
            let outlet = Outlet { wire, form: self.form, since: self.figures.since() };
            self.subscription.lend(outlet);
        }
    }

    /// Sends what has come, and what waits behind it up to a limit, in one go.
    async fn send(&mut self, socket: &mut Socket, delivery: Delivery) -> Result<Option<Ending>, ()> {
        let mut next = Some(delivery);
        let mut end = None;
        let mut written = Written::default();
        let mut bytes = 0;
        while let Some(delivery) = next {
            match delivery {
                Delivery::Close(close) => end = Some(ending(close)),
                Delivery::Flush => {}
                Delivery::Event(event) => match event.encoded(self.form) {
                    Ok(None) => {}
                    Ok(Some(frame)) => {
                        self.told_of_failure = false;
                        bytes += frame.len();
                        written.event(frame.len(), || event.written_at());
                        self.within(socket.feed(message(frame))).await?;
                    }
                    Err(_) if event.is_failure() && self.knows_of_failure() => {}
                    Err((close, reason)) => end = Some(Ending::Close(close, reason.into())),
                },
            }
            if end.is_some() || bytes > AT_ONCE {
                break;
            }
            next = self.subscription.try_next();
        }
        self.within(socket.flush()).await?;
        self.subscription.written();
        self.figures.wrote(written);
        Ok(end)
    }

    /// The plain form has no word for a failure but its close, so a client that comes back stands right before it again, until it
    /// has received an event.
    fn knows_of_failure(&self) -> bool {
        self.told_of_failure && !self.subscription.has_been_given_frames()
    }

    /// A ping, and in the typed forms the position of a quiet stream.
    async fn ping(&self, socket: &mut Socket) -> Result<(), Error> {
        // No position is sealed for a form that has no word for it.
        let quiet = self.form.has_notices().then(|| self.subscription.quiet_position()).flatten();
        if let Some(keepalive) = quiet.and_then(|position| notice("keepalive", &position, self.form)) {
            socket.feed(message(keepalive)).await?;
        }
        socket.send(Message::Ping("".into())).await?;
        self.subscription.written();
        Ok(())
    }

    /// A peer that takes nothing for as long as it may take to answer a ping is gone.
    async fn within<T>(&self, write: impl Future<Output = Result<T, Error>>) -> Result<T, ()> {
        match timeout(self.ping_every + self.pong_within, write).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_)) | Err(_) => Err(()),
        }
    }
}

/// The next documents of a snapshot; never ready where there is none.
async fn next_batch(snapshot: &mut Option<Frames>) -> Option<Result<Vec<Frame>, mongodb::error::Error>> {
    match snapshot {
        Some(frames) => frames.recv().await,
        None => std::future::pending().await,
    }
}

/// The verdict on a token; never ready while none is judged.
async fn judged(judging: &mut Option<AbortOnDropHandle<Verdict>>) -> Verdict {
    match judging {
        Some(judging) => judging.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a token was not judged");
            Verdict::Refused(Refusal::new(Kind::Internal, "internal fault"))
        }),
        None => std::future::pending().await,
    }
}

fn message(frame: Frame) -> Message {
    match frame {
        Frame::Text(text) => Message::Text(text),
        Frame::Binary(bytes) => Message::Binary(bytes),
    }
}

fn ending(close: Close) -> Ending {
    Ending::Close(close, close.reason().into())
}

async fn say_goodbye(socket: &mut Socket, close: Close, reason: &str, readable: bool) -> Result<(), Error> {
    let frame = CloseFrame { code: CloseCode::from(close.code()), reason: reason.into() };
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
