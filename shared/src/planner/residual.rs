//! What is made of the events of a source once they have matched.

use bson::{Document, RawDocument, RawDocumentBuf, error::Error};

use super::{Kept, Origin};
use crate::{matcher::Read, visibility::Projection};

/// Projections that drop what filters before them read: MongoDB cannot run them ahead of those, so the hub runs them behind.
#[derive(Clone, Debug, Default)]
pub struct Residual {
    stages: Vec<(Origin, Document)>,
    projections: Vec<(Kept, Projection)>,
}

impl Residual {
    pub(super) fn push(&mut self, origin: Origin, stage: Document, kept: Kept, projection: Projection) {
        self.stages.push((origin, stage));
        self.projections.push((kept, projection));
    }

    /// Whether events are told as they come.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// The stages, with what each comes from.
    pub fn stages(&self) -> &[(Origin, Document)] {
        &self.stages
    }

    /// Whether a filter reads the same as before.
    pub(super) fn keeps(&self, read: &Read) -> bool {
        self.projections.iter().all(|(kept, _)| kept.keeps(read))
    }

    /// The event as MongoDB would make it with these stages; itself where there are none.
    pub fn apply(&self, event: &RawDocument) -> Result<Option<RawDocumentBuf>, Error> {
        let mut made: Option<RawDocumentBuf> = None;
        for (_, projection) in &self.projections {
            made = Some(projection.project(made.as_deref().unwrap_or(event))?);
        }
        Ok(made)
    }
}
