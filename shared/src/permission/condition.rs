//! What a rule asks of the caller's claims and of the address: `{"$eq": ["@user.tenant", "{tenant}"]}`.

use bson::{Bson, Document};

use super::value::{Known, Template};
use crate::matcher;

/// A condition, checked.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Condition {
    Equal(Template, Template),
    NotEqual(Template, Template),
    In(Template, Template),
    NotIn(Template, Template),
    Exists(Template),
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
}

const EXPECTED: &str = "expected an object of $eq, $ne, $in, $nin, $exists, $and, $or, or $not";

impl Condition {
    /// Reads a condition; several members must all hold. `parameters` are the names that the path has.
    pub(super) fn check(value: &Bson, place: &str, parameters: &[&str]) -> Result<Self, String> {
        let Bson::Document(document) = value else { return Err(format!("{place}: {EXPECTED}")) };
        if document.is_empty() {
            return Err(format!("{place}: {EXPECTED}"));
        }
        let mut parts = Vec::new();
        for (operator, value) in document {
            parts.push(Self::member(operator, value, &format!("{place}.{operator}"), parameters)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Self::All(parts) })
    }

    fn member(operator: &str, value: &Bson, place: &str, parameters: &[&str]) -> Result<Self, String> {
        let pair = || match value {
            Bson::Array(values) if values.len() == 2 => {
                let operand =
                    |index: usize| Template::check(&values[index], &format!("{place}[{index}]"), parameters);
                Ok((operand(0)?, operand(1)?))
            }
            _ => Err(format!(
                "{place}: expected an array of two values, as [\"@user.tenant\", \"{{tenant}}\"]"
            )),
        };
        let list = || match value {
            Bson::Array(values) if !values.is_empty() => values
                .iter()
                .enumerate()
                .map(|(index, value)| Self::check(value, &format!("{place}[{index}]"), parameters))
                .collect(),
            _ => Err(format!("{place}: expected an array of conditions")),
        };
        Ok(match operator {
            "$eq" => pair().map(|(a, b)| Self::Equal(a, b))?,
            "$ne" => pair().map(|(a, b)| Self::NotEqual(a, b))?,
            "$in" => pair().map(|(a, b)| Self::In(a, b))?,
            "$nin" => pair().map(|(a, b)| Self::NotIn(a, b))?,
            "$exists" => Self::Exists(Template::check(value, place, parameters)?),
            "$and" => Self::All(list()?),
            "$or" => Self::Any(list()?),
            "$not" => Self::Not(Box::new(Self::check(value, place, parameters)?)),
            _ => return Err(format!("{place}: unknown, {EXPECTED}")),
        })
    }

    /// Whether it holds. What compares an absent claim does not hold, whichever way it compares.
    pub(super) fn holds(&self, known: &Known<'_>) -> bool {
        let both = |a: &Template, b: &Template| Some((a.value(known)?, b.value(known)?));
        match self {
            Self::Equal(a, b) => both(a, b).is_some_and(|(a, b)| equal(&a, &b)),
            Self::NotEqual(a, b) => both(a, b).is_some_and(|(a, b)| !equal(&a, &b)),
            Self::In(a, b) => both(a, b).is_some_and(|(a, b)| contains(&b, &a) == Some(true)),
            Self::NotIn(a, b) => both(a, b).is_some_and(|(a, b)| contains(&b, &a) == Some(false)),
            Self::Exists(a) => a.value(known).is_some(),
            Self::All(parts) => parts.iter().all(|part| part.holds(known)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(known)),
            Self::Not(part) => !part.holds(known),
        }
    }
}

fn contains(list: &Bson, value: &Bson) -> Option<bool> {
    match list {
        Bson::Array(values) => Some(values.iter().any(|other| equal(other, value))),
        _ => None,
    }
}

/// Numbers are equal by value, whatever their type; all else by type and value.
fn equal(a: &Bson, b: &Bson) -> bool {
    match (a, b) {
        (Bson::Document(a), Bson::Document(b)) => equal_documents(a, b),
        (Bson::Array(a), Bson::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        _ => matcher::equal_numbers(a, b).unwrap_or_else(|| a == b),
    }
}

fn equal_documents(a: &Document, b: &Document) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|((name, a), (other, b))| name == other && equal(a, b))
}

#[cfg(test)]
mod tests {
    use bson::{DateTime, bson, doc};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::variables::ServerVariables;

    fn holds(condition: &Bson) -> bool {
        let user = doc! {
            "tenant": "a", "age": 7, "tags": ["x", "y"], "banned": null, "deep": { "er": 1.0 }, "odd": "@user.tenant",
        };
        let server = ServerVariables { user: Some(user), now: DateTime::from_millis(0) };
        let path = doc! { "tenant": "a", "other": "b" };
        let known = Known { server: &server, path: &path };
        Condition::check(condition, "condition", &["tenant", "other"]).expect("condition").holds(&known)
    }

    #[test]
    fn claims_parameters_and_values_are_compared() {
        for condition in [
            bson!({ "$eq": ["@user.tenant", "{tenant}"] }),
            bson!({ "$ne": ["@user.tenant", "{other}"] }),
            bson!({ "$eq": ["@user.age", 7.0] }),
            bson!({ "$eq": ["@user.deep.er", 1] }),
            bson!({ "$in": ["x", "@user.tags"] }),
            bson!({ "$in": ["@user.tenant", ["{other}", "{tenant}"]] }),
            bson!({ "$nin": ["z", "@user.tags"] }),
            bson!({ "$exists": "@user.age" }),
            bson!({ "$or": [{ "$eq": [1, 2] }, { "$eq": [1, 1] }] }),
            bson!({ "$eq": [1, 1], "$ne": [1, 2] }),
            bson!({ "$not": { "$eq": [1, 2] } }),
            bson!({ "$eq": ["@user.odd", { "$literal": "@user.tenant" }] }),
        ] {
            assert!(holds(&condition), "{condition}");
        }
        for condition in [
            bson!({ "$eq": ["@user.tenant", "{other}"] }),
            bson!({ "$eq": ["@user.age", "7"] }),
            bson!({ "$and": [{ "$eq": [1, 1] }, { "$eq": [1, 2] }] }),
            bson!({ "$in": ["a", "@user.tenant"] }),
            bson!({ "$nin": ["b", "@user.tenant"] }),
        ] {
            assert!(!holds(&condition), "{condition}");
        }
    }

    #[test]
    fn numbers_are_equal_by_value_whatever_their_type() {
        let decimal = |text: &str| Bson::Decimal128(text.parse().expect("a decimal"));
        for (a, b) in [
            (bson!(5_000_000_000_i64), bson!(5e9)),
            (bson!(5_000_000_000_i64), decimal("5E+9")),
            (bson!(7), decimal("7.00")),
            (bson!(0.5), decimal("0.5")),
            (bson!([7, { "n": 1_i64 }]), bson!([decimal("7"), { "n": 1.0 }])),
        ] {
            assert!(holds(&bson!({ "$eq": [a.clone(), b.clone()] })), "{a} {b}");
            assert!(!holds(&bson!({ "$ne": [a.clone(), b.clone()] })), "{a} {b}");
            assert!(holds(&bson!({ "$in": [a.clone(), [b.clone()]] })), "{a} {b}");
            assert!(!holds(&bson!({ "$nin": [a.clone(), [b.clone()]] })), "{a} {b}");
        }
        let above = (1_i64 << 53) + 1;
        for (a, b) in [(bson!(above), bson!(9_007_199_254_740_992.0)), (bson!(0.1), decimal("0.1"))] {
            assert!(!holds(&bson!({ "$eq": [a.clone(), b.clone()] })), "{a} is not exactly {b}");
        }
    }

    #[test]
    fn nothing_holds_of_an_absent_claim_but_that_it_is_absent() {
        for absent in ["@user.none", "@user.banned", "@user.tenant.deeper"] {
            for operator in ["$eq", "$ne"] {
                assert!(!holds(&bson!({ operator: [absent, "a"] })), "{operator} {absent}");
            }
            assert!(!holds(&bson!({ "$in": [absent, ["a"]] })));
            assert!(!holds(&bson!({ "$nin": ["a", absent] })));
            assert!(!holds(&bson!({ "$exists": absent })));
        }
        assert!(!holds(&bson!({ "$eq": ["@user.none", "@user.nothing"] })), "two absent ones are not equal");
    }

    #[test]
    fn a_wrong_condition_is_told_with_its_place() {
        for (condition, message) in [
            (bson!(1), "condition: expected an object of $eq, $ne, $in, $nin, $exists, $and, $or, or $not"),
            (
                bson!({ "$where": "1" }),
                "condition.$where: unknown, expected an object of $eq, $ne, $in, $nin, $exists, $and, $or, or $not",
            ),
            (
                bson!({ "$and": [{ "$eq": [1] }] }),
                "condition.$and[0].$eq: expected an array of two values, as [\"@user.tenant\", \"{tenant}\"]",
            ),
            (
                bson!({ "$eq": ["@users.x", 1] }),
                "condition.$eq[0]: \"@users.x\" is no server variable, expected @user, @user.<claim>, or @now",
            ),
            (
                bson!({ "$eq": ["{room}", 1] }),
                "condition.$eq[0]: \"{room}\" is no parameter of the path, expected one of {tenant}",
            ),
        ] {
            assert_eq!(Condition::check(&condition, "condition", &["tenant"]).unwrap_err(), message);
        }
    }
}
