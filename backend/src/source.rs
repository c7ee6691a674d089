//! A source: one open cursor of MongoDB, and the subscribers that its events go to.
//!
//! The cursor lives in a task of its own. It continues by itself behind its last position when a server goes away, for as
//! long as that takes, and it ends when its last subscriber leaves or when there is nothing left to follow.

mod audience;
mod pieces;
mod task;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mongodb::Client;
use shared::{
    close::Close,
    definition::Definition,
    following::Wanted,
    refusal::{Kind, Refusal},
    visibility::Screened,
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{
    catch_up::{self, Returner},
    cursor::Cursor,
    event::Event,
    fan_out::FanOut,
    hub::SourceKey,
    known::Known,
    members::Members,
    metrics::{CatchUp, Metrics},
    position::Position,
    replay::Replay,
    seal::Seal,
    subscription::{Queue, Subscription},
};

use self::audience::Audience;
pub(crate) use self::task::{run, still_exists};

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
