//! What Tailrace adds to the time that an event takes by the driver's own change stream.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use http::Method;
use parts::http::Request;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::Server;
use super::generator::{self, Generator};
use super::report::Report;
use super::rounds::{Series, alternate};

/// The most that may be added, in milliseconds: in the middle, and at the 99th percentile.
const BOUNDS: [f64; 2] = [0.3, 2.0];

#[derive(Args)]
pub(super) struct Options {
    /// How many clients.
    #[arg(long, default_value_t = 1000)]
    clients: u32,
    /// At how many of them it is asked when an event comes; the others read ten times a second. At all, if not given.
    #[arg(long)]
    watched: Option<u32>,
    /// Events a second.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Rounds of each way.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long a round takes.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

/// Measures in rounds that alternate with those of the floor.
pub(super) async fn run(server: &Server, options: Options) -> Result<()> {
    let Options { clients, watched, rate, rounds, seconds } = options;
    let watched = watched.unwrap_or(clients).min(clients);
    let load = Load { program: generator::build()?, clients, watched, rate };
    let mut ways = [Way::floor(&load, server).await?, Way::tailrace(&load, server).await?];
    let length = Duration::from_secs(seconds);
    let series = alternate(rounds, ["floor", "Tailrace"], async |way| ways[way].round(length).await).await?;
    let [floor, tailrace] = &series;
    for series in &series {
        for who in ["first", "middle", "last", "all"] {
            let [p50, p99] = added(series, who);
            println!(
                "{} adds to the driver's own time, {who}: p50 {p50:.2} ms, p99 {p99:.2} ms",
                series.name
            );
        }
    }
    let beyond = |who| {
        let ([p50, p99], floor) = (added(tailrace, who), added(floor, who));
        [p50 - floor[0], p99 - floor[1]]
    };
    let [first_beyond, all] = ["first", "all"].map(beyond);
    let first = added(tailrace, "first");
    println!(
        "latency, {clients} clients: to the first of an event are added p50 {:.2} ms, p99 {:.2} ms over the driver ({:.2} and {:.2} beyond \
         the floor); to all, beyond the floor, p50 {:.2} ms, p99 {:.2} ms; at most {} and {} are promised",
        first[0], first[1], first_beyond[0], first_beyond[1], all[0], all[1], BOUNDS[0], BOUNDS[1]
    );
    let report = Report {
        name: "latency",
        method: format!(
            "{clients} WebSockets of one stream and the driver's own change stream of the same collection in one process, \
             {rate} inserts a second, {rounds} rounds of {seconds} s. Added: from the moment at which the driver hands an event \
             out to that at which it has come to a client's socket, as the kernel stamps it; of each event the first client, \
             the one in the middle, the last, and all, of {watched} clients. All clients get all events, and those that are \
             not watched read ten times a second. The floor, in turn: a program that follows the driver's change stream, \
             and sends each event to as many clients, one send() each, and does nothing else. Bounded is what is added to \
             the first client, over the driver's own time, and to all beyond the floor."
        ),
        series: &series,
        figures: &[
            "first_p50_ms",
            "first_p99_ms",
            "middle_p50_ms",
            "middle_p99_ms",
            "last_p50_ms",
            "last_p99_ms",
            "all_p50_ms",
            "all_p99_ms",
            "driver_p50_ms",
            "driver_p99_ms",
        ],
        results: json!({
            "added_to_the_first_ms": first,
            "added_to_the_first_beyond_the_floor_ms": first_beyond,
            "added_to_all_beyond_the_floor_ms": all,
            "bounds_ms": BOUNDS,
        }),
        plotted: ("all_p50_ms", "ms"),
    };
    report.write()?;
    for (whom, added) in [("the first", first), ("all, beyond the floor,", all)] {
        ensure!(
            added.iter().zip(BOUNDS).all(|(added, bound)| *added <= bound),
            "to {whom} are added p50 {:.2} ms and p99 {:.2} ms, expected at most {} and {}",
            added[0],
            added[1],
            BOUNDS[0],
            BOUNDS[1]
        );
    }
    Ok(())
}

/// What is added in the middle, and at the 99th percentile, in milliseconds.
fn added(series: &Series, who: &str) -> [f64; 2] {
    ["p50", "p99"].map(|share| series.median(&format!("{who}_{share}_ms")))
}

/// What both ways are given.
struct Load {
    program: PathBuf,
    clients: u32,
    watched: u32,
    rate: u32,
}

/// A server, its clients with the driver's own change stream beside them, and who writes what they see.
struct Way {
    /// What runs for as long as this does.
    _relay: Option<Generator>,
    clients: Generator,
    writer: Generator,
}

impl Way {
    async fn floor(load: &Load, server: &Server) -> Result<Self> {
        let (mongodb, count) = (server.set.uri(), load.clients.to_string());
        let of_mongodb = of_mongodb(&mongodb, "latency_floor");
        let relay = [&["relay"], &of_mongodb[..], &["--count", &count, "--bytes", "300"]].concat();
        let (relay, said) = Generator::start(&load.program, &relay).await?;
        let url = format!("http://127.0.0.1:{}", said["port"]);
        Self::start(load, &of_mongodb, &url, "/", Some(relay)).await
    }

    async fn tailrace(load: &Load, server: &Server) -> Result<Self> {
        let (url, mongodb) = (server.backend.url(), server.set.uri());
        let metadata = r#"{"streams": [{"uri": "all", "stages": []}]}"#;
        let put = Request::new(Method::PUT, "/bench/latency").json(metadata).send(&url).await?;
        ensure!(put.status.is_success(), "PUT /bench/latency: {} {}", put.status, put.text());
        Self::start(load, &of_mongodb(&mongodb, "latency"), &url, "/bench/latency/_streams/all", None).await
    }

    async fn start(
        load: &Load,
        of_mongodb: &[&str],
        url: &str,
        path: &str,
        relay: Option<Generator>,
    ) -> Result<Self> {
        let [count, watched, rate] = [load.clients, load.watched, load.rate].map(|number| number.to_string());
        let of_server = ["--server", url, "--path", path, "--count", &count, "--watched", &watched];
        let (clients, _) =
            Generator::start(&load.program, &[&["latency"], of_mongodb, &of_server].concat()).await?;
        let writer = [&["writer"], of_mongodb, &["--rate", &rate, "--padding", "80"]].concat();
        let (writer, _) = Generator::start(&load.program, &writer).await?;
        Ok(Self { _relay: relay, clients, writer })
    }

    async fn round(&mut self, length: Duration) -> Result<Value> {
        self.writer.order("go").await?;
        self.clients.order("forget").await?;
        sleep(length).await;
        let figures = self.clients.order("take").await?;
        self.writer.order("stop").await?;
        ensure!(figures["ended"] == 0, "{} clients were closed", figures["ended"]);
        let whole = figures["events"].as_u64().context("events")?;
        let of = figures["of"].as_u64().context("of")?;
        // The first may have come to some before it was counted.
        ensure!(whole > 0 && whole + 2 >= of, "{whole} of {of} events came to all");
        Ok(figures)
    }
}

fn of_mongodb<'a>(mongodb: &'a str, collection: &'a str) -> [&'a str; 6] {
    ["--mongodb", mongodb, "--database", "bench", "--collection", collection]
}
