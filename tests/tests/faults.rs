//! Nothing lost, nothing twice, nothing out of order, whatever fails.
//!
//! The runs are short in `cargo xtask test`, and whole in `cargo xtask soak`.

use std::pin::pin;
use std::time::{Duration, Instant};

use bson::{Document, Timestamp, doc};
use parts::backend::{Backend, Options};
use parts::deployment::open_backend;
use parts::mongod::Mongod;
use parts::replica_set::{self, ReplicaSet};
use parts::{port, process};
use tailrace_tests::namespace::Namespace;
use tailrace_tests::proxy::Proxy;
use tailrace_tests::soak::{Crowd, Form, Members, Scale, Servers, Told, Wire, Writer};
use tailrace_tests::{Database, until};
use tokio::sync::{Mutex, MutexGuard};

const STREAMS: &str = r#"{"streams": [
    {"uri": "all", "stages": []},
    {"uri": "mine", "stages": [{"$match": {"fullDocument.n": {"$gt": {"$var": "above"}}}}]}
]}"#;

/// One run at a time: each wants the whole machine.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

async fn bounded(run: impl Future<Output = ()>) {
    let limit = Scale::given().pick(Duration::from_mins(3), Duration::from_mins(20));
    let _alone = alone().await;
    assert!(tokio::time::timeout(limit, run).await.is_ok(), "the run takes longer than {limit:?}");
}

async fn one_member() -> ReplicaSet {
    ReplicaSet::start(&Mongod::find().expect("a mongod"), 1).await.expect("MongoDB")
}

async fn backend(options: Options) -> Backend {
    Backend::start(options).await.expect("a backend")
}

/// The database of a run, with its streams declared.
async fn declared(backend: &Backend, mongodb: &str) -> Database {
    let database = Database::new(&backend.url(), mongodb).await;
    until("the backend has found MongoDB", async || {
        port::status(backend.port(), "/_ready").await.is_ok_and(|status| status == 200)
    })
    .await;
    database.put("log", STREAMS).await;
    database
}

fn step(started: Instant, what: &str) {
    println!("{:6.1} s  {what}", started.elapsed().as_secs_f64());
}

/// How long a fault lasts.
async fn pause(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Waits until everybody has what was written up to now, and a little more that is written then.
async fn recovers(started: Instant, crowd: &Crowd, writer: &Writer) {
    writer.goes_on_for(20).await;
    crowd.all_have(writer.written()).await;
    step(
        started,
        &format!("everybody has {} numbers, commands sent again: {}", writer.written(), writer.retries()),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_miss_nothing_while_members_backends_and_networks_fail() {
    bounded(async {
        let scale = Scale::given();
        let mut members = Members::start(3).await;
        let mut first = backend(open_backend("faults-first", &members.uri())).await;
        let database = declared(&first, &members.set.uri()).await;
        let servers = Servers::new(&first.url());
        let clients = scale.pick(40, 200);
        let crowd = Crowd::gather(&servers, &Form::ALL, clients, |_| database.path("log/_streams/all")).await;
        let writer = Writer::start(&members.set.uri(), &database, "log", scale.pick(50, 200), 0).await;
        let started = Instant::now();
        recovers(started, &crowd, &writer).await;
        crowd.take_delays();
        pause(scale.pick(1, 10)).await;
        println!("without a fault: {}", crowd.take_delays());

        step(started, "the primary steps down");
        members.set.step_down().await.expect("an election");
        recovers(started, &crowd, &writer).await;

        step(started, "the primary is killed");
        let killed = members.set.primary().await.expect("a primary");
        members.set.kill(killed);
        pause(scale.pick(1, 10)).await;
        members.set.restart(killed).await.expect("it comes back");
        members.set.all_keep_up().await.expect("it has caught up");
        recovers(started, &crowd, &writer).await;

        step(started, "the primary is halted");
        let halted = members.set.primary().await.expect("a primary");
        members.set.stop(halted).expect("it halts");
        let halted_at = writer.written();
        pause(scale.pick(6, 15)).await;
        step(started, &format!("the writer has come from {halted_at} to {}", writer.written()));
        members.set.cont(halted).expect("it goes on");
        members.set.all_keep_up().await.expect("it has caught up");
        recovers(started, &crowd, &writer).await;

        step(started, "the backend's network to MongoDB is cut");
        members.cut();
        let cut_at = writer.written();
        pause(scale.pick(3, 45)).await;
        let (furthest, written) = (crowd.furthest(), writer.written());
        step(started, &format!("the writer has come from {cut_at} to {written}, the clients to {furthest}"));
        assert!(furthest < cut_at + 20 && cut_at + 20 < written, "nothing passes a cut");
        members.mend();
        recovers(started, &crowd, &writer).await;

        step(started, "the backend is killed and restarted");
        first.kill();
        pause(scale.pick(0, 2)).await;
        first.restart().await.expect("it starts again");
        recovers(started, &crowd, &writer).await;

        step(started, "a second backend takes over");
        let second = backend(open_backend("faults-second", &members.uri())).await;
        servers.become_these(&[first.url(), second.url()]);
        first.kill();
        recovers(started, &crowd, &writer).await;

        let least = scale.pick(Duration::from_secs(20), Duration::from_mins(2));
        tokio::time::sleep(least.saturating_sub(started.elapsed())).await;
        let written = writer.end().await;
        crowd.all_have(written).await;
        step(started, &format!("{written} numbers written"));
        crowd.disperse().expect_clean(&[]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_all_members_is_silence_and_then_everything() {
    bounded(async {
        let scale = Scale::given();
        let mut set = ReplicaSet::start(&Mongod::find().expect("a mongod"), 3).await.expect("MongoDB");
        let backend =
            backend(open_backend("outage", &set.uri()).set("TAILRACE_LIMITS__PING_SECONDS", "5")).await;
        let database = declared(&backend, &set.uri()).await;
        let crowd = Crowd::gather(&Servers::new(&backend.url()), &Form::ALL, scale.pick(40, 200), |_| {
            database.path("log/_streams/all")
        })
        .await;
        let writer = Writer::start(&set.uri(), &database, "log", 50, 0).await;
        let started = Instant::now();
        recovers(started, &crowd, &writer).await;
        for _ in 0..scale.pick(1, 2) {
            step(started, "all members are killed");
            set.kill_all();
            pause(scale.pick(8, 90)).await;
            set.restart_all().await.expect("MongoDB comes back");
            step(started, "there is a primary again");
            recovers(started, &crowd, &writer).await;
        }
        let written = writer.end().await;
        crowd.all_have(written).await;
        let verdict = crowd.disperse();
        verdict.expect_clean(&[]);
        assert_eq!(verdict.reconnects(), 0, "nobody had to come back");
    })
    .await;
}

/// Clients of ten bindings leave and come back at random. They share one source, with one more cursor at the most, for those
/// to whom its memory does not reach.
async fn a_crowd_comes_back(replay_bytes: u32, most_cursors: usize) {
    const BINDINGS: usize = 10;
    bounded(async {
        let scale = Scale::given();
        let set = one_member().await;
        let backend = backend(
            open_backend("crowd", &set.uri()).set("TAILRACE_LIMITS__REPLAY_BYTES", replay_bytes.to_string()),
        )
        .await;
        let database = declared(&backend, &set.uri()).await;
        let path = |client: usize| {
            // Each of them lets everything pass.
            let above = client / Form::ALL.len() % BINDINGS;
            database.path(&format!("log/_streams/mine?avars={{%22above%22:-{above}}}"))
        };
        let (clients, reconnects) = scale.pick((152, 300), (1000, 2000));
        let crowd = Crowd::gather(&Servers::new(&backend.url()), &Form::ALL, clients, path).await;
        let writer = Writer::start(&set.uri(), &database, "log", 20, 0).await;
        let started = Instant::now();
        recovers(started, &crowd, &writer).await;
        let mut most = 0;
        for reconnect in 0..reconnects {
            crowd.sends_away(if reconnect < clients { reconnect } else { rand::random_range(0..clients) });
            if reconnect % 10 == 0 {
                most = most.max(database.cursors("log").await);
            }
            tokio::time::sleep(Duration::from_millis(rand::random_range(0..60))).await;
        }
        recovers(started, &crowd, &writer).await;
        let written = writer.end().await;
        crowd.all_have(written).await;
        let verdict = crowd.disperse();
        verdict.expect_clean(&[]);
        println!("{written} numbers written; at most {most} cursors for {BINDINGS} bindings");
        let reconnected = usize::try_from(verdict.reconnects()).expect("not so many");
        assert!(reconnected + 20 >= reconnects, "{reconnected} of {reconnects} reconnects");
        assert!(most >= 1, "cursors are counted");
        assert!(most <= most_cursors, "{most} cursors for {BINDINGS} bindings");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_many_bindings_that_keeps_coming_back_shares_one_cursor() {
    a_crowd_comes_back(1024 * 1024, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_comes_back_from_further_than_memory_shares_one_cursor_a_source() {
    a_crowd_comes_back(1, 4).await;
}

/// The oldest time in the oplog.
async fn oldest(database: &Database) -> Timestamp {
    let oplog = database.mongo.client().database("local").collection::<Document>("oplog.rs");
    let first = oplog.find_one(doc! {}).await.expect("the oplog").expect("an entry");
    first.get_timestamp("ts").expect("a time")
}

/// Writes until the oplog begins behind what it ends with now.
async fn forgets_all(database: &Database) -> u64 {
    let admin = database.mongo.client().database("admin");
    let hello = admin.run_command(doc! { "hello": 1 }).await.expect("hello");
    let now = hello.get_timestamp("operationTime").expect("a time");
    let collection = database.mongo.collection::<Document>("filler");
    let megabyte = "x".repeat(1024 * 1024);
    let mut written = 0;
    while oldest(database).await <= now {
        collection.insert_many((0..8).map(|_| doc! { "filling": &megabyte })).await.expect("the inserts");
        written += 8;
        assert!(written < 3000, "the oplog forgets nothing");
    }
    collection.drop().await.expect("the drop");
    written
}

async fn numbered(database: &Database, n: i64) {
    let document = doc! { "n": n, "at": 0_i64 };
    database.mongo.collection::<Document>("log").insert_one(document).await.expect("the insert");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_position_the_oplog_has_forgotten_is_told_so() {
    bounded(async {
        let options = replica_set::Options {
            ports: vec![port::free().expect("a port")],
            // It drops only what a checkpoint has put to disk, which comes every minute otherwise.
            arguments: ["--oplogSize", "1", "--syncdelay", "1"].map(str::to_owned).to_vec(),
            ..replica_set::Options::default()
        };
        let set = ReplicaSet::start_with(&Mongod::find().expect("a mongod"), options).await.expect("MongoDB");
        // A source's memory would hold what the oplog does not.
        let options = open_backend("oplog", &set.uri()).set("TAILRACE_LIMITS__REPLAY_BYTES", "1");
        let backend = backend(options).await;
        let database = declared(&backend, &set.uri()).await;
        let server = backend.url();
        // On one stream somebody stays, and on the other nobody does.
        let staying = database.path("log/_streams/all");
        let left = database.path("log/_streams/mine?avars={%22above%22:0}");
        let mut stays = Wire::opened(&server, Form::V1Json, &staying, None).await;
        let mut away = Vec::new();
        for path in [&staying, &left] {
            for form in Form::ALL {
                away.push((path, form, Wire::opened(&server, form, path, None).await));
            }
        }
        numbered(&database, 1).await;
        let mut positions = Vec::new();
        for (path, form, mut wire) in away {
            let (n, position) = wire.number().await;
            assert_eq!(n, 1);
            positions.push((path, form, position));
        }
        assert_eq!(stays.number().await.0, 1);
        numbered(&database, 2).await;
        assert_eq!(stays.number().await.0, 2);

        let started = Instant::now();
        let written = forgets_all(&database).await;
        step(started, &format!("the oplog has forgotten, after {written} MB"));
        let mut n = 2;
        for (path, form, position) in positions {
            let mut wire = Wire::opened(&server, form, path, Some(&position)).await;
            let told = wire.heeded().await;
            let position = match (form, told) {
                (Form::V1Json | Form::V1Bson, Told::Notice(what, position)) if what == "gap" => {
                    Some(position)
                }
                (Form::Plain | Form::EventSource, Told::Close(4004, _)) => None,
                (_, told) => panic!("{form:?} on {path}: a gap was expected, and this came: {told:?}"),
            };
            // Told, it loads anew, and goes on: on the same socket, behind the gap, or from now on.
            let mut again = Wire::opened(&server, form, path, position.as_deref()).await;
            n += 1;
            numbered(&database, n).await;
            assert_eq!(again.number().await.0, n, "{form:?} on {path}");
            if position.is_some() {
                assert_eq!(wire.number().await.0, n, "{form:?} on {path}: the socket lives on");
            }
            assert_eq!(stays.number().await.0, n, "who stayed has no gap");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_closed_as_too_slow_and_slows_nobody() {
    // What a client's queue and the kernel's buffers hold between them, at the most.
    const FULL: i64 = 7 * 1024 * 1024;
    const PADDING: i64 = 8 * 1024;
    const MEMORY: u64 = 48 * 1024 * 1024;
    bounded(async {
        let scale = Scale::given();
        let set = one_member().await;
        let backend = backend(open_backend("slow", &set.uri())).await;
        let database = declared(&backend, &set.uri()).await;
        let path = database.path("log/_streams/all");
        let servers = Servers::new(&backend.url());
        let crowd = Crowd::gather(&servers, &Form::ALL, scale.pick(50, 500), |_| path.clone()).await;
        let padding = usize::try_from(PADDING).expect("small");
        let writer = Writer::start(&set.uri(), &database, "log", scale.pick(100, 40), padding).await;
        let started = Instant::now();
        recovers(started, &crowd, &writer).await;
        crowd.take_delays();
        writer.goes_on_for(FULL / PADDING).await;
        let without = crowd.take_delays();
        let before = backend.resident().expect("its memory");

        let mut slow = Wire::opened(&backend.url(), Form::V1Json, &path, None).await;
        let began = writer.written();
        let mut most = before;
        while writer.written() < began + FULL / PADDING {
            most = most.max(backend.resident().expect("its memory"));
            tokio::time::sleep(process::POLL).await;
        }
        let with = crowd.take_delays();
        step(started, &format!("without the slow one: {without}"));
        step(
            started,
            &format!("with the slow one: {with}; p99 × {:.2}", with.per_mille(990) / without.per_mille(990)),
        );
        let grown = most.saturating_sub(before);
        step(started, &format!("resident before {} MiB, grown by {} MiB", before >> 20, grown >> 20));
        assert!(grown < MEMORY, "the memory grows by {grown} bytes");

        // It reads what was in the queue, and is told.
        let (mut next, mut from) = slow.number().await;
        let first = next;
        let reason = loop {
            match slow.heeded().await {
                Told::Number { n, position, .. } => {
                    assert_eq!(n, next + 1);
                    (next, from) = (n, position);
                }
                Told::Close(code, reason) => {
                    assert_eq!(code, 4003, "{reason}");
                    break reason;
                }
                told => panic!("{told:?}"),
            }
        };
        step(started, &format!("the slow one read {} numbers, then: 4003 {reason}", next - first + 1));
        let written = writer.end().await;
        assert!(next < written);
        let mut slow = Wire::opened(&backend.url(), Form::V1Json, &path, Some(&from)).await;
        for n in next + 1..=written {
            assert_eq!(slow.number().await.0, n);
        }
        crowd.all_have(written).await;
        let verdict = crowd.disperse();
        verdict.expect_clean(&[]);
        assert_eq!(verdict.reconnects(), 0, "the others were not disturbed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_and_does_not_read_holds_up_nobody_who_comes_back_too() {
    bounded(async {
        let set = one_member().await;
        // Nothing in memory: who comes back is served by a cursor, which all of them share.
        let options = open_backend("returners", &set.uri()).set("TAILRACE_LIMITS__REPLAY_BYTES", "1");
        let backend = backend(options).await;
        let database = declared(&backend, &set.uri()).await;
        let path = database.path("log/_streams/all");
        let mut first = Wire::opened(&backend.url(), Form::V1Json, &path, None).await;
        numbered(&database, 0).await;
        let (_, position) = first.number().await;
        let writer = Writer::start(&set.uri(), &database, "log", 500, 8 * 1024).await;
        writer.goes_on_for(1500).await;
        let written = writer.end().await;

        let started = Instant::now();
        let mut idle = Wire::opened(&backend.url(), Form::V1Json, &path, Some(&position)).await;
        let mut reads = Wire::opened(&backend.url(), Form::V1Json, &path, Some(&position)).await;
        for n in 1..=written {
            assert_eq!(reads.number().await.0, n);
        }
        step(started, "who reads has everything");
        assert!(started.elapsed() < Duration::from_secs(8), "who does not read holds up who does");
        // And when it reads, it gets everything too, with as many returns as it needs.
        let (mut next, mut from) = (1, position);
        while next <= written {
            match idle.heeded().await {
                Told::Number { n, position, .. } => {
                    assert_eq!(n, next);
                    (next, from) = (n + 1, position);
                }
                Told::Close(4003, _) => {
                    idle = Wire::opened(&backend.url(), Form::V1Json, &path, Some(&from)).await;
                }
                told => panic!("{told:?}"),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn an_event_larger_than_the_queue_reaches_a_client_that_reads() {
    bounded(async {
        let set = one_member().await;
        let options = open_backend("large", &set.uri()).set("TAILRACE_LIMITS__QUEUE_BYTES", "1024");
        let backend = backend(options).await;
        let database = declared(&backend, &set.uri()).await;
        let path = database.path("log/_streams/all");
        let mut wires = Vec::new();
        for form in Form::ALL {
            wires.push(Wire::opened(&backend.url(), form, &path, None).await);
        }
        let mut positions = Vec::new();
        for n in 1..=3_i64 {
            let document = doc! { "n": n, "at": 0_i64, "padding": "x".repeat(3 * 1024 * 1024) };
            database.mongo.collection::<Document>("log").insert_one(document).await.expect("the insert");
            positions.clear();
            for wire in &mut wires {
                let (came, position) = wire.number().await;
                assert_eq!(came, n);
                positions.push(position);
            }
        }
        // Those who come back to several of them as well.
        for n in 4..=6_i64 {
            let document = doc! { "n": n, "at": 0_i64, "padding": "x".repeat(3 * 1024 * 1024) };
            database.mongo.collection::<Document>("log").insert_one(document).await.expect("the insert");
        }
        for (form, position) in Form::ALL.into_iter().zip(positions) {
            let mut wire = Wire::opened(&backend.url(), form, &path, Some(&position)).await;
            for n in 4..=6 {
                assert_eq!(wire.number().await.0, n, "{form:?}");
            }
        }
    })
    .await;
}

/// A backend whose peers vanish, and one client that stays.
struct Vanishing {
    backend: Backend,
    database: Database,
    stays: Wire,
    written: i64,
    clients: usize,
    /// Its files without the clients.
    files: usize,
    /// The most resident bytes while clients came and went as they should: what the allocator keeps for the next ones.
    usual: u64,
    _set: ReplicaSet,
}

impl Vanishing {
    async fn start(name: &str, clients: usize) -> Self {
        let set = one_member().await;
        let port = port::free().expect("a port");
        // From within a namespace it has another address.
        let mut options = open_backend(name, &set.uri())
            .set("TAILRACE_LISTEN", format!("0.0.0.0:{port}"))
            .set("TAILRACE_AUTH__ANONYMOUS_PUBLIC", "true");
        options.port = Some(port);
        if Scale::given() == Scale::Short {
            options =
                options.set("TAILRACE_LIMITS__PING_SECONDS", "1").set("TAILRACE_LIMITS__PONG_SECONDS", "1");
        }
        let backend = backend(options).await;
        let database = declared(&backend, &set.uri()).await;
        // Somebody stays, so that the source does.
        let stays =
            Wire::opened(&backend.url(), Form::V1Json, &database.path("log/_streams/all"), None).await;
        let files = backend.open_files().expect("its files");
        Self { backend, database, stays, written: 0, clients, files, usual: 0, _set: set }
    }

    async fn write(&mut self) {
        self.written += 1;
        numbered(&self.database, self.written).await;
        assert_eq!(self.stays.number().await.0, self.written);
    }

    /// How many clients it still has, but for a connection to MongoDB more or less.
    fn present(&self) -> usize {
        self.backend.open_files().expect("its files").saturating_sub(self.files)
    }

    fn resident(&self) -> u64 {
        self.backend.resident().expect("its memory")
    }

    async fn gathered(&mut self, gather: impl Future<Output = Crowd>) -> Crowd {
        let mut gather = pin!(gather);
        let crowd = loop {
            tokio::select! {
                crowd = &mut gather => break crowd,
                // Who stays answers its pings meanwhile.
                _ = self.stays.next() => {}
            }
        };
        self.write().await;
        crowd.all_have(self.written).await;
        let (present, clients) = (self.present(), self.clients);
        assert!(present + 10 >= clients, "{present} of {clients} clients");
        crowd
    }

    async fn are_gone(&mut self, within: Duration) {
        let started = Instant::now();
        while self.present() > 5 {
            let left = self.present();
            assert!(
                started.elapsed() < within,
                "{left} of {} are still there after {within:?}",
                self.clients
            );
            // A backend answers its pings.
            let _ = tokio::time::timeout(Duration::from_millis(50), self.stays.next()).await;
        }
    }

    /// Clients gather, get an event, and leave.
    async fn usual_round(&mut self, gather: impl Future<Output = Crowd>) {
        let crowd = self.gathered(gather).await;
        self.usual = self.usual.max(self.resident());
        crowd.disperse();
        self.are_gone(Duration::from_secs(10)).await;
    }

    /// Clients gather, get an event, and vanish at a cut. All are gone soon, whether there are more events for them or not,
    /// and leave no more behind than those who said goodbye.
    async fn round(&mut self, gather: impl Future<Output = Crowd>, cut: impl FnOnce(), quiet: bool) {
        let crowd = self.gathered(gather).await;
        let with = self.resident();
        cut();
        let started = Instant::now();
        if !quiet {
            self.write().await;
        }
        self.are_gone(Scale::given().pick(Duration::from_secs(5), Duration::from_secs(40))).await;
        let after = self.resident();
        drop(crowd);
        let [usual, with_kib, after_kib] = [self.usual, with, after].map(|bytes| bytes >> 10);
        let quiet = if quiet { "of a quiet stream " } else { "" };
        step(
            started,
            &format!(
                "{} clients {quiet}are gone; resident {with_kib} KiB with them, {after_kib} KiB after; {usual} KiB is usual",
                self.clients
            ),
        );
        for bytes in [with, after] {
            assert!(bytes <= self.usual + self.usual / 10, "{bytes} bytes, {} are usual", self.usual);
        }
    }
}

/// Until the allocator needs no more for the next ones.
const USUAL_ROUNDS: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_stop_answering_are_gone_soon_with_their_memory() {
    const WEB_SOCKETS: [Form; 3] = [Form::Plain, Form::V1Json, Form::V1Bson];
    bounded(async {
        let clients = Scale::given().pick(100, 1000);
        let mut vanishing = Vanishing::start("stopped", clients).await;
        let path = vanishing.database.path("log/_streams/all");
        for _ in 0..USUAL_ROUNDS {
            let servers = Servers::new(&vanishing.backend.url());
            vanishing.usual_round(Crowd::gather(&servers, &WEB_SOCKETS, clients, |_| path.clone())).await;
        }
        for quiet in [false, true] {
            // Its kernel goes on to acknowledge: that there is no pong is all that tells.
            let proxy = Proxy::before(vanishing.backend.port()).await;
            let servers = Servers::new(&proxy.url());
            let gather = Crowd::gather(&servers, &WEB_SOCKETS, clients, |_| path.clone());
            vanishing.round(gather, || proxy.stop(), quiet).await;
        }
    })
    .await;
}

/// Clients in a network of their own, all of whose packets are dropped.
async fn peers_vanish(name: &str, forms: &'static [Form]) {
    bounded(async {
        let Some(namespace) = Namespace::create() else { return };
        let clients = Scale::given().pick(100, 1000);
        let mut vanishing = Vanishing::start(name, clients).await;
        let path = vanishing.database.path("log/_streams/all");
        let servers = Servers::new(&format!("http://{}:{}", namespace.here(), vanishing.backend.port()));
        let gather = || {
            let (servers, path) = (servers.clone(), path.clone());
            namespace.within(async move { Crowd::gather(&servers, forms, clients, |_| path.clone()).await })
        };
        for _ in 0..USUAL_ROUNDS {
            vanishing.usual_round(gather()).await;
        }
        for quiet in [false, true] {
            vanishing.round(gather(), || namespace.cut(), quiet).await;
            namespace.mend();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn event_streams_that_vanish_without_a_word_are_gone_soon_with_their_memory() {
    peers_vanish("vanished-sse", &[Form::EventSource]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn web_sockets_that_vanish_without_a_word_are_gone_soon_with_their_memory() {
    peers_vanish("vanished-ws", &[Form::Plain, Form::V1Json, Form::V1Bson]).await;
}
