//! What a caller may change: which documents, and how, without learning by it what is hidden.

use bson::{Bson, Document, doc};

use super::{Visibility, projection::Shown};
use crate::refusal::{Kind, Refusal};

impl Visibility {
    /// The filter `target` among the documents that are seen.
    #[must_use]
    pub fn reading(&self, target: Document) -> Document {
        all(target, [&self.read_filter])
    }

    /// The filter `target` among the documents that may be written: nobody writes what is not seen.
    #[must_use]
    pub fn writing(&self, target: Document) -> Document {
        all(target, [&self.read_filter, &self.write_filter])
    }

    /// Refuses an update by which hidden fields could be copied to where they are seen, or found out: 403 naming the place.
    ///
    /// A hidden field may be set or removed; nothing comes back by that.
    pub fn check_update(&self, update: &Document) -> Result<(), Refusal> {
        if self.projection.is_everything() {
            return Ok(());
        }
        for (operator, fields) in update {
            for (path, value) in fields.as_document().into_iter().flatten() {
                let hidden = match operator.as_str() {
                    "$set" | "$unset" => self.is_inside_hidden(path),
                    "$rename" => !self.is_whole(path) || !value.as_str().is_some_and(|to| self.is_whole(to)),
                    _ => !self.is_whole(path),
                };
                if hidden {
                    let message =
                        format!("{operator}.{path}: a field that is not shown, expected another one");
                    return Err(Refusal::new(Kind::Forbidden, message));
                }
            }
        }
        Ok(())
    }

    fn is_whole(&self, path: &str) -> bool {
        self.projection.shows(&without_positions(path)) == Shown::Whole
    }

    fn is_inside_hidden(&self, path: &str) -> bool {
        let path = without_positions(path);
        path.rsplit_once('.').is_some_and(|(parent, _)| self.projection.shows(parent) == Shown::Hidden)
    }

    /// Refuses a filter of a client's that could fail on documents that are not seen, and tell of them by that: 403.
    pub fn check_filter(&self, filter: &Document) -> Result<(), Refusal> {
        if self.read_filter.is_some() && has_expression(filter) {
            let message = "parameter filter computes, expected it without $expr: the documents that it would be computed \
                           for are not all yours to see";
            return Err(Refusal::new(Kind::Forbidden, message));
        }
        Ok(())
    }
}

fn all<const N: usize>(target: Document, filters: [&Option<Document>; N]) -> Document {
    let mut all: Vec<Document> = filters.into_iter().flatten().cloned().collect();
    if all.is_empty() {
        return target;
    }
    if !target.is_empty() {
        all.insert(0, target);
    }
    doc! { "$and": all }
}

/// The path without `$`, `$[]`, and `$[name]`, which stand for indexes.
fn without_positions(path: &str) -> String {
    let parts: Vec<&str> = path.split('.').filter(|part| !part.starts_with('$')).collect();
    parts.join(".")
}

fn has_expression(filter: &Document) -> bool {
    fn within(value: &Bson) -> bool {
        match value {
            Bson::Document(document) => has_expression(document),
            Bson::Array(values) => values.iter().any(within),
            _ => false,
        }
    }
    filter.iter().any(|(key, value)| key == "$expr" || within(value))
}

/// Sets the server's values in a document that is written; what the client sent for these fields is gone.
pub fn merge_into(document: &mut Document, merge: &Document) {
    document.extend(merge.clone());
}

/// The same for an update by operators.
pub fn merge_into_update(update: &mut Document, merge: &Document) {
    if merge.is_empty() {
        return;
    }
    let is_set = |path: &str| merge.contains_key(path.split('.').next().unwrap_or(path));
    for (operator, fields) in update.iter_mut() {
        if let Bson::Document(fields) = fields {
            // It writes to the field that its value names; for all others a value is a value.
            let renames = operator == "$rename";
            let kept = |(path, value): &(String, Bson)| {
                let target = value.as_str().filter(|_| renames);
                !is_set(path) && !target.is_some_and(is_set)
            };
            *fields = std::mem::take(fields).into_iter().filter(kept).collect();
        }
    }
    let emptied = |fields: &Bson| fields.as_document().is_some_and(Document::is_empty);
    *update = std::mem::take(update).into_iter().filter(|(_, fields)| !emptied(fields)).collect();
    match update.get_mut("$set") {
        Some(Bson::Document(set)) => set.extend(merge.clone()),
        _ => {
            update.insert("$set", merge.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::visibility::Projection;

    fn hiding(projection: &Document) -> Visibility {
        Visibility::new(None, None, Projection::check(projection).unwrap())
    }

    #[test]
    fn what_is_written_must_be_seen_as_well() {
        let target = doc! { "_id": 1 };
        assert_eq!(Visibility::everything().writing(target.clone()), target);
        let visibility = Visibility::new(
            Some(doc! { "tenant": "a" }),
            Some(doc! { "owner": "ada" }),
            Projection::default(),
        );
        assert_eq!(visibility.reading(target.clone()), doc! { "$and": [{ "_id": 1 }, { "tenant": "a" }] });
        assert_eq!(
            visibility.writing(target),
            doc! { "$and": [{ "_id": 1 }, { "tenant": "a" }, { "owner": "ada" }] }
        );
        assert_eq!(visibility.reading(doc! {}), doc! { "$and": [{ "tenant": "a" }] });
    }

    #[test]
    fn an_update_copies_and_probes_nothing_hidden() {
        let visibility = hiding(&doc! { "salary": 0, "address.street": 0 });
        for update in [
            doc! { "$rename": { "salary": "public" } },
            doc! { "$rename": { "name": "salary" } },
            doc! { "$rename": { "address": "copy" } },
            doc! { "$inc": { "salary": 1 } },
            doc! { "$pull": { "address": { "street": "x" } } },
            doc! { "$push": { "address": { "$each": [], "$sort": { "street": 1 } } } },
            doc! { "$max": { "address.$[].street": 1 } },
            doc! { "$set": { "salary.net": 1 } },
        ] {
            let refused = visibility.check_update(&update).unwrap_err();
            assert_eq!(refused.status(), 403, "{update}");
        }
        assert_eq!(
            visibility.check_update(&doc! { "$inc": { "salary": 1 } }).unwrap_err().to_string(),
            "403 $inc.salary: a field that is not shown, expected another one"
        );
        for update in [
            doc! { "$set": { "salary": 1, "address.street": "x", "address": {}, "name": "n" } },
            doc! { "$unset": { "salary": "" }, "$inc": { "address.number": 1 }, "$rename": { "name": "alias" } },
        ] {
            assert_eq!(visibility.check_update(&update), Ok(()), "{update}");
        }
        let shows = hiding(&doc! { "name": 1 });
        assert!(shows.check_update(&doc! { "$rename": { "salary": "name" } }).is_err());
        assert!(shows.check_update(&doc! { "$set": { "salary.net": 1 } }).is_err());
        assert_eq!(shows.check_update(&doc! { "$set": { "salary": 1, "name.x": 1 } }), Ok(()));
    }

    #[test]
    fn a_filter_that_computes_is_refused_where_some_documents_are_not_seen() {
        let visibility = Visibility::new(Some(doc! { "tenant": "a" }), None, Projection::default());
        let computes = doc! { "$or": [{ "a": 1 }, { "$expr": { "$eq": [{ "$divide": [1, "$x"] }, 1] } }] };
        assert_eq!(visibility.check_filter(&computes).unwrap_err().status(), 403);
        assert_eq!(visibility.check_filter(&doc! { "a": { "$gt": 1 } }), Ok(()));
        assert_eq!(Visibility::everything().check_filter(&computes), Ok(()));
    }

    #[test]
    fn the_values_of_the_server_replace_those_of_the_client() {
        let merge = doc! { "author": "ada", "at": 7 };
        let mut document = doc! { "author": "eve", "text": "x" };
        merge_into(&mut document, &merge);
        assert_eq!(document, doc! { "author": "ada", "text": "x", "at": 7 });
        let mut update = doc! {
            "$set": { "author.name": "eve", "text": "y" }, "$unset": { "author": "" }, "$rename": { "text": "at" },
            "$inc": { "n": 1 },
        };
        merge_into_update(&mut update, &merge);
        assert_eq!(update, doc! { "$set": { "text": "y", "author": "ada", "at": 7 }, "$inc": { "n": 1 } });
    }

    #[test]
    fn a_value_that_is_the_name_of_a_field_which_the_server_sets_is_written() {
        let mut update =
            doc! { "$set": { "status": "by" }, "$push": { "tags": "by.x" }, "$rename": { "n": "by" } };
        merge_into_update(&mut update, &doc! { "by": "ada" });
        assert_eq!(update, doc! { "$set": { "status": "by", "by": "ada" }, "$push": { "tags": "by.x" } });
    }
}
