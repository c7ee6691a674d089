//! A statement of the edge counts once.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use shared::{
    limit::Limit,
    refusal::{Kind, Refusal},
    statement::LIFETIME,
    token::LEEWAY,
};

/// How long an id can come again, in seconds: a statement from the furthest future that is believed, until it expires.
const HORIZON: u64 = LEEWAY + LIFETIME + LEEWAY;

/// The ids that were seen, in two generations: one that fills, and one that is old enough to forget when that is full.
#[derive(Debug)]
pub(super) struct Replay {
    /// Ids of one generation. Two are kept.
    most: usize,
    seen: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    current: HashSet<[u8; 16]>,
    previous: HashSet<[u8; 16]>,
    turned: u64,
}

impl Replay {
    /// Takes so many ids in the time in which one can come again.
    pub(super) fn new(most: usize) -> Self {
        Self { most, seen: Mutex::default() }
    }

    /// Takes an id that was not seen before; 401 for one that was. `now` is in Unix seconds.
    pub(super) fn accept(&self, id: [u8; 16], now: u64) -> Result<(), Refusal> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(seen.turned) >= HORIZON {
            seen.previous = std::mem::take(&mut seen.current);
            if now.saturating_sub(seen.turned) >= 2 * HORIZON {
                seen.previous.clear();
            }
            seen.turned = now;
        }
        if seen.previous.contains(&id) || seen.current.contains(&id) {
            return Err(Refusal::new(Kind::Unauthenticated, "Tailrace-Identity was used before"));
        }
        if seen.current.len() >= self.most {
            // Forgetting an id would let it in again.
            return Err(Limit::EdgeStatements.refusal(u64::try_from(self.most).unwrap_or(u64::MAX)));
        }
        seen.current.insert(id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_once_as_long_as_it_could_come_again() {
        let replay = Replay::new(10);
        for start in [1_000, 1_050, 1_119] {
            let id = [u8::try_from(start % 251).unwrap(); 16];
            assert!(replay.accept(id, start).is_ok());
            for later in [0, 1, HORIZON - 1] {
                let refusal = replay.accept(id, start + later).unwrap_err();
                assert_eq!(refusal.to_string(), "401 Tailrace-Identity was used before");
            }
        }
    }

    #[test]
    fn what_cannot_come_again_is_forgotten() {
        let replay = Replay::new(10);
        for now in 0..2_000 {
            replay.accept([u8::try_from(now % 250).unwrap(); 16], 10_000 + now * HORIZON).unwrap();
        }
        let seen = replay.seen.lock().unwrap();
        assert!(seen.current.len() + seen.previous.len() <= 2);
    }

    #[test]
    fn over_the_limit_a_statement_is_refused_and_none_is_forgotten_for_it() {
        let replay = Replay::new(2);
        for id in [1, 2] {
            replay.accept([id; 16], 1_000).expect("a new one");
        }
        let refusal = replay.accept([3; 16], 1_000).unwrap_err();
        let message = "503 too many requests from the edge: limits.edge-statements is 2";
        assert_eq!((refusal.to_string(), refusal.limit()), (message.to_owned(), Some(Limit::EdgeStatements)));
        let refusal = replay.accept([1; 16], 1_000).unwrap_err();
        assert_eq!(refusal.to_string(), "401 Tailrace-Identity was used before");
        replay.accept([3; 16], 1_000 + HORIZON).expect("the others cannot come again");
    }
}
