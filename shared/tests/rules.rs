//! The table of good and bad definitions and variables, run natively and on wasm32.

// The name under which every other crate imports it; `table` is compiled there too.
extern crate tailrace_shared as shared;

mod table;

use bson::{Bson, Document, bson, doc};
use shared::{
    definition::{Definitions, MAX_DEFINITION_BYTES, MAX_STAGES, MAX_STREAMS},
    escape,
    name::StreamName,
    refusal::Kind,
    variables::{MAX_AVARS_BYTES, OperatorCheck, Variables},
};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// Compared as BSON: `Document`'s own equality leaves out the order of members.
fn bytes(pipeline: &[Document]) -> Vec<u8> {
    doc! { "pipeline": pipeline.to_vec() }.to_vec().expect("a pipeline is BSON")
}

fn report(failures: &[String], of: usize) {
    assert!(failures.is_empty(), "{} of {of} cases fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_accepted_definition_binds_to_its_pipeline() {
    let cases = table::accepted();
    let mut failures = Vec::new();
    for case in &cases {
        match (case.bind(), case.pipeline()) {
            (Err(refusal), _) => failures.push(format!("{}: {refusal}", case.name())),
            (Ok(binding), Some(expected)) if bytes(binding.pipeline()) != bytes(&expected) => {
                failures.push(format!("{}: {:?}", case.name(), binding.pipeline()));
            }
            _ => {}
        }
    }
    report(&failures, cases.len());
}

#[test]
fn every_bad_definition_is_refused_with_its_message() {
    let cases = table::refused();
    let mut failures = Vec::new();
    for case in &cases {
        let expected = case.text("message").expect("every bad case has its message");
        match Definitions::written(&case.streams()) {
            Ok(_) => failures.push(format!("{}: accepted", case.name())),
            Err(refusal) if refusal.kind() != Kind::BadDefinition || refusal.message() != expected => {
                failures.push(refusal.message().to_owned());
            }
            Err(_) => {}
        }
    }
    report(&failures, cases.len());
}

#[test]
fn a_bad_definition_that_is_stored_answers_500_with_the_same_message_and_breaks_no_other() {
    let name = |name: &str| StreamName::new(name).expect("a good name");
    for case in table::refused() {
        // Rows of `streams` are about the list, or about members that are passed over in what is stored.
        let (Some(message), Some(Bson::Array(mut streams))) = (case.text("message"), case.stream_of_stages())
        else {
            continue;
        };
        streams.push(bson!({ "uri": "untouched", "stages": [] }));
        let definitions = Definitions::stored(Some(&streams.into()));
        assert!(matches!(definitions.get(&name("untouched")), Some(Ok(_))), "{}", case.name());
        match definitions.get(&name("s")) {
            Some(Err(refusal)) => assert_eq!(refusal.to_string(), format!("500 {message}")),
            other => panic!("{}: {other:?}", case.name()),
        }
    }
}

#[test]
fn every_case_of_variables_gives_its_pipeline_or_its_error() {
    let cases = table::variables();
    let mut failures = Vec::new();
    for case in &cases {
        match (case.bind(), case.pipeline()) {
            (Ok(binding), Some(expected)) if bytes(binding.pipeline()) == bytes(&expected) => {}
            (Err(refusal), None) if Some(refusal.to_string().as_str()) == case.text("error") => {}
            (Ok(binding), _) => failures.push(format!("{}: {:?}", case.name(), binding.pipeline())),
            (Err(refusal), _) => failures.push(refusal.to_string()),
        }
    }
    report(&failures, cases.len());
}

#[test]
fn what_is_stored_escaped_is_the_same_definition() {
    for case in table::accepted() {
        let stored = Definitions::stored(Some(&escape::escape(&case.streams())));
        let written = Definitions::written(&case.streams()).unwrap();
        assert_eq!(stored, written, "{}", case.name());
        assert!(stored.notes().is_empty(), "{}", case.name());
    }
}

#[test]
fn limits_are_named_with_what_was_found() {
    let message = |streams: Bson| Definitions::written(&streams).unwrap_err().message().to_owned();
    let stream = |index: usize| bson!({ "uri": index.to_string(), "stages": [] });
    let streams: Vec<_> = (0..=MAX_STREAMS).map(stream).collect();
    assert_eq!(message(streams.into()), "streams: 101 streams, expected at most 100");
    let stages = vec![bson!({ "$match": {} }); MAX_STAGES + 1];
    assert_eq!(
        message(bson!([{ "uri": "a", "stages": stages }])),
        "streams[0].stages: 51 stages, expected at most 50"
    );
    let long = "x".repeat(MAX_DEFINITION_BYTES);
    let large = message(bson!([{ "uri": "a", "stages": [{ "$match": { "a": long } }] }]));
    assert!(large.ends_with(" bytes of BSON, expected at most 65536"), "{large}");
    let nested = |levels: usize| {
        let value = (0..levels).fold(bson!(1), |value, _| bson!([value]));
        bson!([{ "uri": "a", "stages": [{ "$match": { "a": value } }] }])
    };
    assert!(Definitions::written(&nested(98)).is_ok());
    assert_eq!(message(nested(99)), "streams[0].stages[0]: expected at most 100 levels of nesting");

    let avars = format!("{{n: '{}'}}", "x".repeat(MAX_AVARS_BYTES));
    let refusal = Variables::parse(Some(&avars), OperatorCheck::On).unwrap_err();
    assert_eq!(refusal.to_string(), "400 avars: 4103 bytes, expected at most 4096");
}

/// The rule of the crate page, "Tests".
#[cfg(not(target_arch = "wasm32"))]
#[test]
fn every_module_with_tests_runs_them_on_wasm32_too() {
    fn check(folder: &std::path::Path) {
        for entry in std::fs::read_dir(folder).expect("the sources are there") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                check(&path);
                continue;
            }
            let source = std::fs::read_to_string(&path).expect("a source file");
            let runs = source.contains("use wasm_bindgen_test::wasm_bindgen_test as test;");
            assert!(runs || !source.contains("#[test]"), "{} has tests for one target only", path.display());
        }
    }
    check(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
}
