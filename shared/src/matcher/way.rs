//! What in a filter can lead a document to it: the values that it compares a field with.

use std::fmt;

use bson::RawBson;

use super::{
    Predicate,
    condition::{Operand, Relation, Test},
    order::Bracket,
    path::Path,
};

/// How a document can lead to a filter that it matches.
#[derive(Debug)]
pub(super) enum Way<'a> {
    /// A value at the path is one of these, of which there is at least one.
    Equal(&'a Path, Vec<&'a RawBson>),
    /// A value at the path is not below this.
    From(&'a Path, &'a RawBson),
    /// A value at the path is not above this.
    UpTo(&'a Path, &'a RawBson),
    /// By each of these alone.
    Any(Vec<Way<'a>>),
    /// By one of these or another: they must all be looked at.
    All(Vec<Way<'a>>),
}

impl<'a> Way<'a> {
    /// The way to what a predicate asks; none where only asking it can tell.
    pub(super) fn to(predicate: &'a Predicate) -> Option<Self> {
        match predicate {
            Predicate::All(predicates) => {
                let mut ways: Vec<Self> = predicates.iter().filter_map(Self::to).collect();
                if ways.len() > 1 { Some(Self::Any(ways)) } else { ways.pop() }
            }
            Predicate::Any(predicates) => {
                let mut ways = predicates.iter().map(Self::to).collect::<Option<Vec<_>>>()?;
                if ways.len() > 1 { Some(Self::All(ways)) } else { ways.pop() }
            }
            Predicate::Field(path, test) => match test {
                Test::Compare(Relation::Equal, operand) => Some(Self::Equal(path, vec![operand.value()])),
                Test::Compare(relation, operand) => Self::limit(path, *relation, operand),
                Test::In(any) => {
                    let values: Vec<&RawBson> = any.values()?.iter().collect();
                    (!values.is_empty()).then_some(Self::Equal(path, values))
                }
                _ => None,
            },
            Predicate::Not(_) | Predicate::Expression(_) => None,
        }
    }

    fn limit(path: &'a Path, relation: Relation, operand: &'a Operand) -> Option<Self> {
        // Null, NaN, and the two ends compare in ways of their own.
        let value = operand.value();
        let bracket = Bracket::of(Some(value.as_raw_bson_ref()));
        if matches!(bracket, Bracket::MinKey | Bracket::Null | Bracket::MaxKey) || operand.is_nan() {
            return None;
        }
        match relation {
            Relation::Less | Relation::LessOrEqual => Some(Self::UpTo(path, value)),
            Relation::Greater | Relation::GreaterOrEqual => Some(Self::From(path, value)),
            Relation::Equal => None,
        }
    }
}

/// How an [`Index`](super::Index) finds a filter, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// By a hash of the value at this path.
    Hash(String),
    /// By the place of the value at this path among those that filters compare it with.
    Range(String),
    /// By any of these: the one that leads to the fewest other filters.
    Any(Vec<Lookup>),
    /// By all of these, since any of them may be how a document matches.
    All(Vec<Lookup>),
    /// Not at all: every document is asked.
    Scan,
}

impl Lookup {
    pub(super) fn by(way: Option<&Way<'_>>) -> Self {
        let each = |ways: &[Way<'_>]| {
            let mut each: Vec<Self> = Vec::new();
            for way in ways {
                let lookup = Self::by(Some(way));
                if !each.contains(&lookup) {
                    each.push(lookup);
                }
            }
            each
        };
        let several = |mut each: Vec<Self>, of: fn(Vec<Self>) -> Self| {
            if each.len() == 1 { each.remove(0) } else { of(each) }
        };
        match way {
            None => Self::Scan,
            Some(Way::Equal(path, _)) => Self::Hash(path.dotted()),
            Some(Way::From(path, _) | Way::UpTo(path, _)) => Self::Range(path.dotted()),
            Some(Way::Any(ways)) => several(each(ways), Self::Any),
            Some(Way::All(ways)) => several(each(ways), Self::All),
        }
    }
}

impl fmt::Display for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, each: &[Self], between: &str| {
            for (index, lookup) in each.iter().enumerate() {
                f.write_str(if index == 0 { "" } else { between })?;
                match lookup {
                    Self::Any(_) | Self::All(_) => write!(f, "({lookup})")?,
                    _ => write!(f, "{lookup}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::Hash(path) => write!(f, "hash of {path}"),
            Self::Range(path) => write!(f, "ordered range of {path}"),
            Self::Any(each) => {
                list(f, each, " or ")?;
                f.write_str(", whichever leads to fewer")
            }
            Self::All(each) => list(f, each, " and "),
            Self::Scan => f.write_str("scan: each event is asked"),
        }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use bson::{Document, doc};

    use crate::matcher::Matcher;

    fn lookup(filter: &Document) -> String {
        Matcher::compile(filter).unwrap().lookup().to_string()
    }

    #[test]
    fn a_filter_tells_how_it_is_found() {
        for (filter, expected) in [
            (doc! { "a.b": 1 }, "hash of a.b"),
            (doc! { "a": { "$in": [1, 2] } }, "hash of a"),
            (doc! { "a": { "$gt": 1 } }, "ordered range of a"),
            (doc! { "a": { "$gt": 1, "$lt": 5 } }, "ordered range of a"),
            (
                doc! { "a": 1, "b": { "$lte": 5 } },
                "hash of a or ordered range of b, whichever leads to fewer",
            ),
            (doc! { "$or": [{ "a": 1 }, { "b": 1 }] }, "hash of a and hash of b"),
            (
                doc! { "$or": [{ "a": 1, "b": 1 }, { "c": 1 }] },
                "(hash of a or hash of b, whichever leads to fewer) and hash of c",
            ),
            (doc! { "a": 1, "b": { "$regex": "^x" } }, "hash of a"),
        ] {
            assert_eq!(lookup(&filter), expected, "{filter}");
        }
    }

    #[test]
    fn what_no_value_leads_to_is_scanned() {
        for filter in [
            doc! {},
            doc! { "a": { "$ne": 1 } },
            doc! { "a": { "$regex": "^x" } },
            doc! { "a": { "$gt": null } },
            doc! { "a": { "$lt": f64::NAN } },
            doc! { "a": { "$in": [] } },
            doc! { "$or": [{ "a": 1 }, { "b": { "$exists": true } }] },
            doc! { "$expr": { "$eq": ["$a", 1] } },
        ] {
            assert_eq!(lookup(&filter), "scan: each event is asked", "{filter}");
        }
    }
}
