//! The driver's own change stream and many clients of a server, in one process: when it hands out an event, and when that comes to
//! each of their sockets, by one clock.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::task::{Context as Polled, Poll, ready};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::crowd::{self, Taker};
use super::driver::Written;
use super::endpoints::{Namespace, Stream};
use super::frames::written_at;
use super::socket::{Language, Socket, Unhurried, buffer};
use super::volley::PATIENCE;
use super::{now, orders, patiently};

/// How long the last events may be on their way when they are asked for.
const BEHIND: Duration = Duration::from_secs(5);
/// How often they read at whom it is not asked when an event comes.
const EVERY: Duration = Duration::from_millis(100);
/// In how many parts, in turn.
const PARTS: u32 = 10;

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    stream: Stream,
    /// How many clients.
    #[arg(long)]
    count: usize,
    /// At how many of them it is asked when an event comes. To read a socket for each costs as much as to send it: the others
    /// read ten times a second, so that they take nothing from the server that clients elsewhere would not.
    #[arg(long)]
    watched: usize,
    #[command(flatten)]
    namespace: Namespace,
}

/// Opens all of them, and says so. `forget` is answered once an event has come to all; `take` with what the clients added to
/// the driver's own times since then.
pub(crate) async fn run(options: Options) -> Result<()> {
    let mut orders = orders();
    let (seen, mut by_cursor) = mpsc::unbounded_channel();
    let namespace = options.namespace;
    // In a thread of its own: it does not wait until a thousand sockets are read.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(follow(&namespace, &seen))
    });
    by_cursor.recv().await.context("the driver's change stream")?;
    let Options { count, watched, .. } = options;
    ensure!((1..=count).contains(&watched), "{watched} of {count} clients cannot be watched");
    let sockets = crowd::open(&options.stream, Language::Events, count).await?;
    let (mut stamped, mut others) = (Vec::new(), Vec::new());
    for (number, socket) in sockets.into_iter().enumerate() {
        // Evenly among them, in the order in which they came.
        if number * watched / count < (number + 1) * watched / count {
            stamped.push(socket);
        } else {
            others.push(socket.unhurried()?);
        }
    }
    stamped.iter_mut().try_for_each(Socket::stamp)?;
    let nothing =
        Taken { buffer: buffer(), read: Vec::new(), watched, count, came: HashMap::new(), ended: 0 };
    let taken = Rc::new(RefCell::new(nothing));
    let readers = crowd::read(stamped, &taken);
    readers.spawn_local(read_now_and_then(others, Rc::clone(&taken)));
    println!("{}", json!({ "connected": options.count }));
    readers
        .run_until(async {
            while let Some(order) = orders.recv().await {
                if order == "forget" {
                    taken.borrow_mut().came.clear();
                    patiently(PATIENCE, || taken.borrow().has_one()).await;
                }
                let cursor: Vec<Seen> = std::iter::from_fn(|| by_cursor.try_recv().ok()).collect();
                // Of what is forgotten some may have come before an earlier order: nobody waits for all of it.
                if order != "forget" {
                    patiently(BEHIND, || taken.borrow().has_all(&cursor)).await;
                }
                println!("{}", taken.borrow_mut().added(&cursor));
            }
        })
        .await;
    Ok(())
}

/// An event's time of writing, by which it is known, and when it was seen.
#[derive(Clone, Copy)]
struct Seen {
    at: u64,
    now: u64,
}

/// Tells of each event when the driver hands it out, and first of all that it is open.
async fn follow(namespace: &Namespace, seen: &mpsc::UnboundedSender<Seen>) -> Result<()> {
    let mut written = Written::open(namespace).await?;
    seen.send(Seen { at: 0, now: 0 })?;
    while let Some(at) = written.next().await? {
        seen.send(Seen { at, now: now() })?;
    }
    Ok(())
}

/// Reads each of these sockets once in [`EVERY`], a part of them at one time: while it does, no other is read.
async fn read_now_and_then(mut sockets: Vec<Unhurried>, taken: Rc<RefCell<Taken>>) {
    let mut beat = tokio::time::interval(EVERY / PARTS);
    let mut part = 0;
    loop {
        beat.tick().await;
        part = (part + 1) % PARTS;
        let mut number = 0;
        sockets.retain_mut(|socket| {
            number += 1;
            number % PARTS != part || taken.borrow_mut().read(socket)
        });
    }
}

struct Taken {
    buffer: Vec<u8>,
    /// What was read at one time.
    read: Vec<u64>,
    watched: usize,
    count: usize,
    came: HashMap<u64, Came>,
    ended: usize,
}

/// Where an event has come.
#[derive(Default)]
struct Came {
    /// To each of those that are watched, when.
    watched: Vec<u64>,
    /// To so many others.
    others: usize,
}

impl Taker for Taken {
    fn poll(&mut self, socket: &mut Socket, polled: &mut Polled<'_>) -> Poll<Result<bool>> {
        let read = &mut self.read;
        let bytes = ready!(socket.poll_messages(polled, &mut self.buffer, |event| {
            read.push(written_at(event).context("an event without the time of its writing")?);
            Ok(())
        }))?;
        for at in read.drain(..) {
            self.came.entry(at).or_default().watched.push(socket.came());
        }
        Poll::Ready(Ok(bytes > 0))
    }

    fn ended(&mut self) {
        self.ended += 1;
    }
}

impl Taken {
    /// Counts what has come to one that is not watched. False at its end.
    fn read(&mut self, socket: &mut Unhurried) -> bool {
        let came = &mut self.came;
        let read = socket.read(&mut self.buffer, |event| {
            let at = written_at(event).context("an event without the time of its writing")?;
            came.entry(at).or_default().others += 1;
            Ok(())
        });
        let goes_on = read.is_ok_and(|goes_on| goes_on);
        self.ended += usize::from(!goes_on);
        goes_on
    }

    /// Whether it has come to all clients.
    fn is_whole(&self, came: &Came) -> bool {
        came.watched.len() == self.watched && came.watched.len() + came.others == self.count
    }

    /// Whether some event has come to all clients.
    fn has_one(&self) -> bool {
        self.came.values().any(|came| self.is_whole(came))
    }

    fn has_all(&self, cursor: &[Seen]) -> bool {
        cursor.iter().all(|seen| self.came.get(&seen.at).is_some_and(|came| self.is_whole(came)))
    }

    /// What those that are watched waited longer than the driver: the first of an event, the one in the middle, the last, and all
    /// of them.
    fn added(&mut self, cursor: &[Seen]) -> Value {
        let [mut first, mut middle, mut last, mut all, mut of_driver] = [const { Vec::new() }; 5];
        for seen in cursor {
            let came = self.came.remove(&seen.at).unwrap_or_default();
            if !self.is_whole(&came) {
                continue;
            }
            let mut added: Vec<f64> = came.watched.iter().map(|came| milliseconds(seen.now, *came)).collect();
            added.sort_unstable_by(f64::total_cmp);
            first.extend(added.first());
            middle.push(added[added.len() / 2]);
            last.extend(added.last());
            of_driver.push(milliseconds(seen.at, seen.now));
            all.extend(added);
        }
        // What came before the order that the driver had not yet handed out is left out of both.
        self.came.clear();
        let mut figures = json!({ "events": first.len(), "of": cursor.len(), "ended": self.ended });
        for (name, of) in [
            ("first", &mut first),
            ("middle", &mut middle),
            ("last", &mut last),
            ("all", &mut all),
            ("driver", &mut of_driver),
        ] {
            of.sort_unstable_by(f64::total_cmp);
            for (share, per_mille) in [("p50", 500), ("p99", 990)] {
                let value = of.get(of.len().saturating_sub(1) * per_mille / 1000);
                figures[format!("{name}_{share}_ms")] = json!(value);
            }
        }
        figures
    }
}

/// From one moment to another, which may be before it.
fn milliseconds(from: u64, to: u64) -> f64 {
    let micros = |from: u64, to: u64| Duration::from_micros(to.saturating_sub(from)).as_secs_f64() * 1e3;
    micros(from, to) - micros(to, from)
}
