//! Events and documents as JSON text: from raw BSON, without a tree between.
//!
//! Text that is no UTF-8 is an error here: [`crate::readable`] comes first. The rules are those of MongoDB's Extended JSON v2 (specification "Extended JSON"), and for
//! [`JsonMode::Strict`] those of v1, as the Java driver writes them.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bson::{
    Bson, RawArray, RawBsonRef, RawDocument, RawDocumentBuf,
    error::Error,
    oid::ObjectId,
    raw::{CString, RawBinaryRef},
};

use crate::refusal::{Kind, Refusal};

/// How BSON types without a JSON twin are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum JsonMode {
    /// Relaxed, with dates as `{"$date": <milliseconds>}`: what clients get that ask for nothing.
    #[default]
    Plain,
    /// Relaxed Extended JSON v2: ISO dates.
    Relaxed,
    /// Canonical Extended JSON v2: every number in its wrapper. Its other name is `extended`.
    Canonical,
    /// Extended JSON v1.
    Strict,
}

impl JsonMode {
    /// The mode that the parameter `jsonMode` names.
    pub fn parse(name: Option<&str>) -> Result<Self, Refusal> {
        match name.map(str::to_ascii_lowercase).as_deref() {
            None => Ok(Self::Plain),
            Some("relaxed") => Ok(Self::Relaxed),
            Some("canonical" | "extended") => Ok(Self::Canonical),
            Some("strict") => Ok(Self::Strict),
            Some(_) => Err(Refusal::new(
                Kind::BadRequest,
                format!(
                    "parameter jsonMode is {:?}, expected relaxed, canonical, strict, or extended",
                    name.unwrap_or_default()
                ),
            )),
        }
    }
}

/// What MongoDB adds to an event for its own use, and a client does not get.
const OF_MONGODB: &[&str] =
    &["_id", "ns", "clusterTime", "wallTime", "lsid", "txnNumber", "collectionUUID", "nsType", "splitEvent"];

/// The members that every event has, in this order.
const ALWAYS: &[&str] = &["fullDocument", "documentKey", "updateDescription", "operationType"];

/// Appends the plain form of an event: `fullDocument`, `documentKey`, `updateDescription`, `operationType`, `null` where absent,
/// then what the definition's stages set at the top, then the position if one is given.
pub fn write_plain_event(
    out: &mut String,
    event: &RawDocument,
    mode: JsonMode,
    position: Option<&str>,
) -> Result<(), Error> {
    let mut always = [None; ALWAYS.len()];
    let mut has_more = false;
    for member in event {
        let (name, value) = member?;
        match ALWAYS.iter().position(|known| name == *known) {
            Some(index) => always[index] = always[index].or(Some(value)),
            None => has_more = has_more || is_declared(name.as_str()),
        }
    }
    for (index, (name, value)) in ALWAYS.iter().zip(always).enumerate() {
        out.push(if index == 0 { '{' } else { ',' });
        write_name(out, name);
        match (*name, value) {
            (_, None) => out.push_str("null"),
            ("updateDescription", Some(RawBsonRef::Document(update))) => write_update(out, update, mode)?,
            (_, Some(value)) => write_value(out, value, mode)?,
        }
    }
    if has_more {
        for member in event {
            let (name, value) = member?;
            if is_declared(name.as_str()) {
                out.push(',');
                write_name(out, name.as_str());
                write_value(out, value, mode)?;
            }
        }
    }
    if let Some(position) = position {
        out.push_str(",\"position\":");
        write_text(out, position);
    }
    out.push('}');
    Ok(())
}

/// Whether a member is there because a stage of the definition set it.
fn is_declared(name: &str) -> bool {
    !ALWAYS.contains(&name) && !OF_MONGODB.contains(&name)
}

/// The same members as BSON, the values byte for byte as MongoDB sent them.
pub fn plain_event_bson(event: &RawDocument) -> Result<RawDocumentBuf, Error> {
    let mut out = RawDocumentBuf::new();
    for name in ALWAYS {
        out.append(CString::try_from(*name)?, event.get(*name)?.unwrap_or(RawBsonRef::Null));
    }
    for member in event {
        let (name, value) = member?;
        if is_declared(name.as_str()) {
            out.append(name, value);
        }
    }
    Ok(out)
}

/// `updatedFields`, `removedFields`, and `truncatedArrays` only where an array was cut: RESTHeart's clients know the first two.
fn write_update(out: &mut String, update: &RawDocument, mode: JsonMode) -> Result<(), Error> {
    out.push('{');
    let mut first = true;
    let mut member = |out: &mut String, name: &str, value: RawBsonRef<'_>| {
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        write_name(out, name);
        write_value(out, value, mode)
    };
    for name in ["updatedFields", "removedFields"] {
        member(out, name, update.get(name)?.unwrap_or(RawBsonRef::Null))?;
    }
    for entry in update {
        let (name, value) = entry?;
        let empty = matches!(value, RawBsonRef::Array(array) if array.is_empty());
        if !matches!(name.as_str(), "updatedFields" | "removedFields") && !empty {
            member(out, name.as_str(), value)?;
        }
    }
    out.push('}');
    Ok(())
}

/// Appends a document as a JSON object.
pub fn write_document(out: &mut String, document: &RawDocument, mode: JsonMode) -> Result<(), Error> {
    out.push('{');
    for (index, member) in document.into_iter().enumerate() {
        let (name, value) = member?;
        if index > 0 {
            out.push(',');
        }
        write_name(out, name.as_str());
        write_value(out, value, mode)?;
    }
    out.push('}');
    Ok(())
}

fn write_array(out: &mut String, array: &RawArray, mode: JsonMode) -> Result<(), Error> {
    out.push('[');
    for (index, value) in array.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_value(out, value?, mode)?;
    }
    out.push(']');
    Ok(())
}

/// Appends any BSON value as JSON.
pub fn write_value(out: &mut String, value: RawBsonRef<'_>, mode: JsonMode) -> Result<(), Error> {
    let canonical = mode == JsonMode::Canonical;
    let strict = mode == JsonMode::Strict;
    match value {
        RawBsonRef::Document(document) => write_document(out, document, mode)?,
        RawBsonRef::Array(array) => write_array(out, array, mode)?,
        RawBsonRef::String(text) => write_text(out, text),
        RawBsonRef::Boolean(value) => out.push_str(if value { "true" } else { "false" }),
        RawBsonRef::Null => out.push_str("null"),
        RawBsonRef::Int32(value) if canonical => wrapped(out, "$numberInt", value),
        RawBsonRef::Int32(value) => write_integer(out, value.into()),
        RawBsonRef::Int64(value) if canonical || strict => wrapped(out, "$numberLong", value),
        RawBsonRef::Int64(value) => write_integer(out, value),
        RawBsonRef::Double(value) if !value.is_finite() => {
            let name = if value.is_nan() {
                "NaN"
            } else if value > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            };
            wrapped(out, "$numberDouble", name);
        }
        // `{:?}` keeps `.0` and is the shortest text that reads back the same.
        RawBsonRef::Double(value) if canonical => wrapped(out, "$numberDouble", format_args!("{value:?}")),
        RawBsonRef::Double(value) => display(out, format_args!("{value:?}")),
        RawBsonRef::Decimal128(value) => wrapped(out, "$numberDecimal", value),
        RawBsonRef::ObjectId(id) => write_id(out, id),
        RawBsonRef::DateTime(date) => write_date(out, date, mode),
        RawBsonRef::Binary(binary) => write_binary(out, binary, strict),
        RawBsonRef::Timestamp(stamp) => {
            display(out, format_args!(r#"{{"$timestamp":{{"t":{},"i":{}}}}}"#, stamp.time, stamp.increment));
        }
        RawBsonRef::RegularExpression(regex) => {
            out.push_str(if strict { r#"{"$regex":"# } else { r#"{"$regularExpression":{"pattern":"# });
            write_text(out, regex.pattern.as_str());
            out.push_str(if strict { r#","$options":"# } else { r#","options":"# });
            write_text(out, regex.options.as_str());
            out.push_str(if strict { "}" } else { "}}" });
        }
        RawBsonRef::JavaScriptCode(code) => {
            out.push_str(r#"{"$code":"#);
            write_text(out, code);
            out.push('}');
        }
        RawBsonRef::Symbol(text) => {
            out.push_str(r#"{"$symbol":"#);
            write_text(out, text);
            out.push('}');
        }
        RawBsonRef::Undefined => out.push_str(r#"{"$undefined":true}"#),
        RawBsonRef::MinKey => out.push_str(r#"{"$minKey":1}"#),
        RawBsonRef::MaxKey => out.push_str(r#"{"$maxKey":1}"#),
        // Deprecated types that no current driver writes: the slow way will do.
        RawBsonRef::JavaScriptCodeWithScope(_) | RawBsonRef::DbPointer(_) => {
            let json = Bson::try_from(value)?.into_canonical_extjson();
            display(out, json);
        }
    }
    Ok(())
}

fn write_integer(out: &mut String, value: i64) {
    out.push_str(itoa::Buffer::new().format(value));
}

fn write_id(out: &mut String, id: ObjectId) {
    out.push_str(r#"{"$oid":""#);
    for byte in id.bytes() {
        for digit in [byte >> 4, byte & 0xf] {
            out.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    out.push_str(r#""}"#);
}

fn write_date(out: &mut String, date: bson::DateTime, mode: JsonMode) {
    let millis = date.timestamp_millis();
    match mode {
        JsonMode::Plain | JsonMode::Strict => {
            out.push_str(r#"{"$date":"#);
            write_integer(out, millis);
            out.push('}');
        }
        JsonMode::Canonical => display(out, format_args!(r#"{{"$date":{{"$numberLong":"{millis}"}}}}"#)),
        // ISO only between the years 1970 and 9999.
        JsonMode::Relaxed => match date.try_to_rfc3339_string() {
            Ok(iso) if (0..=253_402_300_799_999).contains(&millis) => wrapped(out, "$date", iso),
            _ => display(out, format_args!(r#"{{"$date":{{"$numberLong":"{millis}"}}}}"#)),
        },
    }
}

fn write_binary(out: &mut String, binary: RawBinaryRef<'_>, strict: bool) {
    let subtype = u8::from(binary.subtype);
    let data = STANDARD.encode(binary.bytes);
    if strict {
        display(out, format_args!(r#"{{"$binary":"{data}","$type":"{subtype:02x}"}}"#));
    } else {
        display(out, format_args!(r#"{{"$binary":{{"base64":"{data}","subType":"{subtype:02x}"}}}}"#));
    }
}

fn wrapped(out: &mut String, name: &str, value: impl std::fmt::Display) {
    display(out, format_args!(r#"{{"{name}":"{value}"}}"#));
}

fn display(out: &mut String, value: impl std::fmt::Display) {
    write!(out, "{value}").expect("a String takes any text");
}

fn write_name(out: &mut String, name: &str) {
    write_text(out, name);
    out.push(':');
}

/// Appends a JSON string (RFC 8259, section 7).
pub fn write_text(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    while let Some(index) = first_to_escape(rest.as_bytes()) {
        out.push_str(&rest[..index]);
        match rest.as_bytes()[index] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            byte => display(out, format_args!("\\u{byte:04x}")),
        }
        rest = &rest[index + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

/// The first byte that a JSON string cannot hold as it is. All of those are ASCII, and so no part of another character.
fn first_to_escape(text: &[u8]) -> Option<usize> {
    const BLOCK: usize = 16;
    let is_to_escape = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    // Most text has none. Whole blocks without a branch for each byte are looked at many bytes at once.
    let clean = |block: &&[u8]| !block.iter().fold(false, |found, byte| found | is_to_escape(byte));
    let behind = text.chunks_exact(BLOCK).take_while(clean).count() * BLOCK;
    text[behind..].iter().position(is_to_escape).map(|index| behind + index)
}

#[cfg(test)]
mod tests {
    use bson::{DateTime, Decimal128, RawDocumentBuf, Regex, Timestamp, doc, spec::BinarySubtype};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn raw(document: &bson::Document) -> RawDocumentBuf {
        RawDocumentBuf::try_from(document).expect("raw")
    }

    fn json(document: &bson::Document, mode: JsonMode) -> String {
        let mut out = String::new();
        write_document(&mut out, &raw(document), mode).expect("valid");
        out
    }

    fn plain_event(event: &RawDocument) -> String {
        let mut out = String::new();
        write_plain_event(&mut out, event, JsonMode::Plain, None).expect("valid");
        out
    }

    #[test]
    fn an_event_has_four_members_in_order_and_null_where_absent() {
        let event = raw(&doc! {
            "_id": { "_data": "82" }, "operationType": "insert", "clusterTime": Timestamp { time: 1, increment: 2 },
            "wallTime": DateTime::from_millis(5), "ns": { "db": "a", "coll": "b" },
            "documentKey": { "_id": 1 }, "fullDocument": { "_id": 1, "name": "uji" },
        });
        assert_eq!(
            plain_event(&event),
            r#"{"fullDocument":{"_id":1,"name":"uji"},"documentKey":{"_id":1},"updateDescription":null,"operationType":"insert"}"#
        );
    }

    #[test]
    fn what_stages_set_at_the_top_follows_the_four() {
        let event =
            raw(&doc! { "_id": 1, "extra": 7, "operationType": "delete", "documentKey": { "_id": 1 } });
        assert_eq!(
            plain_event(&event),
            r#"{"fullDocument":null,"documentKey":{"_id":1},"updateDescription":null,"operationType":"delete","extra":7}"#
        );
    }

    #[test]
    fn an_update_tells_of_cut_arrays_only_where_there_are_some() {
        let event = |cut: bson::Array| {
            raw(
                &doc! { "updateDescription": { "updatedFields": { "a.b": 1 }, "removedFields": ["c"], "truncatedArrays": cut } },
            )
        };
        let json = |event: &RawDocument| plain_event(event);
        assert!(
            json(&event(vec![]))
                .contains(r#""updateDescription":{"updatedFields":{"a.b":1},"removedFields":["c"]}"#)
        );
        let cut = event(vec![doc! { "field": "x", "newSize": 2 }.into()]);
        assert!(
            json(&cut).contains(r#""removedFields":["c"],"truncatedArrays":[{"field":"x","newSize":2}]}"#)
        );
    }

    #[test]
    fn each_mode_writes_each_type_its_own_way() {
        let all = doc! {
            "i": 1_i32, "l": 2_i64, "d": 1.0, "nan": f64::NAN, "inf": f64::NEG_INFINITY, "t": DateTime::from_millis(1_500),
            "o": ObjectId::from_bytes([1; 12]), "m": "1.10".parse::<Decimal128>().expect("decimal"),
            "b": bson::Binary { subtype: BinarySubtype::Generic, bytes: vec![1, 2, 3] },
            "s": Timestamp { time: 7, increment: 8 },
            "r": Regex { pattern: "a/b".try_into().expect("no NUL"), options: "i".try_into().expect("no NUL") },
        };
        assert_eq!(
            json(&all, JsonMode::Plain),
            r#"{"i":1,"l":2,"d":1.0,"nan":{"$numberDouble":"NaN"},"inf":{"$numberDouble":"-Infinity"},"t":{"$date":1500},"o":{"$oid":"010101010101010101010101"},"m":{"$numberDecimal":"1.10"},"b":{"$binary":{"base64":"AQID","subType":"00"}},"s":{"$timestamp":{"t":7,"i":8}},"r":{"$regularExpression":{"pattern":"a/b","options":"i"}}}"#
        );
        assert_eq!(
            json(&all, JsonMode::Canonical),
            r#"{"i":{"$numberInt":"1"},"l":{"$numberLong":"2"},"d":{"$numberDouble":"1.0"},"nan":{"$numberDouble":"NaN"},"inf":{"$numberDouble":"-Infinity"},"t":{"$date":{"$numberLong":"1500"}},"o":{"$oid":"010101010101010101010101"},"m":{"$numberDecimal":"1.10"},"b":{"$binary":{"base64":"AQID","subType":"00"}},"s":{"$timestamp":{"t":7,"i":8}},"r":{"$regularExpression":{"pattern":"a/b","options":"i"}}}"#
        );
        assert!(json(&all, JsonMode::Relaxed).contains(r#""t":{"$date":"1970-01-01T00:00:01.5Z"}"#));
        let strict = json(&all, JsonMode::Strict);
        assert!(strict.contains(r#""l":{"$numberLong":"2"},"d":1.0"#), "{strict}");
        assert!(strict.contains(r#""b":{"$binary":"AQID","$type":"00"}"#), "{strict}");
        assert!(strict.contains(r#""r":{"$regex":"a/b","$options":"i"}"#), "{strict}");
    }

    #[test]
    fn text_is_escaped_as_json_wants_it() {
        assert_eq!(
            json(&doc! { "a\"b": "\\ \n\t\u{1} é" }, JsonMode::Plain),
            r#"{"a\"b":"\\ \n\t\u0001 é"}"#
        );
    }

    #[test]
    fn text_is_escaped_wherever_it_has_to_be() {
        for length in 0..70 {
            for at in 0..length {
                let text = |mark: &str| format!("{}{mark}{}", "é".repeat(at), "x".repeat(length - at - 1));
                let mut out = String::new();
                write_text(&mut out, &text("\u{1f}"));
                assert_eq!(out, format!("\"{}\"", text("\\u001f")), "{at} of {length}");
            }
        }
    }

    #[test]
    fn an_unknown_json_mode_is_refused() {
        assert_eq!(
            JsonMode::parse(Some("shell")).expect_err("unknown").message(),
            "parameter jsonMode is \"shell\", expected relaxed, canonical, strict, or extended"
        );
    }
}
