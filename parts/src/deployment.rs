//! The deployment that the end-to-end tests share: a replica set, and in front of it backends and edge workers.

use anyhow::{Context as _, Result};

use crate::backend::{self, Backend};
use crate::port;
use crate::process::say;
use crate::replica_set::{self, ReplicaSet};
use crate::worker::{self, Worker};

/// The HS256 secret of the guarded fronts.
pub const JWT_SECRET: &str = "a secret of the tests, long enough for HS256";
/// The audience that the guarded fronts want in a token.
pub const JWT_AUDIENCE: &str = "tailrace-tests";
/// The key with which the edge signs for the backend.
pub const EDGE_KEY: &str = "a key of this machine, shared by edge and backend";
/// Its name.
pub const EDGE_KEY_ID: &str = "local";

/// Where the parts of a deployment are.
///
/// The open fronts let everybody do everything; the guarded ones want a token signed with [`JWT_SECRET`]. All serve every
/// database under its name, at the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The connection string of MongoDB.
    pub mongodb: String,
    /// The open backend.
    pub native: String,
    /// The worker in front of the open backend.
    pub edge: String,
    /// The guarded backend.
    pub native_guarded: String,
    /// The worker in front of the guarded backend.
    pub edge_guarded: String,
}

const NAMES: [&str; 5] = [
    "TAILRACE_TEST_MONGODB",
    "TAILRACE_TEST_NATIVE",
    "TAILRACE_TEST_EDGE",
    "TAILRACE_TEST_NATIVE_GUARDED",
    "TAILRACE_TEST_EDGE_GUARDED",
];

impl Addresses {
    /// The variables by which `cargo xtask test` hands the addresses to the tests.
    pub fn to_environment(&self) -> [(&'static str, &str); 5] {
        let values = [&self.mongodb, &self.native, &self.edge, &self.native_guarded, &self.edge_guarded];
        std::array::from_fn(|index| (NAMES[index], values[index].as_str()))
    }

    /// What the environment says, if it says all.
    pub fn from_environment() -> Option<Self> {
        let [mongodb, native, edge, native_guarded, edge_guarded] =
            NAMES.map(|name| std::env::var(name).ok());
        Some(Self {
            mongodb: mongodb?,
            native: native?,
            edge: edge?,
            native_guarded: native_guarded?,
            edge_guarded: edge_guarded?,
        })
    }
}

/// A running deployment; dropping it ends its parts.
#[derive(Debug)]
pub struct Deployment {
    /// Where its parts are.
    pub addresses: Addresses,
    // Dropped in this order: from the outside in.
    _workers: [Worker; 2],
    _backends: [Backend; 2],
    _replica_set: Option<ReplicaSet>,
}

impl Deployment {
    /// Starts all of it; backend and worker must have been built.
    pub async fn start() -> Result<Self> {
        let (mongodb, replica_set) = replica_set::given_or_started(&[port::free()?]).await?;
        say(&format!("MongoDB answers at {mongodb}"));
        let open = Backend::start(open_backend("open", &mongodb)).await?;
        let guarded = Backend::start(guarded_backend("guarded", &mongodb)).await?;
        say(&format!("backends answer at {} (open) and {} (guarded)", open.url(), guarded.url()));
        let workers = tokio::try_join!(
            Worker::start(open_worker("open", &[&open.url()])),
            Worker::start(guarded_worker("guarded", &[&guarded.url()]))
        );
        let (edge, edge_guarded) = workers.context("the edge worker")?;
        say(&format!("workers answer at {} (open) and {} (guarded)", edge.url(), edge_guarded.url()));
        let addresses = Addresses {
            mongodb,
            native: open.url(),
            edge: edge.url(),
            native_guarded: guarded.url(),
            edge_guarded: edge_guarded.url(),
        };
        Ok(Self {
            addresses,
            _workers: [edge, edge_guarded],
            _backends: [open, guarded],
            _replica_set: replica_set,
        })
    }
}

/// The part of a backend's configuration that lets it believe the workers that are started here.
pub fn edge_key() -> String {
    format!("[edge.keys]\n{EDGE_KEY_ID} = \"{EDGE_KEY}\"\n")
}

fn backend(name: &str, mongodb: &str) -> backend::Options {
    let config = format!("mounts = [{{ what = \"*\", where = \"/\" }}]\n{}", edge_key());
    backend::Options { name: name.to_owned(), config, ..backend::Options::default() }
        .set("TAILRACE_MONGODB__URI", mongodb)
}

/// A backend where everybody may do everything.
pub fn open_backend(name: &str, mongodb: &str) -> backend::Options {
    backend(name, mongodb).set("TAILRACE_AUTH__ANONYMOUS", "true")
}

/// A backend that wants a token signed with [`JWT_SECRET`].
pub fn guarded_backend(name: &str, mongodb: &str) -> backend::Options {
    backend(name, mongodb)
        .set("TAILRACE_AUTH__JWT__SECRET", JWT_SECRET)
        .set("TAILRACE_AUTH__JWT__ALGORITHMS", r#"["HS256"]"#)
        .set("TAILRACE_AUTH__JWT__AUDIENCE", JWT_AUDIENCE)
}

fn worker(name: &str, backends: &[&str]) -> worker::Options {
    worker::Options { name: name.to_owned(), ..worker::Options::default() }
        .set("BACKENDS", backends.join(","))
        .set("EDGE_KEY_ID", EDGE_KEY_ID)
        .set("EDGE_KEY", EDGE_KEY)
}

/// A worker in front of backends that [`open_backend`] describes.
pub fn open_worker(name: &str, backends: &[&str]) -> worker::Options {
    worker(name, backends).set("ANONYMOUS", "true")
}

/// A worker in front of backends that [`guarded_backend`] describes.
pub fn guarded_worker(name: &str, backends: &[&str]) -> worker::Options {
    worker(name, backends)
        .set("JWT_SECRET", JWT_SECRET)
        .set("JWT_ALGORITHMS", "HS256")
        .set("JWT_AUDIENCE", JWT_AUDIENCE)
}
