//! The fan-out beside that of others: the same clients, events of the same size, at the same pace.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use http::Method;
use parts::http::Request;
use parts::peers::{Peer, centrifugo, restheart, uwebsockets};
use serde_json::{Value, json};

use super::Server;
use super::fan::{Channel, Fan};
use super::generator;
use super::report::Report;
use super::rounds::{Series, in_turn, merged};

#[derive(Args)]
pub(super) struct Options {
    /// The peers; all when none is named.
    peers: Vec<Name>,
    /// How many clients.
    #[arg(long, default_value_t = 1000)]
    clients: u32,
    /// Events a second, where there is a pause between.
    #[arg(long, default_value_t = 20)]
    rate: u32,
    /// Rounds of each.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long events come with a pause between, in a round.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Deliveries in the burst of a round.
    #[arg(long, default_value_t = 1_000_000)]
    deliveries: u32,
}

/// Who else sends events to many clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Name {
    Restheart,
    Centrifugo,
    Uwebsockets,
}

impl Name {
    const ALL: [Self; 3] = [Self::Uwebsockets, Self::Centrifugo, Self::Restheart];

    fn text(self) -> &'static str {
        match self {
            Self::Restheart => "RESTHeart",
            Self::Centrifugo => "Centrifugo",
            Self::Uwebsockets => "uWebSockets",
        }
    }

    /// How many times its deliveries are promised: in a second, where events come as fast as can be, and for the same processor
    /// time, where they come one by one.
    fn bound(self) -> f64 {
        match self {
            Self::Restheart => 5.0,
            Self::Centrifugo => 1.5,
            Self::Uwebsockets => 1.0,
        }
    }

    /// Starts it; `None`, said aloud, where it can be neither found nor fetched.
    pub(super) async fn start(self, server: &Server) -> Result<Option<Peer>> {
        let started = match self {
            Self::Restheart => restheart::start(&server.set.uri()).await,
            Self::Centrifugo => centrifugo::start().await,
            Self::Uwebsockets => uwebsockets::start().await,
        };
        let peer = match started {
            Ok(peer) => peer,
            Err(reason) => {
                println!("ABSENT: {}: {reason:#}", self.text());
                return Ok(None);
            }
        };
        if self == Self::Restheart {
            // It wants its databases made before their collections.
            let put = Request::new(Method::PUT, "/bench").send(&peer.url()).await?;
            ensure!(put.status.is_success(), "PUT /bench: {} {}", put.status, put.text());
        }
        println!("{} is here", peer.version());
        Ok(Some(peer))
    }

    /// Its clients, and who publishes events of so many bytes to them.
    async fn fan(
        self,
        program: &Path,
        server: &Server,
        peer: &Peer,
        clients: u32,
        bytes: u32,
    ) -> Result<Fan> {
        let channel = |path, language, interface| Channel { path, language, interface, clients };
        let channel = match self {
            Self::Restheart => return Fan::of_peer(program, server, peer, "restheart", clients).await,
            Self::Centrifugo => channel("/connection/websocket", "centrifugo", "centrifugo"),
            Self::Uwebsockets => channel("/subscribe", "events", "broadcast"),
        };
        Fan::of_channel(program, peer, &channel, bytes).await
    }
}

/// The processor time of a delivery where events come one by one, and the deliveries a second where they come as fast as can
/// be: by these they are compared.
const COST: &str = "cpu_us_per_delivery";
const RATE: &str = "deliveries_per_second";
const FIGURES: [&str; 7] =
    [COST, "p50_ms", "p99_ms", RATE, "cpu_us_per_delivery_in_burst", "events_per_read", "load_share_of_core"];

/// Measures in rounds that alternate.
pub(super) async fn run(server: &Server, options: Options) -> Result<()> {
    let Options { clients, rate, rounds, seconds, deliveries, .. } = options;
    let program = generator::build()?;
    let wanted = if options.peers.is_empty() { Name::ALL.to_vec() } else { options.peers };
    let mut tailrace = Fan::of_server(&program, server, "peers", clients).await?;
    let bytes = tailrace.frame_bytes().await?;
    let (mut names, mut fans, mut versions, mut absent) =
        (Vec::new(), vec![tailrace], Vec::new(), Vec::new());
    let mut running = Vec::new();
    for name in wanted {
        let Some(peer) = name.start(server).await? else {
            absent.push(name.text());
            continue;
        };
        fans.push(name.fan(&program, server, &peer, clients, bytes).await?);
        versions.push(peer.version().to_owned());
        names.push(name);
        running.push(peer);
    }
    let texts: Vec<&str> = ["Tailrace"].into_iter().chain(names.iter().map(|name| name.text())).collect();
    let (every, length) = (Duration::from_secs(1) / rate, Duration::from_secs(seconds));
    let mut sizes = serde_json::Map::new();
    for (fan, name) in fans.iter_mut().zip(&texts) {
        fan.reach_all().await.with_context(|| (*name).to_owned())?;
        sizes.insert((*name).to_owned(), json!(fan.frame_bytes().await?));
        // What is compiled while it runs is compiled now.
        fan.burst(1, deliveries).await?;
        fan.every(every, 1, length).await?;
    }
    let series = in_turn(rounds, &texts, async |way| {
        let paced = fans[way].every(every, 1, length).await?;
        Ok(merged(paced, fans[way].burst(1, deliveries).await?))
    })
    .await?;
    let times: Vec<Times> =
        names.iter().zip(&series[1..]).map(|(name, peer)| Times::of(*name, &series[0], peer)).collect();
    told(&series, &times);
    let report = Report {
        name: "peers",
        method: format!(
            "{clients} WebSockets, events of the same size, in frames of {bytes} bytes from Tailrace; {rounds} rounds, in turn: {rate} \
             events a second for {seconds} s, then {} events as fast as can be. Each server runs on core 0 alone, with all its \
             threads; the clients, those who publish, and MongoDB run on core 1, where the clients come last, and do not sleep \
             while events come with pauses. Tailrace and RESTHeart are sent what is \
             inserted into MongoDB, Centrifugo and uWebSockets what is published to them. Processor time of the server's \
             process, user and system, divided by the events that clients have read.",
            (deliveries / clients).max(3)
        ),
        series: &series,
        figures: &FIGURES,
        results: json!({ "times": times.iter().map(Times::reported).collect::<serde_json::Map<_, _>>(), "versions": versions, "absent": absent, "frame_bytes": sizes }),
        plotted: (COST, "µs"),
    };
    report.write()?;
    drop(running);
    let missed: Vec<String> = times.iter().flat_map(Times::missed).collect();
    ensure!(missed.is_empty(), "{}", missed.join("; "));
    Ok(())
}

/// How many times what a peer does Tailrace does.
struct Times {
    name: Name,
    /// In a second.
    rate: f64,
    /// For the same processor time.
    cost: f64,
}

impl Times {
    fn of(name: Name, tailrace: &Series, peer: &Series) -> Self {
        Self {
            name,
            rate: tailrace.median(RATE) / peer.median(RATE),
            cost: peer.median(COST) / tailrace.median(COST),
        }
    }

    fn reported(&self) -> (String, Value) {
        (self.name.text().to_owned(), json!({ RATE: self.rate, COST: self.cost }))
    }

    /// What is promised and was not reached.
    fn missed(&self) -> impl Iterator<Item = String> {
        let name = self.name.text();
        let bound = self.name.bound();
        let rate = ("deliveries a second", self.rate);
        let cost = ("deliveries for the same processor time", self.cost);
        let missed = [rate, cost].into_iter().filter(move |(_, times)| times.is_nan() || *times < bound);
        missed.map(move |(what, times)| format!("{name}: {times:.2} times its {what}, {bound} are promised"))
    }
}

/// Says what was measured.
fn told(series: &[Series], times: &[Times]) {
    for series in series {
        println!(
            "{}: {:.2} µs of processor time a delivery, p50 {:.1} ms, p99 {:.1} ms; in a burst {:.0} deliveries a second, \
             {:.2} µs each",
            series.name,
            series.median(COST),
            series.median("p50_ms"),
            series.median("p99_ms"),
            series.median(RATE),
            series.median("cpu_us_per_delivery_in_burst"),
        );
    }
    for Times { name, rate, cost } in times {
        println!(
            "peers: {rate:.1} times the deliveries a second of {} in a burst, one by one {cost:.2} times its deliveries for the \
             same processor time; {} are promised of both",
            name.text(),
            name.bound()
        );
    }
}
