//! One request of an isolate fetches what many want at once. The runtime forbids to await what belongs to another request, so the
//! others look whether it has come.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use worker::Delay;

use crate::runtime;

/// How long a fetch may take: whoever takes longer has gone away in the middle of it, and left its mark behind.
const LONGEST: u64 = 8_000;

/// How long between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// The most subjects under way: more come from someone who invents them, and are fetched without a mark.
const MOST: usize = 1_000;

thread_local! {
    // Since when each is fetched.
    static UNDER_WAY: RefCell<HashMap<String, u64>> = RefCell::default();
}

/// The right to fetch a subject, until it is dropped.
#[must_use]
pub(crate) struct Turn(Option<(String, u64)>);

impl Turn {
    /// Takes it where nobody has it; else waits until whoever has it is done, and takes nothing.
    pub(crate) async fn take_or_wait(subject: String) -> Option<Self> {
        if let Some(turn) = Self::take(&subject) {
            return Some(turn);
        }
        while is_under_way(&subject) {
            Delay::from(PAUSE).await;
        }
        None
    }

    fn take(subject: &str) -> Option<Self> {
        if is_under_way(subject) {
            return None;
        }
        UNDER_WAY.with_borrow_mut(|under_way| {
            let since = runtime::now();
            if under_way.len() >= MOST {
                under_way.retain(|_, since| runtime::now() < *since + LONGEST);
            }
            let is_marked = under_way.len() < MOST;
            if is_marked {
                under_way.insert(subject.to_owned(), since);
            }
            Some(Self(is_marked.then(|| (subject.to_owned(), since))))
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some((subject, since)) = &self.0 else { return };
        UNDER_WAY.with_borrow_mut(|under_way| {
            // It may be another's by now.
            if under_way.get(subject) == Some(since) {
                under_way.remove(subject);
            }
        });
    }
}

fn is_under_way(subject: &str) -> bool {
    UNDER_WAY
        .with_borrow(|under_way| under_way.get(subject).is_some_and(|since| runtime::now() < since + LONGEST))
}
