//! How many clients a second are let in by one core.

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use http::Method;
use parts::http::Request;
use serde_json::{Value, json};

use super::Server;
use super::cores::{LOAD, MEASURED, pin};
use super::generator::{self, Generator};
use super::peers;
use super::processor::processor_time;
use super::report::Report;
use super::rounds::in_turn;

/// The handshakes a second that are promised.
const BOUND: f64 = 4000.0;

#[derive(Args)]
pub(super) struct Options {
    /// Clients at once.
    #[arg(long, default_value_t = 64)]
    at_once: u32,
    /// Rounds of each way.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long a round takes.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
}

/// Who lets clients in, and these.
struct Way {
    clients: Generator,
    server: u32,
}

/// Measures in rounds that alternate with those of the floor.
pub(super) async fn run(server: &Server, options: Options) -> Result<()> {
    let Options { at_once, rounds, seconds } = options;
    let program = generator::build()?;
    let url = server.backend.url();
    let metadata = r#"{"streams": [{"uri": "all", "stages": []}]}"#;
    let put = Request::new(Method::PUT, "/bench/upgrades").json(metadata).send(&url).await?;
    ensure!(put.status.is_success(), "PUT /bench/upgrades: {} {}", put.status, put.text());
    let path = "/bench/upgrades/_streams/all";
    // The stream is open, as one that many ask for is.
    let first = ["readers", "--server", &url, "--path", path, "--count", "1"];
    let (_first, _) = Generator::start(&program, &first).await?;
    let at_once = at_once.to_string();
    let clients = async |port: &str| -> Result<Generator> {
        let server = format!("127.0.0.1:{port}");
        let arguments = ["upgrades", "--server", &server, "--path", path, "--at-once", &at_once];
        let (clients, _) = Generator::start(&program, &arguments).await?;
        clients.pin(LOAD)?;
        Ok(clients)
    };
    let (door, said) = Generator::start(&program, &["door"]).await?;
    let mut ways = vec![
        Way { clients: clients(&said["port"].to_string()).await?, server: door.id()? },
        Way {
            clients: clients(&server.backend.port().to_string()).await?,
            server: server.backend.process()?.id(),
        },
    ];
    let mut names = vec!["floor", "Tailrace"];
    let restheart = peers::Name::Restheart.start(server).await?;
    if let Some(peer) = &restheart {
        // It serves the same stream, by the same metadata.
        ways.push(Way { clients: clients(&peer.port().to_string()).await?, server: peer.id() });
        names.push("RESTHeart");
    }
    pin(server.set.process(0)?, LOAD)?;
    for way in &mut ways {
        pin(way.server, MEASURED)?;
        // What is only there once.
        way.round(1).await?;
    }
    let series = in_turn(rounds, &names, async |way| ways[way].round(seconds).await).await?;
    let [floor, tailrace, others @ ..] = &series[..] else { unreachable!("two are always there") };
    let speed = "handshakes_per_second";
    for series in &series {
        println!(
            "{}: {:.0} handshakes a second, {:.0} µs of processor time each, p50 {:.1} ms, p99 {:.1} ms",
            series.name,
            series.median(speed),
            series.median("cpu_us_per_handshake"),
            series.median("p50_ms"),
            series.median("p99_ms"),
        );
    }
    let (reached, share) = (tailrace.median(speed), tailrace.median(speed) / floor.median(speed));
    println!("upgrades: {reached:.0} a second on one core, {share:.2} of the floor; {BOUND} are promised");
    let times = others.first().map(|restheart| reached / restheart.median(speed));
    if let Some(times) = times {
        println!("upgrades: {times:.1} times those of RESTHeart");
    }
    let report = Report {
        name: "upgrades",
        method: format!(
            "{at_once} clients at once connect, ask for a stream that is open, and leave by a reset as soon as they read the 101; \
             {rounds} rounds of {seconds} s each way, in turn. The server runs on core 0 alone, the clients on core 1. The \
             floor is one thread that reads the request, writes a 101, and waits for the end."
        ),
        series: &series,
        figures: &[speed, "cpu_us_per_handshake", "p50_ms", "p99_ms", "load_share_of_core"],
        results: json!({ "bound": BOUND, "share_of_floor": share, "times_restheart": times }),
        plotted: (speed, "a second"),
    };
    report.write()?;
    ensure!(reached >= BOUND, "{reached:.0} handshakes a second, {BOUND} are promised");
    Ok(())
}

impl Way {
    async fn round(&mut self, seconds: u64) -> Result<Value> {
        let load = self.clients.id()?;
        let before = [processor_time(self.server)?, processor_time(load)?];
        let mut figures = self.clients.order(&seconds.to_string()).await?;
        let spent = [processor_time(self.server)? - before[0], processor_time(load)? - before[1]];
        ensure!(figures["failed"] == 0, "{} were not let in: {}", figures["failed"], figures["why"]);
        let figure = |name: &str| figures[name].as_f64().with_context(|| name.to_owned());
        let (handshakes, seconds) = (figure("handshakes")?, figure("seconds")?);
        figures["handshakes_per_second"] = json!(handshakes / seconds);
        figures["cpu_us_per_handshake"] = json!(spent[0] * 1e6 / handshakes);
        figures["load_share_of_core"] = json!(spent[1] / seconds);
        Ok(figures)
    }
}
