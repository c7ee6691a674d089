//! Events as JSON: what MongoDB sends is read by browsers.

use std::borrow::Cow;

use bson::{Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf};
use serde_json::Value;
use shared::{
    event_json::{JsonMode, plain_event_bson, write_plain_event},
    readable::readable,
    shell_json,
};

use crate::values::{depth, has_key, walk};

/// As deep as MongoDB's documents are.
const DEEPEST: usize = 120;

/// Writes an event, given as BSON or in the JSON of the shells, in each form.
pub fn run(data: &[u8]) {
    let of_json = std::str::from_utf8(data).ok().and_then(|text| shell_json::parse_document(text).ok());
    let of_json = of_json.and_then(|document| RawDocumentBuf::try_from(&document).ok());
    match &of_json {
        Some(event) => written(event),
        None => {
            if let Ok(event) = RawDocument::from_bytes(data) {
                written(event);
            }
        }
    }
}

fn written(event: &RawDocument) {
    let Ok(document) = Document::try_from(event) else {
        // Bytes that are no BSON inside: an error, or a part of the event that nobody looked at.
        let _ = write_plain_event(&mut String::new(), event, JsonMode::Plain, None);
        let _ = plain_event_bson(event);
        if let Ok(made) = readable(event) {
            assert!(Document::try_from(&*made).is_ok(), "{made:?}");
        }
        return;
    };
    assert!(matches!(readable(event), Ok(Cow::Borrowed(_))), "it is left as it is");
    let value = Bson::Document(document.clone());
    if depth(&value) > DEEPEST {
        return;
    }
    for mode in [JsonMode::Plain, JsonMode::Relaxed, JsonMode::Canonical, JsonMode::Strict] {
        let text = plain_event(event, mode, Some("p"));
        assert!(!text.contains(['\n', '\r']), "an event stream takes one line: {text}");
        let json: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let members: Vec<&str> =
            json.as_object().expect("an object").keys().map(String::as_str).take(4).collect();
        assert_eq!(members, ["fullDocument", "documentKey", "updateDescription", "operationType"]);
        for hidden in ["_id", "ns", "clusterTime", "wallTime", "lsid", "txnNumber", "collectionUUID"] {
            assert!(json.get(hidden).is_none(), "{hidden} stays out");
        }
        assert_eq!(
            json.get("position").and_then(Value::as_str),
            Some("p"),
            "the position is the last member"
        );
    }
    if !has_twice(event)
        && !has_unsorted_options(event)
        && !has_key(&value, |key| key.starts_with('$'))
        && !has_far_date(&value)
    {
        agrees(event, &document);
    }
    let again = plain_event_bson(event).expect("what is BSON can be written");
    let again = Document::try_from(&*again).expect("it is BSON");
    for name in ["fullDocument", "documentKey", "operationType"] {
        let (one, other) = (document.get(name).unwrap_or(&Bson::Null), again.get(name).expect("it is there"));
        assert_eq!(crate::values::bytes(one), crate::values::bytes(other), "{name}, byte for byte");
    }
}

fn plain_event(event: &RawDocument, mode: JsonMode, position: Option<&str>) -> String {
    let mut text = String::new();
    write_plain_event(&mut text, event, mode, position).expect("what is BSON can be written");
    text
}

/// The writer of the library says the same.
fn agrees(event: &RawDocument, document: &Document) {
    let text = |mode| plain_event(event, mode, None);
    let read = |text: String| serde_json::from_str::<Value>(&text).expect("JSON");
    let (canonical, relaxed) = (read(text(JsonMode::Canonical)), read(text(JsonMode::Relaxed)));
    for (name, value) in document.iter().filter(|(name, _)| *name == "fullDocument" || *name == "documentKey")
    {
        let library = value.clone().into_canonical_extjson();
        assert_eq!(numbers(&canonical[name]), numbers(&library), "{name}");
        let library = value.clone().into_relaxed_extjson();
        assert_eq!(numbers(&relaxed[name]), numbers(&library), "{name}");
    }
}

/// A date before 1970 or behind the year 9999, of which the library makes another.
fn has_far_date(value: &Bson) -> bool {
    let mut far = false;
    walk(value, &mut |_, value, _| {
        far |= matches!(value, Bson::DateTime(date) if !(0..=253_402_300_799_999).contains(&date.timestamp_millis()));
    });
    far
}

/// The doubles by their value: one has many texts, the library writes the smallest ones as bare numbers in its canonical form
/// too, and gives NaN a sign, which the specification does not know.
fn numbers(json: &Value) -> Value {
    let by_value = |number: f64| Value::from(format!("double {number:?}"));
    match json {
        Value::Array(values) => values.iter().map(numbers).collect(),
        Value::Object(members) => {
            let only = members.iter().next().filter(|_| members.len() == 1);
            let double =
                only.filter(|(name, _)| *name == "$numberDouble").and_then(|(_, text)| text.as_str());
            match double.and_then(|text| text.parse().ok()) {
                Some(number) => by_value(number),
                None => members.iter().map(|(name, value)| (name.clone(), numbers(value))).collect(),
            }
        }
        Value::Number(number) => {
            number.as_f64().filter(|_| number.is_f64()).map_or_else(|| json.clone(), by_value)
        }
        other => other.clone(),
    }
}

/// Whether an object has a key twice: BSON can, and JSON's readers take one of the two.
fn has_twice(document: &RawDocument) -> bool {
    let mut seen = std::collections::HashSet::new();
    document.into_iter().flatten().any(|(name, value)| {
        !seen.insert(name.as_str().to_owned())
            || match value {
                bson::RawBsonRef::Document(inner) => has_twice(inner),
                bson::RawBsonRef::Array(inner) => {
                    inner.into_iter().flatten().any(|value| value.as_document().is_some_and(has_twice))
                }
                _ => false,
            }
    })
}

/// Whether the options of a regular expression are not in the order of the alphabet: the library puts them so.
fn has_unsorted_options(document: &RawDocument) -> bool {
    let unsorted = |value: RawBsonRef<'_>| match value {
        RawBsonRef::RegularExpression(regex) => !regex.options.as_str().chars().is_sorted(),
        RawBsonRef::Document(inner) => has_unsorted_options(inner),
        // An array is a document whose keys are numbers.
        RawBsonRef::Array(inner) => RawDocument::from_bytes(inner.as_bytes()).is_ok_and(has_unsorted_options),
        _ => false,
    };
    document.into_iter().flatten().any(|(_, value)| unsorted(value))
}
