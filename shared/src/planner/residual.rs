//! What is made of the events of a source once they have matched.

use bson::{Document, RawDocument, RawDocumentBuf, error::Error};

use super::{Kept, Origin, Reason, updates};
use crate::{matcher::Read, visibility::Projection};

/// What drops something that filters before it read: MongoDB cannot run it ahead of those, so the hub runs it behind. It is
/// done in the order of the stages.
#[derive(Clone, Debug, Default)]
pub struct Residual {
    stages: Vec<(Origin, Document)>,
    steps: Vec<Step>,
}

/// What is done for one stage.
#[derive(Clone, Debug)]
struct Step {
    /// Whether it is done to updates alone.
    of_updates: bool,
    kept: Kept,
    projection: Projection,
}

impl Residual {
    /// A projection.
    pub(super) fn push(&mut self, origin: Origin, stage: Document, kept: Kept, projection: Projection) {
        self.stages.push((origin, stage));
        self.steps.push(Step { of_updates: false, kept, projection });
    }

    /// The stage that drops the documents of updates.
    pub(super) fn push_of_updates(&mut self, origin: Origin, stage: Document) {
        let paths = vec![vec!["fullDocument".to_owned()]];
        let projection = Projection::all_but(&paths).expect("it is a path");
        self.stages.push((origin, stage));
        self.steps.push(Step { of_updates: true, kept: Kept::AllBut(paths), projection });
    }

    /// Whether events are told as they come.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The stages, with what each comes from.
    pub fn stages(&self) -> &[(Origin, Document)] {
        &self.stages
    }

    /// Whether there is a projection among them, of whatever events.
    pub(super) fn projects(&self) -> bool {
        self.steps.iter().any(|step| !step.of_updates)
    }

    /// Why a `$match` may not read this before all that is done here; none where it reads the same as behind.
    pub(super) fn hides(&self, read: &Read) -> Option<Reason> {
        let path = || read.path().to_vec();
        let step = self.steps.iter().find(|step| !step.kept.keeps(read))?;
        Some(if step.of_updates {
            Reason::Unshown { path: path() }
        } else {
            Reason::Dropped { path: path() }
        })
    }

    /// Whether all of it may as well be done behind a stage that comes next, and keeps what tells updates from others.
    pub(super) fn may_follow(&self, kept: &Kept) -> bool {
        self.steps.iter().all(|step| match &step.kept {
            Kept::AllBut(paths) if step.of_updates => paths.iter().all(|path| kept.leaves_alone(path)),
            _ => false,
        })
    }

    /// The event as MongoDB would make it with these stages; itself where there are none that change it.
    pub fn apply(&self, event: &RawDocument) -> Result<Option<RawDocumentBuf>, Error> {
        let mut made: Option<RawDocumentBuf> = None;
        for Step { of_updates, projection, .. } in &self.steps {
            let event = made.as_deref().unwrap_or(event);
            if !of_updates || updates::is_one(event) {
                made = Some(projection.project(event)?);
            }
        }
        Ok(made)
    }
}
