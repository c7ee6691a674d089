//! One subscriber's end of a source: a queue that is bounded in bytes, and the close that ends it.

use std::{
    borrow::Borrow,
    hint::black_box,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use shared::{close::Close, following::Wanted};
use tokio::sync::Notify;

use crate::{
    batch::{AtHand, Figures},
    catch_up::Returner,
    event::{Event, Form},
    position::Position,
    source::Source,
    waiting::Waiting,
    wire::{Wire, Written},
};

/// Subscribers of whom the processor fetches what is needed at one time, and keeps it until it is their turn.
pub(crate) const NEAR: usize = 16;

/// What a subscriber gets next.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// An event.
    Event(Arc<Event>),
    /// Nothing new: what the source has written to the socket in part is to be flushed.
    Flush,
    /// The end; nothing follows.
    Close(Close),
}

/// The queue between a source and one subscriber.
///
/// What a fan-out looks at with each event comes first, in the order that is written here, for `bring_near`.
#[derive(Debug)]
#[repr(C)]
pub struct Queue {
    state: Mutex<State>,
    /// Where the source writes while nothing waits: what would only pass through the queue need wake nobody.
    outlet: OnceLock<Outlet>,
    arrived: Notify,
    taken: Notify,
    limit: usize,
    /// Which of the source's events are for this subscriber; all without it.
    wanted: Option<Wanted>,
}

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is true or not whatever the others are")]
struct State {
    waiting: Waiting,
    close: Option<Close>,
    /// Where the subscriber begins.
    start: Option<Position>,
    /// The newest that it was given. A cursor may come to the same event by another way: nothing up to here is for it.
    last: Option<Position>,
    /// Whether the source itself fills the queue, and no catch-up does.
    live: bool,
    /// The weight of the event that did not fit when it was offered.
    offered: usize,
    /// What was taken out of the queue may not be written yet, and the source must not get ahead of it.
    in_hand: bool,
    /// The session has to flush what the source could write in part only.
    flush: bool,
    /// The source has written something to the socket itself.
    given_frames: bool,
}

/// A session's socket, where the source may write for it.
#[derive(Debug)]
pub(crate) struct Outlet {
    /// The connection.
    pub(crate) wire: Wire,
    /// The form in which the client gets its events.
    pub(crate) form: Form,
    /// When the subscriber came, in Unix milliseconds.
    pub(crate) since: i64,
}

/// A batch that the source has written to a socket itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivered {
    pub(crate) form: Form,
    pub(crate) figures: Figures,
    /// When the subscriber came, in Unix milliseconds.
    pub(crate) since: i64,
}

impl State {
    /// Adds events in their order, and closes the queue at the first that does not fit.
    fn add(&mut self, events: impl IntoIterator<Item: Borrow<Arc<Event>>>, limit: usize) {
        for event in events {
            let event = event.borrow();
            if !self.wants(event) {
                continue;
            }
            if !self.waiting.has_room_for(event.weight(), limit) {
                self.close = Some(Close::TooSlow);
                break;
            }
            self.push(event);
        }
    }

    fn push(&mut self, event: &Arc<Event>) {
        self.last = Some(event.position().clone());
        self.waiting.push(event.to_tell());
    }

    /// Writes a batch to the socket, if nothing is ahead of it there and the kernel has room; what has room in part is given
    /// to the session to flush.
    fn write_now(&mut self, outlet: &Outlet, batch: &mut AtHand<'_>) -> Option<Delivered> {
        let Outlet { wire, form, since } = outlet;
        let first = batch.events().first()?;
        if self.in_hand || self.flush || !self.waiting.is_empty() || !self.wants(first) {
            return None;
        }
        let frames = batch.frames(*form)?;
        // Nothing of it is for this form, so nothing is written.
        let written = if frames.bytes.is_empty() { Written::Whole } else { wire.write_now(&frames.bytes) };
        if written == Written::Nothing {
            return None;
        }
        let delivered = Delivered { form: *form, figures: frames.figures, since: *since };
        self.flush = written == Written::Part;
        self.given_frames |= !frames.bytes.is_empty();
        self.last = batch.events().last().map(|last| last.position().clone());
        Some(delivered)
    }

    fn wants(&self, event: &Event) -> bool {
        // A gap is told wherever it is.
        let news = event.is_gap() || self.last.as_ref().is_none_or(|last| event.position() > last);
        self.close.is_none() && news
    }
}

impl Queue {
    /// An empty queue of a subscriber who knows everything up to `after`.
    pub(crate) fn new(limit: usize, after: Option<Position>, wanted: Option<Wanted>) -> Self {
        let state = State { start: after.clone(), last: after, ..State::default() };
        Self {
            state: Mutex::new(state),
            outlet: OnceLock::new(),
            arrived: Notify::new(),
            taken: Notify::new(),
            limit,
            wanted,
        }
    }

    /// Which of the source's events are for this subscriber; all without it.
    pub(crate) fn wanted(&self) -> Option<&Wanted> {
        self.wanted.as_ref()
    }

    /// What of an event is for this subscriber.
    fn seen(&self, event: &Arc<Event>) -> Option<Arc<Event>> {
        match &self.wanted {
            Some(wanted) => event.seen_by(&wanted.asked),
            None => Some(Arc::clone(event)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds events in their order. When they do not fit, the subscriber is too slow: what waits already is still
    /// delivered, then it is closed, so that its last position is right. One event always fits, and so does what comes
    /// right behind it.
    pub(crate) fn push<'a>(&self, events: impl IntoIterator<Item = &'a Arc<Event>>) {
        let events = events.into_iter().filter_map(|event| self.seen(event));
        self.state().add(events, self.limit);
        self.arrived.notify_one();
    }

    /// Has the processor fetch at one time what [`Queue::give`] looks at first, for all of them: one by one it would wait for the
    /// memory twice with each, since what the kernel does for one send takes the whole cache.
    pub(crate) fn bring_near(queues: &[Arc<Self>]) {
        for queue in queues {
            black_box((queue.state.is_poisoned(), queue.outlet.get().is_some()));
        }
        // All of the queues before the first of the wires, which are known from them.
        for outlet in queues.iter().filter_map(|queue| queue.outlet.get()) {
            outlet.wire.bring_near();
        }
    }

    /// Gives a subscriber whom the source serves a batch that is for it: to its socket at once, where that can be, or else
    /// into the queue, as [`Queue::push`] does. Says what was written.
    pub(crate) fn give(&self, batch: &mut AtHand<'_>) -> Option<Delivered> {
        let mut state = self.state();
        if !state.live {
            return None;
        }
        let delivered = self.outlet.get().and_then(|outlet| state.write_now(outlet, batch));
        if delivered.is_some() && !state.flush {
            return delivered;
        }
        if delivered.is_none() {
            state.add(batch.events(), self.limit);
        }
        drop(state);
        self.arrived.notify_one();
        delivered
    }

    /// Adds events until one does not fit, and says whether all did: what is in the past can wait for its reader. Offering the
    /// same events again goes on where it stopped.
    pub(crate) fn offer<'a>(&self, events: impl IntoIterator<Item = &'a Arc<Event>>) -> bool {
        let mut state = self.state();
        let mut all = true;
        state.offered = 0;
        for event in events {
            if !state.wants(event) {
                continue;
            }
            let Some(event) = self.seen(event) else { continue };
            if !state.waiting.has_room_for(event.weight(), self.limit) {
                all = false;
                state.offered = event.weight();
                break;
            }
            state.push(&event);
        }
        drop(state);
        self.arrived.notify_one();
        all
    }

    /// Until at most half of the room is taken and what was offered fits, or nobody wants what is in it.
    pub(crate) async fn drained(&self) {
        loop {
            let taken = self.taken.notified();
            {
                let state = self.state();
                let waiting = &state.waiting;
                let has_room =
                    waiting.bytes() <= self.limit / 2 && waiting.has_room_for(state.offered, self.limit);
                if has_room || state.close.is_some() {
                    return;
                }
            }
            taken.await;
        }
    }

    /// Whether nothing more is wanted.
    pub(crate) fn is_closed(&self) -> bool {
        self.state().close.is_some()
    }

    /// How many bytes wait.
    pub(crate) fn bytes(&self) -> usize {
        self.state().waiting.bytes()
    }

    /// The position of the newest event that the subscriber was given, or where it began.
    pub(crate) fn last(&self) -> Option<Position> {
        self.state().last.clone()
    }

    /// Where the subscriber begins, once that is known.
    pub(crate) fn start(&self) -> Option<Position> {
        self.state().start.clone()
    }

    /// Sets where the subscriber begins, if nothing has set it before: nothing up to there is for it.
    pub(crate) fn begin_at(&self, position: &Position) {
        let mut state = self.state();
        if state.start.is_none() {
            state.start = Some(position.clone());
            state.last = Some(position.clone());
        }
    }

    /// From now on the source fills the queue.
    pub(crate) fn go_live(&self) {
        self.state().live = true;
    }

    /// The source does not fill the queue any more, if it is one that it serves and that stands before `position`. Says where it
    /// stands.
    pub(crate) fn step_back(&self, position: &Position) -> Option<Position> {
        let mut state = self.state();
        let last = state.last.clone().filter(|last| state.live && last < position)?;
        state.live = false;
        Some(last)
    }

    /// The bytes that wait, if they are more than half of the room and are still wanted.
    pub(crate) fn filling_bytes(&self) -> Option<usize> {
        let state = self.state();
        let bytes = state.waiting.bytes();
        (state.live && state.close.is_none() && bytes > self.limit / 2).then_some(bytes)
    }

    /// Where the subscriber stands if nothing waits for it. Then nothing is written for it either until
    /// [`Subscription::written`], so that whoever tells the position is not overtaken by what is behind it.
    pub(crate) fn hold_quiet(&self) -> Option<Position> {
        let mut state = self.state();
        let quiet = state.live && state.waiting.is_empty() && state.close.is_none();
        state.in_hand |= quiet;
        state.last.clone().filter(|_| quiet)
    }

    /// Ends the queue behind what waits in it. The first close counts.
    pub(crate) fn close(&self, close: Close) {
        self.state().close.get_or_insert(close);
        self.arrived.notify_one();
        self.taken.notify_one();
    }

    /// Ends the queue at once: what waits in it is not for this subscriber any more.
    pub(crate) fn cut(&self, close: Close) {
        let mut state = self.state();
        state.waiting.clear();
        state.close = Some(close);
        drop(state);
        self.arrived.notify_one();
        self.taken.notify_one();
    }

    pub(crate) fn take(&self) -> Option<Delivery> {
        let mut state = self.state();
        if std::mem::take(&mut state.flush) {
            state.in_hand = true;
            return Some(Delivery::Flush);
        }
        if let Some(event) = state.waiting.pop() {
            state.in_hand = true;
            drop(state);
            self.taken.notify_one();
            return Some(Delivery::Event(event));
        }
        state.close.map(Delivery::Close)
    }
}

/// A place in a source's list of subscribers; dropping it leaves.
#[derive(Debug)]
pub struct Subscription {
    source: Arc<Source>,
    queue: Arc<Queue>,
}

impl Subscription {
    pub(crate) fn new(source: Arc<Source>, queue: Arc<Queue>) -> Self {
        Self { source, queue }
    }

    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Lets a subscriber go on who was held at its start.
    pub fn release(&self) {
        if let Some(after) = self.queue.start() {
            self.source.bring_back(Returner { queue: Arc::clone(&self.queue), after });
        }
    }

    /// The next event or the close. Cancel-safe.
    pub async fn next(&self) -> Delivery {
        loop {
            let arrived = self.queue.arrived.notified();
            if let Some(delivery) = self.queue.take() {
                return delivery;
            }
            arrived.await;
        }
    }

    /// What is there already, if anything.
    pub fn try_next(&self) -> Option<Delivery> {
        self.queue.take()
    }

    /// Where the subscriber began, as it may send it back.
    pub fn start(&self) -> Option<String> {
        self.queue.start().map(|position| self.source.seal().seal(&position))
    }

    /// Lets the source write to the session's socket whenever nothing waits. The session has written all that it took.
    pub(crate) fn lend(&self, outlet: Outlet) {
        // A session has one socket, and lends it once.
        let _ = self.queue.outlet.set(outlet);
        self.queue.state().in_hand = false;
    }

    /// What was taken is written and flushed, and what is told by itself too: the source may write again.
    pub(crate) fn written(&self) {
        self.queue.state().in_hand = false;
    }

    /// Whether the source has written events to the session's socket itself.
    pub(crate) fn has_been_given_frames(&self) -> bool {
        self.queue.state().given_frames
    }

    /// Where the subscriber stands while nothing waits for it, as it may send it back. The source writes nothing behind it
    /// before `Subscription::written` says so.
    pub fn quiet_position(&self) -> Option<String> {
        self.source.quiet_position(&self.queue).map(|position| self.source.seal().seal(&position))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.source.leave(&self.queue);
    }
}

/// A queue that the source fills, and that nobody reads.
#[cfg(test)]
pub(crate) fn live() -> Queue {
    let queue = Queue::new(1_000_000, None, None);
    queue.go_live();
    queue
}

/// The times of all events that wait.
#[cfg(test)]
pub(crate) fn times(queue: &Queue) -> Vec<u32> {
    let next = || match queue.take() {
        Some(Delivery::Event(event)) => Some(event.position().start_at().time),
        _ => None,
    };
    std::iter::from_fn(next).collect()
}

#[cfg(test)]
mod tests {
    use bson::{Timestamp, doc, rawdoc};
    use futures_util::FutureExt;
    use shared::{event_json::JsonMode, following::Asked, matcher::Matcher};
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::{batch::Batch, seal, wire};

    fn event(bytes: usize) -> Arc<Event> {
        numbered(1, bytes)
    }

    fn numbered(time: u32, bytes: usize) -> Arc<Event> {
        let raw = rawdoc! { "x": "y".repeat(bytes) };
        let position = Position::before(Timestamp { time, increment: 0 });
        Arc::new(Event::change(raw, &Arc::default(), position, &Arc::new(seal::for_tests())))
    }

    #[test]
    fn two_reads_bring_near_all_that_a_fan_out_looks_at_first() {
        const CACHE_LINE: usize = 64;
        assert!(std::mem::offset_of!(Queue, outlet) <= CACHE_LINE);
    }

    #[test]
    fn a_full_queue_delivers_what_waits_and_then_closes_as_too_slow() {
        let queue = Queue::new(100, None, None);
        queue.push(&[numbered(1, 50), numbered(2, 50), numbered(3, 50)]);
        for _ in 0..2 {
            assert!(matches!(queue.take(), Some(Delivery::Event(_))));
        }
        assert!(matches!(queue.take(), Some(Delivery::Close(Close::TooSlow))));
        queue.push(&[numbered(4, 1)]);
        assert!(matches!(queue.take(), Some(Delivery::Close(Close::TooSlow))));
    }

    #[test]
    fn one_event_always_fits_however_large_and_so_does_what_comes_behind_it() {
        let queue = Queue::new(100, None, None);
        queue.push(&[numbered(1, 5_000), numbered(2, 1)]);
        for _ in 0..2 {
            assert!(matches!(queue.take(), Some(Delivery::Event(_))));
        }
        assert!(queue.take().is_none());
    }

    #[test]
    fn the_first_close_counts_and_comes_behind_the_events() {
        let queue = Queue::new(100, None, None);
        queue.push(&[event(1)]);
        queue.close(Close::DefinitionChanged);
        queue.close(Close::Gone);
        assert!(matches!(queue.take(), Some(Delivery::Event(_))));
        assert!(matches!(queue.take(), Some(Delivery::Close(Close::DefinitionChanged))));
    }

    #[test]
    fn what_waits_for_one_whose_rights_are_gone_is_not_delivered() {
        let queue = Queue::new(1000, None, None);
        queue.push(&[event(1)]);
        queue.close(Close::DefinitionChanged);
        queue.cut(Close::NoLongerPermitted);
        assert!(matches!(queue.take(), Some(Delivery::Close(Close::NoLongerPermitted))));
        queue.push(&[event(1)]);
        assert!(matches!(queue.take(), Some(Delivery::Close(Close::NoLongerPermitted))));
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn what_a_subscriber_knows_already_is_not_delivered_again() {
        let known = numbered(5, 1);
        let queue = Queue::new(1000, Some(known.position().clone()), None);
        queue.push(&[numbered(4, 1), known, numbered(6, 1)]);
        let Some(Delivery::Event(first)) = queue.take() else { panic!("an event") };
        assert_eq!(first.position().start_at().time, 6);
        assert!(queue.take().is_none());
    }

    #[test]
    fn an_event_that_comes_by_two_ways_is_delivered_once() {
        let queue = Queue::new(1000, None, None);
        queue.push(&[numbered(4, 1), numbered(5, 1)]);
        queue.push(&[numbered(4, 1), numbered(5, 1), numbered(6, 1)]);
        assert_eq!(times(&queue), [4, 5, 6]);
    }

    #[tokio::test]
    async fn an_offer_goes_on_where_it_stopped_once_there_is_room() {
        let queue = Queue::new(100, None, None);
        let events: Vec<_> = (1..=5).map(|time| numbered(time, 60)).collect();
        let mut taken = Vec::new();
        while !queue.offer(&events) {
            taken.extend(times(&queue));
            queue.drained().await;
        }
        taken.extend(times(&queue));
        assert_eq!(taken, [1, 2, 3, 4, 5]);
    }

    #[tokio::test]
    async fn an_offer_of_more_than_there_ever_is_room_for_waits_for_an_empty_queue() {
        let queue = Queue::new(100, None, None);
        let events = [numbered(1, 1), numbered(2, 5_000)];
        assert!(!queue.offer(&events));
        assert_eq!(queue.drained().now_or_never(), None, "asking again at once would not help");
        assert!(queue.take().is_some());
        queue.drained().await;
        assert!(queue.offer(&events));
    }

    #[test]
    fn a_failure_is_for_those_who_want_the_event_and_waits_without_it() {
        let wanted = |tenant: &str| {
            let matcher = Matcher::compile(&doc! { "fullDocument.tenant": tenant }).expect("a filter");
            Some(Wanted { key: tenant.as_bytes().into(), asked: Asked::Filter(matcher) })
        };
        let of = rawdoc! { "fullDocument": { "tenant": "a", "body": "x".repeat(5_000) } };
        let position = Position::before(Timestamp { time: 1, increment: 0 });
        let failure = Arc::new(Event::failure(10_334, Some(of), position, &Arc::new(seal::for_tests())));
        let (a, b) = (Queue::new(100, None, wanted("a")), Queue::new(100, None, wanted("b")));
        a.push([&failure]);
        b.push([&failure]);
        assert!(b.take().is_none());
        assert!(a.bytes() < 200 && failure.bytes() > 5_000);
        let Some(Delivery::Event(told)) = a.take() else { panic!("an event") };
        assert!(told.is_failure() && told.document().is_none());
    }

    fn lent(queue: &Queue, wire: &Wire) {
        let form = Form::Plain(JsonMode::Relaxed);
        queue.outlet.set(Outlet { wire: wire.clone(), form, since: 0 }).expect("it is lent once");
        queue.go_live();
    }

    fn batch(time: u32, bytes: usize) -> Batch {
        Batch::new(vec![numbered(time, bytes)])
    }

    #[tokio::test]
    async fn what_nothing_is_ahead_of_goes_to_the_socket_at_once() {
        let (wire, mut client) = wire::pair().await;
        let queue = Queue::new(1_000, None, None);
        lent(&queue, &wire);
        let delivered = queue.give(&mut batch(4, 1).at_hand()).expect("written");
        assert_eq!(delivered.figures, Figures { events: 1, bytes: 94 });
        assert!(queue.take().is_none(), "and it is not in the queue");
        let mut read = [0; 96];
        client.read_exact(&mut read).await.expect("read");
        assert!(read.starts_with(b"\x81\x5e{") && read.ends_with(b"\"x\":\"y\"}"));
        assert!(queue.give(&mut batch(4, 1).at_hand()).is_none(), "nor once more");
        assert!(queue.take().is_none());
    }

    #[tokio::test]
    async fn the_source_does_not_overtake_what_the_session_has_in_hand() {
        let (wire, _client) = wire::pair().await;
        let queue = Queue::new(1_000, None, None);
        queue.go_live();
        queue.push(&[numbered(1, 1)]);
        lent(&queue, &wire);
        assert!(queue.give(&mut batch(2, 1).at_hand()).is_none(), "one waits");
        assert!(matches!(queue.take(), Some(Delivery::Event(_))));
        assert!(matches!(queue.take(), Some(Delivery::Event(_))));
        assert!(queue.give(&mut batch(3, 1).at_hand()).is_none(), "two are being written");
        assert!(matches!(queue.take(), Some(Delivery::Event(_))));
        queue.state().in_hand = false;
        assert!(queue.give(&mut batch(4, 1).at_hand()).is_some());
    }

    #[tokio::test]
    async fn the_source_does_not_overtake_a_position_that_is_being_told() {
        let (wire, _client) = wire::pair().await;
        let queue = Queue::new(1_000, None, None);
        lent(&queue, &wire);
        assert!(queue.give(&mut batch(4, 1).at_hand()).is_some());
        let held = queue.hold_quiet().expect("nothing waits");
        assert_eq!(held.start_at().time, 4);
        assert!(queue.give(&mut batch(5, 1).at_hand()).is_none());
        assert!(queue.hold_quiet().is_none(), "one waits");
    }

    #[tokio::test]
    async fn what_the_kernel_takes_in_part_is_flushed_before_anything_else() {
        let (wire, _client) = wire::pair().await;
        let queue = Queue::new(1_000, None, None);
        lent(&queue, &wire);
        assert!(queue.give(&mut batch(4, 64 * 1024 * 1024).at_hand()).is_some());
        assert!(queue.give(&mut batch(5, 1).at_hand()).is_none());
        assert!(matches!(queue.take(), Some(Delivery::Flush)));
        assert!(matches!(queue.take(), Some(Delivery::Event(_))));
        assert!(queue.take().is_none());
    }

    #[tokio::test]
    async fn nothing_is_written_behind_a_close() {
        let (wire, _client) = wire::pair().await;
        let queue = Queue::new(1_000, None, None);
        lent(&queue, &wire);
        queue.close(Close::Gone);
        assert!(queue.give(&mut batch(4, 1).at_hand()).is_none());
        assert!(matches!(queue.take(), Some(Delivery::Close(Close::Gone))));
    }
}
