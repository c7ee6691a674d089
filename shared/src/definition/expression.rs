//! The grammar of aggregation expressions and of projections, as far as variables need it: which operators exist, and
//! what they take, is MongoDB's to judge.

use bson::Bson;

use super::{
    place::{Fault, Place},
    template::{self, Position, Template, elements, members},
};

/// An expression: a variable in it becomes `{$literal: value}`, except inside a `$literal` that is there already.
pub(super) fn expression(value: &Bson, place: &Place) -> Result<Template, Fault> {
    match value {
        Bson::Document(document) => {
            if let Some(variable) = template::variable(document, Position::Expression, place)? {
                return Ok(Template::Variable(variable));
            }
            members(document, place, |key, value, place| match key {
                "$literal" | "$const" => template::value(value, Position::Literal, place),
                _ => expression(value, place),
            })
        }
        Bson::Array(values) => elements(values, place, expression),
        other => Ok(Template::Constant(other.clone())),
    }
}

/// What a `$project` says of one field: keep it, drop it, compute it, or the same for the fields below it.
pub(super) fn projection(value: &Bson, place: &Place) -> Result<Template, Fault> {
    match value {
        Bson::Document(document) => {
            if template::variable(document, Position::Expression, place)?.is_some() {
                // A number would keep or drop the field, and everything else would compute it.
                return Err(place.fault(
                    "a variable may not decide what is projected, expected a constant or an operator",
                ));
            }
            if document.keys().any(|key| key.starts_with('$')) {
                expression(value, place)
            } else {
                members(document, place, |_, value, place| projection(value, place))
            }
        }
        _ => expression(value, place),
    }
}
