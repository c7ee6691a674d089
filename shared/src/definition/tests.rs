use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
};

use bson::{DateTime, bson};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;
use crate::variables::OperatorCheck;

fn definition(stages: Bson) -> Definition {
    let definitions = Definitions::written(&bson!([{ "uri": "s", "stages": stages }])).unwrap();
    definitions.get(&StreamName::new("s").unwrap()).unwrap().clone().unwrap()
}

fn bind(definition: &Definition, avars: &str) -> Binding {
    let server = ServerVariables { user: None, now: DateTime::from_millis(0) };
    definition.bind(&Variables::parse(Some(avars), OperatorCheck::On).unwrap(), &server).unwrap()
}

fn hash(binding: &Binding) -> u64 {
    let mut hasher = DefaultHasher::new();
    binding.hash(&mut hasher);
    hasher.finish()
}

#[test]
fn bindings_are_equal_exactly_when_the_used_values_are_equal_as_bson() {
    let definition = definition(bson!([{ "$match": { "a": { "$var": "n" } } }]));
    let equal = |one, other| bind(&definition, one) == bind(&definition, other);
    // The first two have one 32-bit hash in Java.
    assert!(!equal("{n: 'Aa'}", "{n: 'BB'}"));
    assert!(equal("{n: 1}", "{n: NumberInt(1), unused: 2}"));
    assert!(!equal("{n: 1}", "{n: 1.0}"));
    assert!(!equal("{n: 1}", "{n: NumberLong(1)}"));
    assert!(!equal("{n: 1}", "{n: '1'}"));
    assert!(!equal("{n: null}", "{n: false}"));
    assert!(equal("{n: NaN}", "{n: NaN}"));
    assert!(!equal("{n: {a: 1, b: 2}}", "{n: {b: 2, a: 1}}"));
    assert!(equal("{n: {a: 1, b: 2}, z: 1}", "{z: 2, n: {a: 1, b: 2}}"));
    assert_eq!(hash(&bind(&definition, "{n: 1}")), hash(&bind(&definition, "{n: 1, m: 2}")));
}

#[test]
fn a_default_that_stands_in_is_the_same_value_as_one_that_is_sent() {
    let definition = definition(bson!([{ "$match": { "a": { "$var": ["n", 5] } } }]));
    assert_eq!(bind(&definition, "{}"), bind(&definition, "{n: 5}"));
    assert_eq!(bind(&definition, "{}").values(), &doc! { "n": 5 });
}

#[test]
fn a_variable_that_only_chooses_a_stage_counts_by_being_bound() {
    let definition = definition(bson!([{ "$ifvar": ["n", { "$match": { "a": 1 } }] }]));
    assert_eq!(bind(&definition, "{n: 1}"), bind(&definition, "{n: 2}"));
    assert_ne!(bind(&definition, "{n: 1}"), bind(&definition, "{}"));
}

#[test]
fn the_used_values_are_those_of_the_stages_that_remain() {
    let definition = definition(bson!([
        { "$match": { "a": { "$var": "n" }, "b": { "$var": "p.q" } } },
        { "$ifvar": ["x", { "$match": { "c": { "$var": "y" } } }, { "$match": { "d": { "$var": "z" } } }] },
    ]));
    assert_eq!(
        bind(&definition, "{n: 1, p: {q: 2, r: 3}, y: 4, z: 5, unused: 6}").values(),
        &doc! { "n": 1, "p.q": 2, "z": 5 }
    );
}

#[test]
fn it_tells_which_variables_it_needs() {
    let definition = definition(bson!([
        { "$match": { "a": { "$var": "n" }, "b": { "$var": ["m", 1] }, "c": { "$var": "@user.sub" } } },
        { "$ifvar": [["x", "y"], { "$match": { "c": { "$var": "x" } } }, { "$set": { "d": { "$var": "z" } } }] },
        { "$set": { "m": { "$var": "m" } } },
    ]));
    let needed: Vec<_> =
        definition.variables().into_iter().map(|Needed { name, required }| (name, required)).collect();
    let expected = [("n", true), ("m", true), ("@user.sub", true), ("x", false), ("y", false), ("z", false)];
    assert_eq!(needed, expected.map(|(name, required)| (name.to_owned(), required)));
}

#[test]
fn a_definition_is_the_same_whatever_its_spelling_and_another_when_an_order_changes() {
    let one = definition(bson!([{ "$match": { "a.b": { "$var": "n" }, "c": 1 } }]));
    assert_eq!(one, definition(bson!([{ "_$match": { "a::b": { "_$var": "n" }, "c": 1 } }])));
    assert_ne!(one, definition(bson!([{ "$match": { "c": 1, "a.b": { "$var": "n" } } }])));
    assert_ne!(one, definition(bson!([{ "$match": { "a.b": { "$var": "n" }, "c": 1.0 } }])));
}

#[test]
fn what_another_tool_stored_is_read_as_far_as_it_can_be() {
    let definitions = Definitions::stored(Some(&bson!([
        { "uri": "good", "_desc": "of somebody", "stages": [{ "_$match": { "a::b": 1 } }] },
        { "uri": "bad", "stages": [{ "_$lookup": {} }] },
        { "uri": "filtered", "stages": [], "notify_when": { "a": 1 } },
        { "uri": "twice", "stages": [] },
        { "uri": "twice", "stages": [{ "$match": {} }] },
        { "stages": [] },
        "nothing",
        { "uri": "collides", "stages": [{ "$match": { "a.b": 1, "a::b": 2 } }] },
    ])));
    let fault = |name: &str| {
        let definition = definitions.get(&StreamName::new(name).unwrap()).unwrap();
        definition.as_ref().map(|good| good.stages().to_vec()).map_err(ToString::to_string)
    };
    assert_eq!(fault("good"), Ok(vec![doc! { "$match": { "a.b": 1 } }]));
    let expected = "500 streams[1].stages[0].$lookup: not a stage of a change stream, expected one of $match, $project, \
                    $addFields, $set, $unset, $replaceRoot, $replaceWith, $redact";
    assert_eq!(fault("bad"), Err(expected.to_owned()));
    assert_eq!(
        fault("filtered"),
        Err("500 streams[2].notify_when: not supported, expected a $match among the stages".to_owned())
    );
    assert_eq!(
        fault("twice"),
        Err("500 streams[4].uri: \"twice\" is the uri of another stream too".to_owned())
    );
    let expected = "500 streams[7].stages[0].$match.a.b: the same key twice, in the plain and the escaped spelling, \
                    expected it once";
    assert_eq!(fault("collides"), Err(expected.to_owned()));
    assert_eq!(definitions.iter().count(), 5);
    assert_eq!(
        definitions.notes(),
        [
            "streams[0]._desc: unknown member, ignored",
            "streams[5].uri: expected a name that is one segment of a path, of 1 to 200 bytes",
            "streams[6].uri: expected a name that is one segment of a path, of 1 to 200 bytes",
        ]
    );
}

#[test]
fn a_collection_without_streams_has_none() {
    assert_eq!(Definitions::stored(None), Definitions::default());
    let definitions = Definitions::stored(Some(&bson!("all")));
    assert_eq!(definitions.iter().count(), 0);
    assert_eq!(
        definitions.notes(),
        ["streams: expected an array of streams, each {\"uri\": <name>, \"stages\": [ … ]}"]
    );
}

#[test]
fn without_variables_there_is_one_probe_and_it_has_both_branches() {
    let probes = definition(bson!([
        { "$match": { "a": 1 } },
        { "$ifvar": ["n", { "$set": { "b": 1 } }, { "$ifvar": ["m", { "$set": { "b": 2 } }] }] },
    ]))
    .probes();
    let expected =
        vec![doc! { "$match": { "a": 1 } }, doc! { "$set": { "b": 1 } }, doc! { "$set": { "b": 2 } }];
    assert_eq!(probes, [expected]);
}

#[test]
fn a_probe_puts_one_candidate_in_every_place_behind_the_stages_without_variables() {
    let probes = definition(bson!([
        { "$match": { "a": { "$var": "n" } } },
        { "$set": { "b": { "$var": ["@user.sub", 7] } } },
        { "$unset": "c" },
    ]))
    .probes();
    let probe = |value: Bson| {
        [
            doc! { "$unset": "c" },
            doc! { "$match": { "a": value.clone() } },
            doc! { "$set": { "b": { "$literal": value } } },
        ]
    };
    assert_eq!(probes.len(), 9);
    assert_eq!(probes[0], probe(bson!("a")));
    assert_eq!(probes[3], probe(Bson::Null));
}
