//! `cargo xtask bench`: measurements on this machine.

mod all;
mod attack;
mod bindings;
mod cores;
mod cursors;
mod departure;
mod fan;
mod fanout;
mod floor;
mod generator;
mod idle;
mod ingest;
mod latency;
mod peers;
mod plot;
mod processor;
mod report;
mod resume;
mod rounds;
mod slow;
mod upgrades;

use anyhow::Result;
use clap::{Args, Subcommand};
use parts::backend::{self, Backend, Profile};
use parts::deployment;
use parts::mongod::Mongod;
use parts::replica_set::ReplicaSet;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// All of them in turn, with a table at the end: half an hour.
    All,
    /// How fast a thread sends that does nothing else, and that the load takes more than that.
    Floor(floor::Options),
    /// What an idle subscriber costs the backend.
    Idle(idle::Options),
    /// What is added to the time that an event takes by the driver alone.
    Latency(latency::Options),
    /// How many events a second a source takes, beside the driver alone.
    Ingest(ingest::Options),
    /// How many clients a second are let in.
    Upgrades(upgrades::Options),
    /// How long it takes until ten thousand clients are back, and have everything.
    Resume(resume::Options),
    /// What a delivery costs, beside doing nothing but sending.
    Fanout(fanout::Options),
    /// What a delivery costs, beside RESTHeart, Centrifugo, and uWebSockets.
    Peers(peers::Options),
    /// What an attack from one address costs those who behave.
    Attack(attack::Options),
    /// What ten thousand values cost beside one.
    Bindings(bindings::Options),
    /// What some values cost, beside a cursor for each.
    Cursors(cursors::Options),
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
        Self::start_with(|options| {
            options
                .set("TAILRACE_LIMITS__UPGRADES_PER_SECOND", "1000000")
                .set("TAILRACE_LIMITS__CONNECTIONS", "30000")
                .set("TAILRACE_LIMITS__CONNECTIONS_PER_STREAM", "30000")
        })
        .await
    }

    async fn start_with(limits: impl FnOnce(backend::Options) -> backend::Options) -> Result<Self> {
        let set = ReplicaSet::start(&Mongod::find()?, 1).await?;
        let program = backend::build(Profile::Release)?;
        let options =
            backend::Options { program: Some(program), ..deployment::open_backend("bench", &set.uri()) };
        Ok(Self { backend: Backend::start(limits(options)).await?, set })
    }
}

/// As many files as this process, and those that it starts, may have: each client is one.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Where it fails, thousands of clients fail with words of their own.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

pub(crate) async fn run(options: Options) -> Result<()> {
    raise_file_limit();
    match options.bench {
        Bench::All => all::run(),
        Bench::Floor(options) => floor::run(options).await,
        Bench::Idle(options) => idle::run(&Server::start().await?.backend, options).await,
        Bench::Latency(options) => latency::run(&Server::start().await?, options).await,
        Bench::Ingest(options) => ingest::run(&Server::start().await?, options).await,
        Bench::Upgrades(options) => upgrades::run(&Server::start().await?, options).await,
        Bench::Resume(options) => resume::run(&mut Server::start().await?, options).await,
        Bench::Attack(options) => attack::run(&Server::start_with(attack::limits).await?, options).await,
        Bench::Fanout(options) => fanout::run(&Server::start().await?, options).await,
        Bench::Peers(options) => peers::run(&Server::start().await?, options).await,
        Bench::Bindings(options) => bindings::run(&Server::start().await?, options).await,
        Bench::Cursors(options) => cursors::run(&Server::start().await?, options).await,
        Bench::Slow(options) => slow::run(&Server::start().await?, options).await,
    }
}
