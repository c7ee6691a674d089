//! A `$match` evaluated here, with the meaning that MongoDB 6.0 gives it under the simple collation.
//!
//! A [`Matcher`] exists only for a filter that it evaluates exactly: whatever else the filter holds is named when it is
//! compiled, and MongoDB has to evaluate it. What that covers: comparison across the types of numbers and inside of one
//! bracket of types, `null` and what is missing, arrays and dotted paths through them.
//!
//! Documents have to be readable ([`crate::readable`]): text that is no UTF-8 counts as what is shown of it.
//!
//! Two things differ from server to server, and are not followed: from MongoDB 8.0 on `undefined`, a type that no driver
//! writes any more, does not count as `null`; and a server gives up on a pattern that takes it too many steps.
//!
//! - `order` compares values, and `number` numbers of different types;
//! - `path` finds the values that a dotted path reaches;
//! - `condition` is what operators ask of one value, `bits` and `pattern` some of them;
//! - `expression` is what stands in `$expr`;
//! - `index` finds the few of many filters that a document can match, by the `way` that leads to each, and by `key`;
//! - `filter` reads a filter, and knows what is supported.

mod bits;
mod condition;
mod expression;
mod filter;
mod index;
mod key;
mod number;
mod order;
mod path;
mod pattern;
mod way;

use std::{fmt, sync::Arc};

use bson::{Bson, Document, RawDocument};

use self::{condition::Test, expression::Expression, number::Number, path::Path, way::Way};
pub use self::{index::Index, way::Lookup};

/// Whether two numbers are equal, exactly and whatever their types; `None` where one of them is no number.
pub(crate) fn equal_numbers(a: &Bson, b: &Bson) -> Option<bool> {
    Some(Number::of(a)?.cmp(Number::of(b)?).is_eq())
}

/// A filter, compiled. Cloning it copies nothing.
#[derive(Clone, Debug)]
pub struct Matcher(Arc<Predicate>);

impl Matcher {
    /// Compiles what stands in a `$match`, with all variables replaced.
    pub fn compile(filter: &Document) -> Result<Self, Unsupported> {
        filter::filter(filter, true).map(|predicate| Self(Arc::new(predicate)))
    }

    /// What matches all of them.
    pub fn all(matchers: impl IntoIterator<Item = Self>) -> Self {
        let mut predicates: Vec<Predicate> =
            matchers.into_iter().map(|Self(predicate)| Arc::unwrap_or_clone(predicate)).collect();
        match predicates.pop() {
            Some(predicate) if predicates.is_empty() => Self(Arc::new(predicate)),
            last => Self(Arc::new(Predicate::All(predicates.into_iter().chain(last).collect()))),
        }
    }

    /// What it reads. Each path ends before a number, which may be a place in an array; one without parts is the whole
    /// document.
    pub fn reads(&self) -> Vec<Read> {
        let mut reads = Vec::new();
        self.0.reads(&mut reads);
        reads
    }

    /// How an [`Index`] finds it.
    pub fn lookup(&self) -> Lookup {
        Lookup::by(Way::to(&self.0).as_ref())
    }

    /// Whether `document` matches: an event, or any other document.
    pub fn matches(&self, document: &RawDocument) -> bool {
        self.0.matches(document)
    }
}

/// What a filter reads of a document, by its path in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// What is there.
    Value(Vec<String>),
    /// Whether there is an object, and nothing of what is in it.
    IsObject(Vec<String>),
}

impl Read {
    /// Its path.
    pub fn path(&self) -> &[String] {
        match self {
            Self::Value(path) | Self::IsObject(path) => path,
        }
    }
}

/// What a filter asks of a document.
#[derive(Clone, Debug)]
enum Predicate {
    All(Vec<Predicate>),
    Any(Vec<Predicate>),
    Not(Box<Predicate>),
    Field(Path, Test),
    Expression(Expression),
}

impl Predicate {
    fn reads(&self, reads: &mut Vec<Read>) {
        match self {
            Self::All(predicates) | Self::Any(predicates) => {
                for predicate in predicates {
                    predicate.reads(reads);
                }
            }
            Self::Not(predicate) => predicate.reads(reads),
            Self::Field(path, test) => reads.push(match (test, path.names()) {
                (Test::Type(types), Some(names)) if types.are_objects() => Read::IsObject(names),
                _ => Read::Value(path.before_places()),
            }),
            Self::Expression(expression) => {
                let mut paths = Vec::new();
                expression.reads(&mut paths);
                reads.extend(paths.into_iter().map(Read::Value));
            }
        }
    }

    fn matches(&self, document: &RawDocument) -> bool {
        match self {
            Self::All(predicates) => predicates.iter().all(|predicate| predicate.matches(document)),
            Self::Any(predicates) => predicates.iter().any(|predicate| predicate.matches(document)),
            Self::Not(predicate) => !predicate.matches(document),
            Self::Field(path, test) => path.reaches(document, test.leaf(), &mut |value| test.holds(value)),
            Self::Expression(expression) => expression.is_true(document),
        }
    }
}

/// Something in a filter that is not evaluated here exactly, or that MongoDB itself refuses, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    place: String,
    what: String,
}

impl Unsupported {
    fn new(what: impl Into<String>) -> Self {
        Self { place: String::new(), what: what.into() }
    }

    fn operator() -> Self {
        Self::new("not an operator that is evaluated here")
    }

    /// The same, seen from the object that holds `key`.
    fn at(mut self, key: &str) -> Self {
        let separator = if self.place.is_empty() || self.place.starts_with('[') { "" } else { "." };
        self.place = format!("{key}{separator}{}", self.place);
        self
    }

    /// The same, seen from the array.
    fn at_index(mut self, index: usize) -> Self {
        let separator = if self.place.is_empty() || self.place.starts_with('[') { "" } else { "." };
        self.place = format!("[{index}]{separator}{}", self.place);
        self
    }

    /// The place in the filter: `fullDocument.a.$text`, `$or[1].name.$in[0]`.
    pub fn place(&self) -> &str {
        &self.place
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

impl std::error::Error for Unsupported {}

#[cfg(test)]
mod tests;
