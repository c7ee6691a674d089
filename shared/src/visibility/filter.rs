//! A filter over documents, in which the server's variables stand for values.

use bson::{Bson, Document};

use crate::{
    matcher::Matcher,
    refusal::{Kind, Refusal},
    variables::{ServerVariables, is_known_name},
};

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

/// Whether this crate evaluates `filter` exactly as MongoDB does; else the place and what is wrong there.
fn evaluable(filter: &Document, place: &str) -> Result<(), String> {
    fieldwise(filter, place)?;
    Matcher::compile(filter).map(drop).map_err(|unsupported| format!("{place}.{unsupported}"))
}

/// That the filter speaks of fields alone, so that it can be put to a document wherever it stands in an event.
fn fieldwise(filter: &Document, place: &str) -> Result<(), String> {
    filter.iter().try_for_each(|(key, value)| match (key.as_str(), value) {
        ("$and" | "$or" | "$nor", Bson::Array(filters)) => {
            filters.iter().enumerate().try_for_each(|(index, filter)| match filter {
                Bson::Document(filter) => fieldwise(filter, &format!("{place}.{key}[{index}]")),
                _ => Err(format!("{place}.{key}[{index}]: expected a filter (an object)")),
            })
        }
        ("$and" | "$or" | "$nor", _) => Err(format!("{place}.{key}: expected an array of filters")),
        _ if key.starts_with('$') => {
            Err(format!("{place}.{key}: not supported here, expected a field, $and, $or, or $nor"))
        }
        _ => Ok(()),
    })
}
