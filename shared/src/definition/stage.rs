//! The stages that a definition may have, each with its own grammar.

use bson::{Bson, Document};

use super::{
    binding::Resolved,
    event_id, expression, filter,
    place::{Fault, Place},
    template::{self, Position, Template, Values, Variable, elements, members, object},
};
use crate::{refusal::Refusal, variables::is_forbidden};

/// MongoDB manual, "Modify Change Stream Output".
const STAGES: &[&str] =
    &["$match", "$project", "$addFields", "$set", "$unset", "$replaceRoot", "$replaceWith", "$redact"];

const FIELDS: &str = "an object of fields";

/// How deep a stage may be nested; MongoDB itself ends at 180 levels, of which values and the command take some.
pub(super) const MAX_DEPTH: usize = 100;

/// A checked stage.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stage {
    /// A stage for MongoDB.
    Plain { operator: String, argument: Template },
    /// `{"$ifvar": [names, then, else?]}`: `then` when all names are bound, else `otherwise`, or no stage at all.
    IfVar { names: Vec<String>, then: Box<Stage>, otherwise: Option<Box<Stage>> },
}

impl Stage {
    /// Checks one element of `stages`, in the plain spelling.
    pub(super) fn check(value: &Bson, place: &Place) -> Result<Self, Fault> {
        if deeper_than(value, MAX_DEPTH) {
            return Err(place.fault(format!("expected at most {MAX_DEPTH} levels of nesting")));
        }
        let mut members = value.as_document().into_iter().flatten();
        let (Some((operator, argument)), None) = (members.next(), members.next()) else {
            return Err(place.fault("expected an object with one key, the stage"));
        };
        let place = place.member(operator);
        if operator == "$ifvar" {
            return Self::check_ifvar(argument, &place);
        }
        if operator == "$var" {
            return Err(place.fault("a variable stands for a value only, expected a stage"));
        }
        if !STAGES.contains(&operator.as_str()) {
            return Err(
                place.fault(format!("not a stage of a change stream, expected one of {}", STAGES.join(", ")))
            );
        }
        refuse_forbidden(argument, &place)?;
        let argument = check_argument(operator, argument, &place)?;
        Ok(Self::Plain { operator: operator.clone(), argument })
    }

    fn check_ifvar(argument: &Bson, place: &Place) -> Result<Self, Fault> {
        let expected =
            || place.fault("expected [name or [names], stage] or [name or [names], stage, other stage]");
        let parts = argument.as_array().ok_or_else(expected)?;
        let (names, then, otherwise) = match parts.as_slice() {
            [names, then] => (names, then, None),
            [names, then, otherwise] => (names, then, Some(otherwise)),
            _ => return Err(expected()),
        };
        let names = match names {
            Bson::String(name) => vec![name.clone()],
            Bson::Array(names) if !names.is_empty() => names
                .iter()
                .map(|name| name.as_str().map(str::to_owned).ok_or_else(expected))
                .collect::<Result<_, Fault>>()?,
            _ => return Err(expected()),
        };
        names.iter().try_for_each(|name| template::check_name(name, &place.index(0)))?;
        let then = Box::new(Self::check(then, &place.index(1))?);
        let otherwise = match otherwise {
            Some(stage) => Some(Box::new(Self::check(stage, &place.index(2))?)),
            None => None,
        };
        Ok(Self::IfVar { names, then, otherwise })
    }

    /// The stage for MongoDB with every variable replaced; none where an `$ifvar` leaves it out.
    pub(super) fn resolve(
        &self,
        values: &mut impl Values,
        is_bound: &impl Fn(&str) -> bool,
    ) -> Result<Option<Resolved>, Refusal> {
        match self {
            Self::Plain { operator, argument } => {
                let mut stage = Document::new();
                stage.insert(operator, argument.resolve(values)?);
                Ok(Some(Resolved { stage, varying: argument.varying() }))
            }
            Self::IfVar { names, then, otherwise } => {
                if names.iter().all(|name| is_bound(name)) {
                    then.resolve(values, is_bound)
                } else {
                    otherwise.as_ref().map_or(Ok(None), |stage| stage.resolve(values, is_bound))
                }
            }
        }
    }

    /// This stage, or every branch of an `$ifvar`: all that MongoDB can come to see.
    pub(super) fn branches<'a>(&'a self, found: &mut dyn FnMut(&'a Template, &'a str)) {
        match self {
            Self::Plain { operator, argument } => found(argument, operator),
            Self::IfVar { then, otherwise, .. } => {
                then.branches(found);
                if let Some(stage) = otherwise {
                    stage.branches(found);
                }
            }
        }
    }

    /// Every variable with whether the stage cannot do without it, in the order in which they are written.
    pub(super) fn variables<'a>(&'a self, found: &mut dyn FnMut(&'a str, bool)) {
        match self {
            Self::Plain { argument, .. } => {
                argument
                    .variables(&mut |variable: &Variable| found(&variable.name, variable.default.is_none()));
            }
            Self::IfVar { names, then, otherwise } => {
                for name in names {
                    found(name, false);
                }
                let mut optional = |name, _| found(name, false);
                then.variables(&mut optional);
                if let Some(stage) = otherwise {
                    stage.variables(&mut optional);
                }
            }
        }
    }
}

fn check_argument(operator: &str, argument: &Bson, place: &Place) -> Result<Template, Fault> {
    match operator {
        "$match" => filter::filter(argument, place),
        "$project" => {
            let fields = object(argument, place, FIELDS)?;
            if fields.is_empty() {
                return Err(place.fault("expected at least one field"));
            }
            check_fields(fields, place)?;
            event_id::check_projected(fields, place)?;
            members(fields, place, |_, value, place| expression::projection(value, place))
        }
        "$addFields" | "$set" => {
            let fields = object(argument, place, FIELDS)?;
            check_fields(fields, place)?;
            event_id::check_written(fields, place)?;
            members(fields, place, |_, value, place| expression::expression(value, place))
        }
        "$unset" => check_unset(argument, place),
        "$replaceRoot" => {
            let root = object(argument, place, "{\"newRoot\": <expression>}")?;
            match (root.get("newRoot"), root.len()) {
                (Some(new_root), 1) => {
                    let place = place.member("newRoot");
                    let template = expression::expression(new_root, &place)?;
                    event_id::check_replacement(new_root, &place)?;
                    Ok(Template::Document(vec![("newRoot".to_owned(), template)]))
                }
                _ => Err(place.fault("expected {\"newRoot\": <expression>}")),
            }
        }
        "$replaceWith" => {
            let template = expression::expression(argument, place)?;
            event_id::check_replacement(argument, place)?;
            Ok(template)
        }
        _ => {
            let template = expression::expression(argument, place)?;
            event_id::check_redaction(argument, place)?;
            Ok(template)
        }
    }
}

fn check_fields(fields: &Document, place: &Place) -> Result<(), Fault> {
    match fields.keys().find(|field| field.is_empty() || field.starts_with('$')) {
        Some(field) => Err(place
            .member(field)
            .fault("expected the name of a field, which is not empty and does not begin with $")),
        None => Ok(()),
    }
}

fn check_unset(argument: &Bson, place: &Place) -> Result<Template, Fault> {
    let one = |field: &Bson, place: &Place| match field {
        Bson::String(name) if !name.is_empty() => {
            event_id::check_removed(name, place)?;
            Ok(Template::Constant(field.clone()))
        }
        Bson::Document(document) if template::variable(document, Position::Literal, place)?.is_some() => {
            Err(place.fault("a variable may not decide what is removed, expected the name of a field"))
        }
        _ => Err(place.fault("expected the name of a field")),
    };
    match argument {
        Bson::Array(fields) if fields.is_empty() => Err(place.fault("expected at least one field")),
        Bson::Array(fields) => elements(fields, place, one),
        field => one(field, place),
    }
}

fn refuse_forbidden(value: &Bson, place: &Place) -> Result<(), Fault> {
    match value {
        Bson::Document(document) => document.iter().try_for_each(|(key, value)| {
            let place = place.member(key);
            if is_forbidden(key) {
                return Err(
                    place.fault("not allowed in a stream: it runs code, or needs more than the event")
                );
            }
            refuse_forbidden(value, &place)
        }),
        Bson::Array(values) => values
            .iter()
            .enumerate()
            .try_for_each(|(index, value)| refuse_forbidden(value, &place.index(index))),
        Bson::JavaScriptCode(_) | Bson::JavaScriptCodeWithScope(_) => {
            Err(place.fault("not allowed in a stream: it runs code, or needs more than the event"))
        }
        _ => Ok(()),
    }
}

fn deeper_than(value: &Bson, levels: usize) -> bool {
    let inside = |value| levels == 0 || deeper_than(value, levels - 1);
    match value {
        Bson::Document(document) => levels == 0 || document.iter().any(|(_, value)| inside(value)),
        Bson::Array(values) => levels == 0 || values.iter().any(inside),
        _ => false,
    }
}
