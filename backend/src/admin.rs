//! What operators ask a node, on a listener of its own: `/_metrics`, `/_health`, `/_ready`.
//!
//! It asks for no credentials, so it belongs on an address that only operators reach. The public listener knows no
//! `/_metrics`.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{Method, Request, StatusCode};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use shared::{
    refusal::{Kind, Refusal},
    request::Head,
};
use tokio::{net::TcpListener, sync::Semaphore, time::sleep};
use warp::reply::Response;

use crate::{answer, app::App, health};

/// Connections at once: a few collectors and probes.
const CONNECTIONS: usize = 64;
/// How long a request may take to arrive.
const ARRIVES_WITHIN: Duration = Duration::from_secs(10);
/// How long the accept loop rests after a failure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers until the process ends: while the node drains, too.
pub async fn run(app: Arc<App>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accept failed on the admin listener");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let app = Arc::clone(&app);
        let service = service_fn(move |request: Request<Incoming>| {
            let app = Arc::clone(&app);
            async move { Ok::<_, Infallible>(respond(&app, request).await) }
        });
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(ARRIVES_WITHIN)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the admin listener ended");
            }
            drop(place);
        });
    }
}

async fn respond(app: &App, request: Request<Incoming>) -> Response {
    let (parts, _) = request.into_parts();
    let head = Head {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(str::to_owned),
        headers: parts.headers,
        peer: None,
    };
    let answered = match head.path.as_str() {
        "/_metrics" => metrics(app, &head),
        "/_health" => health::health(&head),
        "/_ready" => health::ready(app, &head).await,
        _ => Err(Refusal::new(Kind::NotFound, "Resource does not exist")),
    };
    answered.unwrap_or_else(|refusal| answer::refused(&refusal))
}

fn metrics(app: &App, head: &Head) -> Result<Response, Refusal> {
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return Err(Refusal::method_not_allowed(head.method.as_str(), "GET, HEAD"));
    }
    let (sources, _) = app.hub.size();
    Ok(answer::with_body(StatusCode::OK, OPEN_METRICS, app.metrics.encode(sources)))
}
