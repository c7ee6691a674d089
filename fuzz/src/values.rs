//! What the targets ask of BSON values, each written anew: the code under test is not its own judge.

use bson::{Bson, Document};

/// Calls `see` with every key, value, and depth below `value`, itself included (without a key, at depth 0).
pub fn walk<'a>(value: &'a Bson, see: &mut dyn FnMut(Option<&'a str>, &'a Bson, usize)) {
    let mut left = vec![(None, value, 0)];
    while let Some((key, value, depth)) = left.pop() {
        see(key, value, depth);
        match value {
            Bson::Document(document) => {
                left.extend(document.iter().map(|(key, value)| (Some(key.as_str()), value, depth + 1)));
            }
            Bson::Array(values) => left.extend(values.iter().map(|value| (None, value, depth + 1))),
            _ => {}
        }
    }
}

/// How deep values are nested.
pub fn depth(value: &Bson) -> usize {
    let mut deepest = 0;
    walk(value, &mut |_, _, depth| deepest = deepest.max(depth));
    deepest
}

/// Whether a key at any depth fulfils `found`.
pub fn has_key(value: &Bson, found: impl Fn(&str) -> bool) -> bool {
    let mut has = false;
    walk(value, &mut |key, _, _| has |= key.is_some_and(&found));
    has
}

/// As bytes, by which values are compared: NaN is equal to itself there, and the order of members counts.
///
/// # Panics
/// When it is no BSON.
pub fn bytes(value: &Bson) -> Vec<u8> {
    let mut document = Document::new();
    document.insert("v", value);
    document.to_vec().expect("a value is BSON")
}

/// The same value with one NaN of each type: text has no sign for it (specification "Extended JSON").
pub fn with_plain_nan(value: &Bson) -> Bson {
    match value {
        Bson::Double(number) if number.is_nan() => Bson::Double(f64::NAN),
        // IEEE 754, 3.5.2: five bits behind the sign say that it is no number.
        Bson::Decimal128(number) if number.bytes()[15] & 0x7c == 0x7c => {
            Bson::Decimal128("NaN".parse().expect("a decimal"))
        }
        Bson::Document(document) => {
            Bson::Document(document.iter().map(|(key, value)| (key.clone(), with_plain_nan(value))).collect())
        }
        Bson::Array(values) => Bson::Array(values.iter().map(with_plain_nan).collect()),
        other => other.clone(),
    }
}

/// The same value as forms without types for whole numbers show it: the smallest type that holds it.
pub fn narrowed(value: &Bson) -> Bson {
    match value {
        Bson::Int64(number) => i32::try_from(*number).map_or(Bson::Int64(*number), Bson::Int32),
        Bson::Document(document) => {
            Bson::Document(document.iter().map(|(key, value)| (key.clone(), narrowed(value))).collect())
        }
        Bson::Array(values) => Bson::Array(values.iter().map(narrowed).collect()),
        other => other.clone(),
    }
}
