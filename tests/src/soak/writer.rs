//! Writes documents that are numbered from 1, each acknowledged by a majority before the next ones are sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bson::{Document, doc};
use mongodb::Client;
use mongodb::options::ClientOptions;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::Database;

/// Numbers in one command: a majority acknowledges a hundred commands a second and not more.
const BATCH: i64 = 5;

/// A command without an answer for so long went to a server that hangs.
const PATIENCE: Duration = Duration::from_secs(2);

/// A running writer.
#[derive(Debug)]
pub struct Writer {
    acknowledged: Arc<AtomicI64>,
    retries: Arc<AtomicU64>,
    ends: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Writer {
    /// Begins to write so many numbers a second into a collection, with so much padding in each document.
    ///
    /// # Panics
    /// When MongoDB's address is none.
    pub async fn start(
        mongodb: &str,
        database: &Database,
        collection: &str,
        rate: u32,
        padding: usize,
    ) -> Self {
        let mut options = ClientOptions::parse(mongodb).await.expect("a connection string of MongoDB");
        options.server_selection_timeout = Some(PATIENCE);
        options.connect_timeout = Some(Duration::from_secs(2));
        options.heartbeat_freq = Some(Duration::from_secs(1));
        let client = Client::with_options(options).expect("a client of MongoDB");
        let acknowledged = Arc::<AtomicI64>::default();
        let retries = Arc::<AtomicU64>::default();
        let (ends, ended) = watch::channel(false);
        let lines = Lines {
            database: client.database(&database.name),
            collection: collection.to_owned(),
            padding: "x".repeat(padding),
            acknowledged: Arc::clone(&acknowledged),
            retries: Arc::clone(&retries),
        };
        let task = tokio::spawn(lines.write(rate, ended));
        Self { acknowledged, retries, ends, task }
    }

    /// The last number that is known to be written.
    pub fn written(&self) -> i64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// How often a command had to be sent again.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Waits until so many more numbers are written.
    pub async fn goes_on_for(&self, numbers: i64) {
        let goal = self.written() + numbers;
        while self.written() < goal {
            tokio::time::sleep(parts::process::POLL).await;
        }
    }

    /// Stops it behind the last number that it has begun; that number.
    ///
    /// # Panics
    /// When it has panicked.
    pub async fn end(self) -> i64 {
        self.ends.send_replace(true);
        self.task.await.expect("the writer writes");
        self.acknowledged.load(Ordering::Relaxed)
    }
}

struct Lines {
    database: mongodb::Database,
    collection: String,
    padding: String,
    acknowledged: Arc<AtomicI64>,
    retries: Arc<AtomicU64>,
}

impl Lines {
    async fn write(self, rate: u32, mut ended: watch::Receiver<bool>) {
        let mut ticks =
            tokio::time::interval(Duration::from_secs(1) * u32::try_from(BATCH).expect("small") / rate);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut first = 1;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = ended.wait_for(|ended| *ended) => return,
            }
            while !self.insert(first..first + BATCH).await {
                self.retries.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            first += BATCH;
            self.acknowledged.store(first - 1, Ordering::Relaxed);
        }
    }

    /// Whether a majority has these numbers. It may be said again and again: what is there already stays as it is, and
    /// what is not there comes in order. (The driver's insert would leave open what became of it after a failure.)
    async fn insert(&self, numbers: std::ops::Range<i64>) -> bool {
        let now = now();
        let updates: Vec<Document> = numbers
            .map(|n| {
                let document = doc! { "n": n, "at": now, "padding": &self.padding };
                doc! { "q": { "_id": n }, "u": { "$setOnInsert": document }, "upsert": true }
            })
            .collect();
        let command = doc! {
            "update": &self.collection,
            "updates": updates,
            "ordered": true,
            "writeConcern": { "w": "majority", "wtimeout": 1500 },
        };
        let answer = tokio::time::timeout(PATIENCE, self.database.run_command(command)).await;
        answer.is_ok_and(|answer| {
            answer.is_ok_and(|reply| {
                !reply.contains_key("writeErrors") && !reply.contains_key("writeConcernError")
            })
        })
    }
}

/// Microseconds since 1970.
pub(crate) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    i64::try_from(now.as_micros()).expect("it is before 290000")
}
