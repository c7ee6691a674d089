//! How many events a second one source takes, beside the driver alone.

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use http::Method;
use parts::http::Request;
use serde_json::json;

use super::Server;
use super::generator::{self, Generator};
use super::processor::processor_time;
use super::report::Report;
use super::rounds::alternate;

/// The least share of the driver's speed that is promised.
const BOUND: f64 = 0.9;
/// Documents in one insert.
const INSERT: u32 = 10_000;

#[derive(Args)]
pub(super) struct Options {
    /// Events to read.
    #[arg(long, default_value_t = 100_000)]
    events: u32,
    /// Rounds of each way.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// Measures in rounds that alternate.
pub(super) async fn run(server: &Server, options: Options) -> Result<()> {
    let Options { events, rounds } = options;
    let program = generator::build()?;
    let (url, mongodb) = (server.backend.url(), server.set.uri());
    let metadata = r#"{"streams": [{"uri": "all", "stages": []}]}"#;
    let put = Request::new(Method::PUT, "/bench/ingest").json(metadata).send(&url).await?;
    ensure!(put.status.is_success(), "PUT /bench/ingest: {} {}", put.status, put.text());
    let of_mongodb = ["--mongodb", &mongodb, "--database", "bench", "--collection", "ingest"];
    let of_server = ["--server", &url, "--path", "/bench/ingest/_streams/all"];
    let (mut reader, _) =
        Generator::start(&program, &[&["ingest"], &of_mongodb[..], &of_server].concat()).await?;
    let writer = [&["writer"], &of_mongodb[..], &["--padding", "16"]].concat();
    let (mut writer, _) = Generator::start(&program, &writer).await?;
    writer.fire(events, INSERT, std::time::Duration::ZERO).await?;
    drop(writer);

    let ways = ["replies", "driver", "client"];
    let backend = server.backend.process()?.id();
    let names = ["the driver's raw replies", "the driver's change stream", "Tailrace"];
    let series = alternate(rounds, names, async |way| {
        let before = processor_time(backend)?;
        let mut figures = reader.order(&format!("{} {events}", ways[way])).await?;
        let spent = processor_time(backend)? - before;
        let seconds = figures["seconds"].as_f64().context("seconds")?;
        figures["events_per_second"] = json!(f64::from(events) / seconds);
        figures["server_cpu_us_per_event"] = json!(spent * 1e6 / f64::from(events));
        Ok(figures)
    })
    .await?;
    let speed = "events_per_second";
    for series in &series {
        println!("{}: {:.0} events a second", series.name, series.median(speed));
    }
    let [replies, driver, tailrace] = &series;
    let of_replies = tailrace.median(speed) / replies.median(speed);
    let of_driver = tailrace.median(speed) / driver.median(speed);
    println!(
        "ingest: {of_driver:.2} of the driver's change stream, {of_replies:.2} of its raw replies; {BOUND} is promised"
    );
    let report = Report {
        name: "ingest",
        method: format!(
            "{events} inserts of small documents that have happened, read from their beginning, {rounds} rounds each way, in \
             turn: the driver's replies as they come, without decoding anything but a number; its change stream, \
             untyped; and one client of Tailrace that resumes before the first of them (tailrace.v1.json), which opens \
             the source there. From the first request to the last event, numbers checked."
        ),
        series: &series,
        figures: &[speed, "server_cpu_us_per_event"],
        results: json!({ "share_of_driver": of_driver, "share_of_raw_replies": of_replies, "bound": BOUND }),
        plotted: (speed, "a second"),
    };
    report.write()?;
    ensure!(of_driver >= BOUND, "{of_driver:.2} of the driver's speed, {BOUND} is promised");
    Ok(())
}
