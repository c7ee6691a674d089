//! Who sends events to many clients, and what that costs.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use http::Method;
use parts::http::Request;
use parts::peers::Peer;
use parts::process::POLL;
use serde_json::{Value, json};

use super::Server;
use super::cores::{LOAD, MEASURED, pin};
use super::generator::Generator;
use super::processor::processor_time;
use super::rounds::Series;

/// The least of its core that a sender takes which nothing holds up, from the order to send until the clients have been asked.
const BUSY: f64 = 0.9;
/// Bytes of padding in a document, so that a frame has about 300.
const PADDING: &str = "80";

/// Batches with a pause between in a round, however long they take: with fewer it is the machine's mood that is measured.
const LEAST_BATCHES: u128 = 10;

/// What is before the text of a frame of a few hundred bytes: RFC 6455, section 5.2.
const HEADER: u32 = 4;

/// How long one waits for one event to reach everybody, and for any to do so.
const REACH: Duration = Duration::from_secs(3);
const REACH_ALL: Duration = Duration::from_secs(30);

/// How one takes part in a server of channels.
pub(super) struct Channel {
    /// Where its clients connect.
    pub(super) path: &'static str,
    /// What they speak, and what the publisher does: words of the load's.
    pub(super) language: &'static str,
    pub(super) interface: &'static str,
    pub(super) clients: u32,
}

/// How clients wait for what comes.
///
/// To wake one on the same machine is charged to who sends, and more often to one who sends more slowly; clients elsewhere
/// cost nothing of that.
#[derive(Clone, Copy)]
pub(super) enum Waiting {
    /// They sleep.
    Asleep,
    /// They look all the time.
    Awake,
}

impl Waiting {
    /// The order to wait for so many events.
    fn order(self, events: u64) -> String {
        match self {
            Self::Asleep => format!("await {events}"),
            Self::Awake => format!("watch {events}"),
        }
    }
}

/// One who sends, on a core of its own, and its clients.
pub(super) struct Fan {
    /// Sends, or makes the server send.
    source: Generator,
    readers: Generator,
    /// The process that sends.
    sender: u32,
    clients: u32,
    /// Whether what it is given at once goes out as it likes: a server gathers what waits.
    gathers: bool,
    /// How its clients wait where there is a pause between events.
    pub(super) waiting: Waiting,
}

/// Whether who sends as fast as can be was busy all the time in the middle of these rounds: else it may be the load that was
/// measured, which it had to wait for.
pub(super) fn ensure_busy(sender: &Series) -> Result<()> {
    let share = sender.median("sender_share_of_core");
    ensure!(
        share >= BUSY,
        "{}: the sender takes {share:.2} of its core: the load, and not the sender, may be what is measured",
        sender.name
    );
    Ok(())
}

impl Fan {
    /// A server with so many clients of one stream of this collection, and who writes there.
    pub(super) async fn of_server(
        program: &Path,
        server: &Server,
        collection: &str,
        clients: u32,
    ) -> Result<Self> {
        let sender = server.backend.process()?.id();
        Self::of_streams(program, server, &server.backend.url(), sender, collection, clients).await
    }

    /// The same of another server in front of the same MongoDB.
    pub(super) async fn of_peer(
        program: &Path,
        server: &Server,
        peer: &Peer,
        collection: &str,
        clients: u32,
    ) -> Result<Self> {
        Self::of_streams(program, server, &peer.url(), peer.id(), collection, clients).await
    }

    async fn of_streams(
        program: &Path,
        server: &Server,
        url: &str,
        sender: u32,
        collection: &str,
        clients: u32,
    ) -> Result<Self> {
        let path = declare(url, collection).await?;
        let (readers, _) = readers(program, url, &path, clients, "events").await?;
        let mongodb = server.set.uri();
        let writer = ["writer", "--mongodb", &mongodb, "--database", "bench", "--collection", collection];
        let (source, _) = Generator::start(program, &[&writer[..], &["--padding", PADDING]].concat()).await?;
        pin(server.set.process(0)?, LOAD)?;
        Self { source, readers, sender, clients, gathers: true, waiting: Waiting::Awake }.pinned()
    }

    /// A server of channels, which is given events of so many bytes for all its clients.
    pub(super) async fn of_channel(
        program: &Path,
        peer: &Peer,
        channel: &Channel,
        bytes: u32,
    ) -> Result<Self> {
        let &Channel { path, language, interface, clients } = channel;
        let url = peer.url();
        let (readers, _) = readers(program, &url, path, clients, language).await?;
        let bytes = bytes.saturating_sub(HEADER).to_string();
        let publisher = ["publisher", interface, "--server", &url, "--bytes", &bytes];
        let (source, _) = Generator::start(program, &publisher).await?;
        Self { source, readers, sender: peer.id(), clients, gathers: true, waiting: Waiting::Awake }.pinned()
    }

    /// A thread that does nothing but `send()` frames of so many bytes to so many clients.
    pub(super) async fn floor(program: &Path, clients: u32, bytes: u32) -> Result<Self> {
        let text = bytes.saturating_sub(HEADER);
        let floor = ["floor", "--count", &clients.to_string(), "--bytes", &text.to_string()];
        let (source, said) = Generator::start(program, &floor).await?;
        let (readers, _) =
            readers(program, &format!("http://127.0.0.1:{}", said["port"]), "/", clients, "events").await?;
        let sender = source.id()?;
        Self { source, readers, sender, clients, gathers: false, waiting: Waiting::Awake }.pinned()
    }

    fn pinned(self) -> Result<Self> {
        pin(self.sender, MEASURED)?;
        self.readers.pin(LOAD)?;
        if self.source.id()? != self.sender {
            self.source.pin(LOAD)?;
        }
        Ok(self)
    }

    /// How many bytes a frame has.
    pub(super) async fn frame_bytes(&mut self) -> Result<u32> {
        let sample = self.send(1, 1, Duration::ZERO, Waiting::Asleep).await?;
        let bytes = sample["bytes"].as_u64().context("bytes")? / u64::from(self.clients);
        Ok(u32::try_from(bytes)?)
    }

    /// Events with a pause between, so that each batch is out before the next one comes: what a delivery costs.
    pub(super) async fn paced(&mut self, batch: u32, for_about: Duration) -> Result<Value> {
        // Twice what sending takes, and more.
        let each = Duration::from_micros(if batch == 1 { 25 } else { 50 });
        self.every(each * self.clients, batch, for_about).await
    }

    /// So many events at once in each such span: what a delivery costs, and how long it takes.
    pub(super) async fn every(&mut self, every: Duration, batch: u32, for_about: Duration) -> Result<Value> {
        let batches = (for_about.as_micros() / every.as_micros()).max(LEAST_BATCHES);
        let events = u32::try_from(batches)? * batch;
        let figures = self.send(events, batch, every, self.waiting).await?;
        Ok(json!({
            "cpu_us_per_delivery": figures["cpu_us_per_delivery"],
            "p50_ms": figures["p50_ms"],
            "p99_ms": figures["p99_ms"],
        }))
    }

    /// Events as fast as can be: how many deliveries a second there are, and what they leave the load of its core.
    pub(super) async fn burst(&mut self, batch: u32, deliveries: u32) -> Result<Value> {
        let events = (deliveries / self.clients / batch).max(3) * batch;
        let batch = if self.gathers { events } else { batch };
        let figures = self.send(events, batch, Duration::ZERO, Waiting::Asleep).await?;
        let figure = |name: &str| figures[name].as_f64().with_context(|| name.to_owned());
        let count = figure("events")?;
        Ok(json!({
            "deliveries_per_second": count / figure("seconds_between_first_and_last")?,
            "events_per_read": count / figure("reads")?,
            "cpu_us_per_delivery_in_burst": figure("cpu_us_per_delivery")?,
            "sender_share_of_core": figure("sender_share_of_core")?,
            "load_share_of_core": figure("load_share_of_core")?,
            "load_drains_per_second": count / figure("load_cpu_seconds")?,
        }))
    }

    /// Sends single events until one has reached everybody: not every server lets its clients in after its cursor is open.
    pub(super) async fn reach_all(&mut self) -> Result<()> {
        let deadline = Instant::now() + REACH_ALL;
        while Instant::now() < deadline {
            self.readers.order("take").await?;
            self.source.fire(1, 1, Duration::ZERO).await?;
            let (mut came, given_up) = (0, Instant::now() + REACH);
            while came < u64::from(self.clients) && Instant::now() < given_up {
                tokio::time::sleep(POLL).await;
                came += self.readers.order("take").await?["events"].as_u64().context("events")?;
            }
            if came == u64::from(self.clients) {
                return Ok(());
            }
        }
        bail!("no event has reached all {} clients within {REACH_ALL:?}", self.clients)
    }

    async fn send(&mut self, events: u32, batch: u32, every: Duration, waiting: Waiting) -> Result<Value> {
        let expected = u64::from(events) * u64::from(self.clients);
        let load = self.readers.id()?;
        self.readers.order("take").await?;
        let (began, sender_before, load_before) =
            (Instant::now(), processor_time(self.sender)?, processor_time(load)?);
        let order = waiting.order(expected);
        // Not in turn: a writer answers once all is written.
        let ((), mut figures) =
            tokio::try_join!(self.source.fire(events, batch, every), self.readers.order(&order))?;
        let spent = processor_time(self.sender)? - sender_before;
        let load_spent = processor_time(load)? - load_before;
        ensure!(figures["ended"] == 0, "{} clients were closed", figures["ended"]);
        let came = figures["events"].as_u64().context("events")?;
        ensure!(came == expected, "{came} of {expected} events came");
        figures["cpu_us_per_delivery"] = json!(spent * 1e6 / (f64::from(events) * f64::from(self.clients)));
        figures["load_cpu_seconds"] = json!(load_spent);
        let seconds = began.elapsed().as_secs_f64();
        figures["sender_share_of_core"] = json!(spent / seconds);
        figures["load_share_of_core"] = json!(load_spent / seconds);
        Ok(figures)
    }
}

async fn readers(
    program: &Path,
    server: &str,
    path: &str,
    clients: u32,
    language: &str,
) -> Result<(Generator, Value)> {
    let count = clients.to_string();
    let readers = ["readers", "--server", server, "--path", path, "--count", &count, "--language", language];
    // Others of its core, such as MongoDB, come first.
    Generator::start_of_low_priority(program, &readers).await
}

/// Declares a stream of this collection; its address.
async fn declare(url: &str, collection: &str) -> Result<String> {
    let address = format!("/bench/{collection}");
    let metadata = r#"{"streams": [{"uri": "all", "stages": []}]}"#;
    let put = Request::new(Method::PUT, address.as_str()).json(metadata).send(url).await?;
    ensure!(put.status.is_success(), "PUT {address}: {} {}", put.status, put.text());
    Ok(format!("{address}/_streams/all"))
}
