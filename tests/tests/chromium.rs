//! The client in a real browser, at real servers: it sees each number once, in order, whatever fails between it and them.
//!
//! The runs are short in `cargo xtask test`, and whole in `cargo xtask soak chromium`.

use std::time::{Duration, Instant};

use parts::backend::Backend;
use parts::deployment::{guarded_backend, guarded_worker, open_backend, open_worker};
use parts::worker::Worker;
use tailrace_tests::front::{addresses, bounded};
use tailrace_tests::proxy::Proxy;
use tailrace_tests::soak::{Scale, Writer};
use tailrace_tests::tab::{Tab, Tokens};
use tailrace_tests::{Front, both_fronts};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How long a token is good for, in seconds. The server lets none in that has expired for more than 30 s, and ends a session
/// when its token does.
const TOKEN_SECONDS: u64 = 4;

/// A tab at a front of its own, through a network of its own, while numbers are written.
struct Run {
    tab: Tab,
    network: Proxy,
    backend: Backend,
    writer: Writer,
    started: Instant,
    _worker: Option<Worker>,
    _one_of_few: SemaphorePermit<'static>,
}

impl Run {
    async fn open(front: Front, name: &str) -> Self {
        Self::begin(front, name, None).await
    }

    async fn begin(front: Front, name: &str, tokens: Option<Tokens>) -> Self {
        // Browsers are large.
        static FEW: Semaphore = Semaphore::const_new(2);
        let permit = FEW.acquire().await.expect("it is never closed");
        let name = format!("{name}-{front:?}").to_lowercase();
        let mongodb = &addresses().await.mongodb;
        let (backend, worker) = match tokens {
            None => (open_backend(&name, mongodb), open_worker as fn(&str, &[&str]) -> _),
            Some(_) => (guarded_backend(&name, mongodb), guarded_worker as fn(&str, &[&str]) -> _),
        };
        let backend = Backend::start(backend).await.expect("a backend");
        let worker = match front {
            Front::Native => None,
            Front::Edge => Some(Worker::start(worker(&name, &[&backend.url()])).await.expect("a worker")),
        };
        let network = Proxy::before(worker.as_ref().map_or(backend.port(), Worker::port)).await;
        let database = front.database().await;
        database.put("log", r#"{"streams": [{"uri": "all", "stages": []}]}"#).await;
        let stream = format!("{}{}", network.url(), database.path("log/_streams/all"));
        let tab = Tab::open(&stream, tokens).await;
        let writer = Writer::start(mongodb, &database, "log", Scale::given().pick(50, 200), 0).await;
        let started = Instant::now();
        let mut run = Self { tab, network, backend, writer, started, _worker: worker, _one_of_few: permit };
        run.recovers("nothing has happened yet").await;
        run
    }

    /// Waits until the tab has what was written up to now, and a little more that is written then.
    async fn recovers(&mut self, after: &str) {
        self.writer.goes_on_for(20).await;
        let written = self.writer.written();
        self.tab.has(written).await;
        let (seconds, reconnects) = (self.started.elapsed().as_secs_f64(), self.tab.reconnects());
        println!("{seconds:6.1} s  {after}: it has {written} numbers, and has come back {reconnects} times");
    }

    async fn ends_clean(mut self) {
        let written = self.writer.end().await;
        self.tab.has(written).await;
        println!("{written} numbers written in {:.0} s", self.started.elapsed().as_secs_f64());
        self.tab.close_clean().await;
    }
}

/// How long a fault lasts, in seconds: in a short run and in a whole one.
async fn pause(short: u64, whole: u64) {
    tokio::time::sleep(Duration::from_secs(Scale::given().pick(short, whole))).await;
}

#[tokio::test]
async fn chromium_misses_nothing_while_its_wifi_goes_off_and_on() {
    bounded(async {
        let mut run = Run::open(Front::Native, "wifi").await;
        for _ in 0..Scale::given().pick(2, 4) {
            // DevTools leaves open sockets alone, so the network itself stops too.
            run.tab.go_offline().await;
            run.network.stop();
            pause(2, 20).await;
            run.network.go_on();
            run.tab.go_online().await;
            run.recovers("off and on").await;
        }
        assert!(run.tab.reconnects() >= 2, "a network that came back ends a connection of before");
        run.ends_clean().await;
    })
    .await;
}

async fn chromium_misses_nothing_while_its_network_stops_without_a_word(front: Front) {
    let mut run = Run::open(front, "network").await;
    run.network.stop();
    pause(3, 100).await;
    run.network.go_on();
    run.recovers("stopped and gone on").await;
    // 60 s of silence are the end of a connection.
    assert!(run.tab.reconnects() >= Scale::given().pick(0, 1));
    run.ends_clean().await;
}

#[tokio::test]
async fn chromium_misses_nothing_while_its_tab_is_frozen() {
    bounded(async {
        let mut run = Run::open(Front::Native, "frozen").await;
        run.tab.freeze().await;
        pause(4, 60).await;
        run.tab.thaw().await;
        run.recovers("frozen and thawed").await;
        let least = Scale::given().pick(3_000, 59_000);
        assert!(run.tab.page.longest >= least, "it was frozen: {} ms", run.tab.page.longest);
        run.ends_clean().await;
    })
    .await;
}

#[tokio::test]
async fn chromium_misses_nothing_while_its_tab_is_frozen_and_the_server_restarts() {
    bounded(async {
        let mut run = Run::open(Front::Native, "frozen-restart").await;
        run.tab.freeze().await;
        pause(1, 30).await;
        run.backend.restart().await.expect("the backend comes back");
        pause(1, 30).await;
        run.tab.thaw().await;
        run.recovers("frozen, and the server another one").await;
        assert!(run.tab.reconnects() >= 1);
        run.ends_clean().await;
    })
    .await;
}

async fn chromium_misses_nothing_while_the_server_is_killed_and_restarted(front: Front) {
    let mut run = Run::open(front, "killed").await;
    for _ in 0..Scale::given().pick(1, 3) {
        run.backend.kill();
        pause(1, 20).await;
        run.backend.restart().await.expect("the backend comes back");
        run.recovers("killed and restarted").await;
    }
    assert!(run.tab.reconnects() >= 1);
    run.ends_clean().await;
}

async fn chromium_misses_nothing_while_the_server_drains_and_another_one_starts(front: Front) {
    let mut run = Run::open(front, "drained").await;
    for _ in 0..Scale::given().pick(1, 3) {
        let ended = run.backend.terminate(Duration::from_secs(15)).await.expect("it drains");
        assert!(ended.success(), "{ended}");
        pause(1, 5).await;
        run.backend.restart().await.expect("the backend comes back");
        run.recovers("drained and started").await;
    }
    assert!(run.tab.reconnects() >= 1);
    run.ends_clean().await;
}

async fn lives_of_tokens(front: Front, name: &str, late: bool) -> Run {
    let mut run = Run::begin(front, name, Some(Tokens { seconds: TOKEN_SECONDS, late })).await;
    for _ in 0..Scale::given().pick(3, 15) {
        pause(TOKEN_SECONDS, TOKEN_SECONDS).await;
        run.recovers("a token's life").await;
    }
    let refreshed = run.tab.page.refreshed;
    assert!(refreshed >= Scale::given().pick(2, 12), "its tokens were renewed {refreshed} times");
    run
}

async fn chromium_misses_nothing_while_its_tokens_are_renewed(front: Front) {
    let run = lives_of_tokens(front, "tokens", false).await;
    let (refreshed, reconnects) = (run.tab.page.refreshed, run.tab.reconnects());
    assert!(reconnects < refreshed, "{refreshed} renewals on the open connection, {reconnects} on others");
    run.ends_clean().await;
}

async fn chromium_misses_nothing_while_its_tokens_expire(front: Front) {
    let run = lives_of_tokens(front, "late-tokens", true).await;
    assert!(run.tab.reconnects() >= 1, "4401, and back with another token");
    run.ends_clean().await;
}

both_fronts!(
    chromium_misses_nothing_while_its_network_stops_without_a_word,
    chromium_misses_nothing_while_the_server_is_killed_and_restarted,
    chromium_misses_nothing_while_the_server_drains_and_another_one_starts,
    chromium_misses_nothing_while_its_tokens_are_renewed,
    chromium_misses_nothing_while_its_tokens_expire,
);
