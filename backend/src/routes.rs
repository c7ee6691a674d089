//! The way of a request from warp into [`App`].

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
};

use hyper::upgrade::OnUpgrade;
use shared::request::Head;
use tokio::sync::OwnedSemaphorePermit;
use warp::{Filter, http::HeaderMap, path::FullPath, reply::Response};

use crate::{app::App, limits::Place, metrics::Counted};

/// What the accept loop puts into each request.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The peer's address.
    pub peer: SocketAddr,
    /// The connection's place under the limit, free again when the last of its holders ends.
    pub place: Arc<Seat>,
    /// Whether a request has arrived.
    pub asked: Arc<AtomicBool>,
}

/// A connection's places under the limits: among all, and among those of its address.
#[derive(Debug)]
pub struct Seat {
    pub(crate) _among_all: OwnedSemaphorePermit,
    pub(crate) _of_address: Place,
    pub(crate) _counted: Counted,
}

/// What an upgrade takes over of its connection.
#[derive(Debug)]
pub struct Upgrade {
    /// The connection, once the 101 is written.
    pub connection: OnUpgrade,
    /// Its place under the limit.
    pub place: Option<Arc<Seat>>,
}

/// One filter for every address: which database a path names is decided by the mounts, which are configuration.
pub fn routes(app: Arc<App>) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone {
    warp::method()
        .and(warp::path::full())
        .and(warp::query::raw().map(Some).or(warp::any().map(|| None)).unify())
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<Connection>())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::body::stream())
        .then(
            move |method,
                  path: FullPath,
                  query: Option<String>,
                  headers: HeaderMap,
                  connection: Option<Connection>,
                  upgrade: Option<OnUpgrade>,
                  body| {
                let path = path.as_str().to_owned();
                let peer = connection.as_ref().map(|connection| connection.peer.ip());
                let head = Head { method, path, query, headers, peer };
                let place = connection.map(|connection| connection.place);
                let upgrade = upgrade.map(|connection| Upgrade { connection, place });
                Arc::clone(&app).respond(head, body, upgrade)
            },
        )
        // Every part above is there in every request; what is left is warp's own: a body read twice.
        .recover(|rejection: warp::Rejection| async move {
            tracing::error!(?rejection, "a request was rejected by a filter");
            let refusal =
                shared::refusal::Refusal::new(shared::refusal::Kind::Internal, "internal server error");
            Ok::<_, Infallible>(crate::answer::refused(&refusal))
        })
        .unify()
}
