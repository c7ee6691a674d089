//! The stored spelling of stages and the plain one: `_$match` and `$match`, `fullDocument::name` and `fullDocument.name`.
//!
//! Old MongoDB versions take neither `$` at the start of a stored key nor `.` inside one, so stages are stored escaped
//! and read back plain. Both directions leave alone what already has the wanted spelling, so either one can be written.

use bson::{Bson, Document};

/// The stored spelling, at every depth: a key's or a string's leading `$` becomes `_$`, a key's `.` becomes `::`.
pub fn escape(plain: &Bson) -> Bson {
    convert(plain, &escape_key, &leading_dollar)
}

/// The plain spelling, at every depth: a key's or a string's leading `_$` becomes `$`, a key's `::` becomes `.`.
pub fn unescape(stored: &Bson) -> Bson {
    convert(stored, &unescape_key, &|text| leading_escape(text).to_owned())
}

/// A path (`$match.a.b`) at which [`unescape`] would join two keys into one and so lose the first one's value, a filter
/// perhaps.
pub fn collision(stored: &Bson) -> Option<String> {
    find(stored, &|document| {
        let mut seen = std::collections::HashSet::new();
        document.keys().map(|key| unescape_key(key)).find(|key| !seen.insert(key.clone()))
    })
}

/// A path to a key that [`escape`] would make another one of: `a:.b` is stored as `a:::b`, which is read as `a.:b`.
pub fn ambiguity(plain: &Bson) -> Option<String> {
    find(plain, &|document| {
        let is_another = |key: &&String| unescape_key(&escape_key(key)) != unescape_key(key);
        document.keys().find(is_another).map(|key| unescape_key(key))
    })
}

/// The path to the first key that `fault` finds in one of the objects.
fn find(value: &Bson, fault: &dyn Fn(&Document) -> Option<String>) -> Option<String> {
    let inside = |place: String, value| {
        find(value, fault).map(|rest| {
            if rest.starts_with('[') { place.clone() + &rest } else { place.clone() + "." + &rest }
        })
    };
    match value {
        Bson::Document(document) => fault(document)
            .or_else(|| document.iter().find_map(|(key, value)| inside(unescape_key(key), value))),
        Bson::Array(values) => {
            values.iter().enumerate().find_map(|(index, value)| inside(format!("[{index}]"), value))
        }
        _ => None,
    }
}

fn leading_dollar(text: &str) -> String {
    if text.starts_with('$') { format!("_{text}") } else { text.to_owned() }
}

fn leading_escape(text: &str) -> &str {
    if text.starts_with("_$") { &text[1..] } else { text }
}

fn escape_key(key: &str) -> String {
    leading_dollar(key).replace('.', "::")
}

fn unescape_key(key: &str) -> String {
    leading_escape(key).replace("::", ".")
}

fn convert(value: &Bson, key: &dyn Fn(&str) -> String, text: &dyn Fn(&str) -> String) -> Bson {
    match value {
        Bson::String(string) => Bson::String(text(string)),
        Bson::Array(values) => Bson::Array(values.iter().map(|value| convert(value, key, text)).collect()),
        Bson::Document(document) => Bson::Document(
            document.iter().map(|(name, value)| (key(name), convert(value, key, text))).collect::<Document>(),
        ),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use bson::bson;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn plain() -> Bson {
        bson!([{ "$match": { "fullDocument.name": { "$var": "n" }, "$or": [{ "a.b.c": "$x" }, { "d": "a.b $ _$ ::" }] } },
               { "$set": { "x": ["$$ROOT.y", { "$concat": ["$a", "b"] }] } }])
    }

    fn stored() -> Bson {
        bson!([{ "_$match": { "fullDocument::name": { "_$var": "n" }, "_$or": [{ "a::b::c": "_$x" }, { "d": "a.b $ _$ ::" }] } },
               { "_$set": { "x": ["_$$ROOT.y", { "_$concat": ["_$a", "b"] }] } }])
    }

    #[test]
    fn what_is_stored_is_escaped_and_what_is_read_is_plain_at_every_depth() {
        assert_eq!(escape(&plain()), stored());
        assert_eq!(unescape(&stored()), plain());
    }

    #[test]
    fn a_spelling_that_is_already_the_wanted_one_stays() {
        assert_eq!(escape(&stored()), stored());
        assert_eq!(unescape(&plain()), plain());
    }

    #[test]
    fn only_the_leading_escape_of_a_key_is_one() {
        assert_eq!(
            unescape(&bson!({ "a_$b": 1, "a::_$b": 2, "__$c": 3 })),
            bson!({ "a_$b": 1, "a._$b": 2, "__$c": 3 })
        );
    }

    #[test]
    fn two_spellings_of_one_key_are_found_before_one_is_lost() {
        assert_eq!(collision(&plain()), None);
        assert_eq!(
            collision(&bson!([{ "$match": { "$and": [{ "a.b": 1, "a::b": 2 }] } }])),
            Some("[0].$match.$and[0].a.b".to_owned())
        );
    }

    #[test]
    fn a_key_that_the_stored_spelling_makes_another_of_is_found() {
        assert_eq!(ambiguity(&plain()), None);
        assert_eq!(ambiguity(&stored()), None);
        assert_eq!(ambiguity(&bson!({ "a.:b": 1, "::": 1, "a::b": 1 })), None);
        assert_eq!(
            ambiguity(&bson!([{ "$match": { "fullDocument.a:.b": 1 } }])),
            Some("[0].$match.fullDocument.a:.b".to_owned())
        );
    }
}
