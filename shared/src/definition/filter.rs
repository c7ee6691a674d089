//! The grammar of `$match` (MongoDB manual, "Query and Projection Operators"): where a variable stands for a value, and
//! that it never takes the place of an operator or a whole filter.

use bson::{Bson, Document};

use super::{
    expression,
    place::{Fault, Place},
    template::{self, Position, Template, elements, members, object},
};

const FILTER: &str = "a filter (an object)";
const CONDITION: &str = "an object of query operators";

/// A whole filter, as `$match` takes it.
pub(super) fn filter(value: &Bson, place: &Place) -> Result<Template, Fault> {
    members(object(value, place, FILTER)?, place, |key, value, place| match key {
        "$and" | "$or" | "$nor" => match value {
            Bson::Array(filters) if !filters.is_empty() => elements(filters, place, filter),
            Bson::Document(document) if template::variable(document, Position::Filter, place)?.is_some() => {
                Err(place.fault("a variable stands for a value only, expected an array of filters"))
            }
            _ => Err(place.fault("expected an array of at least one filter")),
        },
        "$expr" => expression::expression(value, place),
        "$comment" | "$jsonSchema" | "$sampleRate" | "$alwaysTrue" | "$alwaysFalse" => {
            template::constant(value, place)
        }
        _ if key.starts_with('$') => Err(place.fault(
            "unknown here, expected a field, $and, $or, $nor, $expr, $jsonSchema, $sampleRate, or $comment",
        )),
        _ => condition(value, place),
    })
}

/// What a field is compared with: a value, or an object of operators.
fn condition(value: &Bson, place: &Place) -> Result<Template, Fault> {
    let Bson::Document(document) = value else { return template::value(value, Position::Filter, place) };
    if let Some(variable) = template::variable(document, Position::Filter, place)? {
        // The definition's own default may be an operator: `{"$var": ["n", {"$exists": true}]}` lets all through.
        if let Some(default) = &variable.default {
            condition(default, &place.member("$var").index(1))?;
        }
        return Ok(Template::Variable(variable));
    }
    if is_condition(document) {
        operators(document, place)
    } else {
        template::value(value, Position::Filter, place)
    }
}

/// Whether MongoDB reads `document` as operators. `{"$ref": …, "$id": …}` is a value, a `DBRef`.
fn is_condition(document: &Document) -> bool {
    document.keys().next().is_some_and(|key| key.starts_with('$') && key != "$ref")
}

fn operators(document: &Document, place: &Place) -> Result<Template, Fault> {
    members(document, place, |key, value, place| match key {
        "$not" => match value {
            Bson::RegularExpression(_) => Ok(Template::Constant(value.clone())),
            _ => operators(object(value, place, CONDITION)?, place),
        },
        "$elemMatch" => {
            let document = object(value, place, "a filter or an object of query operators")?;
            let logical =
                document.keys().next().is_some_and(|key| matches!(key.as_str(), "$and" | "$or" | "$nor"));
            if is_condition(document) && !logical { operators(document, place) } else { filter(value, place) }
        }
        "$all" => match value {
            Bson::Array(values) => elements(values, place, condition),
            _ => template::value(value, Position::Filter, place),
        },
        "$eq" | "$ne" | "$gt" | "$gte" | "$lt" | "$lte" | "$in" | "$nin" | "$exists" | "$type" | "$size"
        | "$mod" | "$regex" | "$options" | "$bitsAllClear" | "$bitsAllSet" | "$bitsAnyClear"
        | "$bitsAnySet" | "$geoWithin" | "$geoIntersects" => template::value(value, Position::Filter, place),
        _ => Err(place
            .fault("expected a query operator, such as $eq, $gt, $in, $exists, $regex, $not, or $elemMatch")),
    })
}
