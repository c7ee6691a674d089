//! The proof that a stage keeps the event's `_id`.
//!
//! `_id` is the resume token. A pipeline that removes or changes it is accepted when it is opened, and killed by the
//! first event (error 280). So a stage passes only when its form alone proves that `_id` stays what it was. A value that
//! is computed proves nothing.

use bson::{Bson, Document};

use super::place::{Fault, Place};

const WHY: &str = "MongoDB ends a stream whose pipeline removes or changes the event's _id";

fn is_id(field: &str) -> bool {
    field == "_id" || field.starts_with("_id.")
}

/// `$set`, `$addFields`: the fields that are written.
pub(super) fn check_written(fields: &Document, place: &Place) -> Result<(), Fault> {
    match fields.keys().find(|field| is_id(field)) {
        Some(field) => Err(place.member(field).fault(format!("{WHY}, expected another field"))),
        None => Ok(()),
    }
}

/// `$unset`: one field that is removed.
pub(super) fn check_removed(field: &str, place: &Place) -> Result<(), Fault> {
    if is_id(field) {
        Err(place.fault(format!("{WHY}, expected another field than {field:?}")))
    } else {
        Ok(())
    }
}

/// `$project`: `_id` is kept when it is not named.
pub(super) fn check_projected(fields: &Document, place: &Place) -> Result<(), Fault> {
    for (field, value) in fields.iter().filter(|(field, _)| is_id(field)) {
        let kept = field == "_id"
            && match value {
                Bson::Boolean(kept) => *kept,
                Bson::Int32(number) => *number != 0,
                Bson::Int64(number) => *number != 0,
                Bson::Double(number) => number.abs() > 0.0,
                Bson::String(path) => is_the_id(path),
                _ => false,
            };
        if !kept {
            return Err(place
                .member(field)
                .fault(format!("{WHY}, expected \"_id\": 1 or no mention of _id")));
        }
    }
    Ok(())
}

/// `$replaceWith`, `$replaceRoot`: the new event.
pub(super) fn check_replacement(value: &Bson, place: &Place) -> Result<(), Fault> {
    if keeps(value) {
        Ok(())
    } else {
        Err(place.fault(format!(
            "{WHY}, expected a form that provably keeps it, as {{\"$mergeObjects\": [\"$fullDocument\", \
             {{\"_id\": \"$_id\"}}]}}"
        )))
    }
}

fn is_the_id(path: &str) -> bool {
    matches!(path, "$_id" | "$$ROOT._id" | "$$CURRENT._id")
}

fn keeps(value: &Bson) -> bool {
    match value {
        Bson::String(path) => matches!(path.as_str(), "$$ROOT" | "$$CURRENT"),
        Bson::Document(document) => match document.get("$mergeObjects") {
            // The last one that has an `_id` decides. Only a plain object is known to have none.
            Some(Bson::Array(parts)) => {
                parts.iter().rev().find(|part| !is_object_without_id(part)).is_some_and(keeps)
            }
            Some(part) => keeps(part),
            None => matches!(document.get("_id"), Some(Bson::String(path)) if is_the_id(path)),
        },
        _ => false,
    }
}

fn is_object_without_id(value: &Bson) -> bool {
    value.as_document().is_some_and(|object| object.keys().all(|key| key != "_id" && !key.starts_with('$')))
}

/// `$redact` judges the event first, then by `$$DESCEND` every object in it, and so `_id` (`{_data: …}`) as well.
/// Pruning the event as a whole only drops it (tried on 6.0); pruning `_id` kills. So `$$DESCEND` and `$$PRUNE` go
/// together only behind a condition that keeps `_id` before all else.
pub(super) fn check_redaction(value: &Bson, place: &Place) -> Result<(), Fault> {
    let mut outcomes = Outcomes::default();
    let proven = match guarded(value) {
        Some(rest) => outcomes.collect(rest),
        None => outcomes.collect(value) && !(outcomes.descend && outcomes.prune),
    };
    if proven {
        Ok(())
    } else {
        Err(place.fault(format!(
            "{WHY}, expected $$KEEP and $$PRUNE without $$DESCEND, or {{\"$cond\": [{{\"$eq\": [\"$$CURRENT\", \
             \"$$ROOT._id\"]}}, \"$$KEEP\", <expression>]}}"
        )))
    }
}

/// What follows when `value` is `$cond` with the condition that `_id` itself fulfils, and keeps it then.
fn guarded(value: &Bson) -> Option<&Bson> {
    let [condition, then, rest] = cond(value.as_document()?)?;
    let [left, right] = condition.as_document().filter(|c| c.len() == 1)?.get_array("$eq").ok()?.as_slice()
    else {
        return None;
    };
    let holds = match (left.as_str()?, right.as_str()?) {
        ("$$CURRENT", id) | (id, "$$CURRENT") => id == "$$ROOT._id",
        _ => false,
    };
    (holds && then.as_str() == Some("$$KEEP")).then_some(rest)
}

fn cond(document: &Document) -> Option<[&Bson; 3]> {
    match document.get("$cond").filter(|_| document.len() == 1)? {
        Bson::Array(parts) => parts.iter().collect::<Vec<_>>().try_into().ok(),
        Bson::Document(parts) => Some([parts.get("if")?, parts.get("then")?, parts.get("else")?]),
        _ => None,
    }
}

/// What an expression of `$redact` can yield.
#[derive(Default)]
struct Outcomes {
    prune: bool,
    descend: bool,
}

impl Outcomes {
    /// False when it can yield what is not known here.
    fn collect(&mut self, value: &Bson) -> bool {
        match value {
            Bson::String(outcome) => match outcome.as_str() {
                "$$KEEP" => true,
                "$$PRUNE" => {
                    self.prune = true;
                    true
                }
                "$$DESCEND" => {
                    self.descend = true;
                    true
                }
                _ => false,
            },
            Bson::Document(document) => {
                if let Some([_, then, otherwise]) = cond(document) {
                    self.collect(then) && self.collect(otherwise)
                } else {
                    document.get_document("$switch").is_ok_and(|switch| self.collect_switch(switch))
                }
            }
            _ => false,
        }
    }

    fn collect_switch(&mut self, switch: &Document) -> bool {
        let branches = switch.get_array("branches").is_ok_and(|branches| {
            branches.iter().all(|branch| {
                branch
                    .as_document()
                    .and_then(|branch| branch.get("then"))
                    .is_some_and(|then| self.collect(then))
            })
        });
        // Without a default, an event that fits no branch is an error.
        branches && switch.get("default").is_some_and(|default| self.collect(default))
    }
}
