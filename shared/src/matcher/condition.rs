//! What a filter asks of one value, and whether a value that is there, or one that is not, answers it.

use std::cmp::Ordering;

use bson::{RawArray, RawBson, RawBsonRef, RawDocument, spec::ElementType};

use super::{
    Predicate,
    bits::Bits,
    number::Number,
    order::{self, Bracket, elements},
    path::{Leaf, Path},
    pattern::Pattern,
};

/// Operators on one field, all together.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    /// Every one holds.
    All(Vec<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
    /// Nothing answers it: `$all` of an empty array.
    Never,
    /// One operator.
    Test(Test),
}

impl Condition {
    /// The condition as it is asked of the values that a path reaches.
    pub(super) fn at(self, path: &Path) -> Predicate {
        match self {
            Self::All(conditions) => {
                Predicate::All(conditions.into_iter().map(|condition| condition.at(path)).collect())
            }
            Self::Not(condition) => Predicate::Not(Box::new(condition.at(path))),
            Self::Never => Predicate::Any(Vec::new()),
            Self::Test(test) => Predicate::Field(path.clone(), test),
        }
    }

    /// The condition as it is asked of one element of an array, by `$elemMatch`.
    fn holds(&self, element: RawBsonRef<'_>) -> bool {
        match self {
            Self::All(conditions) => conditions.iter().all(|condition| condition.holds(element)),
            Self::Not(condition) => !condition.holds(element),
            Self::Never => false,
            Self::Test(test) => test.holds(Some(element)),
        }
    }
}

/// What one operator asks.
#[derive(Clone, Debug)]
pub(super) enum Test {
    Compare(Relation, Operand),
    In(AnyOf),
    Exists,
    Type(Types),
    Size(usize),
    /// `$mod`: divisor, which is not zero, and remainder.
    Remainder(i64, i64),
    Finds(Pattern),
    Bits(Bits),
    /// `$elemMatch` with a filter: an element that is a document, or an array taken for one.
    AnyDocument(Box<Predicate>),
    /// `$elemMatch` with operators.
    AnyElement(Box<Condition>),
}

/// How a value stands to that of the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
}

/// A value of the filter that others are compared with. It is not `undefined`.
#[derive(Clone, Debug)]
pub(super) struct Operand {
    value: RawBson,
    bracket: Bracket,
    is_nan: bool,
}

/// What `$type` names.
#[derive(Clone, Debug, Default)]
pub(super) struct Types {
    pub(super) types: Vec<ElementType>,
    /// `number`: all four of them.
    pub(super) any_number: bool,
}

impl Test {
    /// What it asks of an array at the end of its path.
    pub(super) fn leaf(&self) -> Leaf {
        match self {
            Self::Size(_) | Self::AnyDocument(_) | Self::AnyElement(_) => Leaf::Whole,
            _ => Leaf::Elements,
        }
    }

    /// Whether this value answers it; `None` is a place where there is none.
    pub(super) fn holds(&self, value: Option<RawBsonRef<'_>>) -> bool {
        match (self, value) {
            (Self::Compare(relation, operand), value) => operand.stands(*relation, value),
            (Self::In(any), value) => any.have(value),
            (Self::Finds(pattern), Some(value)) => finds(pattern, value),
            (Self::Bits(bits), Some(value)) => bits.hold(value),
            (Self::Exists, Some(_)) => true,
            (Self::Type(types), Some(value)) => types.have(value),
            (Self::Size(size), Some(RawBsonRef::Array(array))) => elements(array).count() == *size,
            (Self::Remainder(divisor, remainder), Some(value)) => Number::read(value)
                .and_then(Number::truncated)
                .is_some_and(|dividend| dividend.wrapping_rem(*divisor) == *remainder),
            (Self::AnyDocument(predicate), Some(RawBsonRef::Array(array))) => {
                elements(array).any(|element| match element {
                    RawBsonRef::Document(document) => predicate.matches(document),
                    RawBsonRef::Array(inner) => {
                        as_document(inner).is_some_and(|inner| predicate.matches(inner))
                    }
                    _ => false,
                })
            }
            (Self::AnyElement(condition), Some(RawBsonRef::Array(array))) => {
                elements(array).any(|element| condition.holds(element))
            }
            (_, None) | (Self::Size(_) | Self::AnyDocument(_) | Self::AnyElement(_), Some(_)) => false,
        }
    }
}

/// What `$in` names.
#[derive(Clone, Debug)]
pub(super) struct AnyOf {
    /// Each once, in their order.
    values: Vec<RawBson>,
    patterns: Vec<Pattern>,
}

impl AnyOf {
    pub(super) fn new(mut values: Vec<RawBson>, patterns: Vec<Pattern>) -> Self {
        let cmp = |a: &RawBson, b: &RawBson| order::cmp(a.as_raw_bson_ref(), b.as_raw_bson_ref());
        values.sort_by(cmp);
        values.dedup_by(|a, b| cmp(a, b).is_eq());
        Self { values, patterns }
    }

    /// The values, where they are all that it takes.
    pub(super) fn values(&self) -> Option<&[RawBson]> {
        self.patterns.is_empty().then_some(&self.values)
    }

    fn have(&self, value: Option<RawBsonRef<'_>>) -> bool {
        let (value, patterns) = match value {
            None | Some(RawBsonRef::Undefined) => (RawBsonRef::Null, &[][..]),
            Some(value) => (value, &self.patterns[..]),
        };
        self.values.binary_search_by(|other| order::cmp(other.as_raw_bson_ref(), value)).is_ok()
            || patterns.iter().any(|pattern| finds(pattern, value))
    }
}

/// Whether a text matches, or is the same regular expression.
fn finds(pattern: &Pattern, value: RawBsonRef<'_>) -> bool {
    match value {
        RawBsonRef::String(text) | RawBsonRef::Symbol(text) => pattern.finds(text),
        RawBsonRef::RegularExpression(regex) => pattern.is(regex.pattern.as_str(), regex.options.as_str()),
        _ => false,
    }
}

/// An array with its places as the names of members: what it is in BSON.
fn as_document(array: &RawArray) -> Option<&RawDocument> {
    RawDocument::from_bytes(array.as_bytes()).ok()
}

impl Operand {
    pub(super) fn new(value: RawBson) -> Self {
        let bracket = Bracket::of(Some(value.as_raw_bson_ref()));
        let is_nan = Number::read(value.as_raw_bson_ref()).is_some_and(Number::is_nan);
        Self { value, bracket, is_nan }
    }

    pub(super) fn value(&self) -> &RawBson {
        &self.value
    }

    pub(super) fn is_nan(&self) -> bool {
        self.is_nan
    }

    fn stands(&self, relation: Relation, value: Option<RawBsonRef<'_>>) -> bool {
        let bracket = Bracket::of(value);
        let Some(value) = value.filter(|_| bracket == self.bracket) else {
            // The other brackets never compare, with these exceptions.
            return match (self.bracket, bracket) {
                (Bracket::Null, Bracket::Missing) => relation.holds_for_equals(),
                (Bracket::MinKey, _) => matches!(relation, Relation::Greater | Relation::GreaterOrEqual),
                (Bracket::MaxKey, _) => matches!(relation, Relation::Less | Relation::LessOrEqual),
                _ => false,
            };
        };
        let ordering = order::cmp(value, self.value.as_raw_bson_ref());
        // NaN is neither below nor above any number here, though it has its place in the order of values.
        if ordering.is_ne() && (self.is_nan || Number::read(value).is_some_and(Number::is_nan)) {
            return false;
        }
        relation.holds(ordering)
    }
}

impl Relation {
    /// Whether it holds for a value that stands so to the other.
    pub(super) fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Equal => ordering.is_eq(),
            Self::GreaterOrEqual => ordering.is_ge(),
            Self::Greater => ordering.is_gt(),
        }
    }

    fn holds_for_equals(self) -> bool {
        matches!(self, Self::LessOrEqual | Self::Equal | Self::GreaterOrEqual)
    }
}

impl Types {
    /// Whether it names objects and nothing else.
    pub(super) fn are_objects(&self) -> bool {
        let are_objects = |kind: &ElementType| *kind == ElementType::EmbeddedDocument;
        !self.any_number && !self.types.is_empty() && self.types.iter().all(are_objects)
    }

    fn have(&self, value: RawBsonRef<'_>) -> bool {
        self.types.contains(&value.element_type())
            || self.any_number && Bracket::of(Some(value)) == Bracket::Number
    }
}
