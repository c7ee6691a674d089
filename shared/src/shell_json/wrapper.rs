//! Extended JSON's type wrappers: objects that stand for a value JSON has no notation for.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bson::{
    Binary, Bson, DateTime, Decimal128, Document, JavaScriptCodeWithScope, Regex, Timestamp, Uuid,
    oid::ObjectId,
};

/// The value that `document` stands for, or the document itself. The error says what was expected.
pub(super) fn decode(document: Document) -> Result<Bson, String> {
    let mut members = document.iter();
    let (first, second) = (members.next(), members.next());
    if members.next().is_some() {
        return Ok(Bson::Document(document));
    }
    let decoded = match (first, second) {
        (Some((key, value)), None) => single(key, value)?,
        (Some((a, x)), Some((b, y))) => match (a.as_str(), b.as_str()) {
            ("$binary", "$type") => Some(binary_v1(x, y)?),
            ("$type", "$binary") => Some(binary_v1(y, x)?),
            ("$code", "$scope") => Some(code_with_scope(x, y)?),
            _ => None,
        },
        _ => None,
    };
    Ok(decoded.unwrap_or(Bson::Document(document)))
}

fn single(key: &str, value: &Bson) -> Result<Option<Bson>, String> {
    Ok(Some(match key {
        "$oid" => object_id(value)?,
        "$date" => date(value)?,
        "$numberInt" => int(value)?,
        "$numberLong" => long(value)?,
        "$numberDouble" => double(value)?,
        "$numberDecimal" => decimal(value)?,
        "$binary" => binary(value)?,
        "$uuid" => uuid(value)?,
        "$timestamp" => {
            let parts = value.as_document().filter(|parts| parts.len() == 2);
            let part = |name| parts?.get(name);
            timestamp(part("t"), part("i"))?
        }
        "$regularExpression" => {
            let parts = value.as_document().filter(|parts| parts.len() == 2);
            let part = |name| parts?.get_str(name).ok();
            match (part("pattern"), part("options")) {
                (Some(pattern), Some(options)) => regex(pattern, options)?,
                _ => return Err("{\"$regularExpression\": {\"pattern\", \"options\"}}".to_owned()),
            }
        }
        "$code" => match value {
            Bson::String(code) => Bson::JavaScriptCode(code.clone()),
            _ => return Err("{\"$code\": <text>}".to_owned()),
        },
        "$symbol" => match value {
            Bson::String(symbol) => Bson::Symbol(symbol.clone()),
            _ => return Err("{\"$symbol\": <text>}".to_owned()),
        },
        "$undefined" => Bson::Undefined,
        "$minKey" => Bson::MinKey,
        "$maxKey" => Bson::MaxKey,
        _ => return Ok(None),
    }))
}

pub(super) fn object_id(value: &Bson) -> Result<Bson, String> {
    value
        .as_str()
        .and_then(|hex| ObjectId::parse_str(hex).ok())
        .map(Bson::ObjectId)
        .ok_or_else(|| "an object id of 24 hex digits".to_owned())
}

/// Milliseconds since 1970, or text as in RFC 3339, of which the shells let time and zone be absent.
pub(super) fn date(value: &Bson) -> Result<Bson, String> {
    let date = match value {
        Bson::Int32(milliseconds) => Some(DateTime::from_millis(i64::from(*milliseconds))),
        Bson::Int64(milliseconds) => Some(DateTime::from_millis(*milliseconds)),
        Bson::String(text) => parse_date(text),
        _ => None,
    };
    date.map(Bson::DateTime).ok_or_else(|| "a date, as 1700000000000 or \"2023-11-14T22:13:20Z\"".to_owned())
}

fn parse_date(text: &str) -> Option<DateTime> {
    if !text.is_ascii() {
        return None;
    }
    let (day, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00Z"));
    let (clock, zone) = match time.find(['Z', 'z', '+', '-']) {
        Some(at) => time.split_at(at),
        None => (time, "Z"),
    };
    let zone = match zone.len() {
        3 => format!("{zone}:00"),
        5 => format!("{}:{}", &zone[..3], &zone[3..]),
        _ => zone.to_owned(),
    };
    let seconds = if clock.len() == 5 { ":00" } else { "" };
    DateTime::parse_rfc3339_str(format!("{day}T{clock}{seconds}{zone}")).ok()
}

pub(super) fn int(value: &Bson) -> Result<Bson, String> {
    whole(value)
        .and_then(|number| i32::try_from(number).ok())
        .map(Bson::Int32)
        .ok_or_else(|| "a whole number of 32 bits".to_owned())
}

pub(super) fn long(value: &Bson) -> Result<Bson, String> {
    whole(value).map(Bson::Int64).ok_or_else(|| "a whole number of 64 bits".to_owned())
}

fn whole(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        Bson::String(digits) => digits.parse().ok(),
        _ => None,
    }
}

fn double(value: &Bson) -> Result<Bson, String> {
    let number = match value {
        Bson::Int32(number) => Some(f64::from(*number)),
        Bson::Double(number) => Some(*number),
        Bson::String(digits) => match digits.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            digits => digits.parse().ok().filter(|number: &f64| number.is_finite()),
        },
        _ => None,
    };
    number.map(Bson::Double).ok_or_else(|| "a number, \"NaN\", \"Infinity\", or \"-Infinity\"".to_owned())
}

pub(super) fn decimal(value: &Bson) -> Result<Bson, String> {
    let digits = match value {
        Bson::String(digits) => digits.clone(),
        Bson::Int32(number) => number.to_string(),
        Bson::Int64(number) => number.to_string(),
        Bson::Double(number) => number.to_string(),
        _ => String::new(),
    };
    digits.parse::<Decimal128>().map(Bson::Decimal128).map_err(|_| "a decimal number of 34 digits".to_owned())
}

const BINARY: &str = "{\"$binary\": {\"base64\": <text>, \"subType\": <two hex digits>}}";

fn binary(value: &Bson) -> Result<Bson, String> {
    let parts = value.as_document().filter(|parts| parts.len() == 2).ok_or(BINARY)?;
    let base64 = parts.get_str("base64").map_err(|_| BINARY)?;
    bytes(base64, subtype(parts.get("subType")).ok_or(BINARY)?)
}

fn binary_v1(base64: &Bson, kind: &Bson) -> Result<Bson, String> {
    bytes(base64.as_str().ok_or(BINARY)?, subtype(Some(kind)).ok_or(BINARY)?)
}

fn subtype(value: Option<&Bson>) -> Option<u8> {
    match value? {
        Bson::String(hex) if (1..=2).contains(&hex.len()) => u8::from_str_radix(hex, 16).ok(),
        Bson::Int32(number) => u8::try_from(*number).ok(),
        _ => None,
    }
}

pub(super) fn bytes(base64: &str, subtype: u8) -> Result<Bson, String> {
    let bytes = STANDARD.decode(base64).map_err(|_| "base64 text".to_owned())?;
    Ok(Bson::Binary(Binary { subtype: subtype.into(), bytes }))
}

pub(super) fn uuid(value: &Bson) -> Result<Bson, String> {
    value
        .as_str()
        .and_then(|text| Uuid::parse_str(text).ok())
        .map(|uuid| Bson::Binary(uuid.into()))
        .ok_or_else(|| "a UUID".to_owned())
}

pub(super) fn timestamp(seconds: Option<&Bson>, increment: Option<&Bson>) -> Result<Bson, String> {
    let part = |value: Option<&Bson>| whole(value?).and_then(|number| u32::try_from(number).ok());
    match (part(seconds), part(increment)) {
        (Some(time), Some(increment)) => Ok(Bson::Timestamp(Timestamp { time, increment })),
        _ => Err("a timestamp of two whole numbers of 32 bits, t and i".to_owned()),
    }
}

pub(super) fn regex(pattern: &str, options: &str) -> Result<Bson, String> {
    // BSON wants the options sorted (bsonspec.org, "Regular expression").
    let mut options: Vec<char> = options.chars().collect();
    options.sort_unstable();
    options.dedup();
    let options: String = options.into_iter().collect();
    match (pattern.try_into(), options.try_into()) {
        (Ok(pattern), Ok(options)) => Ok(Bson::RegularExpression(Regex { pattern, options })),
        _ => Err("a regular expression without NUL".to_owned()),
    }
}

fn code_with_scope(code: &Bson, scope: &Bson) -> Result<Bson, String> {
    match (code, scope) {
        (Bson::String(code), Bson::Document(scope)) => {
            Ok(Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope {
                code: code.clone(),
                scope: scope.clone(),
            }))
        }
        _ => Err("{\"$code\": <text>, \"$scope\": <object>}".to_owned()),
    }
}
