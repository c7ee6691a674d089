//! Values in a rule that stand for others: `"@user.tenant"`, `"@now"`, `"{tenant}"`.

use bson::{Bson, Document};

use crate::{
    refusal::Refusal,
    variables::{ServerVariables, is_known_name},
};

/// What a rule's values are taken from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    /// Claims and time.
    pub(super) server: &'a ServerVariables,
    /// The values of the path's parameters.
    pub(super) path: &'a Document,
}

/// A value as a rule has it, checked.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Template {
    /// Itself.
    Plain(Bson),
    /// `"@user.tenant"`: a variable of the server's.
    Server(String),
    /// `"{tenant}"`: a parameter of the path.
    Parameter(String),
    Array(Vec<Template>),
    Document(Vec<(String, Template)>),
}

impl Template {
    /// Reads a value: a string that is wholly `@…` or `{…}` stands for another, at any depth. `{"$literal": …}` does not.
    pub(super) fn check(value: &Bson, place: &str, parameters: &[&str]) -> Result<Self, String> {
        Ok(match value {
            Bson::String(text) if text.starts_with('@') => {
                if !is_known_name(text) {
                    return Err(format!(
                        "{place}: {text:?} is no server variable, expected @user, @user.<claim>, or @now"
                    ));
                }
                Self::Server(text.clone())
            }
            Bson::String(text) if text.starts_with('{') && text.ends_with('}') => {
                let name = &text[1..text.len() - 1];
                if !parameters.contains(&name) {
                    let known: Vec<_> = parameters.iter().map(|known| format!("{{{known}}}")).collect();
                    let known = if known.is_empty() {
                        "a path with one".to_owned()
                    } else {
                        format!("one of {}", known.join(", "))
                    };
                    return Err(format!("{place}: {text:?} is no parameter of the path, expected {known}"));
                }
                Self::Parameter(name.to_owned())
            }
            Bson::Array(values) => Self::Array(
                values
                    .iter()
                    .enumerate()
                    .map(|(index, value)| Self::check(value, &format!("{place}[{index}]"), parameters))
                    .collect::<Result<_, _>>()?,
            ),
            Bson::Document(document) => match document.get("$literal") {
                Some(literal) if document.len() == 1 => Self::Plain(literal.clone()),
                _ => Self::Document(
                    document
                        .iter()
                        .map(|(name, value)| {
                            Ok((name.clone(), Self::check(value, &format!("{place}.{name}"), parameters)?))
                        })
                        .collect::<Result<_, String>>()?,
                ),
            },
            plain => Self::Plain(plain.clone()),
        })
    }

    /// The value, for a comparison; `None` where a claim is absent.
    pub(super) fn value(&self, known: &Known<'_>) -> Option<Bson> {
        self.with(known, &|name| known.server.get(name).ok_or(())).ok()
    }

    /// The value, for MongoDB. A 403 names the claim that is absent, never `null` in its place, or that holds an operator:
    /// a claim may hold what a user once typed somewhere, and a filter would take it for one.
    pub(super) fn resolve(&self, known: &Known<'_>) -> Result<Bson, Refusal> {
        self.with(known, &|name| known.server.plain(name))
    }

    fn with<E>(&self, known: &Known<'_>, server: &dyn Fn(&str) -> Result<Bson, E>) -> Result<Bson, E> {
        Ok(match self {
            Self::Plain(value) => value.clone(),
            Self::Server(name) => server(name)?,
            Self::Parameter(name) => known.path.get(name).cloned().unwrap_or(Bson::Null),
            Self::Array(values) => {
                Bson::Array(values.iter().map(|value| value.with(known, server)).collect::<Result<_, _>>()?)
            }
            Self::Document(members) => Bson::Document(
                members
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), value.with(known, server)?)))
                    .collect::<Result<Document, E>>()?,
            ),
        })
    }
}
