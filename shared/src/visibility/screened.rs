//! A stream as one caller sees it: what MongoDB evaluates, and what is judged here.
//!
//! The visibility comes before the definition's stages, so that no stage can copy out what is hidden.
//!
//! - Where the collection records pre- and post-images, and the definition has `$match` stages alone, MongoDB sends the
//!   changes whole, and a [`Judge`] decides exactly, for each caller.
//! - Else MongoDB evaluates it all. With a filter an event passes by its document after the change; what was before is not
//!   known, so nothing is told of it: no `updateDescription`, no pre-image, no delete.

use std::sync::Arc;

use bson::{Document, doc};

use super::{
    Visibility,
    judge::{self, Judge},
    stages,
};
use crate::{
    definition::{Before, Binding, FullDocument, StreamOptions},
    planner::{Own, Plan, Residual},
};

/// The operations on one document.
const ON_DOCUMENTS: [&str; 4] = ["insert", "update", "replace", "delete"];

/// A binding behind a visibility.
#[derive(Clone, Debug)]
pub struct Screened {
    options: StreamOptions,
    ahead: Vec<Document>,
    declared: Vec<Document>,
    judge: Option<Arc<Judge>>,
    residual: Arc<Residual>,
    anybodys: bool,
    filtered: bool,
    /// How many of the stages ahead a plan has to place: the filter, and behind it what may hide what the filter reads, which
    /// is the projection of documents, and the drop of those of updates. The others change nothing that these read.
    to_place: usize,
    decides: Decides,
}

/// Who decides which events are for a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decides {
    /// MongoDB does: all that it sends are.
    MongoDb,
    /// A filter, which each caller has.
    Filter,
    /// A judge, by the images that come with the events.
    Judge,
}

impl Screened {
    /// `images`: whether the collection records pre- and post-images (its option `changeStreamPreAndPostImages`).
    pub fn new(binding: &Binding, visibility: &Visibility, images: bool) -> Self {
        if images && let Some(judged) = Self::judged(binding, visibility) {
            return judged;
        }
        let mut options = binding.options();
        let mut to_place = to_place(visibility);
        let mut ahead = Vec::new();
        if let Some(filter) = visibility.read_filter() {
            ahead.push(doc! { "$match": stages::on_member(filter, "fullDocument") });
            options.full_document_before_change = Before::Off;
        }
        ahead.extend(visibility.projection().stages());
        if visibility.read_filter().is_some() {
            ahead.push(doc! { "$unset": "updateDescription" });
            if options.full_document == FullDocument::Off {
                options.full_document = FullDocument::UpdateLookup;
                ahead.insert(to_place, stages::without_documents_of_updates());
                to_place += 1;
            }
        }
        Self {
            options,
            ahead,
            declared: binding.pipeline().to_vec(),
            judge: None,
            residual: Arc::default(),
            anybodys: anybodys(binding, visibility),
            filtered: visibility.read_filter().is_some(),
            to_place,
            decides: Decides::MongoDb,
        }
    }

    fn judged(binding: &Binding, visibility: &Visibility) -> Option<Self> {
        let (filter, projection) = (visibility.read_filter(), visibility.projection());
        let declared: Vec<Document> = binding
            .pipeline()
            .iter()
            .map(|stage| stage.get_document("$match").ok().cloned())
            .collect::<Option<_>>()?;
        let (mut wanted, mut of_event) = (Vec::new(), Vec::new());
        for filter in &declared {
            let (on_document, others) = judge::split(filter);
            wanted.extend(on_document);
            of_event.extend(others);
        }
        let options = binding.options();
        // On hidden fields the judge sees less than there is.
        let is_shown = |condition: &Document| projection.shows_fields(condition);
        let mut concern: Vec<Document> = wanted.iter().filter(|&it| is_shown(it)).cloned().collect();
        let mut for_all: Vec<Document> = without_values(binding).filter(is_shown).collect();
        // What a definition wants is a view to its clients where it asks for what was before.
        if filter.is_none() && options.full_document_before_change == Before::Off {
            wanted.clear();
            for_all.clear();
            if options.full_document == FullDocument::Off {
                concern.clear();
            }
        }
        if filter.is_none() && projection.is_everything() && wanted.is_empty() {
            return None;
        }
        concern.extend(filter.cloned());
        let judge =
            Judge::compile(&concern, filter, &wanted, &of_event, &declared, projection, options).ok()?;
        Some(Self {
            options: StreamOptions {
                full_document: FullDocument::WhenAvailable,
                full_document_before_change: Before::WhenAvailable,
            },
            ahead: touching(&for_all, filter.is_some()).into_iter().collect(),
            declared: Vec::new(),
            judge: Some(Arc::new(judge)),
            residual: Arc::default(),
            anybodys: anybodys(binding, visibility),
            filtered: visibility.read_filter().is_some(),
            to_place: to_place(visibility),
            decides: Decides::MongoDb,
        })
    }

    /// The plan by which callers with other values and filters can share a cursor; or why they cannot.
    pub(crate) fn plan(&self, binding: &Binding) -> Result<Plan, Own> {
        let plan = Plan::new(&self.ahead[..self.to_place], binding);
        match plan.own() {
            Some(own) => Err(own.clone()),
            None => Ok(plan),
        }
    }

    /// What the cursor brings that is shared by a plan: the same without the filters, which are asked for each caller.
    pub(crate) fn shared(&self, plan: &Plan) -> Self {
        let ahead = self.ahead[self.to_place..].to_vec();
        let declared = plan.source().pipeline().to_vec();
        let residual = Arc::new(plan.residual().clone());
        let decides = if plan.matcher().is_some() { Decides::Filter } else { Decides::MongoDb };
        Self { ahead, declared, residual, decides, ..self.clone() }
    }

    /// What the cursor brings that is shared by all whom a judge decides for: changes with both of their images.
    pub(crate) fn with_images(&self) -> Self {
        Self { judge: None, decides: Decides::Judge, ..self.clone() }
    }

    /// Which documents MongoDB adds to the events.
    pub fn options(&self) -> StreamOptions {
        self.options
    }

    /// Which documents MongoDB adds to an event that it could not compute, to judge whose it is. Where an image is missing
    /// that a definition requires, and there are callers who may not know of it, the document as it is now stands for it, as
    /// for any update without images.
    pub fn options_in_judgement(&self) -> StreamOptions {
        let full_document = match self.options.full_document {
            FullDocument::Required if self.filtered => FullDocument::UpdateLookup,
            other => other,
        };
        StreamOptions { full_document, ..self.options }
    }

    /// Whether the events carry images that no caller is told of before a judge has decided what of them.
    pub fn hands_out_images(&self) -> bool {
        self.decides == Decides::Judge
    }

    /// Whether callers are asked one by one which of the events are for them; [`Self::ahead`] has none of their filters then.
    pub fn asks_each(&self) -> bool {
        self.decides != Decides::MongoDb
    }

    /// Whether there are documents that callers may not see.
    pub fn is_filtered(&self) -> bool {
        self.filtered
    }

    /// The stages of the visibility.
    pub fn ahead(&self) -> &[Document] {
        &self.ahead
    }

    /// The stages of the definition that MongoDB evaluates, behind those.
    pub fn declared(&self) -> &[Document] {
        &self.declared
    }

    /// What is made of an event that is for a caller, before it is told.
    pub fn residual(&self) -> &Arc<Residual> {
        &self.residual
    }

    /// Whether no value of a caller's stands in the stages.
    pub fn is_anybodys(&self) -> bool {
        self.anybodys
    }

    /// What decides for this caller, where the events come with their images.
    pub fn judge(&self) -> Option<&Arc<Judge>> {
        self.judge.as_ref()
    }
}

fn to_place(visibility: &Visibility) -> usize {
    match visibility.read_filter() {
        Some(_) if visibility.projection().is_everything() => 1,
        Some(_) => 2,
        None => 0,
    }
}

fn anybodys(binding: &Binding, visibility: &Visibility) -> bool {
    binding.values().is_empty() && visibility.read_filter().is_none()
}

/// What the `$match` stages of a definition ask of documents where no value of a caller's stands.
fn without_values(binding: &Binding) -> impl Iterator<Item = Document> {
    binding.stages().flat_map(|(_, resolved)| {
        let filter = resolved.stage.get_document("$match").into_iter().flatten();
        let fixed = filter.filter(|(key, _)| !resolved.varying.contains(key));
        let fixed = fixed.map(|(key, value)| (key.clone(), value.clone())).collect();
        judge::split(&fixed).0
    })
}

/// What may touch this view on either side: no less than what is judged later need pass. `filtered`: of the collection itself
/// nothing is told.
fn touching(view: &[Document], filtered: bool) -> Option<Document> {
    if view.is_empty() {
        return None;
    }
    let view = doc! { "$and": view };
    let is_document = |member: &str| doc! { member: { "$type": "object" } };
    let without = |kinds: &[&str], member: &str| doc! { "operationType": { "$in": kinds }, "$nor": [is_document(member)] };
    let mut either = vec![
        stages::on_member(&view, "fullDocument"),
        stages::on_member(&view, "fullDocumentBeforeChange"),
        without(&["update", "replace", "delete"], "fullDocumentBeforeChange"),
        without(&["update"], "fullDocument"),
    ];
    if !filtered {
        either.push(doc! { "operationType": { "$nin": ON_DOCUMENTS.as_slice() } });
    }
    Some(doc! { "$match": { "$or": either } })
}

#[cfg(test)]
mod tests {
    use bson::{Bson, DateTime, RawDocumentBuf};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::{
        definition::Definitions,
        variables::{ServerVariables, Variables},
        visibility::{Template, Verdict},
    };

    fn visibility(read_filter: &Document, projection: &Document) -> Visibility {
        let template = Template::check(Some(read_filter), None, Some(projection)).unwrap();
        template.resolve(&ServerVariables { user: None, now: DateTime::from_millis(0) }).unwrap()
    }

    fn screened(stream: Document, visibility: &Visibility, images: bool) -> Screened {
        let mut named = doc! { "uri": "s" };
        named.extend(stream);
        let definitions = Definitions::written(&Bson::Array(vec![named.into()])).unwrap();
        let definition = definitions.iter().next().unwrap().1.as_ref().unwrap();
        let server = ServerVariables { user: None, now: DateTime::from_millis(0) };
        Screened::new(&definition.bind(&Variables::default(), &server).unwrap(), visibility, images)
    }

    /// An event with these images: `null` stands for none.
    fn event(kind: &str, before: impl Into<Bson>, after: impl Into<Bson>) -> RawDocumentBuf {
        let mut event = doc! { "_id": { "_data": "82" }, "operationType": kind, "fullDocument": after.into(),
        "documentKey": { "_id": 1 }, "fullDocumentBeforeChange": before.into() };
        if kind == "update" {
            event.insert("updateDescription", doc! { "updatedFields": { "x": 1 }, "removedFields": [] });
        }
        RawDocumentBuf::try_from(&event).unwrap()
    }

    /// The verdict in a word, with the members that are told.
    fn verdict(screened: &Screened, event: &RawDocumentBuf) -> String {
        let told = |event: RawDocumentBuf| {
            let event = Document::try_from(event).unwrap();
            let mut told = Vec::new();
            for (name, short) in [
                ("fullDocumentBeforeChange", "before"),
                ("fullDocument", "after"),
                ("updateDescription", "how"),
            ] {
                if event.get(name).is_some_and(|value| *value != Bson::Null) {
                    told.push(short);
                }
            }
            told.join(" ")
        };
        match screened.judge().expect("it is judged here").judge(event).unwrap() {
            Verdict::Event(event) => format!("event: {}", told(event)),
            Verdict::Enter(event) => format!("enter: {}", told(event)),
            Verdict::Leave { key, event } => {
                assert_eq!(Document::try_from(key).unwrap(), doc! { "_id": 1 });
                event.map_or_else(|| "leave".to_owned(), |event| format!("leave, delete: {}", told(event)))
            }
            Verdict::Nothing => "nothing".to_owned(),
            Verdict::Unknown => "unknown".to_owned(),
        }
    }

    #[test]
    fn with_images_a_filter_decides_by_both_sides_of_a_change() {
        let own = doc! { "_id": 1, "tenant": "a" };
        let other = doc! { "_id": 1, "tenant": "b" };
        let none = Bson::Null;
        let visibility = visibility(&doc! { "tenant": "a" }, &doc! {});
        let stream = doc! { "stages": [], "fullDocumentBeforeChange": "whenAvailable" };
        let screened = screened(stream, &visibility, true);
        for (kind, before, after, expected) in [
            ("insert", none.clone(), own.clone().into(), "event: after"),
            ("insert", none.clone(), other.clone().into(), "nothing"),
            ("update", own.clone().into(), own.clone().into(), "event: before after how"),
            ("update", other.clone().into(), own.clone().into(), "enter: after"),
            ("update", own.clone().into(), other.clone().into(), "leave"),
            ("update", other.clone().into(), other.clone().into(), "nothing"),
            ("replace", other.clone().into(), own.clone().into(), "enter: after"),
            ("replace", own.clone().into(), other.clone().into(), "leave"),
            ("delete", own.clone().into(), none.clone(), "leave, delete: before"),
            ("delete", other.clone().into(), none.clone(), "nothing"),
            // Without an image, what may have been missed is told, and nothing of what was before.
            ("update", none.clone(), own.clone().into(), "enter: after"),
            ("update", none.clone(), none.clone(), "unknown"),
            ("replace", none.clone(), other.clone().into(), "unknown"),
            ("delete", none.clone(), none.clone(), "unknown"),
            ("drop", none.clone(), none.clone(), "nothing"),
        ] {
            let event = event(kind, before, after);
            assert_eq!(verdict(&screened, &event), expected, "{event:?}");
        }
    }

    #[test]
    fn what_the_definition_asks_of_the_document_is_part_of_the_view() {
        let document =
            |tenant: &str, room: i32| Bson::from(doc! { "_id": 1, "tenant": tenant, "room": room });
        let visibility = visibility(&doc! { "tenant": "a" }, &doc! {});
        let stream = doc! { "fullDocumentBeforeChange": "whenAvailable", "stages": [
            { "$match": { "fullDocument.room": 1, "operationType": { "$in": ["insert", "update"] } } },
        ] };
        let screened = screened(stream, &visibility, true);
        for (kind, before, after, expected) in [
            ("update", document("a", 1), document("a", 1), "event: before after how"),
            // It was in sight all the time: how it changed is no secret.
            ("update", document("a", 2), document("a", 1), "enter: before after how"),
            ("update", document("b", 1), document("a", 1), "enter: after"),
            ("update", document("a", 1), document("a", 2), "leave"),
            ("update", document("a", 1), document("b", 1), "leave"),
            ("update", document("a", 2), document("b", 2), "nothing"),
            ("replace", document("a", 1), document("a", 2), "nothing"),
            ("delete", document("a", 1), Bson::Null, "nothing"),
        ] {
            let event = event(kind, before, after);
            assert_eq!(verdict(&screened, &event), expected, "{event:?}");
        }
    }

    #[test]
    fn without_a_filter_a_definition_that_asks_for_what_was_before_has_a_view() {
        let room = |room: i32| Bson::from(doc! { "_id": 1, "room": room });
        let stages = vec![doc! { "$match": { "fullDocument.room": 1 } }];
        let everything = Visibility::everything();
        let stream = doc! { "fullDocumentBeforeChange": "whenAvailable", "stages": stages.clone() };
        let screened_ = screened(stream.clone(), &everything, true);
        for (kind, before, after, expected) in [
            ("update", room(2), room(1), "enter: before after how"),
            ("update", room(1), room(2), "leave"),
            ("delete", room(1), Bson::Null, "leave"),
            ("update", Bson::Null, room(1), "event: after how"),
            ("update", Bson::Null, room(2), "leave"),
        ] {
            let event = event(kind, before, after);
            assert_eq!(verdict(&screened_, &event), expected, "{event:?}");
        }
        assert!(screened(stream, &everything, false).judge().is_none());
        assert!(screened(doc! { "stages": stages }, &everything, true).judge().is_none());
    }

    #[test]
    fn hidden_fields_decide_nothing_that_can_be_asked() {
        let salary = |salary: i32| Bson::from(doc! { "_id": 1, "salary": salary, "_etag": salary });
        let hides = visibility(&doc! {}, &doc! { "salary": 0 });
        let all = screened(doc! { "stages": [], "fullDocumentBeforeChange": "whenAvailable" }, &hides, true);
        assert_eq!(verdict(&all, &event("replace", salary(1), salary(2))), "nothing");
        let asks = doc! { "stages": [{ "$match": { "fullDocument.salary": { "$gt": 5 } } }] };
        let asking = screened(asks, &hides, true);
        assert_eq!(verdict(&asking, &event("insert", Bson::Null, salary(9))), "nothing");
    }

    #[test]
    fn without_images_the_filter_and_the_projection_come_before_the_stages_of_the_definition() {
        let both = visibility(&doc! { "tenant": "a" }, &doc! { "salary": 0 });
        let copies = doc! { "$set": { "fullDocument.copy": "$fullDocument.salary" } };
        for images in [false, true] {
            let stream = doc! { "stages": [copies.clone()], "fullDocumentBeforeChange": "required", "fullDocument": "off" };
            let screened = screened(stream, &both, images);
            assert!(screened.judge().is_none());
            let names: Vec<_> =
                screened.ahead().iter().map(|stage| stage.keys().next().unwrap().as_str()).collect();
            assert_eq!(names, ["$match", "$unset", "$set", "$set", "$match", "$unset"]);
            assert_eq!(screened.declared().len(), 1);
            assert_eq!(
                screened.options().full_document_before_change,
                Before::Off,
                "it may be of another tenant"
            );
            assert_eq!(screened.options().full_document, FullDocument::UpdateLookup, "the filter needs it");
        }
        let everything = screened(doc! { "stages": [copies] }, &Visibility::everything(), true);
        assert!(everything.ahead().is_empty());
    }

    #[test]
    fn a_missing_image_is_stood_for_where_a_filter_has_to_be_asked() {
        let stream = doc! { "stages": [], "fullDocument": "required" };
        let filtered = screened(stream.clone(), &visibility(&doc! { "tenant": "a" }, &doc! {}), false);
        assert_eq!(filtered.options().full_document, FullDocument::Required);
        assert_eq!(filtered.options_in_judgement().full_document, FullDocument::UpdateLookup);
        // Without one a failure is told to all rather than to nobody.
        let open = screened(stream, &Visibility::everything(), false);
        assert_eq!(open.options_in_judgement().full_document, FullDocument::Required);
    }
}
