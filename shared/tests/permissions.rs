//! The table of permissions, as this crate decides: what edge and backend both do with a request.

// The name under which every other crate imports it; the table is compiled there too.
extern crate tailrace_shared as shared;

mod permission_table;

use bson::{Bson, DateTime, Document};
use http::HeaderMap;
use permission_table::Case;
use shared::{
    address::{Mount, Mounts, Route},
    admission::{self, Wanted},
    definition::Definitions,
    identity::{Claims, Identity},
    limit::RequestLimits,
    permission::{Access, Mode, Question, RolesClaim, Rule, Rules},
    refusal::Refusal,
    request::Head,
    variables::{OperatorCheck, ServerVariables},
};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const NOW: DateTime = DateTime::from_millis(1_700_000_000_000);

fn document(value: &serde_json::Value) -> Document {
    match Bson::try_from(value.clone()) {
        Ok(Bson::Document(document)) => document,
        other => panic!("{value} is no document: {other:?}"),
    }
}

fn answer(case: &Case, access: &Access, table: &permission_table::Table) -> Result<(), Refusal> {
    let identity = match &case.claims {
        serde_json::Value::Object(claims) => Identity::Verified(Claims::new(claims.clone(), u64::MAX)),
        _ => Identity::Anonymous,
    };
    let (path, query) = case
        .target
        .split_once('?')
        .map_or((case.target.as_str(), None), |(path, query)| (path, Some(query.to_owned())));
    let method = case.method.parse().expect("a method");
    let head = Head { method, path: path.to_owned(), query, headers: HeaderMap::new(), peer: None };
    let mounts = Mounts::new(&[Mount { what: "*".to_owned(), at: "/".to_owned() }]).expect("mounts");
    let address = mounts.resolve(&head.path).map_err(|refusal| access.unresolved(&identity, refusal))?;
    let grant = access.decide(&Question {
        identity: &identity,
        method: &head.method,
        address: &address,
        query: head.query.as_deref(),
        now: NOW,
    })?;
    let Route::Stream(namespace, name) = &address.route else { return Ok(()) };
    let streams = table.collections.get(namespace.collection.as_str());
    let streams = streams.map(|streams| Bson::try_from(streams.clone()).expect("streams"));
    let definitions = streams.map(|streams| Definitions::written(&streams).expect("good definitions"));
    let server = ServerVariables { user: identity.claims().map(Claims::document), now: NOW };
    let admitted = admission::judge(&head, definitions.as_ref(), name, &grant, &server, OperatorCheck::On)?;
    assert_eq!(admitted.request.wanted, Wanted::Nothing, "a plain GET");
    grant.limits.of_request(RequestLimits::default()).check_variables(&head)
}

#[test]
fn each_identity_may_do_what_the_table_says() {
    let table = permission_table::of("app");
    assert!(table.cases.len() >= 80, "{} cases", table.cases.len());
    let rules: Vec<Rule> = table.rules.iter().map(|rule| Rule::stored(&document(rule))).collect();
    let access =
        Access { mode: Mode::Rules(Rules::new(rules)), roles: RolesClaim::default(), protected: Vec::new() };
    let mut failures = Vec::new();
    for case in &table.cases {
        let found = answer(case, &access, &table)
            .err()
            .map(|refusal| (refusal.status().as_u16(), refusal.message().to_owned()));
        if found != case.message() {
            failures.push(format!("{} {} {}: {found:?}", case.who, case.method, case.target));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} fail:\n{}",
        failures.len(),
        table.cases.len(),
        failures.join("\n")
    );
}
