//! What an idle subscriber costs: the growth of the backend's resident memory, divided by the number of subscribers.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use http::Method;
use parts::backend::Backend;
use parts::http::Request;
use serde_json::json;
use tokio::time::sleep;

use super::departure;
use super::generator::{self, Generator};
use super::report::Report;
use super::rounds::Series;

/// The bound that the design sets, in bytes.
const BOUND: f64 = 3.0 * 1024.0;
/// The most that the last round may hold, times what the first one does.
const GROWTH: f64 = 1.03;

/// How long the memory may move, and how long it has to rest to be called settled.
const SETTLES_WITHIN: Duration = Duration::from_mins(1);
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(super) struct Options {
    /// Subscribers.
    #[arg(long, default_value_t = 19_000)]
    subscribers: u32,
    /// How often they connect and leave.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// Connects, measures, and disconnects, several times; the worst round counts.
pub(super) async fn run(backend: &Backend, options: Options) -> Result<()> {
    let Options { subscribers, rounds } = options;
    let program = generator::build()?;
    let server = backend.url();
    let metadata = r#"{"streams": [{"uri": "all", "stages": []}]}"#;
    let put = Request::new(Method::PUT, "/bench/idle").json(metadata).send(&server).await?;
    ensure!(put.status.is_success(), "PUT /bench/idle: {} {}", put.status, put.text());
    let path = "/bench/idle/_streams/all";
    let subscribe = async |count: u32| -> Result<Generator> {
        let count = count.to_string();
        let readers = ["readers", "--server", &server, "--path", path, "--count", &count];
        Generator::start(&program, &readers).await.map(|(readers, _)| readers)
    };
    // What the first subscriber alone brings (a cursor, its connection) is no cost of each.
    let first = subscribe(1).await?;
    let alone = settled(backend).await?;
    let files = backend.open_files()?;
    let mut series = Series { name: "Tailrace", rounds: Vec::new() };
    for round in 1..=rounds {
        let readers = subscribe(subscribers).await?;
        let with_all = settled(backend).await?;
        let grown = u32::try_from(with_all.saturating_sub(alone) / 1024)?;
        let each = f64::from(grown) * 1024.0 / f64::from(subscribers);
        drop(readers);
        departure::all_have_left(backend, files).await?;
        let figures = json!({
            "bytes_a_subscriber": each,
            "resident_kib": with_all / 1024,
            "resident_once_they_have_left_kib": settled(backend).await? / 1024,
        });
        println!("round {round:2}: {figures}");
        series.rounds.push(figures);
    }
    drop(first);
    let of_rounds = series.figures("bytes_a_subscriber");
    let worst = of_rounds.iter().copied().fold(0.0, f64::max);
    let resident = series.figures("resident_kib");
    let growth = resident.last().context("a round")? / resident.first().context("a round")?;
    println!(
        "idle: at most {worst:.0} bytes a subscriber, the bound is {BOUND}; from the first round to the last × {growth:.3}"
    );
    let report = Report {
        name: "idle",
        method: format!(
            "{subscribers} plain WebSockets of one stream come, rest, and leave, {rounds} times. Resident memory of the backend \
             once it does not move, less that with one subscriber before the first round, divided by {subscribers}."
        ),
        series: &[series],
        figures: &["bytes_a_subscriber", "resident_kib", "resident_once_they_have_left_kib"],
        results: json!({ "worst": worst, "bound": BOUND, "growth": growth, "growth_bound": GROWTH }),
        plotted: ("bytes_a_subscriber", "bytes"),
    };
    report.write()?;
    ensure!(worst <= BOUND, "{worst:.0} bytes a subscriber, expected at most {BOUND}");
    ensure!(growth <= GROWTH, "memory has grown × {growth:.3} in {rounds} rounds, expected at most {GROWTH}");
    Ok(())
}

/// The resident memory once it no longer moves.
async fn settled(backend: &Backend) -> Result<u64> {
    let mut last = backend.resident()?;
    let deadline = Instant::now() + SETTLES_WITHIN;
    loop {
        ensure!(Instant::now() < deadline, "the backend's memory still moves after {SETTLES_WITHIN:?}");
        sleep(BETWEEN_LOOKS).await;
        let now = backend.resident()?;
        if now.abs_diff(last) < 64 * 1024 {
            return Ok(now);
        }
        last = now;
    }
}
