//! Many clients of one stream in one thread.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::StatusCode;
use parts::http::Request;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use super::frames::{Frame, PONG, first, written_at};
use super::{now, orders};

/// Handshakes under way at once.
const AT_ONCE: usize = 64;
/// What is read at once.
const BUFFER: usize = 64 * 1024;

#[derive(Args)]
pub(crate) struct Options {
    /// The server, as `http://host:port`.
    #[arg(long)]
    server: String,
    /// The address of the stream; `{n}` in it is the number of the client.
    #[arg(long)]
    path: String,
    /// How many clients.
    #[arg(long)]
    count: usize,
}

/// What came since it was asked last.
struct Taken {
    /// One for all: they are read in turn.
    buffer: Vec<u8>,
    since: Instant,
    delays: Vec<u32>,
    bytes: u64,
    /// Connections that have ended, ever.
    ended: usize,
}

/// Connects, says so, and answers each `take` with what came since the last one.
pub(crate) async fn run(options: Options) -> Result<()> {
    let mut orders = orders();
    let sockets: Vec<TcpStream> = stream::iter(0..options.count)
        .map(|number| subscribe(&options.server, options.path.replace("{n}", &number.to_string())))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let nothing =
        Taken { buffer: vec![0; BUFFER], since: Instant::now(), delays: Vec::new(), bytes: 0, ended: 0 };
    let taken = Rc::new(RefCell::new(nothing));
    let readers = LocalSet::new();
    for socket in sockets {
        let taken = Rc::clone(&taken);
        readers.spawn_local(async move {
            // Whatever ends it, it has ended.
            let _ = read(&socket, &taken).await;
            taken.borrow_mut().ended += 1;
        });
    }
    println!("{}", json!({ "connected": options.count }));
    readers
        .run_until(async {
            while orders.recv().await.is_some() {
                println!("{}", taken.borrow_mut().summary());
            }
        })
        .await;
    Ok(())
}

impl Taken {
    fn summary(&mut self) -> serde_json::Value {
        self.delays.sort_unstable();
        let per_mille = |share| {
            let last = self.delays.len().saturating_sub(1);
            self.delays.get(last * share / 1000).map(|micros| f64::from(*micros) / 1000.0)
        };
        let summary = json!({
            "events": self.delays.len(),
            "bytes": self.bytes,
            "seconds": self.since.elapsed().as_secs_f64(),
            "p50_ms": per_mille(500),
            "p99_ms": per_mille(990),
            "longest_ms": per_mille(1000),
            "ended": self.ended,
        });
        self.since = Instant::now();
        self.delays.clear();
        self.bytes = 0;
        summary
    }
}

/// A WebSocket of this stream in the plain form.
async fn subscribe(server: &str, path: String) -> Result<TcpStream> {
    let answer = Request::get(path).upgrade().open(server).await?;
    ensure!(answer.status == StatusCode::SWITCHING_PROTOCOLS, "the upgrade is answered {}", answer.status);
    let (socket, read) = answer.into_upgraded();
    ensure!(read.is_empty(), "an event before the first write");
    Ok(socket)
}

async fn read(socket: &TcpStream, taken: &RefCell<Taken>) -> Result<()> {
    // What has come of a frame that is not whole.
    let mut begun = Vec::new();
    loop {
        socket.readable().await?;
        let mut taken = taken.borrow_mut();
        let taken = &mut *taken;
        let bytes = match socket.try_read(&mut taken.buffer) {
            Ok(0) => return Ok(()),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.into()),
        };
        taken.bytes += u64::try_from(bytes)?;
        let bytes = &taken.buffer[..bytes];
        let delays = &mut taken.delays;
        if begun.is_empty() {
            let rest = apart(socket, bytes, delays)?;
            begun.extend_from_slice(&bytes[rest..]);
        } else {
            begun.extend_from_slice(bytes);
            let rest = apart(socket, &begun, delays)?;
            begun.drain(..rest);
        }
        if begun.is_empty() {
            begun = Vec::new();
        }
    }
}

/// Takes frames apart; how many bytes they were.
fn apart(socket: &TcpStream, bytes: &[u8], delays: &mut Vec<u32>) -> Result<usize> {
    let now = now();
    let mut done = 0;
    while let Some((frame, length)) = first(&bytes[done..]) {
        done += length;
        match frame {
            Frame::Message(event) => {
                let at = written_at(event).context("an event without the time of its writing")?;
                delays.push(u32::try_from(now.saturating_sub(at)).unwrap_or(u32::MAX));
            }
            Frame::Ping => {
                // There is always room for what is never more than one pong.
                socket.try_write(&PONG)?;
            }
            Frame::Close(_) | Frame::Other => {}
        }
    }
    Ok(done)
}
