//! Clients with a value each, beside a cursor for each of them: what that does to events, to writes, and to MongoDB.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bson::doc;
use clap::Args;
use http::Method;
use mongodb::Client;
use parts::http::Request;
use parts::peers::Peer;
use parts::process::POLL;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::Server;
use super::bindings::{cursors, open_cursors};
use super::generator::{self, Generator};
use super::peers;
use super::processor::processor_time;
use super::report::Report;
use super::rounds::in_turn;

/// How long cursors may take to open, and to close.
const OPEN: Duration = Duration::from_mins(1);
const CLOSE: Duration = Duration::from_secs(30);

/// Events that come before what is measured.
const UNDER_WAY: u32 = 20;

#[derive(Args)]
pub(super) struct Options {
    /// How many clients, one measurement each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 50, 100, 200])]
    clients: Vec<u32>,
    /// Inserts a second, as long as MongoDB takes them.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Rounds of each way.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long a round takes.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
}

/// Who has a cursor for each client, or one for all.
enum Way {
    Tailrace,
    Driver,
    /// Runs for one round.
    Restheart(Option<Peer>),
}

impl Way {
    fn name(&self) -> &'static str {
        match self {
            Self::Tailrace => "Tailrace",
            Self::Driver => "a cursor each",
            Self::Restheart(_) => "RESTHeart",
        }
    }

    /// A collection of its own.
    fn collection(&self) -> &'static str {
        match self {
            Self::Tailrace => "shared",
            Self::Driver => "driver",
            Self::Restheart(_) => "restheart",
        }
    }
}

const FIGURES: [&str; 4] = ["p50_ms", "p99_ms", "writes_per_second", "mongodb_share_of_core"];

/// Measures in rounds that alternate.
pub(super) async fn run(server: &Server, options: Options) -> Result<()> {
    let Options { clients, rate, rounds, seconds } = options;
    let program = generator::build()?;
    let mut ways = vec![Way::Tailrace, Way::Driver];
    let mut absent = Vec::new();
    match peers::Name::Restheart.start(server).await? {
        Some(peer) => ways.push(Way::Restheart(Some(peer))),
        None => absent.push("RESTHeart"),
    }
    let names: Vec<&str> = ways.iter().map(Way::name).collect();
    for clients in clients {
        let series = in_turn(rounds, &names, async |way| {
            round(server, &program, &mut ways[way], clients, rate, Duration::from_secs(seconds)).await
        })
        .await?;
        for series in &series {
            let [p50, p99, writes, mongodb] = FIGURES.map(|figure| series.median(figure));
            println!(
                "{clients} clients, {}: p50 {p50:.1} ms, p99 {p99:.1} ms, {writes:.0} writes a second, MongoDB takes {mongodb:.2} of a \
                 core",
                series.name
            );
        }
        let name = format!("cursors-{clients}");
        let report = Report {
            name: &name,
            method: format!(
                "{clients} clients with a value each of {{\"$match\": {{\"fullDocument.name\": …}}}}; one writer that inserts up to \
                 {rate} documents a second, each for one of them, and waits for each insert; {rounds} rounds of {seconds} s each \
                 way, in turn, with no other clients; RESTHeart is started for each. Tailrace has one cursor for all; the driver's own change streams, and \
                 RESTHeart's, are one for each."
            ),
            series: &series,
            figures: &FIGURES,
            results: json!({ "absent": absent }),
            plotted: ("p99_ms", "ms"),
        };
        report.write()?;
    }
    Ok(())
}

async fn round(
    server: &Server,
    program: &Path,
    way: &mut Way,
    clients: u32,
    rate: u32,
    length: Duration,
) -> Result<Value> {
    let (mongodb, collection) = (server.set.uri(), way.collection());
    let namespace = format!("bench.{collection}");
    let (count, rate) = (clients.to_string(), rate.to_string());
    let of_collection = ["--mongodb", &mongodb, "--database", "bench", "--collection", collection];
    let mut followers = match way {
        Way::Driver => {
            let driver = [&["cursors", "--count", &count], &of_collection[..]].concat();
            Generator::start(program, &driver).await?.0
        }
        Way::Tailrace => streams(program, &server.backend.url(), collection, &count).await?,
        Way::Restheart(peer) => {
            if peer.is_none() {
                *peer = peers::Name::Restheart.start(server).await?;
            }
            let url = peer.as_ref().context("RESTHeart does not start again")?.url();
            streams(program, &url, collection, &count).await?
        }
    };
    let expected = if matches!(way, Way::Tailrace) { 1 } else { usize::try_from(clients)? };
    if !becomes(&mongodb, &namespace, expected, OPEN).await? {
        bail!("{}: {} cursors, {expected} are expected", way.name(), cursors(&mongodb, &namespace).await?);
    }
    let writer =
        [&["writer", "--rate", &rate, "--padding", "16", "--names", &count], &of_collection[..]].concat();
    let (mut writer, _) = Generator::start(program, &writer).await?;
    writer.order("go").await?;
    followers.is_under_way(UNDER_WAY).await?;
    let mongod = server.set.process(0)?;
    let (began, before) = (Instant::now(), processor_time(mongod)?);
    let written = written(&mut writer).await?;
    sleep(length).await;
    let (spent, took) = (processor_time(mongod)? - before, began.elapsed().as_secs_f64());
    let written = self::written(&mut writer).await? - written;
    let mut figures = followers.order("take").await?;
    ensure!(figures["ended"] == 0, "{} of {}'s have ended", figures["ended"], way.name());
    drop(followers);
    writer.order("stop").await?;
    if let Way::Restheart(peer) = way {
        // It keeps its cursors for clients that have left, and the others would be measured beside them.
        *peer = None;
    }
    if !matches!(way, Way::Tailrace) {
        // Cursors outlive a process that ends without closing them.
        close(&mongodb, &namespace).await?;
    }
    ensure!(becomes(&mongodb, &namespace, 0, CLOSE).await?, "{}'s cursors stay open", way.name());
    figures["writes_per_second"] = json!(written / took);
    figures["mongodb_share_of_core"] = json!(spent / took);
    Ok(figures)
}

/// Clients of a server, with a value each.
async fn streams(program: &Path, url: &str, collection: &str, count: &str) -> Result<Generator> {
    let metadata =
        r#"{"streams": [{"uri": "mine", "stages": [{"$match": {"fullDocument.name": {"$var": "n"}}}]}]}"#;
    let address = format!("/bench/{collection}");
    let put = Request::new(Method::PUT, address.as_str()).json(metadata).send(url).await?;
    ensure!(put.status.is_success(), "PUT {address}: {} {}", put.status, put.text());
    let path = format!("{address}/_streams/mine?avars={{%22n%22:{{n}}}}");
    let readers = ["readers", "--server", url, "--path", &path, "--count", count];
    Ok(Generator::start(program, &readers).await?.0)
}

/// How many documents it has written.
async fn written(writer: &mut Generator) -> Result<f64> {
    writer.order("go").await?["written"].as_f64().context("written")
}

/// Closes all change streams on a collection.
async fn close(mongodb: &str, namespace: &str) -> Result<()> {
    let open: Vec<i64> = open_cursors(mongodb, namespace).await?.into_iter().collect();
    if open.is_empty() {
        return Ok(());
    }
    let (database, collection) = namespace.split_once('.').context("a namespace")?;
    let order = doc! { "killCursors": collection, "cursors": open };
    Client::with_uri_str(mongodb).await?.database(database).run_command(order).await?;
    Ok(())
}

/// Whether there are so many cursors within this time.
async fn becomes(mongodb: &str, namespace: &str, expected: usize, within: Duration) -> Result<bool> {
    let deadline = Instant::now() + within;
    while cursors(mongodb, namespace).await? != expected {
        if Instant::now() > deadline {
            return Ok(false);
        }
        sleep(POLL).await;
    }
    Ok(true)
}
