//! A dotted path, and the values that it reaches in a document (MongoDB manual, "Query an Array of Embedded Documents").

use std::sync::Arc;

use bson::{RawArray, RawBsonRef, RawDocument};

use super::order::{elements, member};

/// A path as `fullDocument.tags.0.name`. Cloning it copies no text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Path(Arc<[Part]>);

#[derive(Debug, PartialEq)]
struct Part {
    name: String,
    /// The place in an array that the part can mean as well.
    index: Option<usize>,
}

/// What an array at the end of a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaf {
    /// Each of its elements, and then itself.
    Elements,
    /// Itself alone.
    Whole,
}

impl Path {
    /// The path that `dotted` writes; none where a part is empty.
    pub(super) fn parse(dotted: &str) -> Option<Self> {
        let part = |name: &str| {
            let index = name.parse().ok().filter(|index: &usize| index.to_string() == name);
            (!name.is_empty()).then(|| Part { name: name.to_owned(), index })
        };
        dotted.split('.').map(part).collect::<Option<Arc<_>>>().map(Self)
    }

    /// As it is written.
    pub(super) fn dotted(&self) -> String {
        let names: Vec<&str> = self.0.iter().map(|part| part.name.as_str()).collect();
        names.join(".")
    }

    /// Its parts, as far as none can be a place in an array.
    pub(super) fn before_places(&self) -> Vec<String> {
        self.0.iter().take_while(|part| part.index.is_none()).map(|part| part.name.clone()).collect()
    }

    /// Its parts, where none can be a place in an array.
    pub(super) fn names(&self) -> Option<Vec<String>> {
        let names = self.before_places();
        (names.len() == self.0.len()).then_some(names)
    }

    /// Whether `is_match` holds for any of the values that the path reaches; `None` is a place where there is none.
    ///
    /// An array on the way stands for its elements: a part is looked for in each that is a document, and if the part is a
    /// number it may also be an element's place. Inside an array that was reached by its place, elements that are arrays
    /// are reached by their places only.
    pub(super) fn reaches<'a>(
        &self,
        document: &'a RawDocument,
        leaf: Leaf,
        is_match: &mut impl FnMut(Option<RawBsonRef<'a>>) -> bool,
    ) -> bool {
        in_document(document, &self.0, leaf, is_match)
    }
}

fn in_document<'a>(
    document: &'a RawDocument,
    parts: &[Part],
    leaf: Leaf,
    is_match: &mut impl FnMut(Option<RawBsonRef<'a>>) -> bool,
) -> bool {
    let Some((part, rest)) = parts.split_first() else { return false };
    match (member(document, &part.name), rest) {
        (Some(RawBsonRef::Array(array)), []) => match leaf {
            Leaf::Whole => is_match(Some(RawBsonRef::Array(array))),
            Leaf::Elements => {
                elements(array).any(|element| is_match(Some(element)))
                    || is_match(Some(RawBsonRef::Array(array)))
            }
        },
        (value, []) => is_match(value),
        (Some(RawBsonRef::Document(inner)), _) => in_document(inner, rest, leaf, is_match),
        (Some(RawBsonRef::Array(array)), _) => in_array(array, rest, leaf, is_match),
        _ => is_match(None),
    }
}

fn in_array<'a>(
    array: &'a RawArray,
    parts: &[Part],
    leaf: Leaf,
    is_match: &mut impl FnMut(Option<RawBsonRef<'a>>) -> bool,
) -> bool {
    let Some((part, rest)) = parts.split_first() else { return false };
    elements(array).enumerate().any(|(index, element)| {
        let by_name = match element {
            RawBsonRef::Document(inner) => in_document(inner, parts, leaf, is_match),
            _ => false,
        };
        by_name
            || part.index == Some(index)
                && match (element, rest) {
                    (_, []) => is_match(Some(element)),
                    (RawBsonRef::Document(inner), _) => in_document(inner, rest, leaf, is_match),
                    (RawBsonRef::Array(inner), _) => in_array(inner, rest, leaf, is_match),
                    _ => false,
                }
    })
}
