//! What one client that reads nothing costs those who read: how long events take to them, with it and without it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use http::{Method, StatusCode};
use parts::http::Request;
use serde_json::json;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use super::Server;
use super::generator::{self, Generator};
use super::report::Report;
use super::rounds::alternate;

/// The bound of p99 with the slow client, as a multiple of that without it.
const BOUND: f64 = 1.2;

#[derive(Args)]
pub(super) struct Options {
    /// How many clients read.
    #[arg(long, default_value_t = 500)]
    readers: u32,
    /// Events a second.
    #[arg(long, default_value_t = 40)]
    rate: u32,
    /// Bytes in the document of an event.
    #[arg(long, default_value_t = 8 * 1024)]
    padding: u32,
    /// Rounds of each way.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// How long a round takes. The slow client has to become too slow within it.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
}

/// Measures in rounds that alternate.
pub(super) async fn run(server: &Server, options: Options) -> Result<()> {
    let Options { readers, rate, padding, rounds, seconds } = options;
    let program = generator::build()?;
    let url = server.backend.url();
    let metadata = r#"{"streams": [{"uri": "all", "stages": []}]}"#;
    let put = Request::new(Method::PUT, "/bench/slow").json(metadata).send(&url).await?;
    ensure!(put.status.is_success(), "PUT /bench/slow: {} {}", put.status, put.text());
    let path = "/bench/slow/_streams/all";
    let count = readers.to_string();
    let (mut crowd, _) =
        Generator::start(&program, &["readers", "--server", &url, "--path", path, "--count", &count]).await?;
    let (mongodb, of_rate, of_padding) = (server.set.uri(), rate.to_string(), padding.to_string());
    let (mut writer, _) = Generator::start(
        &program,
        &[
            ["writer", "--mongodb", &mongodb, "--database", "bench", "--collection", "slow"].as_slice(),
            ["--rate", &of_rate, "--padding", &of_padding].as_slice(),
        ]
        .concat(),
    )
    .await?;

    writer.order("go").await?;

    let mut too_slow = 0;
    let series = alternate(rounds, ["without", "with one that reads nothing"], async |way| {
        let slow = if way == 1 { Some(subscribe(server.backend.port(), path).await?) } else { None };
        // What the round before left is over: everybody has what was written a second later.
        crowd.is_under_way(readers * rate).await?;
        sleep(Duration::from_secs(seconds)).await;
        let figures = crowd.order("take").await?;
        ensure!(figures["ended"] == 0, "{} of {readers} readers were closed", figures["ended"]);
        if let Some(slow) = slow {
            too_slow += usize::from(is_told_that_it_is_too_slow(slow).await?);
        }
        Ok(figures)
    })
    .await?;

    let ratio = |figure| series[1].median(figure) / series[0].median(figure);
    let (p50, p99) = (ratio("p50_ms"), ratio("p99_ms"));
    for series in &series {
        let [p50, p99] = ["p50_ms", "p99_ms"].map(|figure| series.median(figure));
        println!("{}: median of p50 {p50:.1} ms, of p99 {p99:.1} ms", series.name);
    }
    println!(
        "slow: p50 × {p50:.2}, p99 × {p99:.2}, the bound is {BOUND}; closed with 4003: {too_slow} of {rounds}"
    );
    let report = Report {
        name: "slow",
        method: format!(
            "{readers} WebSockets that read, {rate} events a second of {padding} bytes; {rounds} rounds of {seconds} s each \
             way, in turn. From the writer's clock before the insert to the reader's after the read; the load is made by \
             processes of their own. With: one more that reads nothing, from before the round to its end."
        ),
        series: &series,
        figures: &["p50_ms", "p99_ms", "longest_ms"],
        results: json!({
            "p50_ratio": p50,
            "p99_ratio": p99,
            "p99_ratio_bound": BOUND,
            "closed_as_too_slow": too_slow,
            "rounds": rounds,
        }),
        plotted: ("p99_ms", "ms"),
    };
    report.write()?;
    ensure!(
        too_slow == rounds,
        "{too_slow} of {rounds} slow clients were closed with 4003 within their round"
    );
    ensure!(p99 <= BOUND, "p99 × {p99:.2}, expected at most {BOUND}");
    Ok(())
}

/// A client for which the kernels on both sides hold next to nothing: its queue in the server fills.
async fn subscribe(port: u16, path: &str) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    // The sender's buffer grows by the size of segments, which is 64 KiB on the loopback.
    SockRef::from(&socket).set_tcp_mss(1000)?;
    let mut stream = socket.connect(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut status = [0; 12];
    stream.read_exact(&mut status).await?;
    let expected = format!("HTTP/1.1 {}", StatusCode::SWITCHING_PROTOCOLS.as_u16());
    ensure!(status == expected.as_bytes(), "the upgrade is answered {}", String::from_utf8_lossy(&status));
    Ok(stream)
}

/// Reads what has waited for it. The last that it is told is 4003, unless it was not too slow.
async fn is_told_that_it_is_too_slow(mut stream: TcpStream) -> Result<bool> {
    let mut last = Vec::new();
    let read = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let bytes = stream.read(&mut buffer).await?;
            last.extend_from_slice(&buffer[..bytes]);
            last.drain(..last.len().saturating_sub(200));
            // A Close of 4003; no text of an event has the byte 0x88 at this place.
            if last.windows(4).any(|bytes| bytes[0] == 0x88 && bytes[2..] == 4003_u16.to_be_bytes()) {
                return Ok(true);
            }
            if bytes == 0 {
                return Ok(false);
            }
        }
    };
    timeout(Duration::from_secs(10), read).await.context("the slow client is not closed")?
}
