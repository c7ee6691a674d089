//! `cargo xtask bench`: measurements on this machine.

mod attack;
mod bindings;
mod fanout;
mod generator;
mod idle;
mod plot;
mod processor;
mod report;
mod rounds;
mod slow;

use anyhow::Result;
use clap::{Args, Subcommand};
use parts::backend::{self, Backend, Profile};
use parts::deployment;
use parts::mongod::Mongod;
use parts::replica_set::ReplicaSet;

#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// What an idle subscriber costs the backend.
    Idle,
    /// What a delivery costs, beside doing nothing but sending.
    Fanout(fanout::Options),
    /// What an attack from one address costs those who behave.
    Attack(attack::Options),
    /// What ten thousand values cost beside one.
    Bindings(bindings::Options),
    /// What one client that reads nothing costs those who read.
    Slow(slow::Options),
}

/// What is measured: a backend as it is shipped, and its MongoDB.
struct Server {
    set: ReplicaSet,
    backend: Backend,
}

impl Server {
    async fn start() -> Result<Self> {
        // Thousands of clients come at once here; how many may, is measured elsewhere.
        Self::start_with(|options| options.set("TAILRACE_LIMITS__UPGRADES_PER_SECOND", "1000000")).await
    }

    async fn start_with(limits: impl FnOnce(backend::Options) -> backend::Options) -> Result<Self> {
        let set = ReplicaSet::start(&Mongod::find()?, 1).await?;
        let program = backend::build(Profile::Release)?;
        let options =
            backend::Options { program: Some(program), ..deployment::open_backend("bench", &set.uri()) };
        Ok(Self { backend: Backend::start(limits(options)).await?, set })
    }
}

pub(crate) async fn run(options: Options) -> Result<()> {
    match options.bench {
        Bench::Idle => idle::run(&Server::start().await?.backend).await,
        Bench::Attack(options) => attack::run(&Server::start_with(attack::limits).await?, options).await,
        Bench::Fanout(options) => fanout::run(&Server::start().await?, options).await,
        Bench::Bindings(options) => bindings::run(&Server::start().await?, options).await,
        Bench::Slow(options) => slow::run(&Server::start().await?, options).await,
    }
}
