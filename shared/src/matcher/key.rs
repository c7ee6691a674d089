//! What the index finds filters by: a hash that equal values share, and values in their order.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    hash::{Hash, Hasher},
};

use bson::{RawBson, RawBsonRef, RawDocument};

use super::{
    number::Number,
    order::{self, Bracket, elements, members},
};

/// Feeds `value` to a hasher so that values that compare as equal feed it alike: a number whatever its type, and what is
/// missing as `null`.
pub(super) fn feed(value: Option<RawBsonRef<'_>>, hasher: &mut impl Hasher) {
    let bracket = match Bracket::of(value) {
        Bracket::Missing => Bracket::Null,
        bracket => bracket,
    };
    bracket.hash(hasher);
    let Some(value) = value else { return };
    if let Some(number) = Number::read(value) {
        return number.nearest_double().to_bits().hash(hasher);
    }
    match value {
        RawBsonRef::String(text) | RawBsonRef::Symbol(text) | RawBsonRef::JavaScriptCode(text) => {
            text.hash(hasher);
        }
        RawBsonRef::Document(document) => feed_document(document, hasher),
        RawBsonRef::Array(array) => elements(array).for_each(|element| feed(Some(element), hasher)),
        RawBsonRef::Binary(binary) => binary.bytes.hash(hasher),
        RawBsonRef::ObjectId(id) => id.bytes().hash(hasher),
        RawBsonRef::Boolean(value) => value.hash(hasher),
        RawBsonRef::DateTime(time) => time.timestamp_millis().hash(hasher),
        RawBsonRef::Timestamp(time) => (time.time, time.increment).hash(hasher),
        RawBsonRef::RegularExpression(regex) => regex.pattern.as_str().hash(hasher),
        // Rare: all of them share a hash.
        _ => {}
    }
}

fn feed_document(document: &RawDocument, hasher: &mut impl Hasher) {
    for (name, value) in members(document) {
        name.hash(hasher);
        feed(Some(value), hasher);
    }
}

/// A value as the key of an ordered map, which is looked up by values that are not owned.
pub(super) trait Ordered {
    fn value(&self) -> RawBsonRef<'_>;
}

impl Ordered for RawBsonRef<'_> {
    fn value(&self) -> RawBsonRef<'_> {
        *self
    }
}

/// A bound of the filter's.
#[derive(Clone, Debug)]
pub(super) struct Limit(pub(super) RawBson);

impl Ordered for Limit {
    fn value(&self) -> RawBsonRef<'_> {
        self.0.as_raw_bson_ref()
    }
}

impl Ord for dyn Ordered + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        order::cmp(self.value(), other.value())
    }
}

impl PartialOrd for dyn Ordered + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Ordered + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for dyn Ordered + '_ {}

impl Ord for Limit {
    fn cmp(&self, other: &Self) -> Ordering {
        order::cmp(self.value(), other.value())
    }
}

impl PartialOrd for Limit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Limit {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Limit {}

impl<'a> Borrow<dyn Ordered + 'a> for Limit {
    fn borrow(&self) -> &(dyn Ordered + 'a) {
        self
    }
}
