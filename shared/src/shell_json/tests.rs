use bson::{bson, doc};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn the_lenient_forms_of_the_shells_are_read() {
    assert_eq!(
        parse(r#" { a : 1, 'b.c': "x\u00e9\ud83d\ude00\n", $d: [1.5, -2, .5, 1e3,], "e": {}, } "#).unwrap(),
        bson!({ "a": 1, "b.c": "xé😀\n", "$d": [1.5, -2, 0.5, 1000.0], "e": {} })
    );
    assert_eq!(parse("2147483648").unwrap(), Bson::Int64(2_147_483_648));
    assert_eq!(parse("9223372036854775808").unwrap(), Bson::Double(9_223_372_036_854_775_808.0));
    assert_eq!(parse("-Infinity").unwrap(), Bson::Double(f64::NEG_INFINITY));
    assert_eq!(parse("'it\\'s'").unwrap(), bson!("it's"));
}

#[test]
fn a_constructor_and_both_versions_of_its_wrapper_are_the_same_value() {
    for forms in [
        vec![r#"ObjectId("5f0000000000000000000001")"#, r#"{"$oid":"5f0000000000000000000001"}"#],
        vec![
            r#"ISODate("2023-11-14T22:13:20Z")"#,
            r#"ISODate("2023-11-14T23:13:20.000+0100")"#,
            r#"ISODate("2023-11-14 22:13:20")"#,
            "new Date(1700000000000)",
            r#"{"$date":1700000000000}"#,
            r#"{"$date":"2023-11-14T22:13:20Z"}"#,
            r#"{"$date":{"$numberLong":"1700000000000"}}"#,
        ],
        vec![r#"ISODate("2023-11-14")"#, r#"{"$date":"2023-11-14T00:00:00.000Z"}"#],
        vec!["NumberLong(5)", "NumberLong('5')", r#"{"$numberLong":"5"}"#, r#"{"$numberLong":5}"#],
        vec!["NumberInt('5')", "5", r#"{"$numberInt":"5"}"#],
        vec!["NumberDecimal('1.50')", r#"{"$numberDecimal":"1.50"}"#],
        vec!["Timestamp(7, 2)", r#"{"$timestamp":{"t":7,"i":2}}"#],
        vec![
            r#"BinData(0,"AQID")"#,
            r#"{"$binary":{"base64":"AQID","subType":"00"}}"#,
            r#"{"$binary":"AQID","$type":"0"}"#,
            r#"{"$type":0,"$binary":"AQID"}"#,
        ],
        vec![
            r#"UUID("00112233-4455-6677-8899-aabbccddeeff")"#,
            r#"{"$uuid":"00112233-4455-6677-8899-aabbccddeeff"}"#,
            r#"BinData(4,"ABEiM0RVZneImaq7zN3u/w==")"#,
        ],
        vec![
            r"/^a\/b/im",
            r#"RegExp("^a/b","mi")"#,
            r#"{"$regularExpression":{"pattern":"^a/b","options":"im"}}"#,
        ],
        vec!["Infinity", "+Infinity", r#"{"$numberDouble":"Infinity"}"#],
        vec!["MinKey", "MinKey()", r#"{"$minKey":1}"#],
    ] {
        let values: Vec<_> =
            forms.iter().map(|form| parse(form).unwrap_or_else(|e| panic!("{form}: {e}"))).collect();
        assert!(values.iter().all(|value| *value == values[0]), "{forms:?}: {values:?}");
        assert!(!matches!(values[0], Bson::Document(_)), "{forms:?}");
    }
}

#[test]
fn an_operator_stays_a_document() {
    for (text, document) in [
        (r#"{"$regex":"a","$options":"i"}"#, doc! { "$regex": "a", "$options": "i" }),
        (r#"{"$gt":{"$numberLong":"5"}}"#, doc! { "$gt": 5_i64 }),
        (r#"{"$type":"string"}"#, doc! { "$type": "string" }),
        (r#"{"$oid":"x","more":1}"#, doc! { "$oid": "x", "more": 1 }),
        (r#"{"$var":"n"}"#, doc! { "$var": "n" }),
    ] {
        assert_eq!(parse_document(text).unwrap(), document);
    }
}

#[test]
fn an_error_names_the_byte_and_what_was_expected_there() {
    for (text, message) in [
        ("", "at byte 0: expected a value"),
        ("  ", "at byte 2: expected a value"),
        ("{a 1}", "at byte 3: expected ':' after a key"),
        ("{a:1 b:2}", "at byte 5: expected ',' or '}' in an object"),
        ("{a:1", "at byte 4: expected ',' or '}' in an object"),
        ("{,}", "at byte 1: expected a key or '}'"),
        ("[1 2]", "at byte 3: expected ',' or ']' in an array"),
        ("{a:1} x", "at byte 6: expected nothing more"),
        ("{a:1,a:2}", "at byte 5: expected the key \"a\" only once"),
        (r#"{"a\u0000":1}"#, "at byte 1: expected a key without NUL"),
        ("uji", "at byte 0: expected a value (text is written in quotes)"),
        ("'uji", "at byte 0: expected a string with its closing quote"),
        (r#""\x""#, "at byte 1: expected one of \\\" \\' \\\\ \\/ \\b \\f \\n \\r \\t \\u"),
        (r#""\u12g4""#, "at byte 1: expected four hex digits after \\u"),
        (r#""\ud800""#, "at byte 1: expected a surrogate pair in full"),
        ("12abc", "at byte 0: expected a number"),
        ("-", "at byte 0: expected a number"),
        ("/a", "at byte 0: expected a regular expression with its closing '/'"),
        ("{a:{$oid:'x'}}", "at byte 3: expected an object id of 24 hex digits"),
        ("ISODate('yesterday')", "at byte 0: expected a date, as 1700000000000 or \"2023-11-14T22:13:20Z\""),
        ("{$numberLong:'1.5'}", "at byte 0: expected a whole number of 64 bits"),
        (
            "{$binary:'AQID'}",
            "at byte 0: expected {\"$binary\": {\"base64\": <text>, \"subType\": <two hex digits>}}",
        ),
        ("BinData(0,'?')", "at byte 0: expected base64 text"),
        ("UUID('x')", "at byte 0: expected a UUID"),
        (r"/\u0000/", "at byte 0"),
    ] {
        match parse(text) {
            Err(error) => assert_eq!(error.to_string(), message, "{text}"),
            // A regular expression keeps its escapes: they are its own.
            Ok(value) => assert!(matches!(value, Bson::RegularExpression(_)), "{text}"),
        }
    }
    assert!(error("ObjectId()").starts_with("at byte 0: expected ObjectId(hex), "));
    assert_eq!(parse_document(" [1]").unwrap_err().to_string(), "at byte 1: expected an object");
}

#[test]
fn nesting_is_limited_before_the_stack_is() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(parse(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(error(&nested(MAX_DEPTH + 1)), "at byte 100: expected at most 100 levels of nesting");
    assert!(error(&"{a:".repeat(1_000_000)).ends_with("expected at most 100 levels of nesting"));
    assert!(error(&"Date(".repeat(1_000_000)).ends_with("expected at most 100 levels of nesting"));
}

#[test]
fn no_input_makes_it_panic_and_what_it_reads_can_be_written_as_bson() {
    const PIECES: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        ":",
        ",",
        "\"",
        "'",
        "\\",
        "/",
        "\\u",
        "d83d",
        "\\ude00",
        "0",
        "-",
        "1.",
        "e9",
        "$oid",
        "$date",
        "$binary",
        "$type",
        "$numberLong",
        "$timestamp",
        "$code",
        "$scope",
        "ObjectId",
        "ISODate(",
        "new ",
        "Date",
        "BinData(",
        "NaN",
        "Infinity",
        "null",
        "true",
        "é",
        "😀",
        "\0",
        "\n",
        " ",
        "a",
        "$",
        "@",
        "_",
        "\"2020-01-01T00:00:00+01\"",
        "'é-01-01'",
        "99999999999999999999",
        "\"5f0000000000000000000001\"",
    ];
    // Knuth's linear congruential generator (MMIX): the same inputs on every machine.
    let mut seed = 42_u64;
    let mut next = |bound: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % bound
    };
    for _ in 0..50_000 {
        let text: String = (0..next(14)).map(|_| PIECES[next(PIECES.len())]).collect();
        if let Ok(value) = parse(&text) {
            doc! { "value": value }.to_vec().unwrap_or_else(|e| panic!("{text:?}: {e}"));
        }
    }
}
