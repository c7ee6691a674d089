//! A checked stage with the places of its variables, and what happens there when values come.

use bson::{Bson, Document, doc};

use super::place::{Fault, Place};
use crate::{refusal::Refusal, variables::is_known_name};

/// How MongoDB reads the value that a variable stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// In a filter: the value as it is.
    Filter,
    /// In an expression, where a text `"$a"` would read a field and an object would be computed: as `{$literal: value}`.
    Expression,
    /// Inside a `$literal` that the definition wrote itself: the value as it is.
    Literal,
}

/// `{"$var": name}` or `{"$var": [name, default]}`, well formed, at its position.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) default: Option<Bson>,
    pub(super) position: Position,
}

/// A value of a definition, checked.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Template {
    Constant(Bson),
    Document(Vec<(String, Template)>),
    Array(Vec<Template>),
    Variable(Variable),
}

/// Where values come from: the variables of one client, or a probe's candidate.
pub(super) trait Values {
    fn value(&mut self, variable: &Variable) -> Result<Bson, Refusal>;
}

impl Template {
    /// The value with every variable replaced.
    pub(super) fn resolve(&self, values: &mut impl Values) -> Result<Bson, Refusal> {
        Ok(match self {
            Self::Constant(value) => value.clone(),
            Self::Document(members) => {
                let mut document = Document::new();
                for (key, template) in members {
                    document.insert(key, template.resolve(values)?);
                }
                Bson::Document(document)
            }
            Self::Array(templates) => Bson::Array(
                templates.iter().map(|template| template.resolve(values)).collect::<Result<_, Refusal>>()?,
            ),
            Self::Variable(variable) => {
                let value = values.value(variable)?;
                match variable.position {
                    Position::Expression => doc! { "$literal": value }.into(),
                    Position::Filter | Position::Literal => value,
                }
            }
        })
    }

    /// The members that hold variables; where it is no object, one empty name if it holds any.
    pub(super) fn varying(&self) -> Vec<String> {
        let holds_any = |template: &Self| {
            let mut any = false;
            template.variables(&mut |_| any = true);
            any
        };
        match self {
            Self::Document(members) => {
                let varying = members.iter().filter(|(_, template)| holds_any(template));
                varying.map(|(name, _)| name.clone()).collect()
            }
            template if holds_any(template) => vec![String::new()],
            _ => Vec::new(),
        }
    }

    /// Every variable, in the order in which they are written.
    pub(super) fn variables<'a>(&'a self, found: &mut dyn FnMut(&'a Variable)) {
        match self {
            Self::Constant(_) => {}
            Self::Document(members) => members.iter().for_each(|(_, template)| template.variables(found)),
            Self::Array(templates) => templates.iter().for_each(|template| template.variables(found)),
            Self::Variable(variable) => found(variable),
        }
    }
}

/// The variable that `document` is, if it is one. `$ifvar` is none, and a fault wherever this is asked.
pub(super) fn variable(
    document: &Document,
    position: Position,
    place: &Place,
) -> Result<Option<Variable>, Fault> {
    if document.contains_key("$ifvar") {
        return Err(place.fault("$ifvar stands only in the place of a whole stage"));
    }
    let Some(argument) = document.get("$var") else { return Ok(None) };
    let place = place.member("$var");
    if document.len() > 1 {
        return Err(place.fault("expected $var to be the only member of its object"));
    }
    let (name, default) = match argument {
        Bson::String(name) => (name, None),
        Bson::Array(parts) => match parts.as_slice() {
            [Bson::String(name), default] => (name, Some(default.clone())),
            _ => return Err(place.fault("expected a name or [name, default]")),
        },
        _ => return Err(place.fault("expected a name or [name, default]")),
    };
    check_name(name, &place)?;
    if let Some(default) = &default {
        constant(default, &place.index(1))?;
    }
    Ok(Some(Variable { name: name.clone(), default, position }))
}

/// Whether clients or the server can bind `name`.
pub(super) fn check_name(name: &str, place: &Place) -> Result<(), Fault> {
    if is_known_name(name) {
        Ok(())
    } else if name.starts_with('@') {
        Err(place
            .fault(format!("{name:?} is no variable of the server, expected @user, @user.<claim>, or @now")))
    } else {
        Err(place.fault(format!(
            "{name:?} is no name that a client can send, expected one that is not empty and begins with neither $ nor \
             a dot"
        )))
    }
}

/// A value in which only variables are special: what a filter compares with, or what stands inside `$literal`.
pub(super) fn value(value: &Bson, position: Position, place: &Place) -> Result<Template, Fault> {
    walk(value, place, &|document, place| Ok(variable(document, position, place)?.map(Template::Variable)))
}

/// A value in which no variable may stand.
pub(super) fn constant(value: &Bson, place: &Place) -> Result<Template, Fault> {
    walk(value, place, &|document, place| match variable(document, Position::Literal, place)? {
        Some(_) => Err(place.fault("no variable may stand here, expected a constant")),
        None => Ok(None),
    })?;
    Ok(Template::Constant(value.clone()))
}

type Special<'a> = &'a dyn Fn(&Document, &Place) -> Result<Option<Template>, Fault>;

fn walk(value: &Bson, place: &Place, special: Special<'_>) -> Result<Template, Fault> {
    match value {
        Bson::Document(document) => match special(document, place)? {
            Some(template) => Ok(template),
            None => members(document, place, |_, value, place| walk(value, place, special)),
        },
        Bson::Array(values) => elements(values, place, |value, place| walk(value, place, special)),
        other => Ok(Template::Constant(other.clone())),
    }
}

/// Each member of `document` made a template by `each`.
pub(super) fn members(
    document: &Document,
    place: &Place,
    mut each: impl FnMut(&str, &Bson, &Place) -> Result<Template, Fault>,
) -> Result<Template, Fault> {
    let templates: Result<_, Fault> = document
        .iter()
        .map(|(key, value)| Ok((key.clone(), each(key, value, &place.member(key))?)))
        .collect();
    templates.map(Template::Document)
}

/// Each element of `values` made a template by `each`.
pub(super) fn elements(
    values: &[Bson],
    place: &Place,
    mut each: impl FnMut(&Bson, &Place) -> Result<Template, Fault>,
) -> Result<Template, Fault> {
    let templates: Result<_, Fault> =
        values.iter().enumerate().map(|(index, value)| each(value, &place.index(index))).collect();
    templates.map(Template::Array)
}

/// `value` as an object of `what`; a variable in its place is refused, since it stands for a value only.
pub(super) fn object<'a>(value: &'a Bson, place: &Place, what: &str) -> Result<&'a Document, Fault> {
    let Bson::Document(document) = value else { return Err(place.fault(format!("expected {what}"))) };
    if variable(document, Position::Literal, place)?.is_some() {
        return Err(place.fault(format!("a variable stands for a value only, expected {what}")));
    }
    Ok(document)
}
