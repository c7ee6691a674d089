//! What filters match. That this is what MongoDB does is shown by `tests/tests/matcher.rs` against MongoDB itself.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use bson::{Bson, Decimal128, RawDocumentBuf, bson, doc};

use super::*;

fn matches(filter: &Document, document: &Document) -> bool {
    let matcher = Matcher::compile(filter).unwrap_or_else(|unsupported| panic!("{filter}: {unsupported}"));
    matcher.matches(&RawDocumentBuf::try_from(document.clone()).unwrap())
}

/// Asserts which of the documents `{a: value}` match `{a: condition}`.
#[track_caller]
fn assert_which(condition: impl Into<Bson>, yes: &[Bson], no: &[Bson]) {
    let filter = doc! { "a": condition };
    for value in yes {
        assert!(matches(&filter, &doc! { "a": value.clone() }), "{filter} does not match a: {value}");
    }
    for value in no {
        assert!(!matches(&filter, &doc! { "a": value.clone() }), "{filter} matches a: {value}");
    }
}

fn decimal(text: &str) -> Bson {
    Bson::Decimal128(text.parse::<Decimal128>().unwrap())
}

#[test]
fn numbers_compare_across_their_types() {
    assert_which(
        1,
        &[bson!(1), bson!(1_i64), bson!(1.0), decimal("1.0")],
        &[bson!("1"), bson!(true), bson!(1.5)],
    );
    assert_which(
        bson!({"$gt": 9_007_199_254_740_992.0}),
        &[bson!(9_007_199_254_740_993_i64)],
        &[bson!(9_007_199_254_740_992_i64)],
    );
}

#[test]
fn comparison_stays_inside_of_the_bracket_of_types() {
    assert_which(bson!({"$gt": 5}), &[bson!(6)], &[bson!("6"), bson!(null), bson!({"b": 6}), bson!(true)]);
    assert_which(bson!({"$lt": "b"}), &[bson!("a"), Bson::Symbol("a".to_owned())], &[bson!(1), bson!(null)]);
    assert_which(bson!({"$lt": Bson::MaxKey}), &[bson!(6), bson!(null), bson!([])], &[Bson::MaxKey]);
}

#[test]
fn nan_is_neither_below_nor_above_a_number() {
    for nan in [bson!(f64::NAN), decimal("NaN")] {
        assert_which(bson!({"$lt": 3}), &[], std::slice::from_ref(&nan));
        assert_which(bson!({"$lte": f64::INFINITY}), &[bson!(3)], std::slice::from_ref(&nan));
        assert_which(bson!({"$gte": nan.clone()}), &[bson!(f64::NAN), decimal("-NaN")], &[bson!(3)]);
        assert_which(bson!({"$elemMatch": {"$lt": 3}}), &[bson!([1])], &[bson!([nan.clone()])]);
        // In an expression and inside of documents it is below all of them.
        assert!(matches(&doc! { "$expr": { "$lt": ["$a", 3] } }, &doc! { "a": nan.clone() }));
        assert_which(bson!({"$lt": {"b": 3}}), &[bson!({"b": nan})], &[]);
    }
}

#[test]
fn bits_of_a_decimal_are_those_of_the_nearest_whole_number() {
    assert_which(
        bson!({"$bitsAllSet": 2}),
        &[decimal("2.5"), decimal("1.5"), decimal("3.4"), bson!(2), bson!(2.0), bson!(-2)],
        &[decimal("0.1"), bson!(2.5), decimal("4.5"), decimal("1E+400"), decimal("NaN"), bson!("2")],
    );
    assert_which(
        bson!({"$bitsAllSet": [63]}),
        &[decimal("1E+400"), decimal("NaN"), bson!(-1)],
        &[bson!(1e300), bson!(1)],
    );
}

#[test]
fn bits_are_those_of_numbers_and_of_binary_data() {
    let binary = |bytes: &[u8]| {
        Bson::Binary(bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: bytes.to_vec() })
    };
    assert_which(bson!({"$bitsAllSet": [0, 100]}), &[bson!(-1)], &[bson!(1), binary(&[255, 255])]);
    assert_which(
        bson!({"$bitsAnyClear": [0, 9]}),
        &[binary(&[1, 1]), bson!(2)],
        &[binary(&[1, 2]), bson!(513)],
    );
    assert_which(bson!({"$bitsAllClear": binary(&[1])}), &[bson!(2), binary(&[])], &[bson!(3)]);
    assert_which(bson!({"$bitsAnySet": 5}), &[bson!(4_i64)], &[bson!(2), bson!(true)]);
}

#[test]
fn regular_expressions_find_texts_and_themselves() {
    let regex = |pattern: &str, options: &str| {
        Bson::RegularExpression(bson::Regex {
            pattern: pattern.try_into().unwrap(),
            options: options.try_into().unwrap(),
        })
    };
    assert_which(
        regex("^a", "i"),
        &[bson!("Ab"), bson!(["b", "a"]), regex("^a", "i")],
        &[bson!("b"), regex("^a", ""), bson!(1)],
    );
    assert_which(bson!({"$regex": "b$", "$options": "i"}), &[bson!("aB")], &[bson!("ba")]);
    assert_which(bson!({"$not": regex("a", "")}), &[bson!("b"), bson!(1)], &[bson!("a")]);
    assert_which(bson!({"$in": [1, regex("a", "")]}), &[bson!("ba"), bson!(1)], &[bson!("b")]);
    assert_which(bson!({"$eq": regex("a", "")}), &[regex("a", "")], &[bson!("a")]);
}

#[test]
fn an_expression_compares_all_types_and_reads_no_places() {
    for (expression, document, expected) in [
        (bson!({"$gt": ["$a", "$b"]}), doc! { "a": "x", "b": 5 }, true),
        (bson!({"$lt": ["$b", null]}), doc! {}, true),
        (bson!({"$eq": ["$a.b", {"$literal": [1, 2]}]}), doc! { "a": [{ "b": 1 }, 5, { "b": 2 }, {}] }, true),
        (bson!({"$eq": ["$a.0", 1]}), doc! { "a": [1] }, false),
        (bson!({"$eq": ["$a.0", []]}), doc! { "a": [1] }, true),
        (bson!({"$and": ["$a", {"$not": ["$b"]}]}), doc! { "a": [], "b": 0.0 }, true),
        (bson!({"$eq": ["$a", {"$literal": "$b"}]}), doc! { "a": "$b" }, true),
        (bson!({"$ne": ["$$ROOT.a", 1]}), doc! { "a": 1_i64 }, false),
    ] {
        assert_eq!(
            matches(&doc! { "$expr": expression.clone() }, &document),
            expected,
            "{expression} on {document}"
        );
    }
}

#[test]
fn null_is_what_is_missing_too() {
    for (condition, expected) in [
        (bson!(null), true),
        (bson!({"$ne": null}), false),
        (bson!({"$gte": null}), true),
        (bson!({"$gt": null}), false),
        (bson!({"$in": [1, null]}), true),
        (bson!({"$nin": [1, null]}), false),
        (bson!({"$exists": false}), true),
        (bson!({"$not": {"$gt": 5}}), true),
    ] {
        assert_eq!(matches(&doc! { "a.b": condition.clone() }, &doc! { "a": {} }), expected, "{condition}");
        assert_eq!(matches(&doc! { "a.b": condition.clone() }, &doc! { "a": 1 }), expected, "{condition}");
    }
    // There is no place for `b` in an array without documents.
    assert!(!matches(&doc! { "a.b": null }, &doc! { "a": [1, 2] }));
    assert!(matches(&doc! { "a.b": null }, &doc! { "a": [1, {}] }));
    assert!(matches(&doc! { "a.b": { "$exists": false } }, &doc! { "a": [1, 2] }));
}

#[test]
fn an_array_stands_for_its_elements_and_for_itself() {
    assert_which(2, &[bson!([1, 2])], &[bson!([1, [2]]), bson!([])]);
    assert_which(bson!([1, 2]), &[bson!([1, 2]), bson!([[1, 2]])], &[bson!([2, 1]), bson!([1, 2, 3])]);
    assert_which(bson!({"$ne": 2}), &[bson!([1, [2]])], &[bson!([1, 2])]);
    assert_which(bson!({"$gt": 1, "$lt": 3}), &[bson!([0, 4]), bson!(2)], &[bson!(4)]);
    assert_which(bson!({"$size": 2}), &[bson!([1, []])], &[bson!([1]), bson!([[1, 2]]), bson!(2)]);
}

#[test]
fn a_number_in_a_path_is_a_place_and_a_name() {
    assert!(matches(&doc! { "a.1": 5 }, &doc! { "a": [4, 5] }));
    assert!(matches(&doc! { "a.1": 5 }, &doc! { "a": { "1": 5 } }));
    assert!(matches(&doc! { "a.1": 5 }, &doc! { "a": [{ "1": 5 }] }));
    assert!(matches(&doc! { "a.1.b": 5 }, &doc! { "a": [4, { "b": 5 }] }));
    assert!(!matches(&doc! { "a.01": 5 }, &doc! { "a": [4, 5] }));
    assert!(!matches(&doc! { "a.0": 5 }, &doc! { "a": [[5]] }));
}

#[test]
fn elem_match_asks_all_of_one_element() {
    assert_which(bson!({"$elemMatch": {"$gt": 1, "$lt": 3}}), &[bson!([0, 2])], &[bson!([0, 4]), bson!(2)]);
    assert_which(
        bson!({"$elemMatch": {"b": 1, "c": 2}}),
        &[bson!([{"b": 1, "c": 2}])],
        &[bson!([{"b": 1}, {"c": 2}]), bson!({"b": 1, "c": 2})],
    );
    assert_which(bson!({"$elemMatch": {"$or": [{"b": 1}, {"c": 2}]}}), &[bson!([{"c": 2}])], &[bson!([1])]);
    assert_which(bson!({"$elemMatch": {"0": 1}}), &[bson!([[1]]), bson!([{"0": 1}])], &[bson!([1])]);
    assert_which(bson!({"$elemMatch": {"$ne": 1}}), &[bson!([1, 2])], &[bson!([1]), bson!([])]);
}

#[test]
fn all_asks_for_each() {
    assert_which(bson!({"$all": [1, 2]}), &[bson!([2, 1, 3])], &[bson!([1]), bson!(1)]);
    assert_which(bson!({"$all": [[1]]}), &[bson!([1]), bson!([[1]])], &[bson!(1)]);
    assert_which(bson!({"$all": []}), &[], &[bson!([]), bson!(1)]);
    assert_which(
        bson!({"$all": [{"$elemMatch": {"$gt": 1}}, {"$elemMatch": {"$lt": 1}}]}),
        &[bson!([0, 2])],
        &[bson!([2])],
    );
}

#[test]
fn members_of_documents_compare_in_their_order() {
    assert_which(bson!({"b": 1, "c": 2}), &[bson!({"b": 1.0, "c": 2})], &[bson!({"c": 2, "b": 1})]);
    assert_which(bson!({}), &[bson!({})], &[bson!({"b": 1}), bson!([])]);
    assert_which(
        bson!({"$gt": {"b": 1}}),
        &[bson!({"b": "a"}), bson!({"c": 1})],
        &[bson!({"b": null}), bson!({})],
    );
}

#[test]
fn logic_joins_filters() {
    let document = doc! { "a": 1, "b": 2 };
    for (filter, expected) in [
        (doc! {}, true),
        (doc! { "$and": [{ "a": 1 }, { "b": 2 }] }, true),
        (doc! { "$or": [{ "a": 2 }, { "b": 2 }] }, true),
        (doc! { "$nor": [{ "a": 2 }, { "b": 2 }] }, false),
        (doc! { "a": { "$not": { "$gt": 0, "$lt": 1 } } }, true),
        (doc! { "$comment": "why", "a": 2 }, false),
    ] {
        assert_eq!(matches(&filter, &document), expected, "{filter}");
    }
}

#[test]
fn what_is_not_evaluated_is_named_with_its_place() {
    let refused = |filter: Document| Matcher::compile(&filter).unwrap_err().to_string();
    for (filter, expected) in [
        (
            doc! { "fullDocument.a": { "$text": 1 } },
            "fullDocument.a.$text: not an operator that is evaluated here",
        ),
        (doc! { "$where": "1" }, "$where: not an operator that is evaluated here"),
        (
            doc! { "$or": [{ "a": 1 }, { "b": { "$in": [1, { "$gt": 1 }] } }] },
            "$or[1].b.$in[1]: an operator, expected a value",
        ),
        (
            doc! { "$expr": { "$gt": [{ "$size": "$a" }, 1] } },
            "$expr.$gt[0].$size: not an operator that is evaluated here",
        ),
        (doc! { "$expr": "$$NOW" }, "$expr: the variable $$NOW is not evaluated here"),
        (
            doc! { "a": { "$elemMatch": { "$expr": true } } },
            "a.$elemMatch.$expr: not an operator that is evaluated here",
        ),
        (doc! { "a": { "$regex": "(?=a)" } }, "a.$regex: a special group is not evaluated here"),
        (doc! { "$and": [] }, "$and: expected an array of at least one filter"),
        (doc! { "a..b": 1 }, "a..b: expected a path without empty parts"),
        (doc! { "a": { "$in": 1 } }, "a.$in: expected an array"),
        (
            doc! { "a": { "$elemMatch": { "b": { "$near": 1 } } } },
            "a.$elemMatch.b.$near: not an operator that is evaluated here",
        ),
    ] {
        assert_eq!(refused(filter), expected);
    }
}
