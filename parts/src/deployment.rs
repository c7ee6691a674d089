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
/// The open fronts let everybody do everything; the guarded ones want a token signed with [`JWT_SECRET`]; the ruled ones
/// take the same tokens, and decide by rules. All serve every database under its name, at the root.
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
    /// The backend that decides by the rules of [`RULES`].
    pub native_ruled: String,
    /// The worker in front of it.
    pub edge_ruled: String,
}

/// The collection of rules of the ruled fronts: a test adds its own, for a database of its own.
pub const RULES: (&str, &str) = ("tailrace_rules", "acl");

const NAMES: [&str; 7] = [
    "TAILRACE_TEST_MONGODB",
    "TAILRACE_TEST_NATIVE",
    "TAILRACE_TEST_EDGE",
    "TAILRACE_TEST_NATIVE_GUARDED",
    "TAILRACE_TEST_EDGE_GUARDED",
    "TAILRACE_TEST_NATIVE_RULED",
    "TAILRACE_TEST_EDGE_RULED",
];

impl Addresses {
    /// The variables by which `cargo xtask test` hands the addresses to the tests.
    pub fn to_environment(&self) -> [(&'static str, &str); 7] {
        let values = [
            &self.mongodb,
            &self.native,
            &self.edge,
            &self.native_guarded,
            &self.edge_guarded,
            &self.native_ruled,
            &self.edge_ruled,
        ];
        std::array::from_fn(|index| (NAMES[index], values[index].as_str()))
    }

    /// What the environment says, if it says all.
    pub fn from_environment() -> Option<Self> {
        let [mongodb, native, edge, native_guarded, edge_guarded, native_ruled, edge_ruled] =
            NAMES.map(|name| std::env::var(name).ok());
        Some(Self {
            mongodb: mongodb?,
            native: native?,
            edge: edge?,
            native_guarded: native_guarded?,
            edge_guarded: edge_guarded?,
            native_ruled: native_ruled?,
            edge_ruled: edge_ruled?,
        })
    }
}

/// A running deployment; dropping it ends its parts.
#[derive(Debug)]
pub struct Deployment {
    /// Where its parts are.
    pub addresses: Addresses,
    // Dropped in this order: from the outside in.
    _workers: [Worker; 3],
    _backends: [Backend; 3],
    _replica_set: Option<ReplicaSet>,
}

impl Deployment {
    /// Starts all of it; backend and worker must have been built.
    pub async fn start() -> Result<Self> {
        let (mongodb, replica_set) = replica_set::given_or_started(&[port::free()?]).await?;
        say(&format!("MongoDB answers at {mongodb}"));
        // As rarely as can be: who reads message by message has no keepalive between them, however slow the machine is.
        let start =
            |options: backend::Options| Backend::start(options.set("TAILRACE_LIMITS__PING_SECONDS", "50"));
        let open = start(open_backend("open", &mongodb)).await?;
        let guarded = start(guarded_backend("guarded", &mongodb)).await?;
        let ruled = start(ruled_backend("ruled", &mongodb)).await?;
        let (at, guarded_at, ruled_at) = (open.url(), guarded.url(), ruled.url());
        say(&format!("backends answer at {at} (open), {guarded_at} (guarded), and {ruled_at} (ruled)"));
        let workers = tokio::try_join!(
            Worker::start(open_worker("open", &[&at])),
            Worker::start(guarded_worker("guarded", &[&guarded_at])),
            Worker::start(guarded_worker("ruled", &[&ruled_at]))
        );
        let (edge, edge_guarded, edge_ruled) = workers.context("the edge worker")?;
        let (at, guarded_at, ruled_at) = (edge.url(), edge_guarded.url(), edge_ruled.url());
        say(&format!("workers answer at {at} (open), {guarded_at} (guarded), and {ruled_at} (ruled)"));
        let addresses = Addresses {
            mongodb,
            native: open.url(),
            edge: edge.url(),
            native_guarded: guarded.url(),
            edge_guarded: edge_guarded.url(),
            native_ruled: ruled.url(),
            edge_ruled: edge_ruled.url(),
        };
        Ok(Self {
            addresses,
            _workers: [edge, edge_guarded, edge_ruled],
            _backends: [open, guarded, ruled],
            _replica_set: replica_set,
        })
    }
}

/// The part of a backend's configuration that lets it believe the workers that are started here.
pub fn edge_key() -> String {
    format!("[edge.keys]\n{EDGE_KEY_ID} = \"{EDGE_KEY}\"\n")
}

/// A backend that believes the edge of these tests; whose credentials it takes is still to be set.
pub fn bare_backend(name: &str, mongodb: &str) -> backend::Options {
    let config = format!("mounts = [{{ what = \"*\", where = \"/\" }}]\n{}", edge_key());
    backend::Options { name: name.to_owned(), config, ..backend::Options::default() }
        .set("TAILRACE_MONGODB__URI", mongodb)
}

/// A backend where everybody may do everything.
pub fn open_backend(name: &str, mongodb: &str) -> backend::Options {
    bare_backend(name, mongodb).set("TAILRACE_AUTH__ANONYMOUS", "true")
}

/// A backend that wants a token signed with [`JWT_SECRET`].
pub fn guarded_backend(name: &str, mongodb: &str) -> backend::Options {
    bare_backend(name, mongodb)
        .set("TAILRACE_AUTH__JWT__SECRET", JWT_SECRET)
        .set("TAILRACE_AUTH__JWT__ALGORITHMS", r#"["HS256"]"#)
        .set("TAILRACE_AUTH__JWT__AUDIENCE", JWT_AUDIENCE)
}

/// A backend that takes the same tokens, and decides by the rules of [`RULES`].
pub fn ruled_backend(name: &str, mongodb: &str) -> backend::Options {
    let (database, collection) = RULES;
    guarded_backend(name, mongodb).set("TAILRACE_PERMISSIONS_COLLECTION", format!("{database}.{collection}"))
}

/// A worker in front of backends that [`bare_backend`] describes; the same is still to be set.
pub fn bare_worker(name: &str, backends: &[&str]) -> worker::Options {
    worker::Options { name: name.to_owned(), ..worker::Options::default() }
        .set("BACKENDS", backends.join(","))
        .set("EDGE_KEY_ID", EDGE_KEY_ID)
        .set("EDGE_KEY", EDGE_KEY)
}

/// A worker in front of backends that [`open_backend`] describes.
pub fn open_worker(name: &str, backends: &[&str]) -> worker::Options {
    bare_worker(name, backends).set("ANONYMOUS", "true")
}

/// A worker in front of backends that [`guarded_backend`] describes.
pub fn guarded_worker(name: &str, backends: &[&str]) -> worker::Options {
    bare_worker(name, backends)
        .set("JWT_SECRET", JWT_SECRET)
        .set("JWT_ALGORITHMS", "HS256")
        .set("JWT_AUDIENCE", JWT_AUDIENCE)
}
