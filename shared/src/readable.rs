//! BSON with texts that are no UTF-8, which MongoDB stores where a driver writes them. Its checks end at the structure.

use std::borrow::Cow;

use bson::{RawBsonRef, RawDocument, RawDocumentBuf, error::Error, raw::RawIter};
use serde::de::Error as _;

/// The document with U+FFFD for what is no UTF-8, in texts and in names of members; an error where it is no BSON.
///
/// It is made anew only where there is such a thing. Names that differ in nothing else become equal.
///
/// What reads members one after the other ends at a name that is no UTF-8, and takes a text that is none for nothing at all. So
/// documents are made readable before anything is asked of them: what follows would otherwise seem to be missing.
pub fn readable(document: &RawDocument) -> Result<Cow<'_, RawDocument>, Error> {
    if all_readable(document.iter_elements()) {
        return Ok(Cow::Borrowed(document));
    }
    let mut made = Vec::with_capacity(document.as_bytes().len() + 64);
    let mut reader = Reader { rest: document.as_bytes(), made: &mut made };
    reader.document().ok_or_else(no_bson)?;
    let made = RawDocumentBuf::from_bytes(made)?;
    if all_readable(made.iter_elements()) { Ok(Cow::Owned(made)) } else { Err(no_bson()) }
}

fn no_bson() -> Error {
    Error::custom("a document is no BSON")
}

fn all_readable(mut members: RawIter<'_>) -> bool {
    members.all(|member| match member.and_then(|member| member.value()) {
        Ok(RawBsonRef::Document(document)) => all_readable(document.iter_elements()),
        Ok(RawBsonRef::Array(array)) => all_readable(array.iter_elements()),
        Ok(RawBsonRef::JavaScriptCodeWithScope(code)) => all_readable(code.scope.iter_elements()),
        Ok(_) => true,
        Err(_) => false,
    })
}

/// Copies BSON, as its specification (bsonspec.org, version 1.1) has it.
struct Reader<'a> {
    rest: &'a [u8],
    made: &'a mut Vec<u8>,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Option<()> {
        self.measured(|reader| {
            loop {
                let kind = *reader.copied(1)?.first()?;
                if kind == 0 {
                    return Some(());
                }
                reader.name()?;
                reader.value(kind)?;
            }
        })
    }

    fn value(&mut self, kind: u8) -> Option<()> {
        match kind {
            // Null, its old synonym, and the least and the greatest.
            0x0A | 0x06 | 0xFF | 0x7F => Some(()),
            // A boolean.
            0x08 => self.copied(1).map(drop),
            // An int.
            0x10 => self.copied(4).map(drop),
            // A double, a date, a timestamp, a long.
            0x01 | 0x09 | 0x11 | 0x12 => self.copied(8).map(drop),
            // An ObjectId.
            0x07 => self.copied(12).map(drop),
            // A Decimal128.
            0x13 => self.copied(16).map(drop),
            // A string, a code, a symbol.
            0x02 | 0x0D | 0x0E => self.text(),
            // A document, an array.
            0x03 | 0x04 => self.document(),
            // Bytes, behind their number and what they are.
            0x05 => {
                let length = length(self.copied(4)?)?;
                self.copied(1)?;
                self.copied(length).map(drop)
            }
            // A regular expression with its options.
            0x0B => {
                self.name()?;
                self.name()
            }
            // A reference to a document.
            0x0C => {
                self.text()?;
                self.copied(12).map(drop)
            }
            // A code with its scope.
            0x0F => self.measured(|reader| {
                reader.text()?;
                reader.document()
            }),
            _ => None,
        }
    }

    /// What begins with its own length, that of the length included.
    fn measured(&mut self, inner: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        self.taken(4)?;
        let begin = self.made.len();
        self.made.extend([0; 4]);
        inner(self)?;
        let length = i32::try_from(self.made.len() - begin).ok()?;
        self.made.get_mut(begin..begin + 4)?.copy_from_slice(&length.to_le_bytes());
        Some(())
    }

    /// A text behind its length, with a zero at its end that counts.
    fn text(&mut self) -> Option<()> {
        let length = length(self.taken(4)?)?;
        let text = String::from_utf8_lossy(self.taken(length.checked_sub(1)?)?);
        let length = i32::try_from(text.len() + 1).ok()?;
        self.made.extend(length.to_le_bytes());
        self.made.extend(text.as_bytes());
        self.copied(1).map(drop)
    }

    /// A text up to a zero.
    fn name(&mut self) -> Option<()> {
        let length = self.rest.iter().position(|byte| *byte == 0)?;
        let name = String::from_utf8_lossy(self.taken(length)?);
        self.made.extend(name.as_bytes());
        self.copied(1).map(drop)
    }

    fn copied(&mut self, length: usize) -> Option<&'a [u8]> {
        let bytes = self.taken(length)?;
        self.made.extend(bytes);
        Some(bytes)
    }

    fn taken(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }
}

fn length(bytes: &[u8]) -> Option<usize> {
    i32::from_le_bytes(bytes.try_into().ok()?).try_into().ok()
}

#[cfg(test)]
mod tests {
    use bson::{
        Binary, Bson, DateTime, Decimal128, Document, JavaScriptCodeWithScope, Regex, Timestamp, doc,
        oid::ObjectId,
        raw::{CString, cstr},
        spec::BinarySubtype,
    };
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    /// `~` stands for a byte that no UTF-8 holds.
    fn stored(document: &Document) -> RawDocumentBuf {
        let mut bytes = document.to_vec().expect("BSON");
        bytes.iter_mut().filter(|byte| **byte == b'~').for_each(|byte| *byte = 0xff);
        RawDocumentBuf::from_bytes(bytes).expect("a document")
    }

    /// A document with a value of each type, and `text` wherever there can be one.
    fn of_all_types(text: &str) -> Document {
        let code = JavaScriptCodeWithScope { code: text.to_owned(), scope: doc! { text: text } };
        let pattern = CString::try_from(text).expect("a text without a zero");
        let regex = Regex { pattern, options: cstr!("i").to_owned() };
        doc! {
            text: text,
            "double": 1.5, "document": { text: { "deep": text } }, "array": [1, text, [text]],
            "binary": Binary { subtype: BinarySubtype::Generic, bytes: vec![0xfe, 0, 1] }, "undefined": Bson::Undefined,
            "id": ObjectId::from_bytes([0xfe; 12]), "yes": true, "date": DateTime::from_millis(-1), "null": Bson::Null,
            "regex": regex, "code": Bson::JavaScriptCode(text.to_owned()), "symbol": Bson::Symbol(text.to_owned()),
            "scoped": code, "int": -1, "timestamp": Timestamp { time: u32::MAX, increment: 7 }, "long": i64::MIN,
            "decimal": Decimal128::from_bytes([0xfe; 16]), "least": Bson::MinKey, "greatest": Bson::MaxKey,
        }
    }

    #[test]
    fn what_is_no_utf8_is_replaced_in_texts_and_names_of_all_types() {
        let stored = stored(&of_all_types("a~b"));
        assert!(Document::try_from(stored.clone()).is_err());
        let readable = readable(&stored).expect("BSON");
        assert_eq!(Document::try_from(&*readable).expect("valid"), of_all_types("a\u{fffd}b"));
    }

    #[test]
    fn a_reference_is_made_readable_too() {
        let pointer = [&[0x0c, b'p', 0, 3, 0, 0, 0, 0xff, b'c', 0][..], &[7; 12]].concat();
        let bytes = [&[4 + 22 + 1, 0, 0, 0][..], &pointer, &[0]].concat();
        let stored = RawDocumentBuf::from_bytes(bytes).expect("a document");
        let pointer = [&[0x0c, b'p', 0, 5, 0, 0, 0, 0xef, 0xbf, 0xbd, b'c', 0][..], &[7; 12]].concat();
        let bytes = [&[4 + 24 + 1, 0, 0, 0][..], &pointer, &[0]].concat();
        assert_eq!(readable(&stored).expect("BSON").as_bytes(), bytes);
    }

    #[test]
    fn a_readable_document_is_left_as_it_is() {
        let stored = stored(&of_all_types("\u{fffd} ü"));
        let made = readable(&stored).expect("BSON");
        assert!(matches!(made, Cow::Borrowed(_)));
        assert_eq!(made.as_bytes(), stored.as_bytes());
    }

    #[test]
    fn what_is_no_bson_is_refused() {
        let valid = stored(&doc! { "a": "~", "b": { "c": [1, "x"] } });
        let mut refused = 0;
        for place in 4..valid.as_bytes().len() - 1 {
            for byte in [0x00, 0x01, 0x7e, 0xff] {
                let mut bytes = valid.as_bytes().to_vec();
                bytes[place] = byte;
                let Ok(broken) = RawDocumentBuf::from_bytes(bytes) else { continue };
                match readable(&broken) {
                    Ok(made) => assert!(Document::try_from(&*made).is_ok(), "{made:?}"),
                    Err(_) => refused += 1,
                }
            }
        }
        assert!(refused > 10, "{refused}");
    }
}
