//! A deployment of a test's own: a backend with settings that no other has, and a worker in front of it.

use parts::backend::{self, Backend};
use parts::deployment::guarded_worker;
use parts::worker::{self, Worker};

use crate::{Database, Front};

/// The parts; dropping it ends them.
#[derive(Debug)]
pub struct Own {
    // Dropped in this order: from the outside in.
    worker: Option<Worker>,
    /// The backend.
    pub backend: Backend,
}

impl Own {
    /// Starts a backend, and a worker of the same name that takes the tokens of the guarded fronts: for tests at both.
    ///
    /// # Panics
    /// When one of them does not start.
    pub async fn start(options: backend::Options) -> Self {
        let name = options.name.clone();
        Self::with(options, |backend| guarded_worker(&name, &[backend])).await
    }

    /// Starts a backend, and the worker that `worker` describes for its address: for tests at both.
    ///
    /// # Panics
    /// When one of them does not start.
    pub async fn with(options: backend::Options, worker: impl FnOnce(&str) -> worker::Options) -> Self {
        Self::at(Front::Edge, options, worker).await
    }

    /// Starts a backend, and a worker only where a test at this front needs one.
    ///
    /// # Panics
    /// When one of them does not start.
    pub async fn at(
        front: Front,
        options: backend::Options,
        worker: impl FnOnce(&str) -> worker::Options,
    ) -> Self {
        let backend = Backend::start(options).await.expect("a backend");
        let worker = match front {
            Front::Native => None,
            Front::Edge => Some(Worker::start(worker(&backend.url())).await.expect("a worker")),
        };
        Self { worker, backend }
    }

    /// Where clients come in.
    ///
    /// # Panics
    /// When there is no such front.
    pub fn server(&self, front: Front) -> String {
        match front {
            Front::Native => self.backend.url(),
            Front::Edge => self.worker.as_ref().expect("there is a worker").url(),
        }
    }

    /// A database of the test's own at this deployment, whose collection `log` has these streams: metadata in JSON.
    pub async fn declared(&self, front: Front, streams: &str) -> Database {
        let database = front.database().await;
        database.put("log", streams).await;
        database.at(&self.server(front))
    }
}
