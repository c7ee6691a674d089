//! The table of good and bad definitions and variables, run natively and on wasm32.

// The name under which every other crate imports it; `table` is compiled there too.
extern crate tailrace_shared as shared;

mod table;

use bson::{Bson, Document, bson, doc};
use shared::{
    definition::{Definitions, MAX_DEFINITION_BYTES, MAX_STAGES, MAX_STREAMS},
    escape,
    refusal::Kind,
    variables::{MAX_AVARS_BYTES, OperatorCheck, Variables},
};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// Compared as BSON: `Document`'s own equality leaves out the order of members.
fn bytes(pipeline: &[Document]) -> Vec<u8> {
    doc! { "pipeline": pipeline.to_vec() }.to_vec().unwrap()
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
        let expected = case.text("message").unwrap();
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
    for case in table::refused() {
        let Bson::Array(mut streams) = case.streams() else { continue };
        streams.retain(|stream| stream.as_document().is_some_and(|stream| stream.get("desc").is_none()));
        streams.push(bson!({ "uri": "untouched", "stages": [] }));
        let definitions = Definitions::stored(Some(&escape::escape(&streams.into())));
        let good = definitions.get(&shared::name::StreamName::new("untouched").unwrap()).unwrap();
        assert!(good.is_ok(), "{}", case.name());
        for (_, definition) in definitions.iter() {
            assert!(
                definition.as_ref().map_or_else(|e| e.kind(), |_| Kind::BrokenDefinition)
                    == Kind::BrokenDefinition
            );
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
