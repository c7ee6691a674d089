//! Many clients of one stream in one thread.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context as Polled, Poll, ready};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::{Value, json};
use tokio::task::yield_now;

use super::crowd::{self, Taker};
use super::delays::Delays;
use super::endpoints::Stream;
use super::frames::written_at;
use super::socket::{Language, Socket, buffer};
use super::volley::PATIENCE;
use super::{orders, patiently};

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    stream: Stream,
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
    /// When the events were written that are read at one time.
    written: Vec<u64>,
    since: Instant,
    delays: Delays,
    bytes: u64,
    reads: u64,
    /// When the first and the last event came.
    between: Option<(u64, u64)>,
    /// Connections that have ended, ever.
    ended: usize,
}

/// Connects, says so, and answers each `take` with what came since the last one, and `await <events>` with the same once so
/// many have come. Until then `watch <events>` does not sleep: to wake who sleeps is charged to who sends.
pub(crate) async fn run(options: Options) -> Result<()> {
    let mut orders = orders();
    let sockets = crowd::open(&options.stream, options.language, options.count).await?;
    let nothing = Taken {
        buffer: buffer(),
        written: Vec::new(),
        since: Instant::now(),
        delays: Delays::default(),
        bytes: 0,
        reads: 0,
        between: None,
        ended: 0,
    };
    let taken = Rc::new(RefCell::new(nothing));
    let readers = crowd::read(sockets, &taken);
    println!("{}", json!({ "connected": options.count }));
    readers
        .run_until(async {
            while let Some(order) = orders.recv().await {
                let have_come = async |events: &str| {
                    let events = events.parse()?;
                    patiently(PATIENCE, || taken.borrow().has_come_to(events)).await;
                    anyhow::Ok(())
                };
                if let Some(events) = order.strip_prefix("await ") {
                    have_come(events).await?;
                } else if let Some(events) = order.strip_prefix("watch ") {
                    tokio::select! {
                        have_come = have_come(events) => have_come?,
                        () = stay_awake() => {}
                    }
                }
                println!("{}", taken.borrow_mut().summary());
            }
            Ok(())
        })
        .await
}

async fn stay_awake() {
    loop {
        yield_now().await;
    }
}

impl Taken {
    /// Whether so many have come, or will not come any more.
    fn has_come_to(&self, events: usize) -> bool {
        self.delays.len() >= events || self.ended > 0
    }

    fn summary(&mut self) -> Value {
        let between = self.between.take().map_or(0, |(first, last)| last - first);
        let mut summary = self.delays.take();
        summary["bytes"] = json!(self.bytes);
        summary["reads"] = json!(self.reads);
        summary["seconds"] = json!(self.since.elapsed().as_secs_f64());
        summary["seconds_between_first_and_last"] = json!(Duration::from_micros(between).as_secs_f64());
        summary["ended"] = json!(self.ended);
        self.since = Instant::now();
        self.bytes = 0;
        self.reads = 0;
        summary
    }
}

impl Taker for Taken {
    fn poll(&mut self, socket: &mut Socket, polled: &mut Polled<'_>) -> Poll<Result<bool>> {
        let written = &mut self.written;
        let bytes = ready!(socket.poll_messages(polled, &mut self.buffer, |event| {
            written.push(written_at(event).context("an event without the time of its writing")?);
            Ok(())
        }))?;
        self.bytes += u64::try_from(bytes)?;
        self.reads += 1;
        let came = socket.came();
        if !self.written.is_empty() {
            self.between = Some((self.between.map_or(came, |(first, _)| first), came));
        }
        for at in self.written.drain(..) {
            self.delays.add(at, came);
        }
        Poll::Ready(Ok(bytes > 0))
    }

    fn ended(&mut self) {
        self.ended += 1;
    }
}
