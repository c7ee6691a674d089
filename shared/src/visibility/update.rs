//! How much of an update is seen: its `updateDescription` under a projection.
//!
//! Its paths are written out with dots and the indexes of arrays. A number may be an index or the name of a field, so what
//! a projection hides is hidden by either reading. Where an inclusion could go wrong by that, the update is told of without
//! a description: the document itself says what is seen now.

use bson::{
    RawBsonRef, RawDocument, RawDocumentBuf,
    error::Error,
    raw::{RawArrayBuf, cstr},
};

use super::projection::{Projection, Reached};

/// What is seen of an update.
#[derive(Debug, PartialEq)]
pub(super) enum Seen {
    /// It changed only what is hidden. The version that each write sets does not count, since it would tell of the others.
    Nothing,
    /// Something, but what it is cannot be said.
    Something,
    /// This description.
    Description(RawDocumentBuf),
}

#[derive(Default)]
struct Tally {
    hidden: bool,
    seen: bool,
    unknown: bool,
}

impl Projection {
    /// What is seen of an `updateDescription`.
    pub(super) fn describe(&self, description: &RawDocument) -> Result<Seen, Error> {
        let mut tally = Tally::default();
        let mut seen = RawDocumentBuf::new();
        for member in description {
            let (name, value) = member?;
            match (name.as_str(), value) {
                ("updatedFields", RawBsonRef::Document(fields)) => {
                    seen.append(cstr!("updatedFields"), self.updated(fields, &mut tally)?);
                }
                ("removedFields", RawBsonRef::Array(fields)) => {
                    let mut removed = RawArrayBuf::new();
                    for field in fields {
                        let field = field?;
                        // That something is gone with all that is inside can be seen from outside.
                        if let Some((Reached::Whole | Reached::Partly(_), _)) =
                            self.reach(field.as_str(), &mut tally)
                        {
                            tally.seen = true;
                            removed.push(field);
                        }
                    }
                    seen.append(cstr!("removedFields"), removed);
                }
                ("truncatedArrays", RawBsonRef::Array(arrays)) => {
                    let mut truncated = RawArrayBuf::new();
                    for array in arrays {
                        let array = array?;
                        let field = array.as_document().and_then(|array| array.get_str("field").ok());
                        match self.reach(field, &mut tally) {
                            // An inclusion leaves elements out, and the others would be miscounted.
                            Some((Reached::Partly(_), _)) if self.is_inclusion() => tally.unknown = true,
                            Some(_) => {
                                tally.seen = true;
                                truncated.push(array);
                            }
                            None => {}
                        }
                    }
                    seen.append(cstr!("truncatedArrays"), truncated);
                }
                // `disambiguatedPaths` and what later versions bring.
                _ => {}
            }
        }
        Ok(match tally {
            Tally { unknown: true, .. } => Seen::Something,
            Tally { hidden: true, seen: false, .. } => Seen::Nothing,
            _ => Seen::Description(seen),
        })
    }

    fn updated(&self, fields: &RawDocument, tally: &mut Tally) -> Result<RawDocumentBuf, Error> {
        let mut updated = RawDocumentBuf::new();
        for field in fields {
            let (path, value) = field?;
            match self.reach(Some(path.as_str()), tally) {
                Some((Reached::Partly(below), _)) => match self.value(value, below)? {
                    Some(value) => {
                        tally.seen = true;
                        updated.append(path, value);
                    }
                    None => tally.unknown = true,
                },
                Some(_) => {
                    tally.seen |= path.as_str() != "_etag";
                    updated.append(path, value);
                }
                None => {}
            }
        }
        Ok(updated)
    }

    /// Where a path leads, unless that is hidden or unknown.
    fn reach(&self, path: Option<&str>, tally: &mut Tally) -> Option<(Reached<'_>, bool)> {
        let reached = path.map(|path| self.walk(path));
        match reached {
            None | Some((Reached::Hidden, _)) => tally.hidden = true,
            Some((_, true)) if self.is_inclusion() && !self.ends_before_number(path) => tally.unknown = true,
            Some(_) => return reached,
        }
        None
    }

    /// Whether the part of the path before its first number is seen as a whole.
    fn ends_before_number(&self, path: Option<&str>) -> bool {
        let names: Vec<&str> = path
            .unwrap_or_default()
            .split('.')
            .take_while(|part| !part.bytes().all(|byte| byte.is_ascii_digit()))
            .collect();
        matches!(self.walk(&names.join(".")), (Reached::Whole, _)) && !names.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use bson::{Document, doc};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn seen(projection: &Document, description: &Document) -> Option<Document> {
        let projection = Projection::check(projection).unwrap();
        let description = RawDocumentBuf::try_from(description).unwrap();
        match projection.describe(&description).unwrap() {
            Seen::Nothing => Some(doc! {}),
            Seen::Something => None,
            Seen::Description(seen) => Some(Document::try_from(seen).unwrap()),
        }
    }

    #[test]
    fn an_update_is_told_without_what_is_hidden() {
        let hides = doc! { "salary": 0, "address.street": 0 };
        for (description, expected) in [
            (
                doc! { "updatedFields": { "salary": 1, "name": "a", "address.0.street": "x", "address.1.city": "y" },
                "removedFields": ["salary", "salary.net", "address", "x"],
                "truncatedArrays": [{ "field": "salary", "newSize": 1 }, { "field": "address", "newSize": 2 }] },
                doc! { "updatedFields": { "name": "a", "address.1.city": "y" }, "removedFields": ["address", "x"],
                "truncatedArrays": [{ "field": "address", "newSize": 2 }] },
            ),
            (
                doc! { "updatedFields": { "address": { "street": "x", "city": "y" } }, "removedFields": [] },
                doc! { "updatedFields": { "address": { "city": "y" } }, "removedFields": [] },
            ),
            (
                doc! { "updatedFields": { "address.2": { "street": "x" }, "address.3": "z" }, "removedFields": [] },
                doc! { "updatedFields": { "address.2": {}, "address.3": "z" }, "removedFields": [] },
            ),
        ] {
            assert_eq!(seen(&hides, &description), Some(expected));
        }
    }

    #[test]
    fn an_update_of_hidden_fields_alone_is_none_even_with_its_version() {
        let hides = doc! { "salary": 0, "address.street": 0 };
        for description in [
            doc! { "updatedFields": { "salary": 1 }, "removedFields": [] },
            doc! { "updatedFields": { "_etag": 1, "address.street": 1 }, "removedFields": ["salary"] },
            doc! { "updatedFields": {}, "removedFields": [], "truncatedArrays": [{ "field": "salary.x", "newSize": 1 }] },
        ] {
            assert_eq!(seen(&hides, &description), Some(doc! {}), "{description}");
            assert_eq!(seen(&doc! { "name": 1 }, &description), Some(doc! {}), "{description}");
        }
        let version = doc! { "updatedFields": { "_etag": 1 }, "removedFields": [] };
        assert_eq!(seen(&hides, &version), Some(version.clone()), "nothing is hidden in this one");
    }

    #[test]
    fn an_inclusion_says_that_it_does_not_know_before_it_shows_too_much() {
        let shows = doc! { "name": 1, "address.city": 1 };
        let updated = |fields: Document| doc! { "updatedFields": fields, "removedFields": [] };
        for (fields, expected) in [
            (doc! { "name": 1, "salary": 2 }, Some(doc! { "name": 1 })),
            (doc! { "name.0.x": 1, "x.0.y": 2 }, Some(doc! { "name.0.x": 1 })),
            (doc! { "address.city": 1, "address.street": 2 }, Some(doc! { "address.city": 1 })),
            (doc! { "address": { "city": 1, "street": 2 } }, Some(doc! { "address": { "city": 1 } })),
            (doc! { "address": 5 }, None),
            (doc! { "address.0.city": 1 }, None),
            (doc! { "0.name": 1 }, None),
        ] {
            assert_eq!(seen(&shows, &updated(fields.clone())), expected.map(updated), "{fields}");
        }
    }
}
