//! Whether updates are among the events that pass.

use bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};

use super::{Kept, Origin};
use crate::{
    definition::Resolved,
    matcher::{Matcher, Read},
};

/// The member of an event that says what it is of.
pub(super) const OPERATION: &str = "operationType";

/// Whether it is an update.
pub(super) fn is_one(event: &RawDocument) -> bool {
    event.get_str(OPERATION).is_ok_and(|operation| operation == "update")
}

/// Whether one of these stages lets no update pass.
pub(super) fn never_pass(stages: &[(Origin, Resolved)]) -> bool {
    let operation = Read::Value(vec![OPERATION.to_owned()]);
    for (_, Resolved { stage, .. }) in stages {
        let Some((operator, argument)) = stage.iter().next() else { continue };
        if let ("$match", Bson::Document(filter)) = (operator.as_str(), argument) {
            if refuses(filter) {
                return true;
            }
            continue;
        }
        // Behind a stage that may change it, it does not tell any more what the event was.
        if !Kept::of(operator, argument).is_some_and(|kept| kept.keeps(&operation)) {
            return false;
        }
    }
    false
}

/// Whether a condition that each event has to meet reads nothing else of it, and no update meets it.
fn refuses(filter: &Document) -> bool {
    filter.iter().any(|(key, value)| match value {
        Bson::Array(filters) if key == "$and" => filters.iter().filter_map(Bson::as_document).any(refuses),
        _ => Matcher::compile(&doc! { key: value.clone() }).is_ok_and(|condition| {
            let update = RawDocumentBuf::try_from(&doc! { OPERATION: "update" });
            condition.reads().iter().all(|read| read.path().first().is_some_and(|name| name == OPERATION))
                && update.is_ok_and(|update| !condition.matches(&update))
        }),
    })
}
