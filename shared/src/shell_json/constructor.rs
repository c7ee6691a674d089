//! The words of the shells: constants, and constructors of BSON types.

use bson::Bson;

use super::wrapper;

/// The value of `word`, or of `word(arguments)`. The error says what was expected.
pub(super) fn call(word: &str, arguments: Option<&[Bson]>) -> Result<Bson, String> {
    let Some(arguments) = arguments else {
        return match word {
            "true" => Ok(Bson::Boolean(true)),
            "false" => Ok(Bson::Boolean(false)),
            "null" => Ok(Bson::Null),
            "undefined" => Ok(Bson::Undefined),
            "NaN" => Ok(Bson::Double(f64::NAN)),
            "Infinity" => Ok(Bson::Double(f64::INFINITY)),
            "MinKey" => Ok(Bson::MinKey),
            "MaxKey" => Ok(Bson::MaxKey),
            _ => Err("a value (text is written in quotes)".to_owned()),
        };
    };
    match (word, arguments) {
        // Without an argument these make a fresh id or take the clock: a value of nobody's choice.
        ("ObjectId", [hex]) => wrapper::object_id(hex),
        ("ISODate" | "Date", [date]) => wrapper::date(date),
        ("NumberInt" | "Int32", [number]) => wrapper::int(number),
        ("NumberLong" | "Long", [number]) => wrapper::long(number),
        ("NumberDecimal" | "Decimal128", [number]) => wrapper::decimal(number),
        ("UUID", [text]) => wrapper::uuid(text),
        ("Timestamp", [seconds, increment]) => wrapper::timestamp(Some(seconds), Some(increment)),
        ("BinData", [Bson::Int32(subtype), Bson::String(base64)]) => {
            wrapper::bytes(base64, u8::try_from(*subtype).map_err(|_| "a subtype from 0 to 255".to_owned())?)
        }
        ("RegExp", [Bson::String(pattern)]) => wrapper::regex(pattern, ""),
        ("RegExp", [Bson::String(pattern), Bson::String(options)]) => wrapper::regex(pattern, options),
        ("MinKey", []) => Ok(Bson::MinKey),
        ("MaxKey", []) => Ok(Bson::MaxKey),
        _ => Err("ObjectId(hex), ISODate(text), Date(milliseconds), NumberInt(n), NumberLong(n), NumberDecimal(n), \
                  UUID(text), Timestamp(t, i), BinData(subtype, base64), RegExp(pattern, options), MinKey, or MaxKey"
            .to_owned()),
    }
}
