//! The lenient JSON of the shells, in which clients write values, filters, and documents.

use bson::{Bson, RawBsonRef, RawDocumentBuf};
use shared::{
    event_json::{JsonMode, write_value},
    shell_json::{self, MAX_DEPTH},
};

use crate::values::{bytes, depth, has_key, narrowed, with_plain_nan};

/// Reads a text.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match shell_json::parse(text) {
        Ok(value) => {
            assert!(depth(&value) <= MAX_DEPTH, "deeper than allowed");
            assert_eq!(
                shell_json::parse_document(text).is_ok(),
                matches!(value, Bson::Document(_)),
                "the two ways to read agree"
            );
            comes_back(&value);
        }
        Err(error) => {
            assert!(text.is_char_boundary(error.position), "the place is one in the text");
            assert!(!error.expected.is_empty());
        }
    }
    agrees_with_strict_json(text);
}

/// What is written of a value, in any form that clients get, is read as that value.
pub fn comes_back(value: &Bson) {
    // An object such as `{"$gt": 1}` is written as what it is and may be read as a wrapper; and wrappers add two levels.
    if depth(value) + 3 > MAX_DEPTH || has_key(value, |key| key.starts_with('$')) || has_odd_type(value) {
        return;
    }
    for mode in [JsonMode::Canonical, JsonMode::Strict, JsonMode::Plain, JsonMode::Relaxed] {
        let text = written(value, mode);
        let read = shell_json::parse(&text)
            .unwrap_or_else(|error| panic!("{mode:?}: {error} in what was written: {text}"));
        let told = |value: &Bson| match mode {
            JsonMode::Canonical | JsonMode::Strict => bytes(&with_plain_nan(value)),
            JsonMode::Plain | JsonMode::Relaxed => bytes(&narrowed(&with_plain_nan(value))),
        };
        assert_eq!(told(value), told(&read), "{mode:?}: {value:?} became {read:?} by way of {text}");
    }
}

/// The JSON of a value as clients get it.
///
/// # Panics
/// When it cannot be written.
pub fn written(value: &Bson, mode: JsonMode) -> String {
    let mut document = bson::Document::new();
    document.insert("v", value);
    let raw = RawDocumentBuf::try_from(&document).expect("a value is BSON");
    let value: RawBsonRef<'_> = raw.get("v").expect("it can be read").expect("it is there");
    let mut text = String::new();
    write_value(&mut text, value, mode).expect("a value can be written");
    text
}

/// Types that one of the forms has no word for: in v1 a regular expression is the operator `$regex` as well.
fn has_odd_type(value: &Bson) -> bool {
    let mut odd = false;
    crate::values::walk(value, &mut |_, value, _| {
        odd |= matches!(
            value,
            Bson::RegularExpression(_) | Bson::DbPointer(_) | Bson::JavaScriptCodeWithScope(_)
        );
    });
    odd
}

/// JSON is read as JSON, where there is nothing in it that only the shells know.
fn agrees_with_strict_json(text: &str) {
    // To the shells this is the whole number 0.
    if text.contains("-0") {
        return;
    }
    let Ok(json) = serde_json::from_str::<serde_json::Value>(text) else { return };
    let mut wrapped = false;
    look(&json, &mut |key| wrapped |= key.starts_with('$') || key.contains('\0'));
    if wrapped {
        return;
    }
    match shell_json::parse(text) {
        Ok(value) => assert_eq!(bytes(&value), bytes(&of_json(&json)), "{text}"),
        Err(error) => assert!(
            error.expected.starts_with("at most") || error.expected.ends_with("only once"),
            "JSON is refused: {error}: {text}"
        ),
    }
}

fn look(json: &serde_json::Value, see: &mut dyn FnMut(&str)) {
    match json {
        serde_json::Value::Array(values) => values.iter().for_each(|value| look(value, see)),
        serde_json::Value::Object(members) => members.iter().for_each(|(key, value)| {
            see(key);
            look(value, see);
        }),
        _ => {}
    }
}

fn of_json(json: &serde_json::Value) -> Bson {
    match json {
        serde_json::Value::Null => Bson::Null,
        serde_json::Value::Bool(value) => Bson::Boolean(*value),
        serde_json::Value::String(text) => Bson::String(text.clone()),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => i32::try_from(whole).map_or(Bson::Int64(whole), Bson::Int32),
            None => Bson::Double(number.as_f64().expect("a number")),
        },
        serde_json::Value::Array(values) => Bson::Array(values.iter().map(of_json).collect()),
        serde_json::Value::Object(members) => {
            Bson::Document(members.iter().map(|(key, value)| (key.clone(), of_json(value))).collect())
        }
    }
}
