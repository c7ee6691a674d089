//! What one address sends that means harm, as fast as this process can.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;

use super::answer::status;
use super::volley::PATIENCE;
use super::{orders, patiently};

/// Half-sent requests that are held at once.
const HALF_SENT: usize = 2_000;
/// How long a half-sent request that was cut off waits for its next attempt.
const PAUSE: Duration = Duration::from_secs(1);
/// Connections over which upgrades are asked for at once.
const ASKING: usize = 32;
/// Streams with different variables.
const BINDINGS: usize = 1_000;

#[derive(Args)]
pub(crate) struct Options {
    /// What is sent.
    kind: Kind,
    /// The server, as `127.0.0.1:8080`.
    #[arg(long)]
    server: SocketAddr,
    /// The address of the stream.
    #[arg(long)]
    path: String,
    /// From which address of this machine.
    #[arg(long)]
    from: IpAddr,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Requests that never end (Slowloris): 2,000 at once.
    HalfSent,
    /// Upgrades, as many as can be sent.
    Upgrades,
    /// 1,000 streams with different variables, asked for again when they are refused.
    Bindings,
}

/// What was sent since it was asked last, and what became of it.
#[derive(Debug, Default)]
struct Tally {
    sent: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    /// No answer: the connection was cut.
    cut: AtomicU64,
}

impl Tally {
    fn count(&self, status: &Result<u16>) {
        self.sent.fetch_add(1, Relaxed);
        let counter = match status {
            Ok(101) => &self.accepted,
            Ok(_) => &self.refused,
            Err(_) => &self.cut,
        };
        counter.fetch_add(1, Relaxed);
    }

    fn take(&self, since: Instant) -> Value {
        let take = |counter: &AtomicU64| counter.swap(0, Relaxed);
        json!({
            "sent": take(&self.sent),
            "accepted": take(&self.accepted),
            "refused": take(&self.refused),
            "cut": take(&self.cut),
            "seconds": since.elapsed().as_secs_f64(),
        })
    }
}

/// Attacks until the input ends, and answers each `take` with what was sent since the last one, and `await <number>` with the
/// same once so much was.
pub(crate) async fn run(options: Options) -> Result<()> {
    let options = Arc::new(options);
    let tally = Arc::new(Tally::default());
    let attackers = match options.kind {
        Kind::HalfSent => HALF_SENT,
        Kind::Upgrades => ASKING,
        Kind::Bindings => BINDINGS,
    };
    for number in 0..attackers {
        let (options, tally) = (Arc::clone(&options), Arc::clone(&tally));
        tokio::spawn(async move {
            match options.kind {
                Kind::HalfSent => half_send(&options, &tally).await,
                Kind::Upgrades => ask(&options, &tally).await,
                Kind::Bindings => bind(&options, &tally, number).await,
            }
        });
    }
    println!("{}", json!({ "attackers": attackers }));
    let mut orders = orders();
    let mut since = Instant::now();
    while let Some(order) = orders.recv().await {
        if let Some(number) = order.strip_prefix("await ") {
            let number = number.parse()?;
            patiently(PATIENCE, || tally.sent.load(Relaxed) >= number).await;
        }
        println!("{}", tally.take(since));
        since = Instant::now();
    }
    Ok(())
}

async fn half_send(options: &Options, tally: &Tally) {
    loop {
        if let Ok(mut stream) = connect(options).await {
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nx-half: ").await;
            tally.count(&status(&mut stream, &mut Vec::new()).await);
        }
        sleep(PAUSE).await;
    }
}

/// Goes on over one connection while the server leaves it open: nothing asks faster.
async fn ask(options: &Options, tally: &Tally) {
    let request = upgrade(&options.path);
    loop {
        let Ok(mut stream) = connect(options).await else { continue };
        let mut read = Vec::new();
        loop {
            let _ = stream.write_all(request.as_bytes()).await;
            let status = status(&mut stream, &mut read).await;
            let goes_on = matches!(status, Ok(code) if code != 101);
            tally.count(&status);
            if !goes_on {
                break;
            }
        }
    }
}

async fn bind(options: &Options, tally: &Tally, number: usize) {
    let request = upgrade(&format!("{}?avars=%7B%22n%22:{number}%7D", options.path));
    loop {
        if let Ok(mut stream) = connect(options).await {
            let _ = stream.write_all(request.as_bytes()).await;
            let mut read = Vec::new();
            let status = status(&mut stream, &mut read).await;
            let accepted = matches!(status, Ok(101));
            tally.count(&status);
            // It follows what it was given, and reads it.
            let mut events = [0; 4096];
            while accepted && stream.read(&mut events).await.is_ok_and(|bytes| bytes > 0) {}
        }
        sleep(PAUSE).await;
    }
}

async fn connect(options: &Options) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((options.from, 0).into())?;
    Ok(socket.connect(options.server).await?)
}

fn upgrade(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}
