//! How much of a document is seen.

use std::collections::BTreeMap;

use bson::{
    Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf,
    error::Error,
    raw::{RawArrayBuf, RawBson},
};

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
pub(super) type Fields = BTreeMap<String, Node>;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Node {
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

/// The longest path that is taken: MongoDB takes documents of 100 levels at least.
const DEEPEST: usize = 64;

impl Projection {
    /// One that shows these paths alone, as a `$project` does it, and nothing that is not named; `None` for paths that
    /// MongoDB refuses.
    pub(crate) fn only(paths: &[Vec<String>]) -> Option<Self> {
        Self::of_paths(Manner::Inclusion, paths)
    }

    /// One that hides these paths, as an `$unset` does it; `None` for paths that MongoDB refuses.
    pub(crate) fn all_but(paths: &[Vec<String>]) -> Option<Self> {
        Self::of_paths(Manner::Exclusion, paths)
    }

    fn of_paths(manner: Manner, paths: &[Vec<String>]) -> Option<Self> {
        let is_name = |part: &&str| !part.is_empty() && !part.starts_with('$') && !part.contains('\0');
        let mut fields = Fields::new();
        for path in paths {
            let parts: Vec<&str> = path.iter().map(String::as_str).collect();
            let is_path = parts.len() <= DEEPEST && parts.iter().all(is_name);
            if !is_path || !add(&mut fields, &parts) {
                return None;
            }
        }
        (!paths.is_empty()).then_some(Self { manner, fields })
    }

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

    /// The same, with a field hidden whatever else is shown.
    pub(super) fn without(mut self, field: &str) -> Self {
        match self.manner {
            Manner::Exclusion => drop(self.fields.insert(field.to_owned(), Node::default())),
            Manner::Inclusion => drop(self.fields.remove(field)),
        }
        self
    }

    /// Whether it hides nothing.
    pub fn is_everything(&self) -> bool {
        self.fields.is_empty() && self.manner == Manner::Exclusion
    }

    /// Whether it names what is seen, and not what is hidden.
    pub(super) fn is_inclusion(&self) -> bool {
        self.manner == Manner::Inclusion
    }

    /// The named paths.
    pub(super) fn paths(&self) -> Vec<String> {
        fn collect(fields: &Fields, prefix: &str, paths: &mut Vec<String>) {
            for (name, node) in fields {
                let path = format!("{prefix}{name}");
                if node.below.is_empty() {
                    paths.push(path);
                } else {
                    collect(&node.below, &format!("{path}."), paths);
                }
            }
        }
        let mut paths = Vec::new();
        collect(&self.fields, "", &mut paths);
        paths
    }

    /// As MongoDB takes it, for `find` or `$project`; empty where nothing is hidden.
    pub fn document(&self) -> Document {
        let value = i32::from(self.is_inclusion());
        self.paths().into_iter().map(|path| (path, value.into())).collect()
    }

    /// How much is seen of what is at `path`; a number in it is taken for the index of an array, which is gone through.
    pub fn shows(&self, path: &str) -> Shown {
        match self.walk(path).0 {
            Reached::Whole => Shown::Whole,
            Reached::Hidden => Shown::Hidden,
            Reached::Partly(_) => Shown::Partly,
        }
    }

    /// Whether all fields that a filter or an order names are seen as they are. A number in a path could be an index or the
    /// name of a field, so it is taken for unseen.
    pub fn shows_fields(&self, filter: &Document) -> bool {
        filter.iter().all(|(key, value)| match value {
            _ if self.is_everything() => true,
            Bson::Array(filters) if key.starts_with('$') => {
                filters.iter().filter_map(Bson::as_document).all(|filter| self.shows_fields(filter))
            }
            _ => self.shows(key) == Shown::Whole && !key.split('.').any(is_index),
        })
    }

    /// Where `path` leads, and whether there was a number on the way: it may be an index, or the name of a field.
    pub(super) fn walk(&self, path: &str) -> (Reached<'_>, bool) {
        let end = |named: bool| {
            if named == self.is_inclusion() { Reached::Whole } else { Reached::Hidden }
        };
        let mut fields = &self.fields;
        let mut numbered = false;
        for part in path.split('.') {
            if is_index(part) {
                numbered = true;
                continue;
            }
            match fields.get(part) {
                None => return (end(false), numbered),
                Some(node) if node.below.is_empty() => return (end(true), numbered),
                Some(node) => fields = &node.below,
            }
        }
        (Reached::Partly(fields), numbered)
    }

    /// What is seen of a document, as MongoDB's `$project` makes it.
    pub fn project(&self, document: &RawDocument) -> Result<RawDocumentBuf, Error> {
        self.members(document, &self.fields)
    }

    fn members(&self, document: &RawDocument, fields: &Fields) -> Result<RawDocumentBuf, Error> {
        let mut seen = RawDocumentBuf::new();
        for member in document {
            let (name, value) = member?;
            match fields.get(name.as_str()) {
                Some(node) if !node.below.is_empty() => {
                    if let Some(value) = self.value(value, &node.below)? {
                        seen.append(name, value);
                    }
                }
                named if named.is_some() == self.is_inclusion() => seen.append(name, value),
                _ => {}
            }
        }
        Ok(seen)
    }

    /// What is seen of a value inside which paths end. An inclusion shows nothing of one that has no inside.
    pub(super) fn value(&self, value: RawBsonRef<'_>, fields: &Fields) -> Result<Option<RawBson>, Error> {
        Ok(match value {
            RawBsonRef::Document(document) => Some(self.members(document, fields)?.into()),
            RawBsonRef::Array(array) => {
                let mut seen = RawArrayBuf::new();
                for element in array {
                    if let Some(element) = self.value(element?, fields)? {
                        seen.push(element);
                    }
                }
                Some(seen.into())
            }
            other => (!self.is_inclusion()).then(|| other.into()),
        })
    }
}

/// Where a path leads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reached<'a> {
    /// To what is seen.
    Whole,
    /// To what is hidden.
    Hidden,
    /// To what has these paths inside.
    Partly(&'a Fields),
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
    fn a_document_is_projected_as_mongodb_does_it() {
        let document = RawDocumentBuf::try_from(&doc! {
            "b": { "x": 1, "y": 2 }, "_id": 7, "a": [{ "x": 1, "y": 2 }, 3, [{ "x": 4 }], []], "c": 5, "d": { "x": {} },
        })
        .unwrap();
        let projected = |written: Document| {
            let projection = Projection::check(&written).unwrap();
            Document::try_from(projection.project(&document).unwrap()).unwrap()
        };
        assert_eq!(
            projected(doc! { "a.x": 0, "b.y": 0, "c.z": 0, "d": 0 }),
            doc! { "b": { "x": 1 }, "_id": 7, "a": [{ "y": 2 }, 3, [{}], []], "c": 5 }
        );
        assert_eq!(
            projected(doc! { "a.x": 1, "b.y": 1, "c.z": 1, "d.x": 1 }),
            doc! { "b": { "y": 2 }, "_id": 7, "a": [{ "x": 1 }, [{ "x": 4 }], []], "d": { "x": {} } }
        );
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
