//! What Tailrace adds to the time that an event takes by the driver's own change stream.

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
use super::rounds::alternate;

/// The most that may be added, in milliseconds: in the middle, and at the 99th percentile.
const BOUNDS: [f64; 2] = [0.3, 2.0];

#[derive(Args)]
pub(super) struct Options {
    /// How many clients.
    #[arg(long, default_value_t = 1000)]
    clients: u32,
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
    let Options { clients, rate, rounds, seconds } = options;
    let program = generator::build()?;
    let (url, mongodb) = (server.backend.url(), server.set.uri());
    let metadata = r#"{"streams": [{"uri": "all", "stages": []}]}"#;
    let put = Request::new(Method::PUT, "/bench/latency").json(metadata).send(&url).await?;
    ensure!(put.status.is_success(), "PUT /bench/latency: {} {}", put.status, put.text());
    let [count, rate_text] = [clients, rate].map(|number| number.to_string());
    let of_mongodb = ["--mongodb", &mongodb, "--database", "bench", "--collection", "latency"];
    let clients_of = ["--server", &url, "--path", "/bench/latency/_streams/all", "--count", &count];
    let (mut both, _) =
        Generator::start(&program, &[&["latency"], &of_mongodb[..], &clients_of].concat()).await?;
    let writer = [&["writer"], &of_mongodb[..], &["--rate", &rate_text, "--padding", "80"]].concat();
    let (mut writer, _) = Generator::start(&program, &writer).await?;

    let (mut floor, said) =
        Generator::start(&program, &["floor", "--count", &count, "--bytes", "300"]).await?;
    let of_floor = format!("http://127.0.0.1:{}", said["port"]);
    let of_floor = ["readers", "--server", &of_floor, "--path", "/", "--count", &count];
    let (mut of_floor, _) = Generator::start(&program, &of_floor).await?;

    let series = alternate(rounds, ["floor", "Tailrace"], async |way| {
        if way == 0 {
            of_floor.order("take").await?;
            let events = rate * u32::try_from(seconds)?;
            floor.fire(events, 1, Duration::from_secs(1) / rate).await?;
            let mut figures = of_floor.order(&format!("await {}", events * clients)).await?;
            ensure!(figures["ended"] == 0, "{} clients of the floor were closed", figures["ended"]);
            for share in ["p50_ms", "p99_ms"] {
                figures[format!("all_{share}")] = figures[share].clone();
            }
            return Ok(figures);
        }
        writer.order("go").await?;
        both.order("forget").await?;
        sleep(Duration::from_secs(seconds)).await;
        let figures = both.order("take").await?;
        writer.order("stop").await?;
        ensure!(figures["ended"] == 0, "{} clients were closed", figures["ended"]);
        let whole = figures["events"].as_u64().context("events")?;
        let of = figures["of"].as_u64().context("of")?;
        // The first may have come to some before it was counted.
        ensure!(whole > 0 && whole + 2 >= of, "{whole} of {of} events came to all");
        Ok::<Value, anyhow::Error>(figures)
    })
    .await?;

    let [of_floor, tailrace] = &series;
    for who in ["first", "middle", "last", "all"] {
        let [p50, p99] = ["p50", "p99"].map(|share| tailrace.median(&format!("{who}_{share}_ms")));
        println!("added to the driver's own time, {who}: p50 {p50:.2} ms, p99 {p99:.2} ms");
    }
    let floors = ["all_p50_ms", "all_p99_ms"].map(|figure| of_floor.median(figure));
    let beyond = ["all_p50_ms", "all_p99_ms"].map(|figure| tailrace.median(figure) - of_floor.median(figure));
    let first = ["first_p50_ms", "first_p99_ms"].map(|figure| tailrace.median(figure));
    println!(
        "a loop of send() to {clients} clients alone: p50 {:.2} ms, p99 {:.2} ms; beyond that Tailrace adds p50 {:.2} ms, p99 \
         {:.2} ms; at most {} and {} are promised",
        floors[0], floors[1], beyond[0], beyond[1], BOUNDS[0], BOUNDS[1]
    );
    let report = Report {
        name: "latency",
        method: format!(
            "{clients} WebSockets of one stream and the driver's own change stream of the same collection in one process, \
             {rate} inserts a second, {rounds} rounds of {seconds} s. Added: from the moment at which the driver hands an event \
             out to that at which a client has read it, of each event the first client, the one in the middle, the last, \
             and all. The floor, in turn: a loop of send() to as many clients, from its beginning to each client. Bounded \
             are the first client, which waits for no other, and what all wait beyond the floor."
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
            "added_beyond_the_floor_ms": beyond,
            "bounds_ms": BOUNDS,
        }),
        plotted: ("all_p50_ms", "ms"),
    };
    report.write()?;
    for (what, added) in [("to the first", first), ("beyond the floor", beyond)] {
        ensure!(
            added.iter().zip(BOUNDS).all(|(added, bound)| *added <= bound),
            "{what} are added p50 {:.2} ms and p99 {:.2} ms, expected at most {} and {}",
            added[0],
            added[1],
            BOUNDS[0],
            BOUNDS[1]
        );
    }
    Ok(())
}
