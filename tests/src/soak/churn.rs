//! Writes of all kinds into documents that are there: inserts, updates, and deletes, at a steady rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bson::{Document, doc};
use futures_util::future::join_all;
use mongodb::options::{Acknowledgment, ClientOptions, CollectionOptions, WriteConcern};
use mongodb::{Client, Collection};
use tokio::runtime;
use tokio::time::interval;

/// Each waits for its answers. Those of a majority wait for the journal, which is written some hundred times a second.
const WRITERS: i32 = 16;

/// Documents of each writer: none begins where another is.
const SPAN: i32 = 50_000;

/// Writers that go on until they are told to end, on a thread of their own: those who read what they write do not slow them.
#[derive(Debug)]
pub struct Churn {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
    started: Instant,
}

impl Churn {
    /// The `_id`s from which on nothing is written.
    pub const END: i32 = (WRITERS + 1) * SPAN;

    /// Begins to write. Of the documents `{_id, v, even}` with the `_id`s from 0 to `documents`, each write that is counted
    /// changes one, or one that was inserted before; one half of the writers waits for a majority, the other for one member.
    ///
    /// `rate`: writes a second, of all together. It is lower where MongoDB is slower.
    ///
    /// # Panics
    /// When there are too many documents, or MongoDB's address is none.
    pub fn start(mongodb: &str, database: &str, collection: &str, documents: i32, rate: u32) -> Self {
        assert!(documents < SPAN, "{documents} documents");
        let stop = Arc::<AtomicBool>::default();
        let turns = Turns {
            documents,
            every: Duration::from_secs(3) * WRITERS.unsigned_abs() / rate,
            stop: Arc::clone(&stop),
        };
        let (mongodb, database, collection) =
            (mongodb.to_owned(), database.to_owned(), collection.to_owned());
        let run = async move || {
            let mut options = ClientOptions::parse(&mongodb).await.expect("a connection string of MongoDB");
            options.max_pool_size = Some(WRITERS.unsigned_abs());
            let database = Client::with_options(options).expect("a client of MongoDB").database(&database);
            let writers = (0..WRITERS).map(|writer| {
                let acknowledged =
                    if writer % 2 == 0 { Acknowledgment::Nodes(1) } else { Acknowledgment::Majority };
                let concern = WriteConcern::builder().w(acknowledged).build();
                let options = CollectionOptions::builder().write_concern(concern).build();
                turns.clone().write(writer, database.collection_with_options(&collection, options))
            });
            join_all(writers).await.into_iter().sum()
        };
        let thread = std::thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(run())
        });
        Self { stop, thread, started: Instant::now() }
    }

    /// Ends it; how many writes a second there were. Only what changed something counts.
    ///
    /// # Panics
    /// When a write has failed.
    pub async fn end(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        let writes = tokio::task::spawn_blocking(|| self.thread.join());
        let writes = writes.await.expect("a thread to wait in").expect("it writes");
        Duration::from_secs(writes).as_secs_f64() / self.started.elapsed().as_secs_f64()
    }
}

#[derive(Clone, Debug)]
struct Turns {
    documents: i32,
    every: Duration,
    stop: Arc<AtomicBool>,
}

impl Turns {
    async fn write(self, writer: i32, items: Collection<Document>) -> u64 {
        let mut ticks = interval(self.every);
        let mut changes = 0;
        for turn in 0..SPAN {
            ticks.tick().await;
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let new = (writer + 1) * SPAN + turn;
            items.insert_one(doc! { "_id": new, "v": 0, "even": new % 2 == 0 }).await.expect("an insert");
            // Two writers share their documents, one of each concern.
            let shared = self.dies_at(turn + self.lives() / 2, writer & !1);
            let updated = items.update_one(doc! { "_id": shared }, doc! { "$set": { "v": new } }).await;
            let deleted = items.delete_one(doc! { "_id": self.dies_at(turn, writer) }).await;
            changes += 1 + updated.expect("an update").modified_count;
            changes += deleted.expect("a delete").deleted_count;
        }
        changes
    }

    /// For how many turns of its writer a document is there.
    fn lives(&self) -> i32 {
        self.documents / WRITERS
    }

    /// Which document a writer deletes at a turn: first those that were there, all over the collection, then its own.
    fn dies_at(&self, turn: i32, writer: i32) -> i32 {
        if turn < self.lives() {
            (turn * WRITERS + writer) * 13 % self.documents
        } else {
            (writer + 1) * SPAN + turn - self.lives()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_document_dies_once_and_not_before_it_is_there() {
        let turns = Turns { documents: 2_000, every: Duration::ZERO, stop: Arc::default() };
        let mut dead = BTreeSet::new();
        for turn in 0..300 {
            for writer in 0..WRITERS {
                let id = turns.dies_at(turn, writer);
                assert!(id < turns.documents || id < (writer + 1) * SPAN + turn);
                assert!(dead.insert(id), "{id} dies again");
            }
        }
    }
}
