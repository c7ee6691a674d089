//! A statement of the edge counts once.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use shared::{
    identity::LIFETIME,
    refusal::{Kind, Refusal},
    token::LEEWAY,
};

/// How long an id can come again, in seconds: a statement from the furthest future that is believed, until it expires.
const HORIZON: u64 = LEEWAY + LIFETIME + LEEWAY;

/// Ids of one generation; two take 16 bytes each and the set's own room, some 40 MB at the most.
const MOST: usize = 500_000;

/// The ids that were seen, in two generations: one that fills, and one that is old enough to forget when that is full.
#[derive(Debug, Default)]
pub(super) struct Replay(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    current: HashSet<[u8; 16]>,
    previous: HashSet<[u8; 16]>,
    turned: u64,
}

impl Replay {
    /// Takes an id that was not seen before; 401 for one that was. `now` is in Unix seconds.
    pub(super) fn accept(&self, id: [u8; 16], now: u64) -> Result<(), Refusal> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        if seen.current.len() >= MOST {
            // Forgetting an id would let it in again.
            return Err(Refusal::new(Kind::Unavailable, "too many requests from the edge"));
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
        let replay = Replay::default();
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
        let replay = Replay::default();
        for now in 0..2_000 {
            replay.accept([u8::try_from(now % 250).unwrap(); 16], 10_000 + now * HORIZON).unwrap();
        }
        let seen = replay.0.lock().unwrap();
        assert!(seen.current.len() + seen.previous.len() <= 2);
    }
}
