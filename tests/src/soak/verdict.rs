//! What clients saw, and whether it is clean.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::delays::Delays;
use super::wire::Form;

/// What one client saw.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its form.
    pub form: Form,
    /// The number that must come next.
    pub next: i64,
    /// Numbers that were passed over, and may still come.
    pub missing: BTreeSet<i64>,
    /// How many numbers came, all counted.
    pub received: u64,
    /// Numbers that came again.
    pub doubled: u64,
    /// Numbers that came behind a later one.
    pub reordered: u64,
    /// Connections that opened.
    pub opened: u64,
    /// Everything else that happened, and how often.
    pub told: BTreeMap<String, u64>,
    /// How long each number took from its writer, in microseconds.
    pub delays: Vec<u32>,
}

impl Seen {
    /// Nothing yet: the first number is 1.
    pub fn nothing(form: Form) -> Self {
        Self {
            form,
            next: 1,
            missing: BTreeSet::new(),
            received: 0,
            doubled: 0,
            reordered: 0,
            opened: 0,
            told: BTreeMap::new(),
            delays: Vec::new(),
        }
    }

    /// A number came.
    pub fn number(&mut self, n: i64, delay: u32) {
        self.received += 1;
        self.delays.push(delay);
        if n >= self.next {
            self.missing.extend(self.next..n);
            self.next = n + 1;
        } else if self.missing.remove(&n) {
            self.reordered += 1;
        } else {
            self.doubled += 1;
        }
    }

    /// Something else happened.
    pub fn note(&mut self, what: impl Into<String>) {
        *self.told.entry(what.into()).or_default() += 1;
    }

    /// Whether it has every number up to this one.
    pub fn has(&self, n: i64) -> bool {
        self.next > n
    }
}

/// What a crowd saw.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Of each client.
    pub clients: Vec<Seen>,
}

/// What may happen to any client under faults, beside what a run allows: it is how a client learns that it must come back.
const USUAL: &[&str] = &[
    // Ours.
    "left",
    // The server or the network went away.
    "cut",
    "no connection",
    "503",
    "close 1001",
    // Of the protocol.
    "ready",
    "keepalive",
    "id",
];

impl Verdict {
    fn sum(&self, count: impl Fn(&Seen) -> u64) -> u64 {
        self.clients.iter().map(count).sum()
    }

    /// Numbers that did not come, doubled ones, reordered ones, of all clients.
    pub fn faults(&self) -> (u64, u64, u64) {
        let lost = |seen: &Seen| u64::try_from(seen.missing.len()).unwrap_or(u64::MAX);
        (self.sum(lost), self.sum(|seen| seen.doubled), self.sum(|seen| seen.reordered))
    }

    /// How many connections opened again.
    pub fn reconnects(&self) -> u64 {
        self.sum(|seen| seen.opened.saturating_sub(1))
    }

    /// Everything that the clients were told besides numbers.
    pub fn told(&self) -> BTreeMap<String, u64> {
        let mut told = BTreeMap::new();
        for (what, times) in self.clients.iter().flat_map(|seen| &seen.told) {
            *told.entry(what.clone()).or_default() += times;
        }
        told
    }

    /// How long the numbers took.
    pub fn delays(&self) -> Delays {
        Delays::of(self.clients.iter().flat_map(|seen| &seen.delays).copied())
    }

    /// Prints it, and checks that nothing was lost, doubled, or reordered, and that nobody was told anything unusual but
    /// what is allowed.
    ///
    /// # Panics
    /// When it is not so.
    pub fn expect_clean(&self, allowed: &[&str]) {
        println!("{self}");
        assert_eq!(self.faults(), (0, 0, 0), "lost, doubled, reordered:\n{}", self.unclean());
        for what in self.told().keys() {
            assert!(
                USUAL.contains(&what.as_str()) || allowed.contains(&what.as_str()),
                "a client was told: {what}"
            );
        }
    }

    fn unclean(&self) -> String {
        let is_unclean = |seen: &&Seen| !seen.missing.is_empty() || seen.doubled + seen.reordered > 0;
        let line = |seen: &Seen| {
            let Seen { form, next, missing, doubled, reordered, told, .. } = seen;
            let missing: Vec<_> = missing.iter().take(20).collect();
            format!(
                "{form:?}: next {next}, missing {missing:?} …, {doubled} doubled, {reordered} reordered, {told:?}"
            )
        };
        self.clients.iter().filter(is_unclean).take(10).map(line).collect::<Vec<_>>().join("\n")
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (lost, doubled, reordered) = self.faults();
        write!(
            f,
            "{} clients, {} numbers received, {} reconnects: {lost} lost, {doubled} doubled, {reordered} reordered; \
             {}; told: {:?}",
            self.clients.len(),
            self.sum(|seen| seen.received),
            self.reconnects(),
            self.delays(),
            self.told(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(numbers: &[i64]) -> Verdict {
        let mut seen = Seen::nothing(Form::Plain);
        for n in numbers {
            seen.number(*n, 0);
        }
        Verdict { clients: vec![seen] }
    }

    #[test]
    fn what_is_lost_doubled_and_reordered_is_counted_apart() {
        assert_eq!(verdict(&[1, 2, 3]).faults(), (0, 0, 0));
        assert_eq!(verdict(&[1, 3, 4]).faults(), (1, 0, 0));
        assert_eq!(verdict(&[1, 2, 2, 3, 1]).faults(), (0, 2, 0));
        assert_eq!(verdict(&[1, 3, 2, 4]).faults(), (0, 0, 1));
        assert_eq!(verdict(&[3, 2]).faults(), (1, 0, 1), "1 never came");
    }
}
