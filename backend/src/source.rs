//! A source: one open cursor of MongoDB, and the subscribers that its events go to.
//!
//! The cursor lives in a task of its own. It continues by itself behind its last position when a server goes away, for as
//! long as that takes, and it ends when its last subscriber leaves or when there is nothing left to follow.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mongodb::{Client, error::Error};
use shared::{
    close::Close,
    definition::Definition,
    following::Wanted,
    refusal::{Kind, Refusal},
    visibility::Screened,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use crate::{
    backoff::Backoff,
    catch_up::{self, Returner},
    cursor::{Cursor, Progress},
    event::Event,
    fan_out::FanOut,
    hub::SourceKey,
    known::Known,
    members::Members,
    metadata,
    metrics::{CatchUp, Metrics, Part},
    mongo::{self, Fault},
    position::Position,
    replay::Replay,
    schedule::Publication,
    seal::Seal,
    subscription::{Queue, Subscription},
};

/// How long a piece waits for queues that the one before it has filled, while nobody takes anything out of them.
const PACE: Duration = Duration::from_millis(100);
/// How long it waits at most: who reads more slowly than this is worth has a queue for it, and holds nobody else up.
const PACE_AT_MOST: Duration = Duration::from_millis(250);

/// How long a source reads the past of one subscriber while others wait for it to come to where they stand.
const PAST: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
enum State {
    Opening,
    Open,
    /// MongoDB does not answer; the cursor comes back behind its position.
    Interrupted,
    Ended(Option<Refusal>),
}

/// What a source is made of besides its key.
#[derive(Debug)]
pub struct Parts {
    /// The pool of connections for cursors.
    pub client: Client,
    /// What seals its positions.
    pub seal: Arc<Seal>,
    /// Where it is counted what happens.
    pub metrics: Arc<Metrics>,
    /// What new subscribers are judged by.
    pub known: Arc<Known>,
    /// Whether the servers split large events.
    pub splits: bool,
    /// Bytes of recent events that are kept for returning clients.
    pub replay_bytes: usize,
    /// Bytes of events that are published at once: a part of what fits a queue.
    pub piece_bytes: usize,
}

/// A cursor that is open, or about to be, for at least one subscriber.
#[derive(Debug)]
pub struct Source {
    key: SourceKey,
    /// What MongoDB evaluates of it, and what is judged here.
    screened: Arc<Screened>,
    /// As it was when the source opened, to tell whether it has changed since.
    definition: Definition,
    parts: Parts,
    state: watch::Sender<State>,
    audience: Mutex<Audience>,
    fan_out: Arc<FanOut>,
    abandoned: Notify,
}

/// Who receives what, and what was sent last: changed together, so that nobody misses or doubles an event.
#[derive(Debug)]
struct Audience {
    /// All subscribers; `None` once the source has ended: nobody joins any more.
    members: Option<Members>,
    /// Those of them that still catch up, and are not served by the cursor.
    returners: Vec<Returner>,
    catching_up: bool,
    replay: Replay,
    /// Behind everything that was published: it is in the replay, and on its way to those who were there.
    position: Option<Position>,
    /// A source that began behind a returner's position reads the past first, which concerns nobody else: who has asked for
    /// no past begins here.
    present: Option<Position>,
    opened_at: Option<Instant>,
}

/// Why a subscriber did not get in.
#[derive(Debug)]
pub enum JoinError {
    /// The source ended in the meantime; another one will do.
    Ended,
    /// The request is refused.
    Refused(Refusal),
}

impl Source {
    pub(crate) fn new(
        key: SourceKey,
        screened: Arc<Screened>,
        definition: Definition,
        parts: Parts,
    ) -> Arc<Self> {
        let audience = Audience {
            members: Some(Members::default()),
            returners: Vec::new(),
            catching_up: false,
            replay: Replay::new(parts.replay_bytes),
            position: None,
            present: None,
            opened_at: None,
        };
        let fan_out = FanOut::new(parts.piece_bytes, Arc::clone(&parts.metrics));
        Arc::new(Self {
            key,
            screened,
            definition,
            parts,
            state: watch::Sender::new(State::Opening),
            audience: Mutex::new(audience),
            fan_out,
            abandoned: Notify::new(),
        })
    }

    /// What it follows, and for whom.
    pub fn key(&self) -> &SourceKey {
        &self.key
    }

    /// The definition that it was opened under.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// Where it is counted what happens.
    pub fn metrics(&self) -> &Metrics {
        &self.parts.metrics
    }

    /// What seals its positions.
    pub fn seal(&self) -> &Arc<Seal> {
        &self.parts.seal
    }

    fn audience(&self) -> MutexGuard<'_, Audience> {
        self.audience.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A cursor of this source's pipeline behind `position`, or from now on.
    pub(crate) fn cursor(&self, position: Option<Position>) -> Cursor {
        Cursor::new(
            self.parts.client.clone(),
            self.key.namespace.clone(),
            Arc::clone(&self.screened),
            Arc::clone(&self.parts.seal),
            Arc::clone(&self.parts.metrics),
            self.parts.splits,
            position,
        )
    }

    /// Adds a subscriber who knows everything up to `after`, and waits until the cursor is open. One that is held receives
    /// nothing before [`Subscription::release`].
    pub(crate) async fn join(
        self: &Arc<Self>,
        queue_bytes: usize,
        wanted: Option<Wanted>,
        after: Option<Position>,
        held: bool,
    ) -> Result<Subscription, JoinError> {
        let queue = Arc::new(Queue::new(queue_bytes, after.clone(), wanted));
        {
            let mut audience = self.audience();
            audience.members.as_mut().ok_or(JoinError::Ended)?.add(&queue);
            if after.is_none() {
                audience.begin(&queue);
                queue.go_live();
            }
        }
        let subscription = Subscription::new(Arc::clone(self), queue);
        let mut state = self.state.subscribe();
        let settled = state.wait_for(|state| !matches!(state, State::Opening)).await;
        match settled.map(|state| state.clone()) {
            Ok(State::Open) => {
                if let Some(after) = after.filter(|_| !held) {
                    self.bring_back(Returner { queue: Arc::clone(subscription.queue()), after });
                }
                Ok(subscription)
            }
            Ok(State::Ended(Some(refusal))) => Err(JoinError::Refused(refusal)),
            Ok(State::Interrupted) => {
                Err(JoinError::Refused(Refusal::new(Kind::Unavailable, "MongoDB is not reachable")))
            }
            Ok(State::Ended(None) | State::Opening) | Err(_) => Err(JoinError::Ended),
        }
    }

    /// Serves a returning subscriber from memory, or else by the cursor that all who return share.
    pub(crate) fn bring_back(self: &Arc<Self>, returner: Returner) {
        let mut audience = self.audience();
        if returner.queue.is_closed() {
            return;
        }
        if audience.serve_from_memory(&returner) {
            return self.metrics().caught_up(CatchUp::Memory);
        }
        self.metrics().caught_up(CatchUp::Cursor);
        audience.returners.push(returner);
        if !std::mem::replace(&mut audience.catching_up, true) {
            tokio::spawn(catch_up::run(Arc::clone(self)));
        }
    }

    /// The returners that wait for a catch-up; with nobody waiting the catch-up is over.
    pub(crate) fn take_returners(&self) -> Vec<Returner> {
        let mut audience = self.audience();
        if audience.returners.is_empty() {
            audience.catching_up = false;
        }
        std::mem::take(&mut audience.returners)
    }

    /// Hands a returner who has come so far over to the cursor, if memory holds what is between.
    pub(crate) fn hand_over(&self, returner: &Returner) -> bool {
        self.audience().serve_from_memory(returner)
    }

    /// Tells a returner that what it missed cannot be had any more, and hands it over to the cursor.
    pub(crate) fn hand_over_with_gap(&self, returner: &Returner) {
        self.metrics().gap();
        let audience = self.audience();
        if let Some(position) = &audience.position {
            returner.queue.push([&Arc::new(Event::gap(position.clone(), self.seal()))]);
            returner.queue.go_live();
        }
    }

    /// Where a subscriber stands for whom nothing waits. What is published and has not come to it yet is behind that.
    pub(crate) fn quiet_position(&self, queue: &Queue) -> Option<Position> {
        // Asked first: what comes to everybody after it was held may wait for this one.
        let delivered = self.fan_out.delivered();
        let last = queue.hold_quiet()?;
        delivered.max(Some(last))
    }

    /// Takes a subscriber off the list. The last one ends the source.
    pub(crate) fn leave(&self, queue: &Arc<Queue>) {
        let mut audience = self.audience();
        audience.returners.retain(|returner| !Arc::ptr_eq(&returner.queue, queue));
        if let Some(members) = audience.members.as_mut() {
            members.remove(queue);
            if members.is_empty() {
                audience.members = None;
                self.abandoned.notify_one();
            }
        }
        // Ends a writer that waits for room.
        queue.close(Close::GoingAway);
    }

    /// How many subscribers there are.
    pub fn len(&self) -> usize {
        self.audience().members.as_ref().map_or(0, Members::len)
    }

    /// Whether nobody is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The cursor is open, and sees everything behind `from`.
    fn opened(&self, from: &Position, present: Option<Position>) {
        let mut audience = self.audience();
        audience.replay.restart(from.clone());
        audience.position = Some(from.clone());
        self.fan_out.begin_at(from.clone());
        audience.opened_at = Some(Instant::now());
        audience.present = present.filter(|present| present > from);
        for queue in audience.members.iter().flat_map(Members::iter) {
            audience.begin(queue);
        }
        drop(audience);
        self.state.send_replace(State::Open);
    }

    /// Publishes a reply of MongoDB's, which may hold more than fits any queue, in pieces: a client that reads gets the time
    /// to do so, and one that does not holds the others up for a moment only, before it is closed.
    async fn publish_paced(&self, events: Vec<Arc<Event>>, position: Position) {
        let mut piece = Vec::new();
        let mut bytes = 0;
        for event in events {
            if bytes + event.weight() > self.parts.piece_bytes && !piece.is_empty() {
                self.publish_piece(&mut piece).await;
                if self.is_waited_for() {
                    // The rest is read again, by whom it concerns.
                    return;
                }
                bytes = 0;
            }
            bytes += event.weight();
            piece.push(event);
        }
        self.publish(&piece, position).await;
    }

    async fn publish_piece(&self, piece: &mut Vec<Arc<Event>>) {
        if let Some(position) = piece.last().map(|last| last.position().clone()) {
            self.publish(piece, position).await;
        }
        piece.clear();
        self.fan_out.drained().await;
        let filling = self.filling();
        let bytes = || filling.iter().filter_map(|queue| queue.filling_bytes()).sum::<usize>();
        let began = Instant::now();
        let mut progress = began;
        let mut waiting = bytes();
        while waiting > 0 && progress.elapsed() < PACE && began.elapsed() < PACE_AT_MOST {
            tokio::time::sleep(PACE / 50).await;
            let now = bytes();
            if now < waiting {
                progress = Instant::now();
            }
            waiting = now;
        }
    }

    /// Whether the source is in a past that concerns some only, while others wait for it to come to where they stand.
    fn is_waited_for(&self) -> bool {
        let audience = self.audience();
        let (Some(position), Some(present)) = (&audience.position, &audience.present) else { return false };
        let is_ahead = |queue: &Arc<Queue>| queue.last().is_some_and(|last| last > *position);
        let is_long = audience.opened_at.is_some_and(|opened_at| opened_at.elapsed() > PAST);
        is_long && position < present && audience.members.iter().flat_map(Members::iter).any(is_ahead)
    }

    /// Leaves the past to the cursor of those who catch up, and goes on in the present.
    async fn leave_the_past(self: &Arc<Self>) -> Option<Cursor> {
        self.fan_out.drained().await;
        let mut audience = self.audience();
        let present = audience.present.take()?;
        audience.position = Some(present.clone());
        audience.replay.restart(present.clone());
        self.fan_out.begin_at(present.clone());
        let members: Vec<_> = audience.members.iter().flat_map(Members::iter).cloned().collect();
        drop(audience);
        for queue in members {
            if let Some(after) = queue.step_back(&present) {
                self.bring_back(Returner { queue, after });
            }
        }
        Some(self.cursor(Some(present)))
    }

    /// The queues that are more than half full.
    fn filling(&self) -> Vec<Arc<Queue>> {
        let audience = self.audience();
        let members = audience.members.iter().flat_map(Members::iter);
        members.filter(|queue| queue.filling_bytes().is_some()).cloned().collect()
    }

    /// Publishes events, and puts them on their way.
    async fn publish(&self, events: &[Arc<Event>], position: Position) {
        let publication = {
            let mut audience = self.audience();
            for event in events {
                audience.replay.push(event);
            }
            if audience.present.as_ref().is_some_and(|present| *present <= position) {
                audience.present = None;
            }
            audience.publish(events, position)
        };
        // The audience is not locked for as long as that takes.
        self.fan_out.publish(publication).await;
    }

    /// Continuity is lost: everybody is told, and goes on behind `from`.
    async fn publish_gap(&self, from: &Position) {
        self.metrics().gap();
        let gap = Arc::new(Event::gap(from.clone(), self.seal()));
        let publication = {
            let mut audience = self.audience();
            audience.replay.restart(from.clone());
            audience.publish(&[gap], from.clone())
        };
        // A gap is told to everybody, wherever they stand; so it joins nothing, and nothing joins it.
        self.fan_out.drained().await;
        self.fan_out.publish(publication).await;
        self.fan_out.drained().await;
        self.state.send_replace(State::Open);
    }

    /// Ends the source: closes every subscriber, behind what waits for it.
    pub(crate) fn close(&self, close: Close) {
        let mut audience = self.audience();
        let members = audience.members.take();
        audience.returners.clear();
        drop(audience);
        for queue in members.iter().flat_map(Members::iter) {
            queue.close(close);
        }
        self.state.send_replace(State::Ended(None));
        self.abandoned.notify_one();
    }

    fn refuse(&self, refusal: Refusal) {
        self.audience().members = None;
        self.state.send_replace(State::Ended(Some(refusal)));
    }
}

impl Audience {
    /// Notes that these events are published, and says who gets which of them.
    fn publish(&mut self, events: &[Arc<Event>], position: Position) -> Publication {
        self.position = Some(position.clone());
        let (shares, members) = match &self.members {
            Some(members) => (members.deliveries(events), members.version()),
            None => (Vec::new(), 0),
        };
        let weight = events.iter().map(|event| event.weight()).sum();
        Publication { shares, position, weight, members }
    }

    /// Lets a subscriber begin that has not said where; for one that has, nothing changes.
    fn begin(&self, queue: &Queue) {
        match (&self.present, &self.position) {
            (Some(present), _) => queue.begin_at(present),
            (None, Some(position)) => queue.begin_at(position),
            (None, None) => {}
        }
    }

    fn serve_from_memory(&mut self, returner: &Returner) -> bool {
        let Some(missed) = self.replay.behind(&returner.after) else { return false };
        // What does not fit yet comes by the cursor, as fast as it is read.
        let has_all = returner.queue.offer(missed);
        if has_all {
            returner.queue.go_live();
        }
        has_all
    }
}

/// Follows the cursor until the source ends. It begins behind `start`, which the first subscriber brought, or now.
pub(crate) async fn run(source: Arc<Source>, start: Option<Position>) {
    let SourceKey { namespace, stream, .. } = source.key.clone();
    tracing::debug!(%namespace, %stream, "source opens");
    tokio::select! {
        () = source.abandoned.notified() => {}
        () = follow(&source, start) => {}
    }
    tracing::debug!(%namespace, %stream, "source ended");
}

async fn follow(source: &Arc<Source>, start: Option<Position>) {
    let mut cursor = match open(source, start).await {
        Ok(cursor) => cursor,
        Err(error) => return source.refuse(mongo::refusal(&error)),
    };
    let SourceKey { namespace, stream, .. } = &source.key;
    let mut backoff = Backoff::default();
    // Remembered across failures: what was lost is told, even if it takes long until the stream can go on.
    let mut lost = false;
    loop {
        if source.is_waited_for()
            && let Some(of_the_present) = source.leave_the_past().await
        {
            cursor = of_the_present;
        }
        let step = if lost { restart(source, &mut cursor).await } else { advance(source, &mut cursor).await };
        match step {
            Ok(Step::GoesOn) => {
                lost = false;
                if backoff.has_paused() {
                    backoff = Backoff::default();
                    source.state.send_replace(State::Open);
                }
            }
            Ok(Step::Lost) => {
                tracing::warn!(%namespace, %stream, "source lost its history");
                lost = true;
            }
            Ok(Step::Gone) => {
                source.fan_out.drained().await;
                // Most often before the watcher has heard of it: who is told that it is gone finds it gone.
                source.parts.known.forget(namespace);
                return source.close(Close::Gone);
            }
            Err(error) => {
                source.state.send_replace(State::Interrupted);
                source.metrics().mongodb_failed(Part::Source, mongo::fault(&error));
                let pause = backoff.next_pause();
                let error = mongo::unquoted(&error);
                tracing::warn!(%namespace, %stream, error, ?pause, "source interrupted");
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// What one turn of a source comes to.
enum Step {
    GoesOn,
    Lost,
    Gone,
}

/// Publishes what MongoDB sends next.
async fn advance(source: &Source, cursor: &mut Cursor) -> Result<Step, Error> {
    match cursor.advance().await {
        Ok(Progress::Events(events, position)) => {
            source.metrics().received(events.len());
            source.publish_paced(events, position).await;
            Ok(Step::GoesOn)
        }
        // `invalidate` is not "gone": `$out` or a rename onto the name leaves the name there, with other documents.
        Ok(Progress::Invalidated) => Ok(if still_exists(source).await? { Step::Lost } else { Step::Gone }),
        Err(error) if mongo::fault(&error) == Fault::HistoryLost => Ok(Step::Lost),
        Err(error) => Err(error),
    }
}

/// Opens the first cursor. Where that is not possible behind `start`, or takes long, it begins now, and the one who brought
/// `start` catches up: only then is it known whether the pipeline, the position, or an event is at fault, and others need not
/// wait while MongoDB looks through the past.
async fn open(source: &Source, start: Option<Position>) -> Result<Cursor, Error> {
    let begins_anew = start.is_none();
    let mut cursor = source.cursor(start);
    let within = if begins_anew { Duration::MAX } else { PAST };
    let from = match timeout(within, cursor.open()).await {
        Ok(Err(error)) if begins_anew || mongo::fault(&error) == Fault::Unreachable => return Err(error),
        Ok(Ok(from)) => from,
        Ok(Err(_)) | Err(_) => {
            cursor.restart();
            cursor.open().await?
        }
    };
    let present = cursor.opened_at().filter(|_| !begins_anew).map(Position::after);
    source.opened(&from, present);
    Ok(cursor)
}

/// Goes on from now, and tells everybody that there is a gap.
async fn restart(source: &Source, cursor: &mut Cursor) -> Result<Step, Error> {
    cursor.restart();
    let from = cursor.open().await?;
    source.publish_gap(&from).await;
    Ok(Step::GoesOn)
}

/// What becomes of a source's namespace when MongoDB ends a cursor: whether its name still is there.
pub(crate) async fn still_exists(source: &Source) -> Result<bool, Error> {
    metadata::collection_exists(&source.parts.client, &source.key.namespace).await
}
