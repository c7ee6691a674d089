//! A filter over documents, in which the server's variables stand for values.

use bson::{Bson, Document};

use crate::{
    refusal::{Kind, Refusal},
    variables::{ServerVariables, is_known_name},
};

const OPERATORS: &[&str] =
    &["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$not", "$and", "$or", "$nor"];

/// A filter as it is written, checked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Filter {
    name: &'static str,
    written: Document,
}

impl Filter {
    pub(super) fn check(name: &'static str, written: &Document) -> Result<Self, String> {
        check_names(&Bson::Document(written.clone()), name)?;
        // What a claim will be is not known; its place says whether it must be a list.
        evaluable(&filled_in(written), name)?;
        Ok(Self { name, written: written.clone() })
    }

    /// The filter for one caller.
    pub(super) fn resolve(&self, server: &ServerVariables) -> Result<Document, Refusal> {
        let filter = server.fill_members(&self.written)?;
        evaluable(&filter, self.name).map_err(|fault| Refusal::new(Kind::Forbidden, fault))?;
        Ok(filter)
    }
}

fn check_names(value: &Bson, place: &str) -> Result<(), String> {
    match value {
        Bson::String(name) if name.starts_with('@') && !is_known_name(name) => Err(format!(
            "{place}: {name:?} is no variable of the server, expected @user, @user.<claim>, or @now"
        )),
        Bson::Document(members) => members.iter().try_for_each(|(key, value)| {
            if key.contains('\0') {
                return Err(format!("{place}: a key with NUL, expected none"));
            }
            check_names(value, &format!("{place}.{key}"))
        }),
        Bson::Array(values) => values
            .iter()
            .enumerate()
            .try_for_each(|(index, value)| check_names(value, &format!("{place}[{index}]"))),
        _ => Ok(()),
    }
}

/// The filter with some value in the place of each variable.
fn filled_in(written: &Document) -> Document {
    fn sample(value: &Bson, list: bool) -> Bson {
        match value {
            Bson::String(name) if name.starts_with('@') && list => vec!["a"].into(),
            Bson::String(name) if name.starts_with('@') => "a".into(),
            Bson::Document(members) => filled_in(members).into(),
            Bson::Array(values) => values.iter().map(|element| sample(element, false)).collect(),
            other => other.clone(),
        }
    }
    let filled = |(key, member): (&String, &Bson)| {
        (key.clone(), sample(member, matches!(key.as_str(), "$in" | "$nin" | "$all")))
    };
    written.iter().map(filled).collect()
}

/// Whether this crate evaluates `filter` exactly as MongoDB does; else the place and the operator.
fn evaluable(filter: &Document, place: &str) -> Result<(), String> {
    filter.iter().try_for_each(|(key, value)| {
        let place = format!("{place}.{key}");
        match (key.as_str(), value) {
            ("$and" | "$or" | "$nor", Bson::Array(filters)) if !filters.is_empty() => {
                filters.iter().enumerate().try_for_each(|(index, filter)| match filter {
                    Bson::Document(filter) => evaluable(filter, &format!("{place}[{index}]")),
                    _ => Err(format!("{place}[{index}]: expected a filter (an object)")),
                })
            }
            ("$and" | "$or" | "$nor", _) => Err(format!("{place}: expected an array of at least one filter")),
            _ if key.starts_with('$') => Err(unsupported(&place)),
            (_, Bson::Document(condition)) if condition.keys().any(|key| key.starts_with('$')) => {
                condition_evaluable(condition, &place)
            }
            (_, value) => value_evaluable(value, &place),
        }
    })
}

fn condition_evaluable(condition: &Document, place: &str) -> Result<(), String> {
    condition.iter().try_for_each(|(operator, value)| {
        let place = format!("{place}.{operator}");
        match (operator.as_str(), value) {
            ("$in" | "$nin", Bson::Array(_)) | ("$exists", Bson::Boolean(_)) => {
                value_evaluable(value, &place)
            }
            ("$in" | "$nin", _) => Err(format!("{place}: expected a list")),
            ("$exists", _) => Err(format!("{place}: expected true or false")),
            ("$not", Bson::Document(condition)) if condition.keys().all(|key| key.starts_with('$')) => {
                condition_evaluable(condition, &place)
            }
            ("$eq" | "$ne" | "$gt" | "$gte" | "$lt" | "$lte", _) => value_evaluable(value, &place),
            _ => Err(unsupported(&place)),
        }
    })
}

fn value_evaluable(value: &Bson, place: &str) -> Result<(), String> {
    match value {
        Bson::RegularExpression(_) => Err(format!("{place}: a regular expression, expected a plain value")),
        Bson::Array(values) => values.iter().try_for_each(|value| value_evaluable(value, place)),
        _ => Ok(()),
    }
}

fn unsupported(place: &str) -> String {
    format!("{place}: not supported here, expected one of {}", OPERATORS.join(", "))
}
