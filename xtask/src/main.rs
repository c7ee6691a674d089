//! What one does with the repository: run it all, test it all, measure, build the edge worker.

mod bench;
mod dev;
mod fuzz;
mod load;
mod ports;
mod seed;
mod soak;
mod static_files;
mod step;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tokio::runtime;

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "Run, test, and measure Tailrace", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start MongoDB, the backend, the edge worker, and the web chat; fetches what is missing. Ctrl-C ends it all.
    Dev(dev::Options),
    /// Check and test everything against the real parts.
    Test(test::Options),
    /// Let everything fail for a long time, and see that no client loses an event: a quarter of an hour.
    Soak(soak::Options),
    /// Look for inputs that break what reads them; the tests only run those that were found.
    Fuzz(fuzz::Options),
    /// Measure on this machine.
    Bench(bench::Options),
    /// The load of a benchmark; `bench` starts it.
    #[command(hide = true)]
    Load(load::Options),
    /// Build the edge worker as it is deployed; `wrangler` calls it.
    Worker,
}

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    let runtime = match &command {
        Command::Load(options) if options.is_of_one_thread() => runtime::Builder::new_current_thread(),
        _ => runtime::Builder::new_multi_thread(),
    };
    match start(runtime, command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(mut runtime: runtime::Builder, command: Command) -> Result<ExitCode> {
    runtime.enable_all().build()?.block_on(run(command))
}

async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Dev(options) => dev::run(options).await.map(|()| ExitCode::SUCCESS),
        Command::Test(options) => test::run(options).await,
        Command::Soak(options) => soak::run(options).await,
        Command::Fuzz(options) => fuzz::run(options).await,
        Command::Bench(options) => Box::pin(bench::run(options)).await.map(|()| ExitCode::SUCCESS),
        Command::Load(options) => load::run(options).await.map(|()| ExitCode::SUCCESS),
        Command::Worker => parts::worker::build().map(|()| ExitCode::SUCCESS),
    }
}
