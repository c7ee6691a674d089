//! Ten thousand clients whose backend goes away: how long until all are back, and have everything.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use http::Method;
use parts::http::Request;
use serde_json::json;
use tokio::time::Instant;

use super::Server;
use super::generator::{self, Generator};
use super::processor::processor_time;
use super::report::Report;
use super::rounds::alternate;

/// Seconds that are promised, from the start of the new backend.
const BOUND: f64 = 5.0;

#[derive(Args)]
pub(super) struct Options {
    /// How many clients.
    #[arg(long, default_value_t = 10_000)]
    clients: u32,
    /// Inserts a second, each for all clients.
    #[arg(long, default_value_t = 5)]
    rate: u32,
    /// Rounds of each way.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// Measures in rounds that alternate.
pub(super) async fn run(server: &mut Server, options: Options) -> Result<()> {
    let Options { clients, rate, rounds } = options;
    let program = generator::build()?;
    let (url, mongodb) = (server.backend.url(), server.set.uri());
    let metadata = r#"{"streams": [{"uri": "all", "stages": []}]}"#;
    let put = Request::new(Method::PUT, "/bench/resume").json(metadata).send(&url).await?;
    ensure!(put.status.is_success(), "PUT /bench/resume: {} {}", put.status, put.text());
    let path = "/bench/resume/_streams/all";
    let count = clients.to_string();
    let crowd = ["returning", "--server", &url, "--path", path, "--count", &count];
    let (mut crowd, _) = Generator::start(&program, &crowd).await?;
    let rate = rate.to_string();
    let writer = ["writer", "--mongodb", &mongodb, "--database", "bench", "--collection", "resume"];
    let (mut writer, _) =
        Generator::start(&program, &[&writer[..], &["--rate", &rate, "--padding", "80"]].concat()).await?;
    writer.order("go").await?;

    let series = alternate(rounds, ["killed", "terminated"], async |way| {
        // Everybody has seen something by which a loss is noticed.
        let written = written(&mut writer).await?;
        let before = crowd.order(&format!("await {written}")).await?;
        ensure!(before["there"] == clients, "{before}");
        let backend = &mut server.backend;
        let ended = Instant::now();
        if way == 0 {
            backend.kill();
        } else {
            backend.terminate(Duration::from_secs(20)).await?;
        }
        let ending = ended.elapsed().as_secs_f64();
        crowd.order("mark").await?;
        backend.restart().await?;
        let up = Instant::now();
        let written = self::written(&mut writer).await?;
        let mut figures = crowd.order(&format!("await {written}")).await?;
        let spent = processor_time(backend.process()?.id())?;
        figures["ending_seconds"] = json!(ending);
        figures["complete_since_up_seconds"] = json!(up.elapsed().as_secs_f64());
        figures["cpu_us_per_client"] = json!(spent * 1e6 / f64::from(clients));
        ensure!(figures["there"] == clients, "not all came back: {figures}");
        ensure!(
            ["missed", "doubled", "gaps"].iter().all(|loss| figures[loss] == 0),
            "events were lost or came twice: {figures}"
        );
        Ok(figures)
    })
    .await?;
    writer.order("stop").await?;
    let (back, complete) = ("returned_last_seconds", "complete_seconds");
    for series in &series {
        println!(
            "{}: the last of {clients} is back after {:.2} s, and all have everything after {:.2} s",
            series.name,
            series.median(back),
            series.median(complete)
        );
    }
    let worst = series.iter().flat_map(|series| series.figures(complete)).fold(0.0, f64::max);
    let slowest = series.iter().map(|series| series.median(complete)).fold(0.0, f64::max);
    println!(
        "resume: {slowest:.2} s (median of the slower way), {worst:.2} s at worst; {BOUND} s are promised"
    );
    let report = Report {
        name: "resume",
        method: format!(
            "{clients} WebSockets (tailrace.v1.json) follow one stream, {rate} inserts a second for all of them, all the time. The \
             backend is killed, or terminated, in turn, {rounds} times each, and started again; each client comes back \
             behind its position, 128 handshakes at once, and tries again after 20 ms. From before the start of the new \
             backend until the last one is let in, and until all have what was written up to the backend's being up. The \
             clients check the numbers of the documents: none is missed, none comes twice."
        ),
        series: &series,
        figures: &[
            back,
            complete,
            "returned_p50_seconds",
            "complete_since_up_seconds",
            "ending_seconds",
            "cpu_us_per_client",
            "missed",
            "doubled",
        ],
        results: json!({ "seconds": slowest, "worst_seconds": worst, "bound_seconds": BOUND }),
        plotted: (complete, "s"),
    };
    report.write()?;
    ensure!(slowest <= BOUND, "{slowest:.2} s, {BOUND} s are promised");
    Ok(())
}

/// The number of the newest document.
async fn written(writer: &mut Generator) -> Result<u64> {
    loop {
        // It goes on.
        let written = writer.order("go").await?["written"].as_u64().context("written")?;
        if let Some(newest) = written.checked_sub(1) {
            return Ok(newest);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
