//! Servers with permissions of a test's own.

use parts::backend::Backend;
use parts::deployment::{guarded_backend, guarded_worker};
use parts::worker::Worker;
use serde_json::Value;

use crate::{Front, Request, token};

/// A backend with rules, and for the edge a worker in front of it; dropping it ends them.
#[derive(Debug)]
pub struct Ruled {
    /// Where clients come in.
    pub server: String,
    // Dropped in this order: from the outside in.
    _worker: Option<Worker>,
    _backend: Backend,
}

impl Ruled {
    /// Starts them. `permissions` is TOML: tables `[[permissions]]`.
    ///
    /// # Panics
    /// When they do not start.
    pub async fn start(front: Front, name: &str, mongodb: &str, permissions: &str) -> Self {
        let name = format!("{name}-{front:?}").to_lowercase();
        let mut options = guarded_backend(&name, mongodb);
        options.config.push_str(permissions);
        let backend = Backend::start(options).await.expect("a backend with these permissions");
        let worker = match front {
            Front::Native => None,
            Front::Edge => {
                Some(Worker::start(guarded_worker(&name, &[&backend.url()])).await.expect("a worker"))
            }
        };
        let server = worker.as_ref().map_or_else(|| backend.url(), Worker::url);
        Self { server, _worker: worker, _backend: backend }
    }
}

/// The request as the holder of a token with these claims sends it.
#[must_use]
pub fn by(claims: &Value, request: Request) -> Request {
    request.bearer(&token::valid(claims))
}
