//! The load of benchmarks, in processes of their own: what it costs to read a thousand streams is no cost of the server.
//!
//! A process is told what to do by lines on its standard input, answers each with a line of JSON, and ends when the input
//! does.

mod attack;
mod floor;
mod frames;
mod readers;
mod writer;

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::{Args, Subcommand};
use tokio::sync::mpsc;

#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    load: Load,
}

#[derive(Subcommand)]
enum Load {
    /// Sends from one address what means harm.
    Attack(attack::Options),
    /// Clients that read all that comes, and tell how long it took.
    Readers(readers::Options),
    /// Sends to clients as fast as can be, and does nothing else.
    Floor(floor::Options),
    /// Inserts documents that bear the time of their writing.
    Writer(writer::Options),
}

pub(crate) async fn run(options: Options) -> Result<()> {
    match options.load {
        Load::Attack(options) => attack::run(options).await,
        Load::Readers(options) => readers::run(options).await,
        Load::Floor(options) => floor::run(options).await,
        Load::Writer(options) => writer::run(options).await,
    }
}

/// The lines of the standard input.
fn orders() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Microseconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    u64::try_from(now.as_micros()).expect("it is before the year 500000")
}
