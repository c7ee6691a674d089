//! The accept loop: connections in, their limits, and an orderly end.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::Request;
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use shared::{limit::Limit, refusal::Refusal};
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::server::TlsStream;
use tokio_util::{either::Either, sync::CancellationToken, task::TaskTracker};
use warp::reply::Response;

use crate::{
    app::App,
    listen,
    request_line::Mended,
    routes::{self, Connection, Seat},
};

/// A connection, within TLS or not.
pub(crate) type Transport = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// What hyper serves, and hands over when it is upgraded.
pub(crate) type Accepted = TokioIo<Mended<Transport>>;

/// How long the accept loop rests after a failure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// How long one that is turned away has to hear it.
const TURNED_AWAY_WITHIN: Duration = Duration::from_secs(1);

/// How long a connection without a request may stay when the server stops.
const ASKS_WITHIN: Duration = Duration::from_millis(500);

/// Connections over a limit that are told so at once; more than these are dropped without a word.
const TURNED_AWAY: usize = 64;

/// Serves `listener` until `shutdown` is ready; then closes every stream with 1001 and waits for the sockets to end.
pub async fn run(app: Arc<App>, listener: TcpListener, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let entrance = Entrance {
        filter: warp::service(routes::routes(Arc::clone(&app))),
        places: Arc::new(Semaphore::new(app.config.limits.connections)),
        turned_away: Arc::new(Semaphore::new(TURNED_AWAY)),
        connections: TaskTracker::new(),
        stopping: CancellationToken::new(),
        app,
    };
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => entrance.admit(stream, peer),
                Err(error) => {
                    // Out of file descriptors, or a client that left: neither ends the server.
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            () = &mut shutdown => break,
        }
    }
    for (stream, peer) in listen::stop(listener)? {
        entrance.admit(stream, peer);
    }
    entrance.stopping.cancel();
    drain(&entrance.app, &entrance.connections).await;
    Ok(())
}

/// Where connections come in.
struct Entrance<F> {
    app: Arc<App>,
    filter: F,
    places: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
    connections: TaskTracker,
    stopping: CancellationToken,
}

impl<F> Entrance<F>
where
    F: tower_service::Service<Request<Incoming>, Response = Response, Error = Infallible>
        + Clone
        + Send
        + 'static,
    F::Future: Send + 'static,
{
    /// Serves a connection in a task of its own, or turns it away.
    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let Self { app, turned_away, .. } = self;
        let seat = match seat(app, &self.places, peer) {
            Ok(seat) => Arc::new(seat),
            Err(refusal) => {
                app.metrics.refused(&refusal);
                // Within TLS nothing can be said before a handshake, which is the dear part.
                if let (Ok(place), None) = (Arc::clone(turned_away).try_acquire_owned(), &app.tls) {
                    tokio::spawn(async move {
                        let _ = timeout(TURNED_AWAY_WITHIN, turn_away(stream, &refusal)).await;
                        drop(place);
                    });
                }
                return;
            }
        };
        // Events are small and each is wanted now.
        let _ = stream.set_nodelay(true);
        give_up_after(&stream, Duration::from_secs(app.config.limits.pong_seconds));
        let from = Connection { peer, place: seat, asked: Arc::default() };
        let (app, filter, stopping) = (Arc::clone(app), self.filter.clone(), self.stopping.clone());
        self.connections.spawn(async move {
            let Some(tls) = &app.tls else {
                return serve(&app, Either::Left(stream), from, filter, &stopping).await;
            };
            match timeout(app.config.limits.header_timeout(), tls.acceptor().accept(stream)).await {
                Ok(Ok(stream)) => serve(&app, Either::Right(Box::new(stream)), from, filter, &stopping).await,
                Ok(Err(error)) => tracing::debug!(%error, %peer, "no TLS handshake"),
                Err(_) => app.metrics.limit_hit(Limit::HeaderTime),
            }
        });
    }
}

/// Ends a connection when what was sent is not acknowledged for so long, or not taken.
///
/// An event stream has no ping to be answered: its keepalives, and the acknowledgements of the kernel, are ping and pong.
#[cfg(target_os = "linux")]
pub(crate) fn give_up_after(stream: &TcpStream, unanswered: Duration) {
    if let Err(error) = SockRef::from(stream).set_tcp_user_timeout(Some(unanswered)) {
        tracing::debug!(%error, "no TCP_USER_TIMEOUT");
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn give_up_after(_: &TcpStream, _: Duration) {}

/// A connection's places, or the refusal of the limit that it is over.
fn seat(app: &App, places: &Arc<Semaphore>, peer: SocketAddr) -> Result<Seat, Refusal> {
    let of_address = app.places.connect(peer.ip())?;
    let among_all = Arc::clone(places).try_acquire_owned().map_err(|_| {
        Limit::Connections.refusal(u64::try_from(app.config.limits.connections).unwrap_or(u64::MAX))
    })?;
    Ok(Seat { _among_all: among_all, _of_address: of_address, _counted: app.metrics.connection() })
}

/// Serves one connection until it ends, or until its upgrade has taken it over.
async fn serve<F>(app: &App, stream: Transport, from: Connection, filter: F, stopping: &CancellationToken)
where
    F: tower_service::Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone,
    F::Future: Send + 'static,
{
    let limits = &app.config.limits;
    let Connection { peer, asked, .. } = from.clone();
    let filter = TowerToHyperService::new(filter);
    let service = service_fn(move |mut request: Request<Incoming>| {
        from.asked.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(from.clone());
        filter.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout())
        .max_buf_size(limits.header_bytes)
        .serve_connection(TokioIo::new(Mended::new(stream)), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stopped(stopping, &asked) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        if error.is_parse_too_large() {
            app.metrics.limit_hit(Limit::HeaderBytes);
        } else if error.is_timeout() && !asked.load(Ordering::Relaxed) {
            // Behind a first request it is a connection that rests, and no attack.
            app.metrics.limit_hit(Limit::HeaderTime);
        }
        tracing::debug!(%error, %peer, "connection ended");
    }
}

/// The moment at which a connection is to end: what it asks is still answered, and so is what it has not asked yet, since
/// who has just connected does so at once.
async fn stopped(stopping: &CancellationToken, asked: &AtomicBool) {
    stopping.cancelled().await;
    if !asked.load(Ordering::Relaxed) {
        tokio::time::sleep(ASKS_WITHIN).await;
    }
}

/// Tells a connection over a limit so, though it has asked nothing yet.
async fn turn_away(mut stream: TcpStream, refusal: &Refusal) -> io::Result<()> {
    let (status, body) = (refusal.status(), refusal.body());
    let headers = refusal
        .headers()
        .iter()
        .fold(String::new(), |headers, (name, value)| headers + name + ": " + value + "\r\n");
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncache-control: no-store\r\nconnection: close\r\n\
         content-length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // What it sends unread would make the kernel reset the connection, and the client lose the answer.
    let mut unread = [0; 1024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

async fn drain(app: &App, connections: &TaskTracker) {
    let (sources, subscribers) = app.hub.size();
    tracing::info!(sources, subscribers, "shutting down");
    app.hub.shut_down();
    app.sockets.close();
    connections.close();
    let all = async {
        tokio::join!(app.sockets.wait(), connections.wait());
    };
    if timeout(Duration::from_secs(app.config.limits.drain_seconds), all).await.is_err() {
        let open = app.sockets.len() + connections.len();
        tracing::warn!(open, "some clients did not leave in time");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[tokio::test]
    async fn who_has_connected_when_the_server_stops_is_answered_and_nobody_else() {
        let mut config: Config = toml::from_str("auth.anonymous = true").expect("a configuration");
        config.mongodb.uri = "mongodb://127.0.0.1:1/none".to_owned();
        let app = App::start(config).await.expect("the parts");
        let listener = listen::listen(SocketAddr::from(([127, 0, 0, 1], 0)), true).expect("a port");
        let address = listener.local_addr().expect("its address");
        let mut clients = Vec::new();
        for _ in 0..5 {
            clients.push(TcpStream::connect(address).await.expect("a connection"));
        }
        // Nobody has accepted them yet.
        let server = tokio::spawn(run(app, listener, std::future::ready(())));
        for mut client in clients {
            let request = b"GET /_health HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n";
            client.write_all(request).await.expect("the request is sent");
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        server.await.expect("it does not panic").expect("it ends");
        assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
