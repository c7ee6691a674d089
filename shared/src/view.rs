//! What a caller is shown of a stream, as one value: a client that was away learns by it that it is another by now.
//!
//! It is what would close the stream of a client that was there: the definition, the values in it, and what the caller may
//! read. What is shown by the clock of an opening (`@now`) is the same view at the next one, or each return would come to
//! another.

use bson::{Binary, Bson, DateTime, Document, doc, spec::BinarySubtype};

use crate::{
    definition::{Binding, Definition},
    visibility::Visibility,
};

/// Equal for openings of one stream that show the same, compared by value. `images`: whether the collection records pre- and
/// post-images; `now`: what `@now` was.
///
/// It holds values of filters that the caller may not know, and is no text for clients.
pub fn key(
    definition: &Definition,
    binding: &Binding,
    visibility: &Visibility,
    images: bool,
    now: DateTime,
) -> Vec<u8> {
    let definition = Binary { subtype: BinarySubtype::Generic, bytes: definition.key().to_vec() };
    let pipeline: Vec<Bson> = binding.pipeline().iter().map(|stage| timeless(stage, now).into()).collect();
    let all = doc! {
        "definition": definition,
        "pipeline": pipeline,
        "readFilter": visibility.read_filter().map(|filter| timeless(filter, now)),
        "projection": visibility.projection().document(),
        "images": images,
    };
    all.to_vec().expect("what was bound is BSON")
}

/// The same without the clock. It comes in by stages, by filters of a permission, and by variables that a permission sets,
/// and is a value like others by then. One that is the same by chance comes to one load more at the next return.
fn timeless(document: &Document, now: DateTime) -> Document {
    document.iter().map(|(key, value)| (key.clone(), without(value, now))).collect()
}

fn without(value: &Bson, now: DateTime) -> Bson {
    match value {
        // No client can send this type.
        Bson::DateTime(moment) if *moment == now => Bson::Undefined,
        Bson::Document(document) => timeless(document, now).into(),
        Bson::Array(values) => values.iter().map(|value| without(value, now)).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use bson::bson;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::{
        definition::Definitions,
        variables::{OperatorCheck, ServerVariables, Variables},
        visibility::Template,
    };

    /// A view with the claim `tenant`, at this time.
    struct Opening<'a> {
        stream: Document,
        avars: &'a str,
        read_filter: Document,
        hidden: Document,
        images: bool,
        tenant: &'a str,
        now: i64,
    }

    impl Default for Opening<'_> {
        fn default() -> Self {
            let stages = bson!([{ "$match": { "fullDocument.room": { "$var": ["room", "x"] } } }]);
            Self {
                stream: doc! { "stages": stages },
                avars: "{}",
                read_filter: doc! {},
                hidden: doc! {},
                images: false,
                tenant: "a",
                now: 7,
            }
        }
    }

    impl Opening<'_> {
        fn key(self) -> Vec<u8> {
            let mut named = doc! { "uri": "s" };
            named.extend(self.stream);
            let definitions = Definitions::written(&bson!([named])).unwrap();
            let definition = definitions.iter().next().unwrap().1.as_ref().unwrap();
            let now = DateTime::from_millis(self.now);
            let server = ServerVariables { user: Some(doc! { "tenant": self.tenant }), now };
            let template =
                Template::check(Some(&self.read_filter), Some(&doc! { "by": "@now" }), Some(&self.hidden));
            let visibility = template.unwrap().resolve(&server).unwrap();
            let client = Variables::parse(Some(self.avars), OperatorCheck::On).unwrap();
            let binding = definition.bind(&client, &server).unwrap();
            key(definition, &binding, &visibility, self.images, now)
        }
    }

    #[test]
    fn each_part_of_what_is_shown_makes_another_view() {
        let room = |stages: Bson| doc! { "stages": stages };
        let by_claim = || doc! { "tenant": "@user.tenant" };
        let views = [
            Opening::default(),
            Opening { avars: r#"{"room":"y"}"#, ..Opening::default() },
            Opening { avars: r#"{"room":1}"#, ..Opening::default() },
            Opening { avars: r#"{"room":1.0}"#, ..Opening::default() },
            Opening {
                stream: room(bson!([{ "$match": { "fullDocument.room": "x" } }])),
                ..Opening::default()
            },
            Opening { stream: doc! { "stages": [], "fullDocument": "off" }, ..Opening::default() },
            Opening { stream: doc! { "stages": [], "snapshot": { "limit": 7 } }, ..Opening::default() },
            Opening { stream: doc! { "stages": [], "snapshot": { "limit": 8 } }, ..Opening::default() },
            Opening { read_filter: by_claim(), ..Opening::default() },
            Opening { read_filter: by_claim(), tenant: "b", ..Opening::default() },
            Opening { hidden: doc! { "salary": 0 }, ..Opening::default() },
            Opening { hidden: doc! { "salary": 1 }, ..Opening::default() },
            Opening { images: true, ..Opening::default() },
        ];
        let keys = views.map(Opening::key);
        for (n, key) in keys.iter().enumerate() {
            assert_eq!(keys.iter().position(|other| other == key), Some(n), "as the one at {n}");
        }
    }

    #[test]
    fn what_changes_nothing_of_what_is_shown_leaves_the_view_as_it_is() {
        let view = || Opening::default().key();
        assert_eq!(Opening { avars: r#"{"room":"x","unused":1}"#, ..Opening::default() }.key(), view());
        assert_eq!(Opening { tenant: "b", ..Opening::default() }.key(), view(), "a claim that is not used");
        let spelled = bson!([{ "_$match": { "fullDocument::room": { "_$var": ["room", "x"] } } }]);
        assert_eq!(Opening { stream: doc! { "stages": spelled }, ..Opening::default() }.key(), view());
    }

    #[test]
    fn the_time_of_the_opening_is_no_part_of_the_view() {
        let since = bson!([{ "$match": { "$or": [
            { "fullDocument.at": { "$gte": { "$var": "@now" } } },
            { "$expr": { "$gte": ["$fullDocument.at", { "$var": "@now" }] } },
        ] } }]);
        let at = |now| {
            let stream = doc! { "stages": since.clone() };
            Opening { stream, read_filter: doc! { "until": { "$gt": "@now" } }, now, ..Opening::default() }
                .key()
        };
        assert_eq!(at(7), at(1_735_689_600_000));
        let fixed = |at: &str| Opening { avars: at, ..Opening::default() }.key();
        assert_ne!(fixed(r#"{"room":{"$date":8}}"#), fixed(r#"{"room":{"$date":9}}"#), "another moment is");
    }
}
