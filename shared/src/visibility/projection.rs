//! How much of a document is seen.

use std::collections::BTreeMap;

use bson::{Bson, Document};

/// A projection that shows either all but some paths, or some paths alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Projection {
    manner: Manner,
    fields: Fields,
}

/// What the named paths are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Manner {
    #[default]
    Exclusion,
    Inclusion,
}

/// Paths by their parts. A field without fields below it is the end of a path.
type Fields = BTreeMap<String, Node>;

#[derive(Clone, Debug, Default, PartialEq)]
struct Node {
    below: Fields,
}

/// How much is seen of what is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// All of it.
    Whole,
    /// Some of what may be below it.
    Partly,
    /// Nothing.
    Hidden,
}

/// What every inclusion shows: the name of the document, and its version, which conditional requests need.
const ALWAYS: &[&str] = &["_id", "_etag"];

impl Projection {
    /// Checks `projectResponse`: dotted paths, all with 0 or all with 1.
    ///
    /// `_id` is always shown, since the events of a stream and the addresses of documents name it. An inclusion shows
    /// `_etag` too.
    pub fn check(written: &Document) -> Result<Self, String> {
        let mut manner = None;
        let mut fields = Fields::new();
        for (path, value) in written {
            let place = format!("projectResponse.{path}");
            let this = match value {
                Bson::Int32(1) | Bson::Int64(1) | Bson::Boolean(true) => Manner::Inclusion,
                Bson::Int32(0) | Bson::Int64(0) | Bson::Boolean(false) => Manner::Exclusion,
                Bson::Double(number) if number.to_bits() == 1_f64.to_bits() => Manner::Inclusion,
                Bson::Double(number) if number.to_bits() == 0 => Manner::Exclusion,
                _ => return Err(format!("{place}: expected 0 or 1")),
            };
            let parts: Vec<&str> = path.split('.').collect();
            if parts.iter().any(|part| part.is_empty() || part.starts_with('$') || part.contains('\0')) {
                return Err(format!(
                    "{place}: expected a path of fields, none of them empty or with $ in front"
                ));
            }
            if parts.iter().any(|part| is_index(part)) {
                return Err(format!(
                    "{place}: a number in the path, expected names alone; arrays are gone through"
                ));
            }
            if parts[0] == "_id" {
                if path == "_id" && this == Manner::Inclusion {
                    continue;
                }
                return Err(format!("{place}: expected another field, _id is always shown"));
            }
            if *manner.get_or_insert(this) != this {
                return Err(format!("{place}: 0 and 1 together, expected one of the two for all paths"));
            }
            if !add(&mut fields, &parts) {
                return Err(format!("{place}: expected a path that is not inside another one"));
            }
        }
        // `{_id: 1}` alone shows `_id` alone.
        let manner =
            manner.or_else(|| (!written.is_empty()).then_some(Manner::Inclusion)).unwrap_or_default();
        if manner == Manner::Inclusion {
            for name in ALWAYS {
                fields.entry((*name).to_owned()).or_default();
            }
        }
        Ok(Self { manner, fields })
    }

    /// Whether it hides nothing.
    pub fn is_everything(&self) -> bool {
        self.fields.is_empty() && self.manner == Manner::Exclusion
    }

    /// As MongoDB takes it, for `find` or `$project`; empty where nothing is hidden.
    pub fn document(&self) -> Document {
        fn collect(fields: &Fields, prefix: &str, value: i32, document: &mut Document) {
            for (name, node) in fields {
                let path = format!("{prefix}{name}");
                if node.below.is_empty() {
                    document.insert(path, value);
                } else {
                    collect(&node.below, &format!("{path}."), value, document);
                }
            }
        }
        let mut document = Document::new();
        collect(&self.fields, "", i32::from(self.manner == Manner::Inclusion), &mut document);
        document
    }

    /// How much is seen of what is at `path`; a number in it is taken for the index of an array, which is gone through.
    pub fn shows(&self, path: &str) -> Shown {
        let mut fields = &self.fields;
        for part in path.split('.').filter(|part| !is_index(part)) {
            match fields.get(part) {
                None => {
                    return match self.manner {
                        Manner::Exclusion => Shown::Whole,
                        Manner::Inclusion => Shown::Hidden,
                    };
                }
                Some(node) if node.below.is_empty() => {
                    return match self.manner {
                        Manner::Exclusion => Shown::Hidden,
                        Manner::Inclusion => Shown::Whole,
                    };
                }
                Some(node) => fields = &node.below,
            }
        }
        Shown::Partly
    }
}

/// Whether it may be the index of an element.
fn is_index(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}

/// False where the path ends inside another one, or another one inside it.
fn add(fields: &mut Fields, parts: &[&str]) -> bool {
    let [first, rest @ ..] = parts else { return false };
    match fields.get_mut(*first) {
        None => {
            let mut node = Node::default();
            let added = rest.is_empty() || add(&mut node.below, rest);
            fields.insert((*first).to_owned(), node);
            added
        }
        Some(node) => !node.below.is_empty() && !rest.is_empty() && add(&mut node.below, rest),
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn paths_are_hidden_or_shown_with_all_that_is_below_them() {
        let hides = Projection::check(&doc! { "salary": 0, "address.street": 0 }).unwrap();
        for (path, shown) in [
            ("salary", Shown::Hidden),
            ("salary.net", Shown::Hidden),
            ("salary.0", Shown::Hidden),
            ("address", Shown::Partly),
            ("address.3", Shown::Partly),
            ("address.street", Shown::Hidden),
            ("address.0.street.1", Shown::Hidden),
            ("address.city", Shown::Whole),
            ("salaryman", Shown::Whole),
        ] {
            assert_eq!(hides.shows(path), shown, "{path}");
        }
        let shows = Projection::check(&doc! { "name": 1, "address.city": true }).unwrap();
        for (path, shown) in [
            ("name", Shown::Whole),
            ("_id", Shown::Whole),
            ("_etag", Shown::Whole),
            ("address", Shown::Partly),
            ("address.city.x", Shown::Whole),
            ("address.street", Shown::Hidden),
            ("salary", Shown::Hidden),
        ] {
            assert_eq!(shows.shows(path), shown, "{path}");
        }
        assert_eq!(shows.document(), doc! { "_etag": 1, "_id": 1, "address.city": 1, "name": 1 });
        assert!(!Projection::check(&doc! { "_id": 1 }).unwrap().is_everything());
    }

    #[test]
    fn a_projection_is_refused_with_its_place() {
        for (written, message) in [
            (doc! { "a": 2 }, "projectResponse.a: expected 0 or 1"),
            (doc! { "a": { "$slice": 1 } }, "projectResponse.a: expected 0 or 1"),
            (
                doc! { "a": 1, "b": 0 },
                "projectResponse.b: 0 and 1 together, expected one of the two for all paths",
            ),
            (doc! { "a.b": 0, "a": 0 }, "projectResponse.a: expected a path that is not inside another one"),
            (
                doc! { "a": 0, "a.b": 0 },
                "projectResponse.a.b: expected a path that is not inside another one",
            ),
            (doc! { "_id": 0 }, "projectResponse._id: expected another field, _id is always shown"),
            (doc! { "_id.a": 1 }, "projectResponse._id.a: expected another field, _id is always shown"),
            (
                doc! { "a..b": 0 },
                "projectResponse.a..b: expected a path of fields, none of them empty or with $ in front",
            ),
            (
                doc! { "a.0": 0 },
                "projectResponse.a.0: a number in the path, expected names alone; arrays are gone through",
            ),
        ] {
            assert_eq!(Projection::check(&written).unwrap_err(), message);
        }
    }
}
