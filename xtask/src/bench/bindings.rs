//! Ten thousand clients with a value of their own each, beside one client with one value: what an event takes to its client,
//! and what MongoDB does for it.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use bson::{Document, doc};
use clap::Args;
use http::Method;
use mongodb::Client;
use parts::http::Request;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::Server;
use super::generator::{self, Generator};
use super::processor::processor_time;
use super::report::Report;
use super::rounds::alternate;

/// The most that ten thousand may take, times what one takes.
const SLOWER: f64 = 2.0;
/// The same of MongoDB's processor time.
const DEARER: f64 = 1.1;

/// Events that come before what is measured.
const UNDER_WAY: u32 = 50;

#[derive(Args)]
pub(super) struct Options {
    /// Clients, each with a value of its own.
    #[arg(long, default_value_t = 10_000)]
    bindings: u32,
    /// Inserts a second.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Rounds of each way.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long a round takes.
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// With collections that record pre- and post-images, by which it is decided what each client is told.
    #[arg(long)]
    images: bool,
}

/// Clients of one collection, and who writes there.
struct Way {
    writer: Generator,
    readers: Generator,
}

/// Measures in rounds that alternate.
pub(super) async fn run(server: &Server, options: Options) -> Result<()> {
    let Options { bindings, rate, rounds, seconds, images } = options;
    let program = generator::build()?;
    let (url, mongodb) = (server.backend.url(), server.set.uri());
    let way = async |collection: &str, bindings: u32| -> Result<Way> {
        let before = if images { "whenAvailable" } else { "off" };
        let stages = json!([{ "$match": { "fullDocument.name": { "$var": "n" } } }]);
        let stream = json!({ "uri": "mine", "fullDocumentBeforeChange": before, "stages": stages });
        let metadata = json!({ "streams": [stream] }).to_string();
        let recording = doc! { "create": collection, "changeStreamPreAndPostImages": { "enabled": images } };
        Client::with_uri_str(&mongodb).await?.database("bench").run_command(recording).await?;
        let address = format!("/bench/{collection}");
        let put = Request::new(Method::PUT, address.as_str()).json(metadata).send(&url).await?;
        ensure!(put.status.is_success(), "PUT {address}: {} {}", put.status, put.text());
        let path = format!("{address}/_streams/mine?avars={{%22n%22:{{n}}}}");
        let count = bindings.to_string();
        let readers = ["readers", "--server", &url, "--path", &path, "--count", &count];
        let (readers, _) = Generator::start(&program, &readers).await?;
        let rate = rate.to_string();
        let writer = [
            "writer",
            "--mongodb",
            &mongodb,
            "--database",
            "bench",
            "--collection",
            collection,
            "--rate",
            &rate,
            "--padding",
            "16",
            "--names",
            &count,
        ];
        let (writer, _) = Generator::start(&program, &writer).await?;
        Ok(Way { writer, readers })
    };
    let mut one = way("one", 1).await?;
    let mut many = way("many", bindings).await?;
    let cursors = cursors(&mongodb, "bench.many").await?;
    let mongod = server.set.process(0)?;
    let series = alternate(rounds, ["one binding", "many bindings"], async |way| {
        let way = if way == 0 { &mut one } else { &mut many };
        way.round(seconds, mongod).await
    })
    .await?;
    let times = |figure: &str| series[1].median(figure) / series[0].median(figure);
    let (p99, mongodb) = (times("p99_ms"), times("mongodb_cpu_seconds"));
    for series in &series {
        println!(
            "{}: p50 {:.1} ms, p99 {:.1} ms, MongoDB's processor time {:.2} s",
            series.name,
            series.median("p50_ms"),
            series.median("p99_ms"),
            series.median("mongodb_cpu_seconds")
        );
    }
    println!(
        "bindings: {cursors} cursor(s) for {bindings}; p99 ×{p99:.2} (at most ×{SLOWER}), MongoDB's processor time ×{mongodb:.2} (at most ×{DEARER})"
    );
    let report = Report {
        name: if images { "bindings-images" } else { "bindings" },
        method: format!(
            "{bindings} WebSockets with a value each, and one with one, of the same definition over two collections; {rate} inserts a \
             second into the one or the other, each for one client; {rounds} rounds of {seconds} s each way, in turn.{}",
            if images { " The collections record pre- and post-images." } else { "" }
        ),
        series: &series,
        figures: &["p50_ms", "p99_ms", "mongodb_cpu_seconds"],
        results: json!({ "cursors": cursors, "times_p99": p99, "times_mongodb": mongodb }),
        plotted: ("p99_ms", "ms"),
    };
    report.write()?;
    ensure!(cursors == 1, "{cursors} cursors, one is promised");
    ensure!(p99 <= SLOWER && mongodb <= DEARER, "more than is promised");
    Ok(())
}

impl Way {
    async fn round(&mut self, seconds: u64, mongod: u32) -> Result<Value> {
        self.writer.order("go").await?;
        self.readers.is_under_way(UNDER_WAY).await?;
        let before = processor_time(mongod)?;
        sleep(Duration::from_secs(seconds)).await;
        let spent = processor_time(mongod)? - before;
        let mut figures = self.readers.order("take").await?;
        self.writer.order("stop").await?;
        ensure!(figures["ended"] == 0, "{} clients were closed", figures["ended"]);
        ensure!(figures["events"].as_u64().is_some_and(|events| events > 0), "nothing came");
        figures["mongodb_cpu_seconds"] = json!(spent);
        Ok(figures)
    }
}

/// How many change streams are open on a collection.
pub(super) async fn cursors(mongodb: &str, namespace: &str) -> Result<usize> {
    Ok(open_cursors(mongodb, namespace).await?.len())
}

/// The change streams that are open on a collection.
pub(super) async fn open_cursors(mongodb: &str, namespace: &str) -> Result<HashSet<i64>> {
    let admin = Client::with_uri_str(mongodb).await?.database("admin");
    let pipeline = [
        doc! { "$currentOp": { "allUsers": true, "idleCursors": true, "localOps": true } },
        doc! { "$match": { "ns": namespace, "cursor.cursorId": { "$exists": true } } },
    ];
    let mut operations = admin.aggregate(pipeline).await?;
    let mut open = HashSet::new();
    while operations.advance().await? {
        let operation: Document = operations.deserialize_current()?;
        open.extend(operation.get_document("cursor").ok().and_then(|cursor| cursor.get_i64("cursorId").ok()));
    }
    Ok(open)
}
