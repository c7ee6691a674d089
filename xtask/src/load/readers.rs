//! Many clients of one stream in one thread.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context as Polled, Poll, ready};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use tokio::task::LocalSet;

use super::frames::written_at;
use super::socket::{AT_ONCE, Language, Socket, buffer};
use super::volley::PATIENCE;
use super::{now, orders};

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
    /// What they speak.
    #[arg(long, default_value = "events")]
    language: Language,
}

/// What came since it was asked last.
struct Taken {
    /// One for all: they are read in turn.
    buffer: Vec<u8>,
    since: Instant,
    delays: Vec<u32>,
    bytes: u64,
    reads: u64,
    /// When the first and the last event came.
    between: Option<(u64, u64)>,
    /// Connections that have ended, ever.
    ended: usize,
}

/// Connects, says so, and answers each `take` with what came since the last one, and `await <events>` with the same once so
/// many have come.
pub(crate) async fn run(options: Options) -> Result<()> {
    let mut orders = orders();
    let sockets: Vec<Socket> = stream::iter(0..options.count)
        // In the plain form.
        .map(|number| {
            let path = options.path.replace("{n}", &number.to_string());
            Socket::open_in(options.language, &options.server, path, None)
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let nothing = Taken {
        buffer: buffer(),
        since: Instant::now(),
        delays: Vec::new(),
        bytes: 0,
        reads: 0,
        between: None,
        ended: 0,
    };
    let taken = Rc::new(RefCell::new(nothing));
    let readers = LocalSet::new();
    for mut socket in sockets {
        let taken = Rc::clone(&taken);
        readers.spawn_local(async move {
            // Whatever ends it, it has ended.
            while poll_fn(|polled| taken.borrow_mut().poll(&mut socket, polled))
                .await
                .is_ok_and(|goes_on| goes_on)
            {}
            taken.borrow_mut().ended += 1;
        });
    }
    println!("{}", json!({ "connected": options.count }));
    readers
        .run_until(async {
            while let Some(order) = orders.recv().await {
                if let Some(events) = order.strip_prefix("await ") {
                    await_events(&taken, events.parse()?).await;
                }
                println!("{}", taken.borrow_mut().summary());
            }
            Ok(())
        })
        .await
}

/// Until so many have come, or will not come any more.
async fn await_events(taken: &RefCell<Taken>, events: usize) {
    let deadline = Instant::now() + PATIENCE;
    while taken.borrow().delays.len() < events && taken.borrow().ended == 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

impl Taken {
    fn summary(&mut self) -> serde_json::Value {
        self.delays.sort_unstable();
        let per_mille = |share| {
            let last = self.delays.len().saturating_sub(1);
            self.delays.get(last * share / 1000).map(|micros| f64::from(*micros) / 1000.0)
        };
        let between = self.between.take().map_or(0, |(first, last)| last - first);
        let summary = json!({
            "events": self.delays.len(),
            "bytes": self.bytes,
            "reads": self.reads,
            "seconds": self.since.elapsed().as_secs_f64(),
            "seconds_between_first_and_last": Duration::from_micros(between).as_secs_f64(),
            "p50_ms": per_mille(500),
            "p99_ms": per_mille(990),
            "longest_ms": per_mille(1000),
            "ended": self.ended,
        });
        self.since = Instant::now();
        self.delays.clear();
        self.bytes = 0;
        self.reads = 0;
        summary
    }

    /// Reads what has come, if anything. False at the end.
    fn poll(&mut self, socket: &mut Socket, polled: &mut Polled<'_>) -> Poll<Result<bool>> {
        let now = now();
        let delays = &mut self.delays;
        let before = delays.len();
        let bytes = ready!(socket.poll_messages(polled, &mut self.buffer, |event| {
            let at = written_at(event).context("an event without the time of its writing")?;
            delays.push(u32::try_from(now.saturating_sub(at)).unwrap_or(u32::MAX));
            Ok(())
        }))?;
        self.bytes += u64::try_from(bytes)?;
        self.reads += 1;
        if self.delays.len() > before {
            self.between = Some((self.between.map_or(now, |(first, _)| first), now));
        }
        Poll::Ready(Ok(bytes > 0))
    }
}
