//! The order of BSON values (MongoDB manual, "Comparison/Sort Order"), with the simple collation.

use std::cmp::Ordering;

use bson::{RawArray, RawBsonRef, RawDocument, RawDocumentBuf, spec::BinarySubtype};

use super::number::Number;

/// The types that compare with each other, in the order of MongoDB. `$gt` and its like match inside one of them only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Bracket {
    MinKey,
    /// `undefined`, and what is not there.
    Missing,
    Null,
    Number,
    Text,
    Document,
    Array,
    Binary,
    ObjectId,
    Boolean,
    DateTime,
    Timestamp,
    RegularExpression,
    DbPointer,
    Code,
    CodeWithScope,
    MaxKey,
}

impl Bracket {
    pub(super) fn of(value: Option<RawBsonRef<'_>>) -> Self {
        let Some(value) = value else { return Self::Missing };
        match value {
            RawBsonRef::MinKey => Self::MinKey,
            RawBsonRef::Undefined => Self::Missing,
            RawBsonRef::Null => Self::Null,
            RawBsonRef::Int32(_)
            | RawBsonRef::Int64(_)
            | RawBsonRef::Double(_)
            | RawBsonRef::Decimal128(_) => Self::Number,
            RawBsonRef::String(_) | RawBsonRef::Symbol(_) => Self::Text,
            RawBsonRef::Document(_) => Self::Document,
            RawBsonRef::Array(_) => Self::Array,
            RawBsonRef::Binary(_) => Self::Binary,
            RawBsonRef::ObjectId(_) => Self::ObjectId,
            RawBsonRef::Boolean(_) => Self::Boolean,
            RawBsonRef::DateTime(_) => Self::DateTime,
            RawBsonRef::Timestamp(_) => Self::Timestamp,
            RawBsonRef::RegularExpression(_) => Self::RegularExpression,
            RawBsonRef::DbPointer(_) => Self::DbPointer,
            RawBsonRef::JavaScriptCode(_) => Self::Code,
            RawBsonRef::JavaScriptCodeWithScope(_) => Self::CodeWithScope,
            RawBsonRef::MaxKey => Self::MaxKey,
        }
    }
}

/// Compares any two values: by their brackets first.
pub(super) fn cmp(a: RawBsonRef<'_>, b: RawBsonRef<'_>) -> Ordering {
    Bracket::of(Some(a)).cmp(&Bracket::of(Some(b))).then_with(|| cmp_inside(a, b))
}

/// The same where either may be missing.
pub(super) fn cmp_or_missing(a: Option<RawBsonRef<'_>>, b: Option<RawBsonRef<'_>>) -> Ordering {
    Bracket::of(a).cmp(&Bracket::of(b)).then_with(|| match (a, b) {
        (Some(a), Some(b)) => cmp_inside(a, b),
        _ => Ordering::Equal,
    })
}

/// Compares two values of one bracket.
fn cmp_inside(a: RawBsonRef<'_>, b: RawBsonRef<'_>) -> Ordering {
    if let (Some(a), Some(b)) = (Number::read(a), Number::read(b)) {
        return a.cmp(b);
    }
    match (a, b) {
        (RawBsonRef::String(a) | RawBsonRef::Symbol(a), RawBsonRef::String(b) | RawBsonRef::Symbol(b))
        | (RawBsonRef::JavaScriptCode(a), RawBsonRef::JavaScriptCode(b)) => a.as_bytes().cmp(b.as_bytes()),
        (RawBsonRef::Document(a), RawBsonRef::Document(b)) => cmp_documents(a, b),
        (RawBsonRef::Array(a), RawBsonRef::Array(b)) => cmp_arrays(a, b),
        (RawBsonRef::Binary(a), RawBsonRef::Binary(b)) => {
            // The old subtype holds its length once more inside.
            let size =
                |subtype, bytes: &[u8]| bytes.len() + if subtype == BinarySubtype::BinaryOld { 4 } else { 0 };
            size(a.subtype, a.bytes)
                .cmp(&size(b.subtype, b.bytes))
                .then_with(|| u8::from(a.subtype).cmp(&u8::from(b.subtype)))
                .then_with(|| a.bytes.cmp(b.bytes))
        }
        (RawBsonRef::ObjectId(a), RawBsonRef::ObjectId(b)) => a.bytes().cmp(&b.bytes()),
        (RawBsonRef::Boolean(a), RawBsonRef::Boolean(b)) => a.cmp(&b),
        (RawBsonRef::DateTime(a), RawBsonRef::DateTime(b)) => a.timestamp_millis().cmp(&b.timestamp_millis()),
        (RawBsonRef::Timestamp(a), RawBsonRef::Timestamp(b)) => {
            (a.time, a.increment).cmp(&(b.time, b.increment))
        }
        (RawBsonRef::RegularExpression(a), RawBsonRef::RegularExpression(b)) => {
            (a.pattern.as_str(), a.options.as_str()).cmp(&(b.pattern.as_str(), b.options.as_str()))
        }
        (RawBsonRef::JavaScriptCodeWithScope(a), RawBsonRef::JavaScriptCodeWithScope(b)) => {
            a.code.as_bytes().cmp(b.code.as_bytes()).then_with(|| cmp_documents(a.scope, b.scope))
        }
        (RawBsonRef::DbPointer(_), RawBsonRef::DbPointer(_)) => {
            let bytes = |value| {
                let mut holder = RawDocumentBuf::new();
                holder.append(bson::raw::cstr!(""), value);
                holder.into_bytes()
            };
            let (a, b) = (bytes(a), bytes(b));
            a.len().cmp(&b.len()).then_with(|| a.cmp(&b))
        }
        // Of the other brackets all values are equal.
        _ => Ordering::Equal,
    }
}

/// Member by member, in the order in which they stand: bracket, then name, then value.
fn cmp_documents(a: &RawDocument, b: &RawDocument) -> Ordering {
    let read = |document| members(document).map(|(name, value)| (Bracket::of(Some(value)), name, value));
    let (mut a, mut b) = (read(a), read(b));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some((a_bracket, a_name, a)), Some((b_bracket, b_name, b))) => {
                let ordering = a_bracket
                    .cmp(&b_bracket)
                    .then_with(|| a_name.as_bytes().cmp(b_name.as_bytes()))
                    .then_with(|| cmp_inside(a, b));
                if ordering.is_ne() {
                    return ordering;
                }
            }
        }
    }
}

fn cmp_arrays(a: &RawArray, b: &RawArray) -> Ordering {
    let (mut a, mut b) = (elements(a), elements(b));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => {
                let ordering = cmp(a, b);
                if ordering.is_ne() {
                    return ordering;
                }
            }
        }
    }
}

/// The members of a document. What is no BSON ends it: MongoDB checks what it stores.
pub(super) fn members(document: &RawDocument) -> impl Iterator<Item = (&str, RawBsonRef<'_>)> {
    document.iter_elements().map_while(|element| {
        let element = element.ok()?;
        Some((element.key().as_str(), element.value().ok()?))
    })
}

/// The elements of an array.
pub(super) fn elements(array: &RawArray) -> impl Iterator<Item = RawBsonRef<'_>> {
    array.iter_elements().map_while(|element| element.ok()?.value().ok())
}

/// The first member of that name.
pub(super) fn member<'a>(document: &'a RawDocument, name: &str) -> Option<RawBsonRef<'a>> {
    let mut elements = document.iter_elements().map_while(Result::ok);
    elements.find(|element| element.key().as_str() == name)?.value().ok()
}
