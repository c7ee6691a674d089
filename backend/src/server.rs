//! The accept loop: connections in, their limits, and an orderly end.

use std::{io, sync::Arc, time::Duration};

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
use shared::{
    close::Close,
    refusal::{Kind, Refusal},
};
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    app::App,
    request_line::Mended,
    routes::{self, Connection, Place},
};

/// How long the accept loop rests after a failure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Serves `listener` until `shutdown` is ready; then closes every stream with 1001 and waits for the sockets to end.
pub async fn run(app: Arc<App>, listener: TcpListener, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(app.config.limits.connections));
    let connections = TaskTracker::new();
    let stopping = CancellationToken::new();
    let filter = warp::service(routes::routes(Arc::clone(&app)));
    let limits = &app.config.limits;
    let unanswered = Duration::from_secs(limits.ping_seconds + limits.pong_seconds);
    tokio::pin!(shutdown);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, or a client that left: neither ends the server.
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = &mut shutdown => break,
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tokio::spawn(turn_away(stream));
            continue;
        };
        // Events are small and each is wanted now.
        let _ = stream.set_nodelay(true);
        give_up_after(&stream, unanswered);
        let place = Place { _place: place, _counted: app.metrics.connection() };
        let from = Connection { peer, place: Arc::new(place) };
        let filter = TowerToHyperService::new(filter.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(from.clone());
            filter.call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(app.config.limits.header_timeout())
            .max_buf_size(app.config.limits.header_bytes)
            .serve_connection(TokioIo::new(Mended::new(stream)), service)
            .with_upgrades();
        let stopping = stopping.clone();
        connections.spawn(async move {
            tokio::pin!(connection);
            let ended = tokio::select! {
                ended = &mut connection => ended,
                () = stopping.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, %peer, "connection ended");
            }
        });
    }
    drop(listener);
    stopping.cancel();
    drain(&app, &connections).await;
    Ok(())
}

/// An event stream has no ping to be answered: the kernel tells that what was sent is not acknowledged.
#[cfg(target_os = "linux")]
fn give_up_after(stream: &TcpStream, unanswered: Duration) {
    if let Err(error) = SockRef::from(stream).set_tcp_user_timeout(Some(unanswered)) {
        tracing::debug!(%error, "no TCP_USER_TIMEOUT");
    }
}

#[cfg(not(target_os = "linux"))]
fn give_up_after(_: &TcpStream, _: Duration) {}

/// 503 to a connection over the limit, without a task that lives long.
async fn turn_away(mut stream: TcpStream) {
    let refusal = Refusal::new(Kind::Unavailable, "too many connections");
    let body = refusal.body();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 2\r\n\
         cache-control: no-store\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let _ = timeout(Duration::from_secs(1), stream.write_all(answer.as_bytes())).await;
}

async fn drain(app: &App, connections: &TaskTracker) {
    let (sources, subscribers) = app.hub.size();
    tracing::info!(sources, subscribers, "shutting down");
    app.hub.close_all(Close::GoingAway);
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
