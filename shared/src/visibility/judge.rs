//! What an event is to one who sees a part of a collection, where the documents before and after the change are known.

use bson::{Document, RawBsonRef, RawDocument, RawDocumentBuf, doc, error::Error, raw::cstr};

use super::{
    projection::{Projection, Shown},
    stages,
    update::Seen,
};
use crate::{
    definition::{Before, FullDocument, StreamOptions},
    matcher::{Matcher, Unsupported},
};

/// What a subscriber is told of a change.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The change, as far as it is seen.
    Event(RawDocumentBuf),
    /// A document that was there already comes into view by this change.
    Enter(RawDocumentBuf),
    /// A document goes out of view, or is deleted.
    Leave {
        /// Its `documentKey`.
        key: RawDocumentBuf,
        /// Its delete as an event, for a form without a word for leaving; `None` where it only went out of view.
        event: Option<RawDocumentBuf>,
    },
    /// Nothing: it happened out of view, or to hidden fields.
    Nothing,
    /// MongoDB has not kept what decides: whether something was missed is not known.
    Unknown,
}

/// A visibility and the stages of a definition, compiled. It judges events that carry the pre- and post-images.
#[derive(Clone, Debug)]
pub struct Judge {
    /// What a document must match, as it is, on one side of a change of which anything is told.
    concern: Matcher,
    /// The filter of the visibility, on documents as they are.
    visible: Option<Matcher>,
    /// What the definition asks of the document, on documents as they are seen.
    wanted: Option<Matcher>,
    /// What it asks of the event besides.
    of_event: Matcher,
    /// All that it asks, on the event.
    declared: Matcher,
    projection: Projection,
    options: StreamOptions,
}

/// One side of a change.
struct Side<'a> {
    document: &'a RawDocument,
    /// Whether the visibility shows it.
    visible: bool,
    /// Whether it is wanted as well.
    in_view: bool,
}

impl Judge {
    /// `wanted` and `of_event` are the two parts of the filters `declared`; `concern` must hold for a document, as it is, on
    /// one side of a change of which anything is told, if [`Self::decisive`] gives one.
    pub(super) fn compile(
        concern: &[Document],
        read_filter: Option<&Document>,
        wanted: &[Document],
        of_event: &[Document],
        declared: &[Document],
        projection: &Projection,
        options: StreamOptions,
    ) -> Result<Self, Unsupported> {
        let all = |filters: &[Document]| match filters {
            [] => Matcher::compile(&doc! {}),
            filters => Matcher::compile(&doc! { "$and": filters }),
        };
        Ok(Self {
            concern: all(concern)?,
            visible: read_filter.map(Matcher::compile).transpose()?,
            wanted: if wanted.is_empty() { None } else { Some(all(wanted)?) },
            of_event: all(of_event)?,
            declared: all(declared)?,
            projection: projection.clone(),
            options,
        })
    }

    /// What one of the [`Self::decisive`] documents must match, or nothing is told of the change.
    pub fn concern(&self) -> &Matcher {
        &self.concern
    }

    /// The documents of an event that decide, whom it concerns; `None` where it may concern everybody. It is the same for all
    /// judges of a definition that agree in [`Self::has_view`].
    pub fn decisive<'a>(&self, event: &'a RawDocument) -> Option<[Option<&'a RawDocument>; 2]> {
        let document = |member| event.get_document(member).ok();
        let (before, after) = (document("fullDocumentBeforeChange"), document("fullDocument"));
        let kind = event.get_str("operationType").ok()?;
        match (kind, before, after) {
            ("insert", _, Some(_)) => Some([after, None]),
            // Nothing is asked of what was before.
            ("update" | "replace", _, Some(_)) if !self.has_view() => Some([after, None]),
            ("update" | "replace", Some(_), Some(_)) => Some([after, before]),
            ("delete", Some(_), _) if self.has_view() => Some([before, None]),
            _ => None,
        }
    }

    /// Judges an event as MongoDB sent it.
    pub fn judge(&self, event: &RawDocument) -> Result<Verdict, Error> {
        let kind = event.get_str("operationType").unwrap_or_default();
        let before = self.side(event, "fullDocumentBeforeChange")?;
        let after = self.side(event, "fullDocument")?;
        match (kind, before, after) {
            ("insert", _, Some(after)) => self.event(event, after.in_view, Share::All),
            ("update" | "replace", Some(before), Some(after)) => match (before.in_view, after.in_view) {
                (true, true) if self.looks_the_same(before.document, after.document)? => Ok(Verdict::Nothing),
                (true, true) => self.event(event, true, Share::All),
                (false, true) => self.enter(event, before.visible),
                (true, false) => self.leave(event, after.visible),
                (false, false) => Ok(Verdict::Nothing),
            },
            ("delete", Some(before), _) if before.in_view && self.has_view() => self.delete(event),
            ("delete", Some(_), _) if self.has_view() => Ok(Verdict::Nothing),
            // Without its pre-image a change may be one by which a document comes or goes.
            ("update" | "replace", None, Some(after)) if after.in_view => {
                if self.visible.is_some() {
                    self.enter(event, false)
                } else {
                    self.event(event, true, Share::All)
                }
            }
            ("insert" | "update" | "replace" | "delete", ..) if self.visible.is_some() => {
                Ok(Verdict::Unknown)
            }
            ("delete", None, _) if self.has_view() => self.delete(event),
            ("update" | "replace", None, Some(_)) => self.leave(event, true),
            // Of the collection itself.
            _ => self.event(event, self.visible.is_none(), Share::All),
        }
    }

    /// Whether documents come into view and go out of it.
    pub fn has_view(&self) -> bool {
        self.visible.is_some() || self.wanted.is_some()
    }

    fn side<'a>(&self, event: &'a RawDocument, member: &str) -> Result<Option<Side<'a>>, Error> {
        let Some(RawBsonRef::Document(document)) = event.get(member)? else { return Ok(None) };
        let visible = self.visible.as_ref().is_none_or(|filter| filter.matches(document));
        let wanted = match &self.wanted {
            Some(filter) if visible && self.projection.is_everything() => filter.matches(document),
            Some(filter) if visible => filter.matches(&self.projection.project(document)?),
            _ => true,
        };
        Ok(Some(Side { document, visible, in_view: visible && wanted }))
    }

    /// Whether a change from one to the other cannot be seen. The version that each write sets would tell of what is hidden.
    fn looks_the_same(&self, before: &RawDocument, after: &RawDocument) -> Result<bool, Error> {
        if self.projection.is_everything() {
            return Ok(false);
        }
        let seen = |document| -> Result<RawDocumentBuf, Error> {
            let mut seen = RawDocumentBuf::new();
            for member in &self.projection.project(document)? {
                let (name, value) = member?;
                if name.as_str() != "_etag" {
                    seen.append(name, value);
                }
            }
            Ok(seen)
        };
        Ok(seen(before)?.as_bytes() == seen(after)?.as_bytes())
    }

    fn event(&self, event: &RawDocument, in_view: bool, share: Share) -> Result<Verdict, Error> {
        if !in_view {
            return Ok(Verdict::Nothing);
        }
        Ok(match self.seen(event, share)? {
            Some(seen) if self.declared.matches(&seen) => Verdict::Event(seen),
            _ => Verdict::Nothing,
        })
    }

    /// `was_visible`: it comes into what is wanted, and the visibility has shown it all the time.
    fn enter(&self, event: &RawDocument, was_visible: bool) -> Result<Verdict, Error> {
        let share = if was_visible { Share::All } else { Share::After };
        Ok(match self.seen(event, share)? {
            Some(seen) if self.declared.matches(&seen) => Verdict::Enter(seen),
            _ => Verdict::Nothing,
        })
    }

    /// `still_visible`: it leaves what is wanted, and the visibility goes on to show it.
    fn leave(&self, event: &RawDocument, still_visible: bool) -> Result<Verdict, Error> {
        let share = if still_visible { Share::Change } else { Share::Before };
        let seen = self.seen(event, share)?.unwrap_or_default();
        Ok(if self.of_event.matches(&seen) {
            Verdict::Leave { key: self.key(event)?, event: None }
        } else {
            Verdict::Nothing
        })
    }

    fn delete(&self, event: &RawDocument) -> Result<Verdict, Error> {
        let seen = self.seen(event, Share::Before)?.unwrap_or_default();
        if !self.of_event.matches(&seen) {
            return Ok(Verdict::Nothing);
        }
        let as_event = self.declared.matches(&seen).then_some(seen);
        Ok(Verdict::Leave { key: self.key(event)?, event: as_event })
    }

    /// What is seen of an event; `None` where the update was of hidden fields alone.
    fn seen(&self, event: &RawDocument, share: Share) -> Result<Option<RawDocumentBuf>, Error> {
        let is_update = event.get_str("operationType").is_ok_and(|kind| kind == "update");
        let mut seen = RawDocumentBuf::new();
        for member in event {
            let (name, value) = member?;
            match (name.as_str(), value) {
                ("fullDocument", _) if !share.has_after() => {}
                ("fullDocument", _) if is_update && self.options.full_document == FullDocument::Off => {}
                ("fullDocumentBeforeChange", _)
                    if !share.has_before() || self.options.full_document_before_change == Before::Off => {}
                ("updateDescription", _) if !share.has_description() => {}
                (_, value) if self.projection.is_everything() => seen.append(name, value),
                ("fullDocument" | "fullDocumentBeforeChange", RawBsonRef::Document(document)) => {
                    seen.append(name, self.projection.project(document)?);
                }
                ("documentKey", RawBsonRef::Document(_)) => seen.append(name, self.key(event)?),
                ("updateDescription", RawBsonRef::Document(description)) => {
                    match self.projection.describe(description)? {
                        Seen::Nothing if share == Share::All => return Ok(None),
                        Seen::Nothing | Seen::Something => {}
                        Seen::Description(description) => seen.append(name, description),
                    }
                }
                (_, value) => seen.append(name, value),
            }
        }
        Ok(Some(seen))
    }

    fn key(&self, event: &RawDocument) -> Result<RawDocumentBuf, Error> {
        let mut key = RawDocumentBuf::new();
        if let Ok(whole) = event.get_document("documentKey") {
            for member in whole {
                let (name, value) = member?;
                if self.projection.shows(name.as_str()) == Shown::Whole {
                    key.append(name, value);
                }
            }
        } else {
            key.append(cstr!("_id"), RawBsonRef::Null);
        }
        Ok(key)
    }
}

/// Which sides of a change may be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    All,
    /// What came of it, and not what it was before or how it came.
    After,
    /// What it was before, and not what came of it.
    Before,
    /// What it was before and how it changed.
    Change,
}

impl Share {
    fn has_after(self) -> bool {
        matches!(self, Self::All | Self::After)
    }

    fn has_before(self) -> bool {
        matches!(self, Self::All | Self::Before | Self::Change)
    }

    fn has_description(self) -> bool {
        matches!(self, Self::All | Self::Change)
    }
}

/// The conditions of a filter of events, split: on the document alone, and the others.
pub(super) fn split(filter: &Document) -> (Vec<Document>, Vec<Document>) {
    let (mut on_document, mut others) = (Vec::new(), Vec::new());
    for (key, value) in filter {
        let condition = doc! { key: value.clone() };
        match (key.as_str(), value) {
            ("$and", bson::Bson::Array(filters))
                if filters.iter().all(|filter| filter.as_document().is_some()) =>
            {
                for filter in filters.iter().filter_map(bson::Bson::as_document) {
                    let (documents, rest) = split(filter);
                    on_document.extend(documents);
                    others.extend(rest);
                }
            }
            _ => match stages::of_documents(&condition) {
                Some(condition) => on_document.push(condition),
                None => others.push(condition),
            },
        }
    }
    (on_document, others)
}
