//! The fan-out beside its floor: what a delivery costs the server, and what it costs to do nothing but `send()`.
//!
//! Both send the same at the same rate to the same kind of clients. What is compared is processor time: other than deliveries
//! a second it does not depend on what else the machine does meanwhile.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use http::Method;
use parts::http::Request;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::Server;
use super::generator::{self, Generator};
use super::processor::processor_time;
use super::report::Report;
use super::rounds::alternate;

/// The least share of the floor that is promised.
const BOUND: f64 = 0.85;
/// The same where events wait, and go out together.
const BOUND_COALESCED: f64 = 0.70;

#[derive(Args)]
pub(super) struct Options {
    /// How many clients.
    #[arg(long, default_value_t = 1000)]
    clients: u32,
    /// Events a second.
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// Events that come together, and go out in one `send()`.
    #[arg(long, default_value_t = 1)]
    batch: u32,
    /// Rounds of each way.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long a round takes.
    #[arg(long, default_value_t = 6)]
    seconds: u64,
}

/// One way to send, with its clients.
struct Way {
    /// Sends, or makes the server send, from `go` to `stop`.
    source: Generator,
    readers: Generator,
    /// The process that sends.
    sender: u32,
}

/// Measures in rounds that alternate.
pub(super) async fn run(server: &Server, options: Options) -> Result<()> {
    let Options { clients, rate, batch, rounds, seconds } = options;
    let program = generator::build()?;
    let url = server.backend.url();
    let metadata = r#"{"streams": [{"uri": "all", "stages": []}]}"#;
    let put = Request::new(Method::PUT, "/bench/fanout").json(metadata).send(&url).await?;
    ensure!(put.status.is_success(), "PUT /bench/fanout: {} {}", put.status, put.text());
    let [count, rate_text, batch_text] = [clients, rate, batch].map(|number| number.to_string());
    let readers = async |server: &str| {
        let path = "/bench/fanout/_streams/all";
        let arguments = ["readers", "--server", server, "--path", path, "--count", &count];
        Generator::start(&program, &arguments).await.map(|(readers, _)| readers)
    };
    let pace = ["--rate", &rate_text, "--batch", &batch_text];

    let of_server = readers(&url).await?;
    let mongodb = server.set.uri();
    let writer = ["writer", "--mongodb", &mongodb, "--database", "bench", "--collection", "fanout"];
    let (writer, _) =
        Generator::start(&program, &[&writer, &pace[..], &["--padding", "16"]].concat()).await?;
    let mut server = Way { source: writer, readers: of_server, sender: server.backend.process()?.id() };
    // As large as the events of the server are.
    let sample = server.round(1, batch).await?;
    let bytes = sample["bytes"].as_f64().context("bytes")? / sample["events"].as_f64().context("events")?;
    let bytes_text = format!("{:.0}", bytes - 4.0);

    let floor = [&["floor", "--count", &count, "--bytes", &bytes_text], &pace[..]].concat();
    let (floor, said) = Generator::start(&program, &floor).await?;
    let of_floor = readers(&format!("http://127.0.0.1:{}", said["port"])).await?;
    let mut floor = Way { sender: floor.id()?, source: floor, readers: of_floor };

    let series = alternate(rounds, ["floor", "Tailrace"], async |way| {
        let way = if way == 0 { &mut floor } else { &mut server };
        way.round(seconds, batch).await
    })
    .await?;
    let figure = "cpu_us_per_delivery";
    let share = series[0].median(figure) / series[1].median(figure);
    let bound = if batch == 1 { BOUND } else { BOUND_COALESCED };
    for series in &series {
        let (cost, p50, p99) = (series.median(figure), series.median("p50_ms"), series.median("p99_ms"));
        println!(
            "{}: {cost:.2} µs of processor time a delivery, p50 {p50:.1} ms, p99 {p99:.1} ms",
            series.name
        );
    }
    println!("fanout: {share:.2} of the floor with {batch} events at a time, {bound} is promised");
    let name = format!("fanout-{clients}x{batch}");
    let report = Report {
        name: &name,
        method: format!(
            "{clients} WebSockets, {rate} events a second, {batch} at a time, in frames of {bytes:.0} bytes; {rounds} rounds of \
             {seconds} s each way, in turn. The floor is one thread that sends these frames, and nothing else. Processor \
             time of the sending process, user and system, divided by the events that clients have read."
        ),
        series: &series,
        figures: &[figure, "deliveries_per_second", "p50_ms", "p99_ms"],
        results: json!({ "share_of_floor": share, "bound": bound }),
        plotted: (figure, "µs"),
    };
    report.write()?;
    ensure!(share >= bound, "{share:.2} of the floor, {bound} is promised");
    Ok(())
}

impl Way {
    async fn round(&mut self, seconds: u64, batch: u32) -> Result<Value> {
        self.source.order("go").await?;
        sleep(Duration::from_secs(1)).await;
        self.readers.order("take").await?;
        let before = processor_time(self.sender)?;
        sleep(Duration::from_secs(seconds)).await;
        let spent = processor_time(self.sender)? - before;
        let mut figures = self.readers.order("take").await?;
        self.source.order("stop").await?;
        ensure!(figures["ended"] == 0, "{} clients were closed", figures["ended"]);
        let [events, seconds] = ["events", "seconds"].map(|figure| figures[figure].as_f64());
        let (events, seconds) = (events.context("events")?, seconds.context("seconds")?);
        ensure!(events > f64::from(batch), "nothing came");
        figures["cpu_us_per_delivery"] = json!(spent * 1e6 / events);
        figures["deliveries_per_second"] = json!(events / seconds);
        Ok(figures)
    }
}
