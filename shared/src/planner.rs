//! What MongoDB runs once for many bindings of a definition, and what is asked of every event for each of them.
//!
//! A binding's stages could all run in a cursor of its own, and that is what they mean. A [`Plan`] takes the `$match` stages
//! with variables out of them, for a [`Matcher`] to evaluate on the events that one cursor brings to all. It does so only
//! where no event can come out differently:
//!
//! - nothing may depend on when or how often it runs (`$$NOW`, `$rand`, `$sampleRate`);
//! - what stands before a `$match` with variables stays there, but must be unable to fail: MongoDB takes the `$match` ahead
//!   of it where it can, and so keeps away events on which it would fail;
//! - a `$match` with variables must be one that the matcher evaluates;
//! - what stands behind it would run ahead of it, on events that it keeps away: so that must be pure, unable to fail, and
//!   leave alone what the `$match` reads. That is another `$match`, a projection that only keeps or drops fields, or a
//!   constant or a copy in a field at the top;
//! - a projection that drops what the `$match` reads stays behind it, for the hub to apply ([`Residual`]). MongoDB drops
//!   what nobody needs any more; whatever stands behind must read nothing that was dropped, and cannot compute;
//! - so does what drops the documents of updates, which are looked up for a filter of documents. It is left out where the
//!   definition lets no update pass, and then it may read the documents of the others.
//!
//! For anything else the binding has a source of its own, and the plan says why.

mod kept;
mod purity;
mod reason;
mod residual;
#[cfg(test)]
mod tests;
mod updates;

use bson::{Bson, Document, doc};

use self::{
    kept::Kept,
    purity::{holds, impure, never_fails},
};
pub use self::{
    reason::{Origin, Own, Reason},
    residual::Residual,
};
use crate::{
    definition::{Binding, Resolved},
    matcher::{Matcher, Read},
    visibility::without_documents_of_updates,
};

/// How the events of one binding come about.
#[derive(Clone, Debug)]
pub struct Plan {
    source: Binding,
    /// Where each stage of the source comes from.
    origins: Vec<Origin>,
    filters: Vec<Evaluated>,
    matcher: Option<Matcher>,
    residual: Residual,
    own: Option<Own>,
}

/// A filter that is evaluated on the events of the source.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// Where it comes from.
    pub origin: Origin,
    /// What of it MongoDB does not evaluate.
    pub filter: Document,
    matcher: Matcher,
}

impl Plan {
    /// The plan for a binding behind `view`: stages that come before its own, such as a permission's. The filters among them
    /// are taken to differ from binding to binding.
    pub fn new(view: &[Document], binding: &Binding) -> Self {
        let view = view.iter().map(|stage| {
            let varying = match stage.get("$match") {
                Some(Bson::Document(filter)) => filter.keys().cloned().collect(),
                _ => Vec::new(),
            };
            (Origin::Permission, Resolved { stage: stage.clone(), varying })
        });
        let stages = binding.stages().map(|(index, resolved)| (Origin::Stage(index), resolved));
        let stages: Vec<(Origin, Resolved)> = view.chain(stages).collect();
        match Split::of(&stages) {
            Ok(Split { origins, pipeline, filters, residual, .. }) => {
                let matchers = filters.iter().map(|evaluated| evaluated.matcher.clone());
                let matcher = (!filters.is_empty()).then(|| Matcher::all(matchers));
                let source = Binding::shared(pipeline, binding.options());
                Self { source, origins, filters, matcher, residual, own: None }
            }
            Err(own) => {
                let (origins, pipeline) =
                    stages.into_iter().map(|(origin, resolved)| (origin, resolved.stage)).unzip();
                let source = Binding::shared(pipeline, binding.options());
                Self {
                    source,
                    origins,
                    filters: Vec::new(),
                    matcher: None,
                    residual: Residual::default(),
                    own: Some(own),
                }
            }
        }
    }

    /// What MongoDB runs: bindings whose plans have the same source can share a cursor.
    pub fn source(&self) -> &Binding {
        &self.source
    }

    /// The stages of the source, with what each comes from.
    pub fn stages(&self) -> impl Iterator<Item = (Origin, &Document)> {
        self.origins.iter().copied().zip(self.source.pipeline())
    }

    /// What an event of the source must match to be one of the binding; none where all do.
    pub fn matcher(&self) -> Option<&Matcher> {
        self.matcher.as_ref()
    }

    /// What the matcher is made of.
    pub fn filters(&self) -> &[Evaluated] {
        &self.filters
    }

    /// What is made of an event that matches, before it is told.
    pub fn residual(&self) -> &Residual {
        &self.residual
    }

    /// Why variables are left to MongoDB, and so a source of its own; none where no variable is.
    pub fn own(&self) -> Option<&Own> {
        self.own.as_ref()
    }
}

#[derive(Default)]
struct Split {
    pipeline: Vec<Document>,
    /// Where each of these stages comes from.
    origins: Vec<Origin>,
    filters: Vec<Evaluated>,
    /// What is read by the filters, and by the residual to know updates.
    reads: Vec<Read>,
    residual: Residual,
}

impl Split {
    fn of(stages: &[(Origin, Resolved)]) -> Result<Self, Own> {
        let mut split = Self::default();
        let is_fixed = stages.iter().all(|(_, resolved)| resolved.varying.is_empty());
        for (index, (origin, Resolved { stage, varying })) in stages.iter().enumerate() {
            let Some((operator, argument)) = stage.iter().next() else { continue };
            let taken = if is_fixed {
                split.leave(*origin, stage.clone());
                Ok(())
            } else if *stage == without_documents_of_updates() {
                if !updates::never_pass(&stages[index + 1..]) {
                    split.drop_of_updates(*origin, stage);
                }
                Ok(())
            } else if let Some(impure) = impure(operator, argument) {
                Err(Reason::Differs(impure.to_owned()))
            } else {
                match (operator.as_str(), argument) {
                    ("$match", Bson::Document(filter)) => split.add(*origin, filter, varying),
                    _ if !varying.is_empty() => Err(Reason::Variable { operator: operator.clone() }),
                    _ => split.move_ahead(*origin, stage, operator, argument),
                }
            };
            taken.map_err(|reason| Own { origin: *origin, reason })?;
        }
        Ok(split)
    }

    fn leave(&mut self, origin: Origin, stage: Document) {
        self.pipeline.push(stage);
        self.origins.push(origin);
    }

    /// A `$match`, of which these members have variables. What has none and cannot fail is for MongoDB.
    fn add(&mut self, origin: Origin, filter: &Document, varying: &[String]) -> Result<(), Reason> {
        let mut fixed = Document::new();
        let mut rest = Document::new();
        for (key, value) in filter {
            let member = doc! { key: value.clone() };
            // MongoDB 6.0 loses the members of some `$nor`, beside some conditions and not beside others, and refuses what is left:
            // one is evaluated here, or it is left to MongoDB with all that stands beside it.
            let is_fixed = !varying.contains(key)
                && !holds(&member, |key| key == "$regex")
                && (!holds(&member, |key| key == "$expr") || Matcher::compile(&member).is_ok())
                && !holds(&member, |key| key == "$nor");
            if is_fixed { &mut fixed } else { &mut rest }.insert(key, value.clone());
        }
        if !self.residual.is_empty() {
            // It is asked of events on which nothing was dropped yet.
            let reads = Matcher::compile(filter).map_err(Reason::Unsupported)?.reads();
            if let Some(reason) = reads.iter().find_map(|read| self.residual.hides(read)) {
                return Err(reason);
            }
        }
        if !fixed.is_empty() {
            self.leave(origin, doc! { "$match": fixed });
        }
        if !rest.is_empty() {
            let matcher = Matcher::compile(&rest).map_err(Reason::Unsupported)?;
            self.reads.extend(matcher.reads());
            self.filters.push(Evaluated { origin, filter: rest, matcher });
        }
        Ok(())
    }

    /// Filters before it read the documents, and none behind it does: those of updates are dropped by the node.
    fn drop_of_updates(&mut self, origin: Origin, stage: &Document) {
        self.residual.push_of_updates(origin, stage.clone());
        self.reads.push(Read::Value(vec![updates::OPERATION.to_owned()]));
    }

    /// Any other stage without variables: it runs ahead of the filters that stand before it.
    fn move_ahead(
        &mut self,
        origin: Origin,
        stage: &Document,
        operator: &str,
        argument: &Bson,
    ) -> Result<(), Reason> {
        let operator_of = || operator.to_owned();
        match Kept::of(operator, argument) {
            Some(kept) => {
                let changed = self.reads.iter().find(|read| !kept.keeps(read));
                if changed.is_some() || !self.residual.may_follow(&kept) {
                    let path = changed.map(|read| read.path().to_vec()).unwrap_or_default();
                    return self.put_behind(origin, stage, kept, path);
                }
            }
            None if !self.filters.is_empty() => return Err(Reason::Computes { operator: operator_of() }),
            // MongoDB itself may take a $match ahead of it, which then keeps bad events away.
            None if !never_fails(operator, argument) => {
                return Err(Reason::MayFail { operator: operator_of() });
            }
            None => {}
        }
        self.leave(origin, stage.clone());
        Ok(())
    }

    /// A projection that changes what is read at `path`, or comes behind one that does. MongoDB drops what nobody needs.
    fn put_behind(
        &mut self,
        origin: Origin,
        stage: &Document,
        kept: Kept,
        path: Vec<String>,
    ) -> Result<(), Reason> {
        let operator = || stage.keys().next().cloned().unwrap_or_default();
        let Some(projection) = kept.projection() else {
            return Err(if self.residual.is_empty() {
                Reason::Changes { operator: operator(), path }
            } else if self.residual.projects() {
                Reason::BehindDropped { operator: operator() }
            } else {
                Reason::BehindUnshown { operator: operator() }
            });
        };
        if let Some(reduced) = kept.beside(&self.reads).filter(|_| !self.residual.projects()) {
            self.leave(origin, reduced);
        }
        self.residual.push(origin, stage.clone(), kept, projection);
        Ok(())
    }
}
