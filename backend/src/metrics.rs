//! Figures for operators (Prometheus): counted where things happen, read at `/_metrics` of the admin listener.
//!
//! What happens for each event or delivery is an atomic addition; families with labels are looked up, under a lock, for
//! what is rare. No label holds a user, an address, or the name of anything that clients choose.

mod lag;

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Metric, Registry},
};
use shared::{close::Close, limit::Limit, refusal::Refusal};

use self::lag::Lag;
use crate::{event::Form, mongo::Fault};

/// Labels: names and values that are known in advance.
type Labels<const N: usize> = [(&'static str, &'static str); N];

/// What part of the node MongoDB failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A source's cursor: its subscribers wait.
    Source,
    /// The cursor by which returning clients catch up.
    CatchUp,
    /// The watch of the metadata.
    Metadata,
    /// The watch of the users with passwords.
    Users,
    /// The watch of the rules.
    Permissions,
}

impl Part {
    const ALL: [Self; 5] = [Self::Source, Self::CatchUp, Self::Metadata, Self::Users, Self::Permissions];

    /// How figures name it, and who asks whether the node is ready.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::CatchUp => "catch_up",
            Self::Metadata => "metadata",
            Self::Users => "users",
            Self::Permissions => "permissions",
        }
    }
}

/// From where a returning client got what it had missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// The source's recent events.
    Memory,
    /// A cursor of its own kind.
    Cursor,
}

/// All figures of a node.
pub struct Metrics {
    registry: Registry,
    connections: Gauge,
    forms: [OfForm; 4],
    sources: Gauge,
    mongodb_connections: Family<Labels<1>, Gauge>,
    mongodb_faults: Family<Labels<2>, Counter>,
    mongodb_heartbeats_failed: Counter,
    cursors_opened: Family<Labels<1>, Counter>,
    cursors_failed: Family<Labels<1>, Counter>,
    events_received: Counter,
    catch_ups: Family<Labels<1>, Counter>,
    gaps: Counter,
    snapshot_documents: Counter,
    closes: Family<[(&'static str, u16); 1], Counter>,
    refusals: Family<[(&'static str, String); 2], Counter>,
    limit_hits: Family<Labels<1>, Counter>,
    lag: Lag,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// What is counted for each form in which clients get their events.
#[derive(Clone, Debug, Default)]
struct OfForm {
    subscribers: Gauge,
    opened: Counter,
    deliveries: Counter,
    bytes: Counter,
}

/// The forms' labels, in the order of [`Metrics::forms`].
const FORMS: [&str; 4] = ["plain", "v1.json", "v1.bson", "sse"];

const fn index_of(form: Form) -> usize {
    match form {
        Form::Plain(_) | Form::PlainWithPosition(_) => 0,
        Form::V1Json(_) => 1,
        Form::V1Bson => 2,
        Form::Sse(_) => 3,
    }
}

/// Registers metrics one by one.
struct Registering(Registry);

impl Registering {
    /// The metric, which is read from now on under `tailrace_<name>`; a counter's name gets `_total`.
    fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }

    fn new_metric<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        self.add(name, help, M::default())
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut new = Registering(Registry::with_prefix("tailrace"));
        let forms = new.forms();
        let metrics = Self {
            connections: new.new_metric("connections", "Connections of clients, WebSockets among them"),
            sources: new.new_metric("sources", "Sources: what one or more subscribers follow"),
            mongodb_connections: new
                .new_metric("mongodb_connections", "Connections to MongoDB; each open cursor occupies one"),
            mongodb_faults: new.new_metric(
                "mongodb_faults",
                "Failures of MongoDB that a part of the node met, each followed by another attempt",
            ),
            mongodb_heartbeats_failed: new
                .new_metric("mongodb_heartbeats_failed", "Checks that a member of MongoDB did not answer"),
            cursors_opened: new
                .new_metric("cursors_opened", "Cursors opened at MongoDB: from now on, or behind a position"),
            cursors_failed: new.new_metric("cursors_failed", "Attempts to open a cursor that failed"),
            events_received: new.new_metric("events_received", "Events that MongoDB sent to sources"),
            catch_ups: new
                .new_metric("catch_ups", "Clients that came back, by where what they had missed came from"),
            gaps: new.new_metric("gaps", "Losses of continuity: sources and clients that were told to reload"),
            snapshot_documents: new
                .new_metric("snapshot_documents", "Documents read from MongoDB for snapshots"),
            closes: new.new_metric("closes", "Streams that the node closed, by close code"),
            refusals: new.new_metric("refusals", "Requests that were refused"),
            limit_hits: new.new_metric("limit_hits", "Requests and connections over a limit, by its key"),
            lag: new.add(
                "lag_seconds",
                "From the write in MongoDB to the client's socket, of the oldest event of each write to a socket",
                Lag::default(),
            ),
            forms,
            registry: Registry::default(),
        };
        metrics.show_zeros();
        Self { registry: new.0, ..metrics }
    }
}

impl Registering {
    fn forms(&mut self) -> [OfForm; 4] {
        let subscribers: Family<Labels<1>, Gauge> =
            self.new_metric("subscribers", "Clients that follow a stream");
        let opened: Family<Labels<1>, Counter> =
            self.new_metric("streams_opened", "Streams that were opened: upgrades, and event streams");
        let deliveries: Family<Labels<1>, Counter> =
            self.new_metric("deliveries", "Events written to sockets of clients");
        let bytes: Family<Labels<1>, Counter> =
            self.new_metric("sent_bytes", "Bytes of messages written to sockets of clients");
        FORMS.map(|form| {
            let label = [("form", form)];
            OfForm {
                subscribers: subscribers.get_or_create_owned(&label),
                opened: opened.get_or_create_owned(&label),
                deliveries: deliveries.get_or_create_owned(&label),
                bytes: bytes.get_or_create_owned(&label),
            }
        })
    }
}

impl Metrics {
    /// What has not happened yet is there as zero: an alert on its rate sees the first time.
    fn show_zeros(&self) {
        for close in Close::ALL {
            drop(self.closes.get_or_create(&[("code", close.code())]));
        }
        for limit in Limit::ALL {
            drop(self.limit_hits.get_or_create(&[("limit", limit.key())]));
        }
        for catch_up in [CatchUp::Memory, CatchUp::Cursor] {
            drop(self.catch_ups.get_or_create(&[("from", label_of(catch_up))]));
        }
        for resumed in [false, true] {
            drop(self.cursors_opened.get_or_create(&[("begins", begins(resumed))]));
        }
        for fault in [Fault::Unreachable, Fault::HistoryLost, Fault::Refused(0)] {
            drop(self.cursors_failed.get_or_create(&[("fault", fault.label())]));
            for part in Part::ALL {
                drop(self.mongodb_faults.get_or_create(&[("part", part.label()), ("fault", fault.label())]));
            }
        }
    }

    /// A connection of a client, counted until it is dropped.
    pub fn connection(&self) -> Counted {
        Counted::new(&self.connections)
    }

    /// The connections of a pool to MongoDB.
    pub fn mongodb_connections(&self, pool: &'static str) -> Gauge {
        self.mongodb_connections.get_or_create_owned(&[("pool", pool)])
    }

    /// Checks that members of MongoDB did not answer.
    pub fn mongodb_heartbeats_failed(&self) -> Counter {
        self.mongodb_heartbeats_failed.clone()
    }

    /// MongoDB failed a part that tries again.
    pub fn mongodb_failed(&self, part: Part, fault: Fault) {
        self.mongodb_faults.get_or_create(&[("part", part.label()), ("fault", fault.label())]).inc();
    }

    /// A cursor was opened; `resumed`: behind a position.
    pub fn cursor_opened(&self, resumed: bool) {
        self.cursors_opened.get_or_create(&[("begins", begins(resumed))]).inc();
    }

    /// A cursor could not be opened.
    pub fn cursor_failed(&self, fault: Fault) {
        self.cursors_failed.get_or_create(&[("fault", fault.label())]).inc();
    }

    /// MongoDB sent events to a source.
    pub fn received(&self, events: usize) {
        self.events_received.inc_by(events as u64);
    }

    /// A client came back.
    pub fn caught_up(&self, from: CatchUp) {
        self.catch_ups.get_or_create(&[("from", label_of(from))]).inc();
    }

    /// A turn of a fan-out has written to sockets.
    pub fn wrote(&self, tally: &Tally) {
        for (figures, (events, bytes)) in self.forms.iter().zip(tally.forms) {
            if bytes > 0 {
                figures.deliveries.inc_by(events);
                figures.bytes.inc_by(bytes);
            }
        }
        let now = now();
        for (oldest, writes) in &tally.writes {
            self.lag.observe(now - oldest, *writes);
        }
    }

    /// Somebody was told that events are lost.
    pub fn gap(&self) {
        self.gaps.inc();
    }

    /// A batch of documents was read for a snapshot.
    pub fn snapshot_read(&self, documents: usize) {
        self.snapshot_documents.inc_by(documents as u64);
    }

    /// A request was refused.
    pub fn refused(&self, refusal: &Refusal) {
        let status = refusal.status().as_str().to_owned();
        let exception = refusal.kind().exception().to_owned();
        self.refusals.get_or_create(&[("status", status), ("exception", exception)]).inc();
        if let Some(limit) = refusal.limit() {
            self.limit_hit(limit);
        }
    }

    /// Something was over a limit.
    pub fn limit_hit(&self, limit: Limit) {
        self.limit_hits.get_or_create(&[("limit", limit.key())]).inc();
    }

    /// A subscriber, counted until it is dropped.
    pub fn subscriber(self: &Arc<Self>, form: Form) -> Subscriber {
        let form = index_of(form);
        let figures = &self.forms[form];
        figures.subscribers.inc();
        figures.opened.inc();
        Subscriber { metrics: Arc::clone(self), form, since: now() }
    }

    /// All of it as `OpenMetrics` text; `sources` is how many there are now.
    pub fn encode(&self, sources: usize) -> String {
        self.sources.set(i64::try_from(sources).unwrap_or(i64::MAX));
        let mut encoded = String::new();
        text::encode(&mut encoded, &self.registry).expect("writing to a string cannot fail");
        encoded
    }
}

const fn label_of(catch_up: CatchUp) -> &'static str {
    match catch_up {
        CatchUp::Memory => "memory",
        CatchUp::Cursor => "cursor",
    }
}

const fn begins(resumed: bool) -> &'static str {
    if resumed { "behind_a_position" } else { "now" }
}

/// Something that is there, in the figures, until it is dropped.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A subscriber in the figures, until it is dropped.
#[derive(Debug)]
pub struct Subscriber {
    metrics: Arc<Metrics>,
    form: usize,
    /// When it came, in Unix milliseconds. What happened before is the past that it asked for, and no lag.
    since: i64,
}

/// What one write to a socket brings its client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    events: u64,
    bytes: u64,
    /// When the oldest event was written in MongoDB, in Unix milliseconds.
    oldest: Option<i64>,
}

impl Written {
    /// Adds an event of `bytes`; the first one is asked when it was written in MongoDB, in Unix milliseconds.
    pub fn event(&mut self, bytes: usize, written_at: impl FnOnce() -> i64) {
        self.events += 1;
        self.bytes += bytes as u64;
        self.oldest.get_or_insert_with(written_at);
    }

    /// Adds a message that is no event.
    pub fn other(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }
}

/// What one turn of a fan-out has written to the sockets of many clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    forms: [(u64, u64); FORMS.len()],
    /// When the oldest event of a write was written in MongoDB, in Unix milliseconds, and how many such writes there were.
    writes: Vec<(i64, u64)>,
}

impl Tally {
    /// Adds a write of so many events and bytes to a client that came at `since`; the oldest event was written in MongoDB at
    /// `oldest`, both in Unix milliseconds.
    pub fn wrote(&mut self, form: Form, events: u64, bytes: u64, oldest: i64, since: i64) {
        let of_form = &mut self.forms[index_of(form)];
        of_form.0 += events;
        of_form.1 += bytes;
        if oldest < since {
            return;
        }
        match self.writes.last_mut().filter(|(time, _)| *time == oldest) {
            Some((_, writes)) => *writes += 1,
            None => self.writes.push((oldest, 1)),
        }
    }
}

impl Subscriber {
    /// When it came, in Unix milliseconds.
    pub fn since(&self) -> i64 {
        self.since
    }

    /// A write has been handed to the socket.
    pub fn wrote(&self, written: Written) {
        let figures = &self.metrics.forms[self.form];
        figures.deliveries.inc_by(written.events);
        figures.bytes.inc_by(written.bytes);
        if let Some(oldest) = written.oldest.filter(|oldest| *oldest >= self.since) {
            self.metrics.lag.observe(now() - oldest, 1);
        }
    }

    /// The node closes the stream.
    pub fn closed(&self, close: Close) {
        self.metrics.closes.get_or_create(&[("code", close.code())]).inc();
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.metrics.forms[self.form].subscribers.dec();
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use shared::{event_json::JsonMode, refusal::Kind};

    use super::*;

    #[test]
    fn what_has_not_happened_yet_is_there_as_zero() {
        let text = Metrics::default().encode(3);
        for line in [
            "tailrace_sources 3",
            "tailrace_closes_total{code=\"4003\"} 0",
            "tailrace_cursors_opened_total{begins=\"behind_a_position\"} 0",
            "tailrace_mongodb_faults_total{part=\"source\",fault=\"unreachable\"} 0",
            "tailrace_mongodb_faults_total{part=\"users\",fault=\"refused\"} 0",
            "tailrace_subscribers{form=\"sse\"} 0",
            "tailrace_lag_seconds_count 0",
            "tailrace_limit_hits_total{limit=\"bindings-per-user\"} 0",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_subscriber_is_counted_while_it_is_there_with_what_it_was_sent() {
        let metrics = Arc::new(Metrics::default());
        let subscriber = metrics.subscriber(Form::V1Json(JsonMode::default()));
        let mut written = Written::default();
        written.event(100, now);
        written.event(50, now);
        written.other(7);
        subscriber.wrote(written);
        subscriber.closed(Close::TooSlow);
        let text = metrics.encode(1);
        for line in [
            "tailrace_subscribers{form=\"v1.json\"} 1",
            "tailrace_deliveries_total{form=\"v1.json\"} 2",
            "tailrace_sent_bytes_total{form=\"v1.json\"} 157",
            "tailrace_closes_total{code=\"4003\"} 1",
            "tailrace_lag_seconds_count 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        drop(subscriber);
        let text = metrics.encode(1);
        assert!(text.contains("tailrace_subscribers{form=\"v1.json\"} 0"));
        assert!(text.contains("tailrace_streams_opened_total{form=\"v1.json\"} 1"));
    }

    #[test]
    fn the_past_that_a_returning_client_asks_for_is_no_lag() {
        let metrics = Arc::new(Metrics::default());
        let subscriber = metrics.subscriber(Form::V1Bson);
        let mut written = Written::default();
        written.event(1, || now() - 3_600_000);
        subscriber.wrote(written);
        assert!(metrics.encode(0).contains("tailrace_lag_seconds_count 0"));
    }

    #[test]
    fn refusals_are_counted_by_status_and_exception_and_never_by_their_text() {
        let metrics = Metrics::default();
        metrics.refused(&Refusal::new(Kind::VariableNotBound, "variable secret not bound"));
        let text = metrics.encode(0);
        let line = "tailrace_refusals_total{status=\"400\",exception=\"QueryVariableNotBoundException\"} 1";
        assert!(text.contains(line), "{text}");
        assert!(!text.contains("secret"));
    }
}
