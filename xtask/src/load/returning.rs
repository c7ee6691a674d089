//! Clients that come back whenever they are cut off, each behind what it knows, and count what they miss.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context as Polled, Poll, ready};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use super::endpoints::Stream;
use super::frames::{kind, number, position};
use super::socket::{Socket, buffer};
use super::volley::PATIENCE;
use super::{orders, patiently};

/// Handshakes under way at once.
const AT_ONCE: usize = 128;
/// How long one waits that was not let in.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    stream: Stream,
    /// How many clients.
    #[arg(long)]
    count: usize,
}

/// What one client knows.
#[derive(Clone, Default)]
struct Client {
    connected: bool,
    position: Vec<u8>,
    /// The number of the newest event that it has.
    newest: Option<u64>,
}

struct Crowd {
    buffer: Vec<u8>,
    clients: Vec<Client>,
    since: Instant,
    /// Seconds until each was let in.
    returned: Vec<f64>,
    refused: usize,
    missed: u64,
    doubled: u64,
    gaps: usize,
}

/// Connects; `mark` begins to count anew, and `await <number>` is answered once all are there and have the event of this
/// number.
pub(crate) async fn run(options: Options) -> Result<()> {
    let mut orders = orders();
    let options = Rc::new(options);
    let crowd = Rc::new(RefCell::new(Crowd {
        buffer: buffer(),
        clients: vec![Client::default(); options.count],
        since: Instant::now(),
        returned: Vec::new(),
        refused: 0,
        missed: 0,
        doubled: 0,
        gaps: 0,
    }));
    let handshakes = Rc::new(Semaphore::new(AT_ONCE));
    let clients = LocalSet::new();
    for number in 0..options.count {
        let (options, crowd, handshakes) = (Rc::clone(&options), Rc::clone(&crowd), Rc::clone(&handshakes));
        clients.spawn_local(async move { follow(&options, &crowd, &handshakes, number).await });
    }
    clients
        .run_until(async {
            patiently(PATIENCE, || crowd.borrow().are_all_there()).await;
            ensure!(
                crowd.borrow().are_all_there(),
                "not all clients are let in: {}",
                crowd.borrow_mut().summary()
            );
            println!("{}", json!({ "connected": options.count }));
            while let Some(order) = orders.recv().await {
                match order.strip_prefix("await ") {
                    None => crowd.borrow_mut().mark(),
                    Some(number) => {
                        let number = number.parse()?;
                        patiently(PATIENCE, || crowd.borrow().have_all(number)).await;
                    }
                }
                println!("{}", crowd.borrow_mut().summary());
            }
            Ok(())
        })
        .await
}

async fn follow(options: &Options, crowd: &RefCell<Crowd>, handshakes: &Semaphore, number: usize) {
    loop {
        let place = handshakes.acquire().await;
        let position = String::from_utf8_lossy(&crowd.borrow().clients[number].position).into_owned();
        let path = match position.as_str() {
            "" => options.stream.path.clone(),
            position => format!("{}?resumeAfter={position}", options.stream.path),
        };
        let Ok(mut socket) = Socket::open(&options.stream.server, path, Some("tailrace.v1.json")).await
        else {
            crowd.borrow_mut().refused += 1;
            sleep(PAUSE).await;
            continue;
        };
        drop(place);
        crowd.borrow_mut().let_in(number);
        while poll_fn(|polled| crowd.borrow_mut().poll(number, &mut socket, polled))
            .await
            .is_ok_and(|bytes| bytes > 0)
        {}
        crowd.borrow_mut().clients[number].connected = false;
    }
}

impl Crowd {
    fn let_in(&mut self, number: usize) {
        self.clients[number].connected = true;
        self.returned.push(self.since.elapsed().as_secs_f64());
    }

    fn poll(&mut self, number: usize, socket: &mut Socket, polled: &mut Polled<'_>) -> Poll<Result<usize>> {
        let Self { buffer, clients, missed, doubled, gaps, .. } = self;
        let client = &mut clients[number];
        let bytes = ready!(socket.poll_messages(polled, buffer, |message| {
            let position = position(message).context("a message without a position")?;
            client.position.clear();
            client.position.extend_from_slice(position);
            match kind(message) {
                Some(b"event") => {
                    let number = self::number(message).context("an event without a number")?;
                    if let Some(newest) = client.newest {
                        *missed += number.saturating_sub(newest + 1);
                        *doubled += u64::from(number <= newest);
                    }
                    client.newest = client.newest.max(Some(number));
                }
                Some(b"gap") => *gaps += 1,
                _ => {}
            }
            Ok(())
        }))?;
        Poll::Ready(Ok(bytes))
    }

    fn are_all_there(&self) -> bool {
        self.clients.iter().all(|client| client.connected && !client.position.is_empty())
    }

    fn have_all(&self, number: u64) -> bool {
        self.clients.iter().all(|client| client.connected && client.newest >= Some(number))
    }

    fn mark(&mut self) {
        self.since = Instant::now();
        self.returned.clear();
        (self.refused, self.missed, self.doubled, self.gaps) = (0, 0, 0, 0);
    }

    fn summary(&mut self) -> Value {
        self.returned.sort_unstable_by(f64::total_cmp);
        let there = self.clients.iter().filter(|client| client.connected).count();
        json!({
            "there": there,
            "returned": self.returned.len(),
            "returned_p50_seconds": self.returned.get(self.returned.len() / 2),
            "returned_last_seconds": self.returned.last(),
            "complete_seconds": self.since.elapsed().as_secs_f64(),
            "oldest": self.clients.iter().map(|client| client.newest).min().flatten(),
            "refused": self.refused,
            "missed": self.missed,
            "doubled": self.doubled,
            "gaps": self.gaps,
        })
    }
}
