//! The members of a definition besides its stages.

use bson::{Bson, Document, doc};

use super::place::{Fault, Place};

macro_rules! option {
    ($(#[$doc:meta])* $name:ident, $member:literal: $( $(#[$case_doc:meta])* $case:ident = $text:literal ),*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum $name { $( $(#[$case_doc])* $case, )* }

        impl $name {
            /// As it is written in a definition.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$case => $text, )* }
            }

            fn check(document: &Document, place: &Place) -> Result<Self, Fault> {
                const EXPECTED: &[&str] = &[ $( $text, )* ];
                match document.get($member) {
                    None => Ok(Self::default()),
                    $( Some(Bson::String(text)) if text == $text => Ok(Self::$case), )*
                    Some(_) => {
                        Err(place.member($member).fault(format!("expected one of {}", EXPECTED.join(", "))))
                    }
                }
            }
        }
    };
}

option! {
    /// The document that an update carries (MongoDB manual, "Change Streams", `fullDocument`).
    FullDocument, "fullDocument":
    /// The current one, looked up when the event is read.
    #[default]
    UpdateLookup = "updateLookup",
    /// The post-image of that very change, where the collection records them, else `null`.
    WhenAvailable = "whenAvailable",
    /// The post-image; the stream fails without it.
    Required = "required",
    /// None.
    Off = "off"
}

option! {
    /// The document as it was before the change (MongoDB manual, "Change Streams", `fullDocumentBeforeChange`).
    Before, "fullDocumentBeforeChange":
    /// None.
    #[default]
    Off = "off",
    /// The pre-image, where the collection records them, else `null`.
    WhenAvailable = "whenAvailable",
    /// The pre-image; the stream fails without it.
    Required = "required"
}

/// Which documents MongoDB adds to the events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StreamOptions {
    /// The document after the change.
    pub full_document: FullDocument,
    /// The document before the change.
    pub full_document_before_change: Before,
}

impl StreamOptions {
    pub(super) fn check(document: &Document, place: &Place) -> Result<Self, Fault> {
        Ok(Self {
            full_document: FullDocument::check(document, place)?,
            full_document_before_change: Before::check(document, place)?,
        })
    }

    pub(crate) fn to_document(self) -> Document {
        doc! {
            "fullDocument": self.full_document.as_str(),
            "fullDocumentBeforeChange": self.full_document_before_change.as_str(),
        }
    }
}

/// The most documents that a snapshot may be limited to.
pub const MAX_SNAPSHOT: u32 = 10_000;

/// What a snapshot shows: `{"sort": {"field": 1 | -1, …}, "limit": n}`, both optional, both of the collection's fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The order; empty for none.
    pub sort: Document,
    /// The most documents to send.
    pub limit: Option<u32>,
}

impl Snapshot {
    pub(super) fn check(value: &Bson, place: &Place) -> Result<Self, Fault> {
        const EXPECTED: &str = "expected an object {\"sort\": {<field>: 1 or -1, …}, \"limit\": <number>}";
        let Bson::Document(document) = value else { return Err(place.fault(EXPECTED)) };
        let mut snapshot = Self { sort: Document::new(), limit: None };
        for (key, value) in document {
            let place = place.member(key);
            match key.as_str() {
                "sort" => snapshot.sort = sort(value, &place)?,
                "limit" => {
                    let limit = whole(value).and_then(|limit| u32::try_from(limit).ok());
                    snapshot.limit = limit.filter(|limit| (1..=MAX_SNAPSHOT).contains(limit));
                    if snapshot.limit.is_none() {
                        return Err(place.fault(format!("expected a whole number from 1 to {MAX_SNAPSHOT}")));
                    }
                }
                _ => return Err(place.fault("unknown member, expected sort, limit")),
            }
        }
        Ok(snapshot)
    }

    pub(super) fn to_document(&self) -> Document {
        doc! { "sort": self.sort.clone(), "limit": self.limit.map(i64::from) }
    }
}

fn sort(value: &Bson, place: &Place) -> Result<Document, Fault> {
    let Some(fields) = value.as_document().filter(|fields| !fields.is_empty()) else {
        return Err(place.fault("expected an object of at least one field with 1 or -1"));
    };
    let mut sort = Document::new();
    for (field, direction) in fields {
        match whole(direction) {
            Some(direction @ (1 | -1)) if !field.is_empty() && !field.starts_with('$') => {
                sort.insert(field, if direction == 1 { 1 } else { -1 });
            }
            _ => return Err(place.member(field).fault("expected a field with 1 or -1")),
        }
    }
    Ok(sort)
}

#[expect(clippy::cast_possible_truncation, reason = "the fraction is known to be zero, and `as` saturates")]
fn whole(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        Bson::Double(number) if number.fract() == 0.0 => Some(*number as i64),
        _ => None,
    }
}
