//! What an attack from one address costs those who behave: how long events take to them, and how long it takes to open a
//! stream, with the attack and without it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use http::{Method, StatusCode};
use parts::backend;
use parts::http::Request;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::Server;
use super::departure;
use super::generator::{self, Generator};
use super::report::Report;
use super::rounds::{Series, alternate};

/// The bound of what a client sees under attack, as a multiple of what it sees without.
const BOUND: f64 = 2.0;
/// From where the attack comes. Those who behave come from 127.0.0.1.
const ATTACKER: &str = "127.0.0.66";
/// Events that each client has before what is measured.
const UNDER_WAY: u32 = 10;
/// How often a stream is opened to see how long that takes.
const OPENS_EVERY: Duration = Duration::from_millis(50);

#[derive(Args)]
pub(super) struct Options {
    /// The attacks; all three when none is named.
    attacks: Vec<Attack>,
    /// Clients that behave.
    #[arg(long, default_value_t = 50)]
    readers: u32,
    /// Events a second.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Rounds of each way.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// How long a round takes.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Attack {
    /// 2,000 requests that never end.
    HalfSent,
    /// As many upgrades as can be sent.
    Upgrades,
    /// 1,000 streams with different variables.
    Bindings,
}

impl Attack {
    fn name(self) -> &'static str {
        match self {
            Self::HalfSent => "half-sent",
            Self::Upgrades => "upgrades",
            Self::Bindings => "bindings",
        }
    }
}

/// The defaults, for an attacker on the loopback interface, who would stand for many.
pub(super) fn limits(options: backend::Options) -> backend::Options {
    options.set("TAILRACE_LIMITS__UNCOUNTED_ADDRESSES", "[]")
}

/// Measures each attack in rounds that alternate with rounds without it.
pub(super) async fn run(server: &Server, options: Options) -> Result<()> {
    let program = generator::build()?;
    let url = server.backend.url();
    let metadata = r#"{"streams": [
        {"uri": "all", "stages": []},
        {"uri": "mine", "stages": [{"$match": {"fullDocument.at": {"$var": "n"}}}]}
    ]}"#;
    let put = Request::new(Method::PUT, "/bench/attack").json(metadata).send(&url).await?;
    ensure!(put.status.is_success(), "PUT /bench/attack: {} {}", put.status, put.text());
    let (path, count) = ("/bench/attack/_streams/all", options.readers.to_string());
    let (mut crowd, _) =
        Generator::start(&program, &["readers", "--server", &url, "--path", path, "--count", &count]).await?;
    let (mongodb, rate) = (server.set.uri(), options.rate.to_string());
    let (mut writer, _) = Generator::start(
        &program,
        &[
            ["writer", "--mongodb", &mongodb, "--database", "bench", "--collection", "attack"].as_slice(),
            ["--rate", &rate, "--padding", "100"].as_slice(),
        ]
        .concat(),
    )
    .await?;
    writer.order("go").await?;
    let files = server.backend.open_files()?;

    let attacks = if options.attacks.is_empty() {
        vec![Attack::HalfSent, Attack::Upgrades, Attack::Bindings]
    } else {
        options.attacks.clone()
    };
    let mut all: Vec<Series> = Vec::new();
    let mut results = serde_json::Map::new();
    let mut worst: f64 = 0.0;
    for attack in attacks {
        let names = ["without", attack.name()];
        let [without, with] = alternate(options.rounds, names, async |way| {
            let attack = (way == 1).then_some(attack);
            // What the attack before has left is over.
            departure::all_have_left(&server.backend, files).await?;
            let attacker = match attack {
                Some(attack) => Some(under_attack(server, &program, attack).await?),
                None => None,
            };
            crowd.is_under_way(options.readers * UNDER_WAY).await?;
            round(server, &mut crowd, attacker, options.seconds).await
        })
        .await?;
        let ratio = |figure| with.median(figure) / without.median(figure);
        for series in [&without, &with] {
            let [p50, p99, opening] = FIGURES.map(|figure| series.median(figure));
            println!(
                "{}: events p50 {p50:.1} ms, p99 {p99:.1} ms; a stream opens in {opening:.1} ms",
                series.name
            );
        }
        let [p50, p99, opening] = FIGURES.map(ratio);
        println!(
            "{}: events p50 × {p50:.2}, p99 × {p99:.2}, opening × {opening:.2}, the bound is {BOUND}; {:.0} sent a second",
            attack.name(),
            with.median("sent_a_second")
        );
        results.insert(
            attack.name().to_owned(),
            json!({
                "p50_ratio": p50,
                "p99_ratio": p99,
                "opening_ratio": opening,
                "sent_a_second": with.median("sent_a_second"),
                "refused_a_second": with.median("refused_a_second"),
            }),
        );
        worst = worst.max(p50).max(p99).max(opening);
        all.extend([without, with]);
    }
    results.insert("bound".to_owned(), json!(BOUND));
    let report = Report {
        name: "attack",
        method: format!(
            "{} WebSockets, {} events a second, and one stream opened every {} ms, from 127.0.0.1; {} rounds of {} s each way, \
             in turn. With: the attack from {ATTACKER}, by a process of the lowest priority, since an attacker brings a \
             processor of its own. The node counts loopback addresses as any other; its limits are the defaults. All \
             three medians are bounded.",
            options.readers,
            options.rate,
            OPENS_EVERY.as_millis(),
            options.rounds,
            options.seconds
        ),
        series: &all,
        figures: &[FIGURES[0], FIGURES[1], FIGURES[2], "sent_a_second", "refused_a_second"],
        results: Value::Object(results),
        plotted: (FIGURES[0], "ms"),
    };
    report.write()?;
    ensure!(worst <= BOUND, "× {worst:.2}, expected at most {BOUND}");
    Ok(())
}

const FIGURES: [&str; 3] = ["p50_ms", "p99_ms", "opening_p50_ms"];

/// Begins an attack; it is under way once each of the attackers has had an answer.
async fn under_attack(server: &Server, program: &Path, attack: Attack) -> Result<Generator> {
    let target = format!("127.0.0.1:{}", server.backend.port());
    let stream = if attack == Attack::Bindings { "mine" } else { "all" };
    let path = format!("/bench/attack/_streams/{stream}");
    let arguments = ["attack", attack.name(), "--server", &target, "--path", &path, "--from", ATTACKER];
    let (mut attacker, ready) = Generator::start_of_low_priority(program, &arguments).await?;
    let attackers = ready["attackers"].as_u64().context("attackers")?;
    attacker.is_under_way(u32::try_from(attackers)?).await?;
    Ok(attacker)
}

async fn round(
    server: &Server,
    crowd: &mut Generator,
    mut attacker: Option<Generator>,
    seconds: u64,
) -> Result<Value> {
    if let Some(attacker) = &mut attacker {
        attacker.order("take").await?;
    }
    let opening = openings(&server.backend.url(), Duration::from_secs(seconds)).await?;
    let mut figures = crowd.order("take").await?;
    ensure!(figures["ended"] == 0, "{} of those who behave were closed", figures["ended"]);
    figures["opening_p50_ms"] = json!(opening);
    if let Some(attacker) = &mut attacker {
        let sent = attacker.order("take").await?;
        let a_second = |figure: &str| {
            sent[figure].as_f64().unwrap_or_default() / sent["seconds"].as_f64().unwrap_or(1.0)
        };
        figures["sent_a_second"] = json!(a_second("sent"));
        figures["refused_a_second"] = json!(a_second("refused") + a_second("cut"));
        figures["accepted"] = sent["accepted"].clone();
    }
    Ok(figures)
}

/// The median of how long it takes to open a stream, in milliseconds.
async fn openings(url: &str, within: Duration) -> Result<f64> {
    let began = Instant::now();
    let mut every = interval(OPENS_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut took = Vec::new();
    while began.elapsed() < within {
        every.tick().await;
        let asked = Instant::now();
        let answer = Request::get("/bench/attack/_streams/all").upgrade().open(url).await?;
        ensure!(
            answer.status == StatusCode::SWITCHING_PROTOCOLS,
            "who behaves is answered {}",
            answer.status
        );
        took.push(asked.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok(super::rounds::median(took))
}
