//! `cargo xtask bench`: measurements on this machine.

mod idle;

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
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let set = ReplicaSet::start(&Mongod::find()?, 1).await?;
    let program = backend::build(Profile::Release)?;
    let options_of_backend =
        backend::Options { program: Some(program), ..deployment::open_backend("bench", &set.uri()) };
    let backend = Backend::start(options_of_backend).await?;
    match options.bench {
        Bench::Idle => idle::run(&backend).await,
    }
}
