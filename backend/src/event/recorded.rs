//! A change with the pre- and post-image of its document, and what was made of it for those who see some of it.

use std::sync::{Arc, Mutex, PoisonError};

use bson::{RawDocument, RawDocumentBuf};
use shared::visibility::{Judge, Verdict};

use super::{Event, Kind};
use crate::{position::Position, seal::Seal};

/// So many different things that are told of one change are kept for those who are told the same: there are as many as there
/// are projections, and whether it is a change, an `enter`, or a `leave`.
const KEPT: usize = 16;

/// The change as MongoDB sent it.
#[derive(Debug)]
pub(super) struct Recorded {
    whole: RawDocumentBuf,
    /// Who are told the same share an event, which is encoded once for all of them.
    told: Mutex<Vec<Arc<Event>>>,
}

impl Recorded {
    pub(super) fn new(whole: RawDocumentBuf) -> Self {
        Self { whole, told: Mutex::default() }
    }

    pub(super) fn whole(&self) -> &RawDocument {
        &self.whole
    }

    /// What the judge lets somebody see of it.
    pub(super) fn seen_by(&self, judge: &Judge, position: &Position, seal: &Arc<Seal>) -> Option<Arc<Event>> {
        // What cannot be judged is not known.
        let kind = of_verdict(judge.judge(&self.whole).unwrap_or(Verdict::Unknown))?;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(event) = told.iter().find(|event| is_same(&event.kind, &kind)) {
            return Some(Arc::clone(event));
        }
        if let Kind::Gap = kind {
            self.warn();
        }
        let event = Arc::new(Event::new(kind, position.clone(), seal));
        if told.len() < KEPT {
            told.push(Arc::clone(&event));
        }
        Some(event)
    }

    fn warn(&self) {
        let name = |part| self.whole.get_document("ns").and_then(|namespace| namespace.get_str(part));
        let (database, collection) = (name("db").unwrap_or_default(), name("coll").unwrap_or_default());
        tracing::warn!(
            database,
            collection,
            "a change without its pre- or post-image: what was missed is not known"
        );
    }
}

fn of_verdict(verdict: Verdict) -> Option<Kind> {
    Some(match verdict {
        Verdict::Nothing => return None,
        Verdict::Event(seen) => Kind::Change { whole: seen, residual: Arc::default() },
        Verdict::Enter(seen) => Kind::Enter(seen),
        Verdict::Leave { key, event } => Kind::Leave { key, event },
        Verdict::Unknown => Kind::Gap,
    })
}

fn is_same(one: &Kind, other: &Kind) -> bool {
    match (one, other) {
        (Kind::Change { whole: one, .. }, Kind::Change { whole: other, .. })
        | (Kind::Enter(one), Kind::Enter(other)) => one == other,
        (Kind::Leave { key: one, event: of_one }, Kind::Leave { key: other, event: of_other }) => {
            one == other && of_one == of_other
        }
        (Kind::Gap, Kind::Gap) => true,
        _ => false,
    }
}
