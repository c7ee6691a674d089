//! The load of benchmarks, in processes of their own: what it costs to read a thousand streams is no cost of the server.
//!
//! A process is told what to do by lines on its standard input, answers each with a line of JSON, and ends when the input
//! does.

mod answer;
mod attack;
mod crowd;
mod cursors;
mod delays;
mod door;
mod driver;
mod endpoints;
mod floor;
mod frames;
mod ingest;
mod latency;
mod publisher;
mod readers;
mod relay;
mod returning;
mod socket;
mod stamps;
mod upgrades;
mod volley;
mod writer;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::{Args, Subcommand};
use tokio::sync::mpsc;

/// How long between two looks at what changes in this process.
const POLL: Duration = Duration::from_millis(2);

#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    load: Load,
}

#[derive(Subcommand)]
enum Load {
    /// Sends from one address what means harm.
    Attack(attack::Options),
    /// The driver's own change streams, one for each value.
    Cursors(cursors::Options),
    /// Takes any upgrade, and does nothing else.
    Door,
    /// Reads the past: by the driver alone, or as a client.
    Ingest(ingest::Options),
    /// The driver's own change stream, and clients beside it.
    Latency(latency::Options),
    /// Clients that come back behind what they know, and count what they miss.
    Returning(returning::Options),
    /// Clients that come, and leave at once.
    Upgrades(upgrades::Options),
    /// Clients that read all that comes, and tell how long it took.
    Readers(readers::Options),
    /// Sends to clients as fast as can be, and does nothing else.
    Floor(floor::Options),
    /// Sends what the driver's own change stream brings to clients, and does nothing else.
    Relay(relay::Options),
    /// Publishes events through a server that takes them from its clients.
    Publisher(publisher::Options),
    /// Inserts documents that bear the time of their writing.
    Writer(writer::Options),
}

impl Options {
    /// Whether it is a crowd of sockets, which one thread both waits for and reads: to have another wait, and wake it, would cost
    /// more than the reading.
    pub(crate) fn is_of_one_thread(&self) -> bool {
        matches!(self.load, Load::Latency(_) | Load::Readers(_) | Load::Returning(_))
    }
}

pub(crate) async fn run(options: Options) -> Result<()> {
    match options.load {
        Load::Attack(options) => attack::run(options).await,
        Load::Cursors(options) => cursors::run(options).await,
        Load::Door => door::run().await,
        Load::Ingest(options) => ingest::run(options).await,
        Load::Latency(options) => latency::run(options).await,
        Load::Returning(options) => returning::run(options).await,
        Load::Upgrades(options) => upgrades::run(options).await,
        Load::Publisher(options) => publisher::run(options).await,
        Load::Readers(options) => readers::run(options).await,
        Load::Relay(options) => relay::run(options).await,
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

/// Waits until it is so, and no longer than this.
async fn patiently(within: Duration, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + within;
    while !is_so() && Instant::now() < deadline {
        tokio::time::sleep(POLL).await;
    }
}

/// Microseconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    u64::try_from(now.as_micros()).expect("it is before the year 500000")
}
