//! Whose turn it is to be served, while more than one batch of a source's is on its way.
//!
//! Subscribers are served in groups. A batch that is published while an earlier one is still being brought to some joins it there:
//! who has had neither gets both at one time, and who has had the first gets the second next. So a new event waits for nobody
//! to be served with an old one, and the more there is to do the less there is to do for each event.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
};

use crate::{batch::Batch, position::Position, subscription::Queue};

/// Subscribers of a group: what a thread serves before other tasks get their turn, in half a millisecond or less.
pub(crate) const GROUP: usize = 64;

/// With more subscribers than this for each of them it is worth to wake another thread.
const WORTH_A_THREAD: usize = 256;

/// A batch, and everybody whom it is for.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) to: Arc<Vec<Arc<Queue>>>,
    pub(crate) batch: Arc<Batch>,
}

/// What a source publishes at one time.
#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) shares: Vec<Share>,
    /// Behind everything that is in it.
    pub(crate) position: Position,
    /// The bytes of its events.
    pub(crate) weight: usize,
    /// Which subscribers there are, as [`crate::members::Members::version`] counts: of two publications with the same number
    /// a subscriber is in one and the same list, or in none.
    pub(crate) members: u64,
}

/// What is on its way, and to whom.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    groups: HashMap<Place, Group>,
    /// The groups that something waits for and that nobody serves, in the order in which they get their turns.
    ready: VecDeque<Place>,
    /// Subscribers in those groups.
    ready_subscribers: usize,
    /// What has not come to everybody yet, the oldest first.
    on_its_way: VecDeque<OnItsWay>,
    /// The number of the first of these; they are counted one by one.
    oldest: u64,
    weight: usize,
    members: u64,
    delivered: Option<Position>,
    /// Tasks that take turns until there are none.
    sweepers: usize,
}

/// A part of a list of subscribers. The list is the one at this address for as long as a group holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place {
    list: usize,
    index: usize,
}

/// Subscribers for whom something is on its way. They are served by one thread at a time, or they would lose their order.
#[derive(Debug)]
struct Group {
    list: Arc<Vec<Arc<Queue>>>,
    /// What they get when it is their turn.
    next: Option<Load>,
}

/// A batch, and the number of the oldest publication that it has something of.
#[derive(Clone, Debug)]
struct Load {
    batch: Arc<Batch>,
    number: u64,
}

#[derive(Debug)]
struct OnItsWay {
    position: Position,
    weight: usize,
    /// Groups that have not been served with it.
    groups: usize,
}

/// Groups that whoever took them serves, and then gives back to [`Schedule::served`].
#[derive(Debug)]
pub(crate) struct Turn(Vec<Serving>);

#[derive(Debug)]
struct Serving {
    place: Place,
    list: Arc<Vec<Arc<Queue>>>,
    load: Load,
}

impl Place {
    fn subscribers(self, list: &[Arc<Queue>]) -> &[Arc<Queue>] {
        let begin = self.index * GROUP;
        &list[begin..list.len().min(begin + GROUP)]
    }
}

impl Turn {
    /// Who gets what.
    pub(crate) fn shares(&self) -> impl Iterator<Item = (&[Arc<Queue>], &Batch)> {
        let Self(groups) = self;
        groups.iter().map(|Serving { place, list, load }| (place.subscribers(list), &*load.batch))
    }
}

impl Schedule {
    /// Whether a publication may go on its way beside what is there already: together they weigh no more than `limit`, so that
    /// what joins fits every queue, and nobody has come or gone in between.
    pub(crate) fn has_room_for(&self, publication: &Publication, limit: usize) -> bool {
        let fits = self.members == publication.members && self.weight + publication.weight <= limit;
        self.is_empty() || publication.shares.is_empty() || fits
    }

    /// Whether everything has come to everybody.
    pub(crate) fn is_empty(&self) -> bool {
        self.on_its_way.is_empty()
    }

    /// Behind everything that has come to everybody.
    pub(crate) fn delivered(&self) -> Option<&Position> {
        self.delivered.as_ref()
    }

    /// Everybody stands here.
    pub(crate) fn begin_at(&mut self, position: Position) {
        self.delivered = Some(position);
    }

    /// Puts a publication on its way, for which there is room. Whoever publishes takes the first turn; with it comes how many
    /// sweepers are to be started for the others.
    pub(crate) fn publish(&mut self, publication: Publication, threads: usize) -> (Turn, usize) {
        let Publication { shares, position, weight, members } = publication;
        if self.is_empty() {
            self.members = members;
        }
        let number = self.oldest + self.on_its_way.len() as u64;
        let mut groups = 0;
        // Most groups that something waits for wait for the same.
        let mut joined: Vec<(Arc<Batch>, Arc<Batch>)> = Vec::new();
        for Share { to, batch } in shares {
            joined.clear();
            for index in 0..to.len().div_ceil(GROUP) {
                let place = Place { list: Arc::as_ptr(&to).addr(), index };
                let load = Load { batch: Arc::clone(&batch), number };
                match self.groups.entry(place) {
                    Entry::Vacant(group) => {
                        group.insert(Group { list: Arc::clone(&to), next: Some(load) });
                        self.ready.push_back(place);
                        self.ready_subscribers += place.subscribers(&to).len();
                        groups += 1;
                    }
                    Entry::Occupied(mut group) => match &mut group.get_mut().next {
                        Some(ahead) => {
                            let known = joined.iter().find(|(first, _)| Arc::ptr_eq(first, &ahead.batch));
                            ahead.batch = if let Some((_, both)) = known {
                                Arc::clone(both)
                            } else {
                                let both = Arc::new(Batch::join(&ahead.batch, &batch));
                                joined.push((Arc::clone(&ahead.batch), Arc::clone(&both)));
                                both
                            };
                        }
                        // It is being served.
                        next @ None => {
                            *next = Some(load);
                            groups += 1;
                        }
                    },
                }
            }
        }
        self.weight += weight;
        self.on_its_way.push_back(OnItsWay { position, weight, groups });
        self.settle();
        let turn = self.turn();
        let worth = threads.min(self.ready_subscribers.div_ceil(WORTH_A_THREAD));
        let started = worth.saturating_sub(self.sweepers);
        self.sweepers += started;
        (turn, started)
    }

    /// The next turn of a sweeper. Where there is none it is not one any more.
    pub(crate) fn next_turn(&mut self) -> Option<Turn> {
        if self.ready.is_empty() {
            self.sweepers -= 1;
            return None;
        }
        Some(self.turn())
    }

    fn turn(&mut self) -> Turn {
        let mut groups = Vec::new();
        let mut subscribers = 0;
        while subscribers < GROUP
            && let Some(place) = self.ready.pop_front()
        {
            let Some(group) = self.groups.get_mut(&place) else { continue };
            let Some(load) = group.next.take() else { continue };
            subscribers += place.subscribers(&group.list).len();
            groups.push(Serving { place, list: Arc::clone(&group.list), load });
        }
        self.ready_subscribers -= subscribers;
        Turn(groups)
    }

    /// Takes a turn back whose groups are served.
    pub(crate) fn served(&mut self, turn: Turn) {
        let Turn(groups) = turn;
        for Serving { place, list, load } in groups {
            if self.groups.get(&place).is_some_and(|group| group.next.is_some()) {
                self.ready.push_back(place);
                self.ready_subscribers += place.subscribers(&list).len();
            } else {
                self.groups.remove(&place);
            }
            // What it has of later publications came with the oldest, and is not counted again.
            let index = usize::try_from(load.number - self.oldest).unwrap_or(usize::MAX);
            if let Some(publication) = self.on_its_way.get_mut(index) {
                publication.groups -= 1;
            }
        }
        self.settle();
    }

    /// Forgets the oldest publications for as long as they have come to everybody.
    fn settle(&mut self) {
        while let Some(OnItsWay { weight, .. }) = self.on_its_way.front().filter(|oldest| oldest.groups == 0)
        {
            self.weight -= weight;
            self.oldest += 1;
            self.delivered = self.on_its_way.pop_front().map(|oldest| oldest.position);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

    use super::*;
    use crate::{batch, subscription};

    const NO_LIMIT: usize = usize::MAX;

    type List = Arc<Vec<Arc<Queue>>>;

    fn list(subscribers: usize) -> List {
        Arc::new((0..subscribers).map(|_| Arc::new(subscription::live())).collect())
    }

    fn at(time: u32) -> Position {
        batch::position(time)
    }

    /// One event, at its time, for each of the lists.
    fn publication(time: u32, lists: &[&List]) -> Publication {
        let batch = Arc::new(batch::of([time]));
        let share = |list: &&List| Share { to: Arc::clone(list), batch: Arc::clone(&batch) };
        Publication { shares: lists.iter().map(share).collect(), position: at(time), weight: 10, members: 0 }
    }

    /// Which events each group of a turn gets, by their times.
    fn times(turn: &Turn) -> Vec<Vec<u32>> {
        let times = |(_, batch): (&[Arc<Queue>], &Batch)| {
            batch.at_hand().events().iter().map(|event| event.position().start_at().time).collect()
        };
        turn.shares().map(times).collect()
    }

    fn give(turn: &Turn) {
        for (subscribers, batch) in turn.shares() {
            for queue in subscribers {
                queue.give(&mut batch.at_hand());
            }
        }
    }

    #[test]
    fn who_has_had_neither_gets_both_at_one_time_and_who_has_had_the_first_gets_the_second_next() {
        let all = list(3 * GROUP);
        let mut schedule = Schedule::default();
        let (first, _) = schedule.publish(publication(1, &[&all]), 1);
        assert_eq!(times(&first), [[1]]);
        schedule.served(first);
        let (second, _) = schedule.publish(publication(2, &[&all]), 1);
        assert_eq!(times(&second), [[1, 2]], "the second group has had neither");
        schedule.served(second);
        for expected in [vec![1, 2], vec![2]] {
            let turn = schedule.next_turn().expect("a turn");
            assert_eq!(times(&turn), [expected]);
            schedule.served(turn);
        }
        assert!(schedule.next_turn().is_none() && schedule.is_empty());
    }

    #[test]
    fn a_group_is_served_by_one_at_a_time() {
        let all = list(GROUP);
        let mut schedule = Schedule::default();
        let (first, _) = schedule.publish(publication(1, &[&all]), 1);
        let (none, sweepers) = schedule.publish(publication(2, &[&all]), 2);
        assert_eq!((times(&none).len(), sweepers), (0, 0), "it is being served");
        schedule.served(none);
        schedule.served(first);
        let (next, _) = schedule.publish(publication(3, &[&all]), 1);
        assert_eq!(times(&next), [[2, 3]]);
    }

    #[test]
    fn what_is_delivered_has_come_to_everybody_and_so_has_all_before_it() {
        let (one, other) = (list(1), list(1));
        let mut schedule = Schedule::default();
        schedule.begin_at(at(1));
        let (first, _) = schedule.publish(publication(2, &[&one]), 1);
        let (second, _) = schedule.publish(publication(3, &[&other]), 1);
        let (nobodys, _) = schedule.publish(publication(4, &[]), 1);
        schedule.served(second);
        schedule.served(nobodys);
        assert_eq!(schedule.delivered(), Some(&at(1)), "the first has not come to everybody");
        schedule.served(first);
        assert_eq!(schedule.delivered(), Some(&at(4)));
        assert!(schedule.is_empty());
    }

    #[test]
    fn what_is_on_its_way_weighs_no_more_than_its_limit_and_is_for_the_same_members() {
        let all = list(1);
        let mut schedule = Schedule::default();
        let large = Publication { weight: 500, ..publication(1, &[&all]) };
        assert!(schedule.has_room_for(&large, 25), "one alone always may");
        let (turn, _) = schedule.publish(large, 1);
        assert!(!schedule.has_room_for(&publication(2, &[&all]), 25));
        schedule.served(turn);
        let (turn, _) = schedule.publish(publication(2, &[&all]), 1);
        assert!(schedule.has_room_for(&publication(3, &[&all]), 25));
        let (other, _) = schedule.publish(publication(3, &[&all]), 1);
        assert!(!schedule.has_room_for(&publication(4, &[&all]), 25));
        let joined = Publication { members: 1, ..publication(4, &[&all]) };
        assert!(!schedule.has_room_for(&joined, NO_LIMIT), "it may be for one who is in another list now");
        assert!(schedule.has_room_for(&Publication { members: 1, ..publication(4, &[]) }, NO_LIMIT));
        schedule.served(turn);
        schedule.served(other);
        assert!(!schedule.is_empty(), "the third waits for the second");
        while let Some(turn) = (!schedule.is_empty()).then(|| schedule.turn()) {
            schedule.served(turn);
        }
        assert!(schedule.has_room_for(&joined, 25));
    }

    #[test]
    fn few_who_want_the_same_share_a_turn_with_others() {
        let lists: Vec<_> = (0..=GROUP).map(|_| list(1)).collect();
        let mut schedule = Schedule::default();
        let (turn, sweepers) = schedule.publish(publication(1, &lists.iter().collect::<Vec<_>>()), 4);
        assert_eq!((turn.shares().count(), sweepers), (GROUP, 1));
    }

    #[test]
    fn as_many_sweepers_are_started_as_there_is_work_for() {
        let sweepers = |subscribers, threads| {
            let mut schedule = Schedule::default();
            schedule.publish(publication(1, &[&list(subscribers)]), threads).1
        };
        assert_eq!(sweepers(GROUP, 4), 0, "who publishes serves them");
        assert_eq!(sweepers(GROUP + 1, 4), 1);
        assert_eq!(sweepers(GROUP + WORTH_A_THREAD + 1, 4), 2);
        assert_eq!(sweepers(100_000, 4), 4);
        let all = list(100_000);
        let mut schedule = Schedule::default();
        assert_eq!(schedule.publish(publication(1, &[&all]), 4).1, 4);
        assert_eq!(schedule.publish(publication(2, &[&all]), 4).1, 0, "they are at work already");
    }

    #[test]
    fn everybody_gets_all_of_theirs_once_and_in_order_whatever_the_order_of_turns() {
        let mut random = StdRng::seed_from_u64(5);
        for _ in 0..200 {
            let lists: Vec<_> = (0..4).map(|_| list(random.random_range(1..3 * GROUP))).collect();
            let mut expected = vec![Vec::new(); lists.len()];
            let mut schedule = Schedule::default();
            let mut turns = Vec::new();
            let mut time = 0;
            while time < 30 || !schedule.is_empty() {
                if time < 30 && random.random_bool(0.3) {
                    time += 1;
                    let concerned: Vec<_> = (0..lists.len()).filter(|_| random.random_bool(0.5)).collect();
                    for index in &concerned {
                        expected[*index].push(time);
                    }
                    let lists: Vec<_> = concerned.into_iter().map(|index| &lists[index]).collect();
                    turns.push(schedule.publish(publication(time, &lists), 1).0);
                } else if !turns.is_empty() && random.random_bool(0.6) {
                    let turn = turns.swap_remove(random.random_range(0..turns.len()));
                    give(&turn);
                    schedule.served(turn);
                } else if !schedule.ready.is_empty() {
                    turns.push(schedule.turn());
                }
            }
            assert_eq!(schedule.delivered(), Some(&at(30)));
            assert!(schedule.groups.is_empty() && schedule.weight == 0 && schedule.ready_subscribers == 0);
            for (list, expected) in lists.iter().zip(expected) {
                for queue in list.iter() {
                    assert_eq!(subscription::times(queue), expected);
                }
            }
        }
    }
}
