//! How one caller's stream is followed: what a cursor brings to all who follow alike, and what is asked of it for this one.

use std::sync::Arc;

use bson::{Document, doc};

use crate::{
    definition::Binding,
    matcher::Matcher,
    planner::Own,
    visibility::{Judge, Screened, Visibility},
};

/// A caller's part of a source.
#[derive(Clone, Debug)]
pub struct Following {
    key: Arc<[u8]>,
    source: Arc<Screened>,
    source_key: Arc<[u8]>,
    wanted: Option<Wanted>,
    own: Option<Own>,
}

/// Which events of a source are for one caller.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Equal for equal wishes.
    pub key: Arc<[u8]>,
    /// What decides.
    pub asked: Asked,
}

/// What decides which events are for a caller.
#[derive(Clone, Debug)]
pub enum Asked {
    /// An event must match it.
    Filter(Matcher),
    /// The events carry the pre- and post-images: it says what is told of them.
    Judge(Arc<Judge>),
}

impl Following {
    /// For a binding behind a visibility. `images`: whether the collection records pre- and post-images.
    pub fn new(binding: &Binding, visibility: &Visibility, images: bool) -> Self {
        let alone = Screened::new(binding, visibility, images);
        let key = key(&[binding.as_bytes(), visibility.as_bytes(), &[u8::from(images)]]);
        if let Some(judge) = alone.judge() {
            let source = alone.with_images();
            let stages = doc! {
                "images": source.ahead().to_vec(),
                "options": source.options().to_document(),
                // What a source does with what nobody can read or compute; which of its documents decide.
                "filtered": source.is_filtered(),
                "views": judge.has_view(),
            };
            let wanted = Wanted { key: Arc::clone(&key), asked: Asked::Judge(Arc::clone(judge)) };
            let (source, source_key) = (Arc::new(source), source_key(&stages, &key));
            return Self { key, source, source_key, wanted: Some(wanted), own: None };
        }
        let plan = match alone.plan(binding) {
            Ok(plan) => plan,
            Err(own) => {
                let source_key = Arc::clone(&key);
                return Self { key, source: Arc::new(alone), source_key, wanted: None, own: Some(own) };
            }
        };
        let shared = alone.shared(&plan);
        let stages = doc! {
            "ahead": shared.ahead().to_vec(),
            "declared": shared.declared().to_vec(),
            "options": shared.options().to_document(),
            "residual": shared.residual().stages().iter().map(|(_, stage)| stage.clone()).collect::<Vec<_>>(),
        };
        let source_key = source_key(&stages, &key);
        let asked = plan.matcher().map(|matcher| Asked::Filter(matcher.clone()));
        let wanted = asked.map(|asked| Wanted { key: Arc::clone(&key), asked });
        Self { key, source: Arc::new(shared), source_key, wanted, own: None }
    }

    /// Equal for callers with the same values and the same view, compared by value.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// What the cursor brings.
    pub fn source(&self) -> &Arc<Screened> {
        &self.source
    }

    /// Equal for callers who can share a cursor, compared by value.
    pub fn source_key(&self) -> &Arc<[u8]> {
        &self.source_key
    }

    /// Which of its events are for this caller; all of them without it.
    pub fn wanted(&self) -> Option<&Wanted> {
        self.wanted.as_ref()
    }

    /// Why the cursor is only for callers with the same values and the same view, if it is.
    pub fn own(&self) -> Option<&Own> {
        self.own.as_ref()
    }
}

/// What MongoDB is asked, as bytes; `alone` where it is no BSON, which no stage is that was checked.
fn source_key(asked: &Document, alone: &Arc<[u8]>) -> Arc<[u8]> {
    asked.to_vec().map_or_else(|_| Arc::clone(alone), Arc::from)
}

/// Texts of different parts never give one key: each is preceded by its length.
fn key(parts: &[&[u8]]) -> Arc<[u8]> {
    let mut key = Vec::new();
    for part in parts {
        key.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        key.extend_from_slice(part);
    }
    key.into()
}

#[cfg(test)]
mod tests {
    use bson::{Bson, DateTime, RawDocumentBuf, bson};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::{
        definition::Definitions,
        planner::{Origin, Reason},
        variables::{OperatorCheck, ServerVariables, Variables},
        visibility::Template,
    };

    fn following(stages: &Bson, avars: &str, read_filter: &Document, hidden: &Document) -> Following {
        let definitions = Definitions::written(&bson!([{ "uri": "s", "stages": stages.clone() }])).unwrap();
        let definition = definitions.iter().next().unwrap().1.as_ref().unwrap();
        let server = ServerVariables { user: None, now: DateTime::from_millis(0) };
        let client = Variables::parse(Some(avars), OperatorCheck::On).unwrap();
        let template = Template::check(Some(read_filter), None, Some(hidden)).unwrap();
        let visibility = template.resolve(&server).unwrap();
        Following::new(&definition.bind(&client, &server).unwrap(), &visibility, false)
    }

    fn mine() -> Bson {
        bson!([{ "$match": { "operationType": "insert" } }, { "$match": { "fullDocument.name": { "$var": "n" } } }])
    }

    fn is_for(following: &Following, document: Document) -> bool {
        let event =
            RawDocumentBuf::try_from(&doc! { "operationType": "insert", "fullDocument": document }).unwrap();
        following.wanted().is_none_or(|wanted| match &wanted.asked {
            Asked::Filter(matcher) => matcher.matches(&event),
            Asked::Judge(_) => panic!("no images are recorded"),
        })
    }

    #[test]
    fn callers_with_different_values_share_a_source_and_get_their_own_events() {
        let none = doc! {};
        let ada = following(&mine(), r#"{"n":"ada"}"#, &none, &none);
        let bob = following(&mine(), r#"{"n":"bob"}"#, &none, &none);
        assert_eq!(ada.source_key(), bob.source_key());
        assert_eq!(ada.source().declared(), [doc! { "$match": { "operationType": "insert" } }]);
        assert_ne!(ada.wanted().unwrap().key, bob.wanted().unwrap().key);
        assert!(is_for(&ada, doc! { "name": "ada" }) && !is_for(&ada, doc! { "name": "bob" }));
    }

    #[test]
    fn callers_with_different_read_filters_share_a_source_and_none_sees_the_other_s() {
        let none = doc! {};
        let of = |tenant: &str| following(&mine(), r#"{"n":"ada"}"#, &doc! { "tenant": tenant }, &none);
        let (a, b) = (of("a"), of("b"));
        assert_eq!(a.source_key(), b.source_key());
        assert_eq!(a.own(), None);
        assert!(is_for(&a, doc! { "tenant": "a", "name": "ada" }));
        assert!(!is_for(&b, doc! { "tenant": "a", "name": "ada" }));
        // What was before a change is not known, so nothing is told of it.
        assert_eq!(a.source().ahead().first(), Some(&doc! { "$unset": "updateDescription" }));
        let open = following(&mine(), r#"{"n":"ada"}"#, &none, &none);
        assert_ne!(a.source_key(), open.source_key());
    }

    #[test]
    fn hidden_fields_are_hidden_before_anything_is_matched() {
        let hidden = doc! { "salary": 0 };
        let stages = bson!([{ "$match": { "fullDocument.salary": { "$var": "n" } } }]);
        let projected = following(&stages, r#"{"n":1}"#, &doc! {}, &hidden);
        assert_eq!(projected.own(), None);
        assert!(!projected.source().ahead().is_empty());
        let both = following(&stages, r#"{"n":1}"#, &doc! { "tenant": "a" }, &hidden);
        assert_eq!(both.own(), None);
        let hides = doc! { "$unset": ["fullDocument.salary", "fullDocumentBeforeChange.salary"] };
        assert!(both.source().declared().contains(&hides) && both.source().residual().is_empty());
        // What the permission's own filter asks for is there when the node asks: a definition may not ask for it too.
        let asked = following(&stages, r#"{"n":1}"#, &doc! { "salary": { "$gt": 5 } }, &hidden);
        let reason = Reason::Dropped { path: vec!["fullDocument".to_owned(), "salary".to_owned()] };
        assert_eq!(asked.own(), Some(&Own { origin: Origin::Stage(0), reason }));
    }

    #[test]
    fn a_read_filter_is_shared_though_fields_are_hidden_and_asks_for_what_it_hides() {
        let of = |tenant: &str, hidden: Document| {
            following(&mine(), r#"{"n":"ada"}"#, &doc! { "tenant": tenant }, &hidden)
        };
        for (hidden, in_mongodb) in [
            (doc! { "tenant": 0, "salary": 0 }, doc! { "_id": 1, "tenant": "a", "name": "ada" }),
            (doc! { "name": 1 }, doc! { "_id": 1, "tenant": "a", "name": "ada" }),
        ] {
            let (a, b) = (of("a", hidden.clone()), of("b", hidden.clone()));
            assert_eq!(a.own(), None);
            assert_eq!(a.source_key(), b.source_key());
            assert!(is_for(&a, in_mongodb.clone()) && !is_for(&b, in_mongodb.clone()));
            let event = doc! { "operationType": "insert", "fullDocument": in_mongodb };
            let told =
                a.source().residual().apply(&RawDocumentBuf::try_from(&event).unwrap()).unwrap().unwrap();
            let told = Document::try_from(told).unwrap();
            assert_eq!(told.get_document("fullDocument").unwrap(), &doc! { "_id": 1, "name": "ada" });
        }
        // What is hidden is part of what is shared.
        assert_ne!(of("a", doc! { "salary": 0 }).source_key(), of("a", doc! { "tenant": 0 }).source_key());
    }

    #[test]
    fn what_cannot_be_shared_has_a_source_of_its_own_for_each_value() {
        let stages = bson!([
            { "$match": { "fullDocument.price": { "$gt": { "$var": "n" } } } },
            { "$set": { "fullDocument.price": 0 } },
        ]);
        let of = |n: &str| following(&stages, n, &doc! {}, &doc! {});
        assert!(of(r#"{"n":1}"#).own().is_some());
        assert_ne!(of(r#"{"n":1}"#).source_key(), of(r#"{"n":2}"#).source_key());
        assert_eq!(of(r#"{"n":1}"#).source_key(), of(r#"{"n":1}"#).source_key());
    }
}
