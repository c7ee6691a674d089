//! A visibility as stages of a change stream, which come before those of a definition.

use bson::{Bson, Document, doc};

use super::projection::Projection;

/// The members of an event besides the documents (MongoDB manual, "Change Events").
const MEMBERS: &[&str] = &[
    "_id",
    "operationType",
    "clusterTime",
    "wallTime",
    "ns",
    "nsType",
    "to",
    "documentKey",
    "updateDescription",
    "lsid",
    "txnNumber",
    "collectionUUID",
    "operationDescription",
    "stateBeforeChange",
];

/// The members that hold a document.
const DOCUMENTS: &[&str] = &["fullDocument", "fullDocumentBeforeChange"];

/// `filter` as a condition on the document that `member` of an event is; never of an event without one.
pub(super) fn on_member(filter: &Document, member: &str) -> Document {
    doc! { "$and": [{ member: { "$type": "object" } }, prefixed(filter, member)] }
}

/// The stage that drops the documents of updates, which were looked up for a filter to be asked of them.
pub(crate) fn without_documents_of_updates() -> Document {
    let of_update = doc! { "$eq": ["$operationType", "update"] };
    doc! { "$set": { "fullDocument": { "$cond": [of_update, "$$REMOVE", "$fullDocument"] } } }
}

fn prefixed(filter: &Document, member: &str) -> Document {
    let prefix = |(key, value): (&String, &Bson)| match value {
        Bson::Array(filters) if key.starts_with('$') => {
            let filters = filters.iter().filter_map(Bson::as_document);
            (key.clone(), filters.map(|filter| Bson::Document(prefixed(filter, member))).collect())
        }
        value => (format!("{member}.{key}"), value.clone()),
    };
    filter.iter().map(prefix).collect()
}

/// A `$match` of events as a filter of documents, where it speaks of nothing but `fullDocument.…`.
pub fn of_documents(filter: &Document) -> Option<Document> {
    let stripped = |(key, value): (&String, &Bson)| match (key.as_str(), value) {
        ("$and" | "$or" | "$nor", Bson::Array(filters)) => {
            let filters =
                filters.iter().map(|filter| Some(Bson::Document(of_documents(filter.as_document()?)?)));
            Some((key.clone(), Bson::Array(filters.collect::<Option<_>>()?)))
        }
        (key, value) => {
            let path = key.strip_prefix("fullDocument.")?;
            Some((path.to_owned(), value.clone()))
        }
    };
    filter.iter().map(stripped).collect()
}

impl Projection {
    /// The stages that leave in an event what is seen. An update of hidden fields alone does not pass.
    ///
    /// Where an update wrote an object in which paths end, its description is left out: a stage has no way to look inside.
    pub(super) fn stages(&self) -> Vec<Document> {
        if self.is_everything() {
            return Vec::new();
        }
        let paths = self.paths();
        let in_documents =
            DOCUMENTS.iter().flat_map(|document| paths.iter().map(move |path| format!("{document}.{path}")));
        let documents = if self.is_inclusion() {
            let members = MEMBERS.iter().map(|member| (*member).to_owned());
            doc! { "$project": members.chain(in_documents).map(|path| (path, Bson::from(1))).collect::<Document>() }
        } else {
            doc! { "$unset": in_documents.collect::<Vec<_>>() }
        };
        vec![
            documents,
            doc! { "$set": { "documentKey": self.key(), "updateDescription": self.description() } },
            doc! { "$match": { "updateDescription": { "$ne": false } } },
        ]
    }

    /// `documentKey` with `_id` and what is seen of the shard key.
    fn key(&self) -> Document {
        let seen = doc! { "$or": [{ "$eq": ["$$field.k", "_id"] }, self.is_seen("$$field.k")] };
        doc! { "$cond": [
            { "$eq": [{ "$type": "$documentKey" }, "object"] },
            { "$arrayToObject": filter(doc! { "$objectToArray": "$documentKey" }, seen) },
            "$$REMOVE",
        ] }
    }

    /// `updateDescription` with what is seen; `false` where that is nothing, and absent where it cannot be said.
    fn description(&self) -> Document {
        let list = |name: &str| doc! { "$ifNull": [format!("$updateDescription.{name}"), []] };
        let fields = doc! { "$objectToArray": { "$ifNull": ["$updateDescription.updatedFields", {}] } };
        let is_prefix =
            matches_any(&self.paths().iter().flat_map(|path| prefixes(path)).collect::<Vec<_>>(), "\\z");
        // A removed field that has paths inside is gone as a whole.
        let removed_is_seen = |path: &str| {
            if self.is_inclusion() {
                doc! { "$or": [self.is_seen(path), regex(path, &is_prefix)] }
            } else {
                self.is_seen(path)
            }
        };
        doc! { "$cond": [{ "$eq": ["$operationType", "update"] }, { "$let": {
            "vars": {
                "fields": fields.clone(),
                "removed": list("removedFields"),
                "truncated": list("truncatedArrays"),
                "seenFields": filter(fields, self.is_seen("$$field.k")),
                "seenRemoved": filter(list("removedFields"), removed_is_seen("$$field")),
                "seenTruncated": filter(list("truncatedArrays"), self.is_seen("$$field.field")),
            },
            "in": { "$switch": {
                "branches": [
                    { "case": { "$or": [
                        any("$$fields", self.is_unclear("$$field.k", Some("$$field.v"))),
                        any("$$removed", doc! { "$and": [
                            { "$not": removed_is_seen("$$field") }, self.is_unclear("$$field", None),
                        ] }),
                        any("$$truncated", self.is_unclear("$$field.field", None)),
                    ] }, "then": "$$REMOVE" },
                    // All that is seen is the version of a write that changed something hidden.
                    { "case": { "$and": [
                        { "$ne": [
                            { "$concatArrays": ["$$fields", "$$removed", "$$truncated"] },
                            { "$concatArrays": ["$$seenFields", "$$seenRemoved", "$$seenTruncated"] },
                        ] },
                        { "$in": [{ "$size": "$$seenFields" }, [0, 1]] },
                        { "$not": any("$$seenFields", doc! { "$ne": ["$$field.k", "_etag"] }) },
                        { "$eq": ["$$seenRemoved", []] },
                        { "$eq": ["$$seenTruncated", []] },
                    ] }, "then": { "$literal": false } },
                ],
                "default": {
                    "updatedFields": { "$arrayToObject": "$$seenFields" },
                    "removedFields": "$$seenRemoved",
                    "truncatedArrays": "$$seenTruncated",
                },
            } },
        } }, "$$REMOVE"] }
    }

    /// Whether what is at a path is seen, with nothing hidden in the path itself.
    fn is_seen(&self, path: &str) -> Document {
        if self.is_inclusion() {
            let paths: Vec<_> = self.paths().iter().map(|path| escaped(path)).collect();
            regex(path, &matches_any(&paths, "(\\.|\\z)"))
        } else {
            let paths: Vec<_> = self.paths().iter().map(|path| through_arrays(path)).collect();
            doc! { "$not": regex(path, &matches_any(&paths, "(\\.|\\z)")) }
        }
    }

    /// Whether part of what is at a path may be hidden. A plain value has no parts.
    fn is_unclear(&self, path: &str, value: Option<&str>) -> Document {
        let paths = self.paths();
        if self.is_inclusion() {
            let reaching: Vec<_> = paths.iter().map(|path| through_arrays(path)).collect();
            let before: Vec<_> = paths.iter().flat_map(|path| prefixes(path)).collect();
            let related = doc! { "$or": [
                regex(path, &matches_any(&reaching, "(\\.|\\z)")), regex(path, &matches_any(&before, "\\z")),
            ] };
            doc! { "$and": [related, { "$not": self.is_seen(path) }] }
        } else {
            let Some(value) = value else { return doc! { "$literal": false } };
            let before: Vec<_> = paths.iter().flat_map(|path| prefixes(path)).collect();
            doc! { "$and": [
                regex(path, &matches_any(&before, "\\z")), { "$in": [{ "$type": value }, ["object", "array"]] },
            ] }
        }
    }
}

fn filter(input: Document, condition: Document) -> Document {
    doc! { "$filter": { "input": input, "as": "field", "cond": condition } }
}

fn any(list: &str, condition: Document) -> Document {
    doc! { "$anyElementTrue": [{ "$map": { "input": list, "as": "field", "in": condition } }] }
}

fn regex(input: &str, pattern: &str) -> Document {
    doc! { "$regexMatch": { "input": input, "regex": pattern } }
}

/// A pattern that fits none where there is none to fit.
fn matches_any(patterns: &[String], end: &str) -> String {
    if patterns.is_empty() { "\\A(?!)".to_owned() } else { format!("\\A({}){end}", patterns.join("|")) }
}

/// A path as a pattern that takes any index between its names.
fn through_arrays(path: &str) -> String {
    let parts: Vec<_> = path.split('.').map(escaped).collect();
    format!("([0-9]+\\.)*{}", parts.join("(\\.[0-9]+)*\\."))
}

/// What is before each dot of a path, as patterns that take any index, at the end too.
fn prefixes(path: &str) -> Vec<String> {
    let dots = path.match_indices('.').map(|(at, _)| at);
    dots.map(|at| format!("{}(\\.[0-9]+)*", through_arrays(&path[..at]))).collect()
}

/// A text as a pattern that fits it alone.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() && !character.is_ascii_alphanumeric() {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn a_filter_of_documents_becomes_one_of_events_that_have_one() {
        let filter = doc! { "tenant": "a", "$or": [{ "x.y": { "$gt": 1 } }, { "$nor": [{ "z": null }] }] };
        let on_event = on_member(&filter, "fullDocument");
        assert_eq!(
            on_event,
            doc! { "$and": [{ "fullDocument": { "$type": "object" } }, {
                "fullDocument.tenant": "a",
                "$or": [{ "fullDocument.x.y": { "$gt": 1 } }, { "$nor": [{ "fullDocument.z": null }] }],
            }] }
        );
        assert_eq!(of_documents(&prefixed(&filter, "fullDocument")), Some(filter));
    }

    #[test]
    fn a_filter_that_speaks_of_more_than_the_document_stays_one_of_events() {
        for filter in [
            doc! { "operationType": "insert" },
            doc! { "fullDocument.a": 1, "ns.coll": "x" },
            doc! { "fullDocument": null },
            doc! { "fullDocumentBeforeChange.a": 1 },
            doc! { "$expr": { "$eq": ["$fullDocument.a", 1] } },
            doc! { "$or": [{ "fullDocument.a": 1 }, { "operationType": "insert" }] },
        ] {
            assert_eq!(of_documents(&filter), None, "{filter}");
        }
    }

    #[test]
    fn a_name_is_no_pattern() {
        assert_eq!(escaped("a.b+é_1"), "a\\.b\\+é\\_1");
        assert_eq!(prefixes("a.b.c").len(), 2);
        assert_eq!(matches_any(&[], "\\z"), "\\A(?!)");
    }
}
