//! What a stage computes: whether that comes out the same in every cursor, and whether it can fail.

use bson::{Bson, Document};

/// What a stage holds that depends on when it runs, or on chance.
pub(super) fn impure<'a>(operator: &str, argument: &'a Bson) -> Option<&'a str> {
    match argument {
        Bson::Document(filter) if operator == "$match" => impure_filter(filter),
        expression => impure_expression(expression),
    }
}

fn impure_filter(filter: &Document) -> Option<&str> {
    filter.iter().find_map(|(key, value)| match (key.as_str(), value) {
        ("$sampleRate", _) => Some(key.as_str()),
        ("$expr", expression) => impure_expression(expression),
        // Values are values, whatever they look like.
        ("$and" | "$or" | "$nor", Bson::Array(filters)) => {
            filters.iter().filter_map(Bson::as_document).find_map(impure_filter)
        }
        _ => None,
    })
}

fn impure_expression(expression: &Bson) -> Option<&str> {
    match expression {
        Bson::String(text) => {
            ["$$NOW", "$$CLUSTER_TIME"].into_iter().find(|variable| text.starts_with(variable))
        }
        Bson::Document(document) => document.iter().find_map(|(key, value)| match key.as_str() {
            "$rand" => Some(key.as_str()),
            "$literal" | "$const" => None,
            _ => impure_expression(value),
        }),
        Bson::Array(values) => values.iter().find_map(impure_expression),
        _ => None,
    }
}

/// Whether a filter holds such an operator anywhere; a regular expression counts as `$regex`.
pub(super) fn holds(filter: &Document, is_it: fn(&str) -> bool) -> bool {
    fn inside(value: &Bson, is_it: fn(&str) -> bool) -> bool {
        match value {
            Bson::RegularExpression(_) => is_it("$regex"),
            Bson::Document(document) => {
                document.iter().any(|(key, value)| is_it(key) || inside(value, is_it))
            }
            Bson::Array(values) => values.iter().any(|value| inside(value, is_it)),
            _ => false,
        }
    }
    filter.iter().any(|(key, value)| is_it(key) || inside(value, is_it))
}

/// Whether a stage can be computed for every event.
pub(super) fn never_fails(operator: &str, argument: &Bson) -> bool {
    match (operator, argument) {
        ("$set" | "$addFields" | "$project", argument) => is_total(argument),
        ("$replaceRoot", Bson::Document(root)) => {
            root.get("newRoot").is_some_and(|root| never_fails("$replaceWith", root))
        }
        // Nothing but an object can be the new event.
        ("$replaceWith", Bson::Document(root)) => {
            root.keys().all(|key| !key.starts_with('$')) && is_total(argument)
        }
        _ => false,
    }
}

/// Whether an expression has a value whatever the event is.
fn is_total(expression: &Bson) -> bool {
    /// Operators that take every value.
    const TOTAL: &[&str] = &[
        "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$cmp", "$and", "$or", "$not", "$cond", "$ifNull",
        "$isArray", "$type",
    ];
    match expression {
        Bson::String(text) => !text.starts_with("$$") || text.starts_with("$$ROOT"),
        Bson::Array(values) => values.iter().all(is_total),
        Bson::Document(document) => document.iter().all(|(key, value)| match key.as_str() {
            "$literal" => true,
            operator if operator.starts_with('$') => TOTAL.contains(&operator) && is_total(value),
            _ => is_total(value),
        }),
        _ => true,
    }
}
