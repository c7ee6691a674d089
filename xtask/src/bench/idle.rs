//! What an idle subscriber costs: the growth of the backend's resident memory, divided by the number of subscribers.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::{Method, StatusCode};
use parts::backend::Backend;
use parts::http::Request;
use tokio::net::TcpStream;

/// The bound that the design sets, in bytes.
const BOUND: u64 = 8 * 1024;
const SUBSCRIBERS: u64 = 5_000;
const ROUNDS: usize = 3;
/// Handshakes under way at once.
const AT_ONCE: usize = 64;

/// Connects, measures, and disconnects, several times; the worst round counts.
pub(super) async fn run(backend: &Backend) -> Result<()> {
    let server = backend.url();
    let metadata = r#"{"streams": [{"uri": "all", "stages": []}]}"#;
    let put = Request::new(Method::PUT, "/bench/idle").json(metadata).send(&server).await?;
    ensure!(put.status.is_success(), "PUT /bench/idle: {} {}", put.status, put.text());
    // What the first subscriber alone brings (a cursor, its connection) is no cost of each.
    let first = subscribe(&server).await?;

    println!("{SUBSCRIBERS} plain subscribers of one stream, {ROUNDS} rounds, {} cores", cores());
    let mut worst = 0;
    for round in 1..=ROUNDS {
        let before = settled(backend).await?;
        let sockets: Vec<TcpStream> = stream::iter(0..SUBSCRIBERS)
            .map(|_| subscribe(&server))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let after = settled(backend).await?;
        let each = after.saturating_sub(before) / SUBSCRIBERS;
        println!(
            "round {round}: {} KiB before, {} KiB after: {each} bytes a subscriber",
            before / 1024,
            after / 1024
        );
        // Memory that a round leaves behind is there before the next one: only the first tells the whole cost.
        worst = worst.max(each);
        drop(sockets);
    }
    drop(first);
    println!("idle: {worst} bytes a subscriber, the bound is {BOUND}");
    ensure!(worst <= BOUND, "{worst} bytes a subscriber, expected at most {BOUND}");
    Ok(())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

async fn subscribe(server: &str) -> Result<TcpStream> {
    let answer = Request::get("/bench/idle/_streams/all").upgrade().open(server).await?;
    ensure!(answer.status == StatusCode::SWITCHING_PROTOCOLS, "the upgrade is answered {}", answer.status);
    Ok(answer.into_upgraded().0)
}

/// The resident memory once it no longer moves.
async fn settled(backend: &Backend) -> Result<u64> {
    let mut last = backend.resident()?;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = backend.resident()?;
        if now.abs_diff(last) < 64 * 1024 {
            return Ok(now);
        }
        last = now;
    }
}
