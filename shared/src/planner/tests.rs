#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use bson::{DateTime, RawDocumentBuf, bson};

use super::*;
use crate::{
    definition::Definitions,
    name::StreamName,
    variables::{OperatorCheck, ServerVariables, Variables},
};

/// The plan behind filters of events.
fn plan_behind(view: &[Document], stages: Bson, avars: &str) -> Plan {
    let view: Vec<Document> = view.iter().map(|filter| doc! { "$match": filter.clone() }).collect();
    plan_behind_stages(&view, stages, avars)
}

fn plan_behind_stages(view: &[Document], stages: Bson, avars: &str) -> Plan {
    let streams = bson!([{"uri": "s", "stages": stages}]);
    let definitions = Definitions::written(&streams).unwrap();
    let definition = definitions.get(&StreamName::new("s").unwrap()).unwrap().as_ref().unwrap();
    let client = Variables::parse(Some(avars), OperatorCheck::On).unwrap();
    let server = ServerVariables { user: None, now: DateTime::from_millis(0) };
    Plan::new(view, &definition.bind(&client, &server).unwrap())
}

fn plan(stages: Bson) -> Plan {
    plan_behind(&[], stages, r#"{"n": "ada", "v": 5}"#)
}

fn reason_of(plan: &Plan) -> Option<String> {
    plan.own().map(|own| own.reason.to_string())
}

fn named() -> Bson {
    bson!({"$match": {"fullDocument.name": {"$var": "n"}}})
}

/// Asserts what MongoDB runs, and that the rest is evaluated here.
#[track_caller]
fn assert_shared(stages: Bson, pipeline: &[Document]) {
    let plan = plan(stages);
    assert_eq!(plan.own(), None);
    assert_eq!(plan.source().pipeline(), pipeline);
    assert!(plan.matcher().is_some());
}

#[track_caller]
fn assert_own(stages: &Bson, reason: &str) {
    let plan = plan(stages.clone());
    assert_eq!(reason_of(&plan).as_deref(), Some(reason), "{stages}");
    assert!(plan.matcher().is_none());
    assert_eq!(plan.source().pipeline().len(), stages.as_array().unwrap().len());
}

#[test]
fn bindings_of_a_variable_match_share_a_source() {
    let stages = bson!([named()]);
    let ada = plan_behind(&[], stages.clone(), r#"{"n": "ada"}"#);
    let bob = plan_behind(&[], stages, r#"{"n": "bob"}"#);
    assert_eq!(ada.source(), bob.source());
    let event = RawDocumentBuf::try_from(doc! { "fullDocument": { "name": "bob" } }).unwrap();
    assert!(bob.matcher().unwrap().matches(&event));
    assert!(!ada.matcher().unwrap().matches(&event));
}

#[test]
fn without_variables_mongodb_runs_it_all() {
    let plan = plan(bson!([{"$match": {"fullDocument.a": 1}}, {"$set": {"x": {"$divide": [1, 0]}}}]));
    assert_eq!((plan.own(), plan.source().pipeline().len()), (None, 2));
    assert!(plan.matcher().is_none());
}

#[test]
fn what_has_no_variables_is_left_to_mongodb() {
    assert_shared(
        bson!([{"$set": {"x": 1}}, named(), {"$match": {"operationType": "insert"}}]),
        &[doc! { "$set": { "x": 1 } }, doc! { "$match": { "operationType": "insert" } }],
    );
    assert_shared(
        bson!([{"$match": {"operationType": "insert", "fullDocument.name": {"$var": "n"}}}]),
        &[doc! { "$match": { "operationType": "insert" } }],
    );
}

#[test]
fn a_projection_that_leaves_alone_what_is_read_runs_first() {
    for projection in [
        bson!({"$unset": "fullDocument.secret"}),
        bson!({"$unset": ["fullDocument.secret", "updateDescription"]}),
        bson!({"$project": {"fullDocument": {"secret": 0}}}),
        bson!({"$project": {"fullDocument.name": 1, "fullDocument.body": true}}),
        bson!({"$project": {"fullDocument": 1}}),
    ] {
        let stage = projection.as_document().unwrap().clone();
        assert_shared(bson!([named(), projection]), &[stage]);
    }
}

#[test]
fn a_constant_or_a_copy_at_the_top_runs_first() {
    let set =
        doc! { "$set": { "kind": "x", "n": 1, "b": "$fullDocument.body", "l": { "$literal": "$$NOW" } } };
    assert_shared(bson!([named(), set.clone()]), &[set]);
    for set in [doc! { "a.b": 1 }, doc! { "a": { "b": 1 } }, doc! { "a": ["$b"] }] {
        assert_own(&bson!([named(), {"$set": set}]), "$set behind a $match with a variable");
    }
    assert_own(
        &bson!([named(), {"$set": {"fullDocument": "$documentKey"}}]),
        "$set changes fullDocument.name, which a $match before it reads",
    );
}

/// Asserts what MongoDB runs and what is made of the events that match.
#[track_caller]
fn assert_residual(stages: &Bson, pipeline: &[Document], residual: &[Document]) {
    let plan = plan(stages.clone());
    assert_eq!(plan.own(), None, "{stages}");
    assert_eq!(plan.source().pipeline(), pipeline, "{stages}");
    let made: Vec<Document> = plan.residual().stages().iter().map(|(_, stage)| stage.clone()).collect();
    assert_eq!(made, residual, "{stages}");
}

#[test]
fn a_projection_that_drops_what_is_read_is_done_here_and_mongodb_drops_what_nobody_needs() {
    let project = |fields: Document| doc! { "$project": fields };
    for (projection, ahead) in [
        (
            project(doc! { "fullDocument.body": 1, "operationType": true }),
            Some(project(
                doc! { "_id": 1, "fullDocument.body": 1, "fullDocument.name": 1, "operationType": 1 },
            )),
        ),
        (
            project(doc! { "fullDocument": { "name": { "first": 1 } } }),
            Some(project(doc! { "_id": 1, "fullDocument.name": 1 })),
        ),
        (project(doc! { "_id": 1 }), Some(project(doc! { "_id": 1, "fullDocument.name": 1 }))),
        (doc! { "$unset": "fullDocument.name" }, None),
        (doc! { "$unset": "fullDocument" }, None),
        (
            doc! { "$unset": ["fullDocument.name.first", "updateDescription"] },
            Some(doc! { "$unset": ["updateDescription"] }),
        ),
    ] {
        let ahead: Vec<Document> = ahead.into_iter().collect();
        assert_residual(&bson!([named(), projection.clone()]), &ahead, &[projection]);
    }
    // A number in a path may be a place in an array, which a projection moves.
    let projection = project(doc! { "fullDocument.a.0.b": 1 });
    assert_residual(
        &bson!([{"$match": {"fullDocument.a.0.b": {"$var": "n"}}}, projection.clone()]),
        &[project(doc! { "_id": 1, "fullDocument.a": 1 })],
        &[projection],
    );
    // MongoDB would refuse the path that is read in a projection, and takes it in a filter.
    let projection = project(doc! { "fullDocument.body": 1 });
    let odd = bson!({"$match": {"fullDocument.ref.$id": {"$var": "n"}}});
    assert_residual(&bson!([odd, projection.clone()]), &[], &[projection]);
}

#[test]
fn an_event_is_told_as_the_projections_behind_its_match_make_it() {
    let plan = plan(bson!([
        named(),
        {"$project": {"fullDocument.name.first": 1, "fullDocument.tags.x": 1, "documentKey": 1}},
        {"$unset": "documentKey.shard"},
    ]));
    let event = doc! {
        "_id": { "_data": "82" }, "operationType": "insert",
        "fullDocument": { "_id": 1, "tags": [{ "y": 1, "x": 2 }, 3], "name": { "last": "l", "first": "f" } },
        "documentKey": { "_id": 1, "shard": 2 },
    };
    let event = RawDocumentBuf::try_from(&event).unwrap();
    let told = plan.residual().apply(&event).unwrap().map(|told| Document::try_from(told).unwrap());
    let expected = doc! {
        "_id": { "_data": "82" },
        "fullDocument": { "tags": [{ "x": 2 }], "name": { "first": "f" } },
        "documentKey": { "_id": 1 },
    };
    assert_eq!(told, Some(expected));
    assert_eq!(Residual::default().apply(&event).unwrap(), None, "nothing is copied for nothing");
}

#[test]
fn what_stands_behind_a_dropped_field_reads_nothing_of_it() {
    let drops = || bson!({"$unset": "fullDocument.name"});
    let body = bson!({"$match": {"fullDocument.body": {"$var": "v"}, "operationType": "insert"}});
    assert_residual(
        &bson!([named(), drops(), body]),
        &[doc! { "$match": { "operationType": "insert" } }],
        &[doc! { "$unset": "fullDocument.name" }],
    );
    assert_residual(
        &bson!([named(), drops(), {"$project": {"fullDocument": 1}}]),
        &[],
        &[doc! { "$unset": "fullDocument.name" }, doc! { "$project": { "fullDocument": 1 } }],
    );
    for (behind, reason) in [
        (
            bson!({"$match": {"fullDocument.name": {"$exists": false}}}),
            "the $match reads fullDocument.name, which a projection before it drops",
        ),
        (
            bson!({"$match": {"fullDocument": {"$var": "v"}}}),
            "the $match reads fullDocument, which a projection before it drops",
        ),
        (
            bson!({"$match": {"$expr": {"$eq": ["$fullDocument.name", {"$var": "v"}]}}}),
            "the $match reads fullDocument.name, which a projection before it drops",
        ),
        (
            bson!({"$set": {"copy": "$fullDocument.name"}}),
            "$set behind a projection that drops what a $match reads",
        ),
        (
            bson!({"$match": {"$jsonSchema": {"required": ["a"]}}}),
            "$match.$jsonSchema: not an operator that is evaluated here",
        ),
    ] {
        assert_own(&bson!([named(), drops(), behind]), reason);
    }
}

#[test]
fn whether_there_is_an_object_is_read_whatever_is_dropped_in_it() {
    let both = |one: Bson, other: Bson| bson!({"$match": {"$and": [one, other]}});
    let asks =
        both(bson!({"fullDocument": {"$type": "object"}}), bson!({"fullDocument.name": {"$var": "n"}}));
    for stage in [
        doc! { "$unset": ["fullDocument.body", "fullDocument.a.b"] },
        doc! { "$project": { "fullDocument.name": 1 } },
    ] {
        assert_residual(&bson!([asks.clone(), stage.clone()]), std::slice::from_ref(&stage), &[]);
    }
    let body = doc! { "$project": { "fullDocument.body": 1 } };
    let needed = |path: &str| doc! { "$project": { "_id": 1, "fullDocument.body": 1, path: 1 } };
    assert_residual(&bson!([asks, body.clone()]), &[needed("fullDocument.name")], &[body]);
    // Any other type is lost where only what is inside is kept, and so is an object that is dropped itself.
    let type_of = |name: &str| both(bson!({"a.b": {"$type": name}}), bson!({"c": {"$var": "n"}}));
    let inside = doc! { "$project": { "a.b.x": 1, "c": 1 } };
    let kept = doc! { "$project": { "_id": 1, "a.b": 1, "c": 1 } };
    assert_residual(&bson!([type_of("object"), inside.clone()]), std::slice::from_ref(&inside), &[]);
    assert_residual(&bson!([type_of("string"), inside.clone()]), &[kept], &[inside]);
    for (dropped, kept) in [("a", "c"), ("a.b", "c")] {
        let unset = doc! { "$unset": [dropped, kept] };
        assert_residual(&bson!([type_of("object"), unset.clone()]), &[], &[unset]);
    }
}

#[test]
fn a_projection_that_mongodb_refuses_is_left_to_it() {
    for stage in [
        bson!({"$unset": ["fullDocument.name", "fullDocument"]}),
        bson!({"$project": {"fullDocument": 1, "fullDocument.body": 1, "operationType": 1}}),
        bson!({"$unset": ["fullDocument.name", "a..b"]}),
        bson!({"$unset": ["fullDocument.name", "fullDocument.$a"]}),
    ] {
        let plan = plan(bson!([named(), stage.clone()]));
        assert!(plan.residual().is_empty(), "{stage}");
        assert_eq!(plan.source().pipeline().last(), stage.as_document(), "{stage}");
    }
    let empty = bson!({"$project": {"fullDocument": {}}});
    assert_own(&bson!([named(), empty]), "$project behind a $match with a variable");
}

#[test]
fn what_computes_stays_behind() {
    for (stage, reason) in [
        (
            bson!({"$replaceWith": {"_id": "$_id", "b": "$fullDocument.body"}}),
            "$replaceWith behind a $match with a variable",
        ),
        (
            bson!({"$redact": {"$cond": [{"$eq": ["$a", 1]}, "$$KEEP", "$$DESCEND"]}}),
            "$redact behind a $match with a variable",
        ),
        (bson!({"$set": {"price": {"$multiply": ["$price", 1.2]}}}), "$set behind a $match with a variable"),
        (bson!({"$set": {"r": {"$divide": [1, "$q"]}}}), "$set behind a $match with a variable"),
        (
            bson!({"$project": {"fullDocument": 1, "r": {"$divide": [1, "$q"]}}}),
            "$project behind a $match with a variable",
        ),
        (bson!({"$set": {"x": {"$var": "v"}}}), "a variable in $set"),
    ] {
        assert_own(&bson!([named(), stage]), reason);
    }
}

#[test]
fn a_match_that_could_fail_stays_behind_the_one_that_guards_it() {
    assert_own(
        &bson!([named(), {"$match": {"$expr": {"$gt": [{"$toInt": "$fullDocument.q"}, 1]}}}]),
        "$match.$expr.$gt[0].$toInt: not an operator that is evaluated here",
    );
    // A pattern is evaluated here too, since servers may give up on one.
    assert_shared(bson!([named(), {"$match": {"fullDocument.a": {"$regex": "^a"}}}]), &[]);
}

#[test]
fn what_may_fail_before_a_match_is_not_shared() {
    for set in [doc! { "r": { "$divide": [1, "$q"] } }, doc! { "r": { "$toUpper": "$$ROOT.q" } }] {
        assert_own(
            &bson!([{"$set": set}, named()]),
            "$set may fail on events that a $match with a variable keeps away",
        );
    }
    assert_own(
        &bson!([{"$match": {"$expr": {"$gt": [{"$toInt": "$fullDocument.q"}, 1]}}}, named()]),
        "$match.$expr.$gt[0].$toInt: not an operator that is evaluated here",
    );
    let total =
        doc! { "$set": { "a.b": { "$cond": [{ "$gt": ["$a", 1] }, "x", { "$ifNull": ["$b", 1] }] } } };
    assert_shared(bson!([total.clone(), named()]), &[total]);
    let whole = doc! { "$replaceWith": { "_id": "$_id", "fullDocument": "$fullDocument" } };
    assert_shared(bson!([whole.clone(), named()]), &[whole]);
    let schema = doc! { "$match": { "$jsonSchema": { "required": ["a"] } } };
    assert_shared(bson!([named(), schema.clone()]), &[schema]);
}

#[test]
fn what_the_matcher_does_not_evaluate_is_left_to_mongodb() {
    assert_own(
        &bson!([{"$match": {"fullDocument.a": {"$regex": "(?=a)"}, "fullDocument.n": {"$var": "n"}}}]),
        "$match.fullDocument.a.$regex: a special group is not evaluated here",
    );
}

#[test]
fn what_depends_on_the_cursor_is_not_shared() {
    for (stage, reason) in [
        (bson!({"$set": {"x": "$$NOW"}}), "$$NOW differs from cursor to cursor"),
        (
            bson!({"$match": {"$expr": {"$lt": ["$clusterTime", "$$CLUSTER_TIME"]}}}),
            "$$CLUSTER_TIME differs from cursor to cursor",
        ),
        (
            bson!({"$match": {"$or": [{"$sampleRate": 0.5}, {"a": 1}]}}),
            "$sampleRate differs from cursor to cursor",
        ),
        (bson!({"$set": {"x": {"$rand": {}}}}), "$rand differs from cursor to cursor"),
    ] {
        assert_own(&bson!([stage, named()]), reason);
    }
}

#[test]
fn no_value_of_a_client_makes_a_source_of_its_own() {
    let stages = bson!([
        {"$match": {"fullDocument.name": {"$var": "n"}}},
        {"$match": {"$expr": {"$eq": ["$fullDocument.tag", {"$var": "n"}]}}},
    ]);
    for value in [r#""$$NOW""#, r#""$name""#, r#"{"$numberDecimal": "NaN"}"#, r#"[null, {"a": [1]}]"#, "null"]
    {
        let plan = plan_behind(&[], stages.clone(), &format!(r#"{{"n": {value}}}"#));
        assert_eq!(plan.own(), None, "{value}");
        assert_eq!(plan.source().pipeline(), []);
    }
}

#[test]
fn a_branch_that_is_left_out_makes_another_source() {
    let stages = bson!([{"$ifvar": ["v", {"$match": {"fullDocument.big": true}}]}, named()]);
    let with = plan_behind(&[], stages.clone(), r#"{"n": "ada", "v": 1}"#);
    let without = plan_behind(&[], stages, r#"{"n": "ada"}"#);
    assert_ne!(with.source(), without.source());
}

#[test]
fn a_nor_is_evaluated_here_or_with_all_the_stages_by_mongodb() {
    let nor = bson!({"$match": {"operationType": "insert", "$or": [{"a": 1}, {"$nor": [{"b": 1}]}]}});
    assert_shared(bson!([named(), nor]), &[doc! { "$match": { "operationType": "insert" } }]);
    assert_own(
        &bson!([named(), {"$match": {"$nor": [{"$jsonSchema": {"required": ["a"]}}]}}]),
        "$match.$nor[0].$jsonSchema: not an operator that is evaluated here",
    );
}

#[test]
fn a_view_comes_first_and_is_shared_as_variables_are() {
    let stages = bson!([{"$match": {"fullDocument.a": 1}}, {"$unset": "fullDocument.secret"}]);
    let [one, other] =
        ["a", "b"].map(|tenant| plan_behind(&[doc! { "fullDocument.tenant": tenant }], stages.clone(), "{}"));
    assert_eq!(one.own(), None);
    assert_eq!(one.source(), other.source());
    let read = bson!([{"$project": {"fullDocument.body": 1}}]);
    let plan = plan_behind(&[doc! { "fullDocument.tenant": "a" }], read.clone(), "{}");
    assert_eq!(plan.own(), None);
    let needed = doc! { "$project": { "_id": 1, "fullDocument.body": 1, "fullDocument.tenant": 1 } };
    assert_eq!(plan.source().pipeline(), [needed]);
    let changed = bson!([{"$set": {"fullDocument": "$documentKey"}}]);
    let plan = plan_behind(&[doc! { "fullDocument.tenant": "a" }], changed, "{}");
    assert_eq!(
        plan.own().unwrap().to_string(),
        "stages[0]: $set changes fullDocument.tenant, which a $match before it reads"
    );
    assert_eq!(plan.source().pipeline()[0], doc! { "$match": { "fullDocument.tenant": "a" } });
}

/// What a permission puts ahead of a stream that shows no documents of updates.
fn unshown(tenant: &str, hidden: Option<&str>) -> Vec<Document> {
    let filter =
        doc! { "$and": [{ "fullDocument": { "$type": "object" } }, { "fullDocument.tenant": tenant }] };
    let hidden = hidden.map(|path| doc! { "$unset": [path] });
    [doc! { "$match": filter }].into_iter().chain(hidden).chain([without_documents_of_updates()]).collect()
}

/// Asserts what MongoDB runs behind that for two tenants together, and what the node makes of the events that match.
#[track_caller]
fn assert_unshown(stages: &Bson, pipeline: &[Document], residual: &[Document]) {
    let [plan, other] = ["a", "b"].map(|tenant| {
        plan_behind_stages(&unshown(tenant, None), stages.clone(), r#"{"n": "ada", "o": "insert"}"#)
    });
    assert_eq!(plan.own(), None, "{stages}");
    assert_eq!(plan.source(), other.source());
    assert_eq!(plan.source().pipeline(), pipeline, "{stages}");
    let made: Vec<Document> = plan.residual().stages().iter().map(|(_, stage)| stage.clone()).collect();
    assert_eq!(made, residual, "{stages}");
}

#[test]
fn documents_of_updates_that_only_a_filter_needs_are_dropped_here() {
    let drop = without_documents_of_updates;
    assert_unshown(&bson!([]), &[], &[drop()]);
    let keyed = bson!({"$match": {"documentKey._id": {"$var": "n"}, "operationType": {"$ne": "delete"}}});
    let fixed = doc! { "$match": { "operationType": { "$ne": "delete" } } };
    assert_unshown(&bson!([keyed.clone()]), std::slice::from_ref(&fixed), &[drop()]);
    // What keeps all that is read, and what tells an update, runs first. What does not is done behind the drop.
    let body = doc! { "$project": { "fullDocument.body": 1, "operationType": 1 } };
    let needed = doc! { "$project": { "_id": 1, "documentKey._id": 1, "fullDocument.body": 1, "fullDocument.tenant": 1, "operationType": 1 } };
    assert_unshown(&bson!([keyed.clone(), body.clone()]), &[fixed, needed], &[drop(), body.clone()]);
    assert_unshown(&bson!([{"$unset": "fullDocument.x"}]), &[doc! { "$unset": "fullDocument.x" }], &[drop()]);
    let operation = doc! { "$unset": "operationType" };
    assert_unshown(&bson!([operation.clone()]), &[], &[drop(), operation]);
    let kind = doc! { "$set": { "kind": "x", "key": "$documentKey" } };
    assert_unshown(
        &bson!([kind.clone(), keyed]),
        &[kind, doc! { "$match": { "operationType": { "$ne": "delete" } } }],
        &[drop()],
    );
    // A permission may hide what it asks for, too.
    let plan = plan_behind_stages(&unshown("a", Some("fullDocument.tenant")), bson!([body.clone()]), "{}");
    let made: Vec<&Document> = plan.residual().stages().iter().map(|(_, stage)| stage).collect();
    assert_eq!(made, [&doc! { "$unset": ["fullDocument.tenant"] }, &drop(), &body]);
}

#[test]
fn updates_are_told_without_their_documents_and_all_others_as_they_are() {
    let plan = plan_behind_stages(
        &unshown("a", Some("fullDocument.tenant")),
        bson!([{"$project": {"fullDocument.body": 1, "documentKey": 1}}]),
        "{}",
    );
    let document = doc! { "_id": 1, "tenant": "a", "body": "b", "other": 2 };
    for kind in ["insert", "update", "replace", "updated"] {
        let event = doc! {
            "_id": { "_data": "82" }, "fullDocument": document.clone(), "operationType": kind,
            "documentKey": { "_id": 1 },
        };
        let event = RawDocumentBuf::try_from(&event).unwrap();
        assert!(plan.matcher().unwrap().matches(&event), "the document is asked, whatever is told");
        let told = Document::try_from(plan.residual().apply(&event).unwrap().unwrap()).unwrap();
        let mut expected = doc! { "_id": { "_data": "82" } };
        if kind != "update" {
            expected.insert("fullDocument", doc! { "body": "b" });
        }
        expected.insert("documentKey", doc! { "_id": 1 });
        assert_eq!(told, expected);
        assert!(told.keys().eq(expected.keys()), "in the same order");
        // The drop alone copies nothing of what it leaves as it is.
        let alone = plan_behind_stages(&unshown("a", None), bson!([]), "{}");
        assert_eq!(alone.residual().apply(&event).unwrap().is_some(), kind == "update");
    }
}

#[test]
fn a_definition_that_lets_no_update_pass_may_read_the_documents() {
    let room = || bson!({"$match": {"fullDocument.room": {"$var": "n"}}});
    for (stages, pipeline) in [
        (
            bson!([{"$match": {"operationType": "insert", "fullDocument.room": {"$var": "n"}}}]),
            vec![doc! { "$match": { "operationType": "insert" } }],
        ),
        (
            bson!([{"$match": {"operationType": {"$var": "o"}}}, room(), {"$set": {"copy": "$fullDocument.body"}}]),
            vec![doc! { "$set": { "copy": "$fullDocument.body" } }],
        ),
        (
            bson!([room(), {"$unset": "fullDocument.x"}, {"$match": {"operationType": {"$in": ["insert", "replace"]}}}]),
            vec![
                doc! { "$unset": "fullDocument.x" },
                doc! { "$match": { "operationType": { "$in": ["insert", "replace"] } } },
            ],
        ),
        (
            bson!([{"$match": {"$and": [
                {"fullDocument.room": {"$var": "n"}},
                {"$and": [{"$or": [{"operationType": "insert"}, {"operationType": "replace"}]}]},
            ]}}]),
            vec![],
        ),
        (
            bson!([room(), {"$match": {"$expr": {"$ne": ["$operationType", "update"]}}}]),
            vec![doc! { "$match": { "$expr": { "$ne": ["$operationType", "update"] } } }],
        ),
    ] {
        assert_unshown(&stages, &pipeline, &[]);
    }
}

#[test]
fn what_asks_for_documents_that_updates_do_not_show_is_not_shared() {
    let room = || bson!({"$match": {"fullDocument.room": {"$var": "n"}}});
    for (stages, reason) in [
        (bson!([room()]), "the $match reads fullDocument.room, which updates do not show"),
        (
            bson!([{"$match": {"fullDocument": {"$type": "object"}}}]),
            "the $match reads fullDocument, which updates do not show",
        ),
        (
            bson!([{"$match": {"$expr": {"$ne": ["$$ROOT", {"$var": "n"}]}}}]),
            "the $match reads the event, of which updates do not show their document",
        ),
        // Some updates pass, or what they are is not known any more.
        (
            bson!([{"$match": {"operationType": {"$in": ["insert", "update"]}}}, room()]),
            "the $match reads fullDocument.room, which updates do not show",
        ),
        (
            bson!([{"$match": {"operationType": {"$var": "n"}}}, room()]),
            "the $match reads fullDocument.room, which updates do not show",
        ),
        (
            bson!([{"$match": {"$or": [{"operationType": "insert"}, {"fullDocument.room": {"$var": "n"}}]}}]),
            "the $match reads fullDocument.room, which updates do not show",
        ),
        (
            bson!([room(), {"$set": {"operationType": "insert"}}, {"$match": {"operationType": "insert"}}]),
            "the $match reads fullDocument.room, which updates do not show",
        ),
        (
            bson!([{"$unset": "operationType"}, {"$match": {"operationType": "insert"}}]),
            "the $match reads operationType, which a projection before it drops",
        ),
        (bson!([{"$set": {"fullDocument": 1}}]), "$set behind what drops the documents of updates"),
        (bson!([{"$set": {"x": "$fullDocument.a"}}]), "$set behind what drops the documents of updates"),
        (bson!([{"$set": {"operationType": "x"}}]), "$set behind what drops the documents of updates"),
        (
            bson!([{"$unset": "operationType"}, {"$set": {"x": 1}}]),
            "$set behind a projection that drops what a $match reads",
        ),
    ] {
        let plan = plan_behind_stages(&unshown("a", None), stages.clone(), r#"{"n": "update"}"#);
        assert_eq!(reason_of(&plan).as_deref(), Some(reason), "{stages}");
        assert_eq!(plan.source().pipeline().len(), 2 + stages.as_array().unwrap().len());
        assert!(plan.residual().is_empty() && plan.matcher().is_none());
    }
}
