use bson::{bson, doc};
use serde_json::json;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;
use crate::{
    address::{Mount, Mounts},
    limit::{Limit, RequestLimits},
};

fn mounts() -> Mounts {
    let mount = |what: &str, at: &str| Mount { what: what.to_owned(), at: at.to_owned() };
    Mounts::new(&[mount("/app", "/"), mount("*", "/all")]).expect("mounts")
}

fn identity(claims: &serde_json::Value) -> Identity {
    match claims {
        serde_json::Value::Object(claims) => Identity::Verified(Claims::new(claims.clone(), 0)),
        _ => Identity::Anonymous,
    }
}

fn access(rules: &[Document]) -> Access {
    let rules = Rules::new(Rules::configured(rules).expect("rules"));
    Access { mode: Mode::Rules(rules), roles: RolesClaim::default(), protected: Vec::new() }
}

fn decide(access: &Access, claims: &serde_json::Value, method: &str, target: &str) -> Result<Grant, String> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let address = mounts().resolve(path).expect(path);
    let question = Question {
        identity: &identity(claims),
        method: &method.parse().expect(method),
        address: &address,
        query,
        now: DateTime::from_millis(0),
    };
    access.decide(&question).map_err(|refusal| refusal.to_string())
}

fn rule(path: &str) -> Document {
    doc! { "roles": ["user"], "methods": ["GET"], "path": path }
}

fn with(mut rule: Document, more: Document) -> Document {
    rule.extend(more);
    rule
}

#[test]
fn nothing_is_permitted_that_no_rule_permits() {
    let access = access(&[rule("/messages/_streams/all")]);
    let user = json!({ "roles": ["user"] });
    assert!(decide(&access, &user, "GET", "/messages/_streams/all").is_ok());
    assert!(decide(&access, &user, "HEAD", "/messages/_streams/all").is_ok(), "HEAD goes with GET");
    for (method, path) in [
        ("GET", "/messages/_streams/other"),
        ("POST", "/messages/_streams/all"),
        ("GET", "/messages"),
        ("GET", "/"),
    ] {
        let refused = Err("403 no permission allows this".to_owned());
        assert_eq!(decide(&access, &user, method, path), refused, "{method} {path}");
        let refused = Err("401 credentials needed".to_owned());
        assert_eq!(decide(&access, &json!(null), method, path), refused, "{method} {path}");
    }
    assert!(decide(&access, &json!({ "roles": ["guest"] }), "GET", "/messages/_streams/all").is_err());
}

#[test]
fn the_first_rule_by_priority_decides_and_equal_ones_as_they_come() {
    let all = |id: &str, priority: i32| {
        doc! { "id": id, "priority": priority, "roles": ["$authenticated"], "methods": ["*"], "path": "/**" }
    };
    let decided = |rules: &[Document]| decide(&access(rules), &json!({}), "GET", "/x").expect("granted").rule;
    assert_eq!(decided(&[all("late", 2), all("early", 1)]).as_deref(), Some("early"));
    assert_eq!(decided(&[all("first", 1), all("second", 1)]).as_deref(), Some("first"));
}

#[test]
fn roles_of_the_server_are_given_by_it() {
    let of = |role: &str| access(&[doc! { "roles": [role], "methods": ["GET"], "path": "/**" }]);
    assert!(decide(&of("$unauthenticated"), &json!(null), "GET", "/x").is_ok());
    assert!(decide(&of("$unauthenticated"), &json!({}), "GET", "/x").is_err());
    assert!(decide(&of("$authenticated"), &json!({}), "GET", "/x").is_ok());
    assert!(decide(&of("$authenticated"), &json!(null), "GET", "/x").is_err());
}

#[test]
fn a_condition_compares_claims_with_the_address() {
    let access = access(&[with(
        rule("/all/{tenant}/messages/**"),
        doc! { "condition": { "$eq": ["@user.tenant", "{tenant}"] } },
    )]);
    let user = json!({ "roles": ["user"], "tenant": "a" });
    assert!(decide(&access, &user, "GET", "/all/a/messages/_streams/all").is_ok());
    assert!(decide(&access, &user, "GET", "/all/b/messages/_streams/all").is_err());
    assert!(decide(&access, &json!({ "roles": ["user"] }), "GET", "/all/a/messages").is_err());
}

#[test]
fn variables_are_set_by_the_server_and_no_client_value_stands_in_for_one() {
    let access = access(&[with(
        rule("/{room}/_streams/{s}"),
        doc! { "avars": { "allow": ["n"], "set": { "tenant": "@user.tenant", "where.room": "{room}" } } },
    )]);
    let user = json!({ "roles": ["user"], "tenant": "a" });
    let ask = |avars: &str| {
        let grant = decide(&access, &user, "GET", &format!("/chat/_streams/all{avars}"))?;
        let client = Variables::parse(avars.strip_prefix("?avars="), OperatorCheck::On).expect("avars");
        Ok::<_, String>(grant.variables(client).expect("variables"))
    };
    let variables = ask("?avars={\"n\":1}").expect("granted");
    assert_eq!(variables.get("tenant"), Some(&bson!("a")));
    assert_eq!(variables.get("where.room"), Some(&bson!("chat")));
    assert_eq!(variables.get("n"), Some(&bson!(1)));
    for (avars, message) in [
        ("{\"tenant\":\"b\"}", "403 variable tenant is set by the server, expected avars without it"),
        ("{\"tenant.x\":\"b\"}", "403 variable tenant is set by the server, expected avars without it"),
        (
            "{\"where\":{\"room\":1}}",
            "403 variable where.room is set by the server, expected avars without it",
        ),
        ("{\"m\":1}", "403 variable m is not permitted here"),
    ] {
        assert_eq!(ask(&format!("?avars={avars}")).unwrap_err(), message, "{avars}");
    }
    let without = json!({ "roles": ["user"] });
    let refused = decide(&access, &without, "GET", "/chat/_streams/all").unwrap_err();
    assert_eq!(refused, "403 variable @user.tenant not bound");
}

#[test]
fn a_claim_that_holds_an_operator_is_no_value_for_a_variable() {
    let access = access(&[with(
        rule("/{room}/_streams/{s}"),
        doc! {
            "condition": { "$ne": ["@user.tenant", "b"] },
            "avars": { "set": { "tenants": { "$in": ["@user.tenant"] } } },
        },
    )]);
    let ask = |tenant: serde_json::Value| {
        let user = json!({ "roles": ["user"], "tenant": tenant });
        let grant = decide(&access, &user, "GET", "/chat/_streams/all")?;
        let variables = grant.variables(Variables::default()).expect("variables");
        Ok::<_, String>(variables.get("tenants").expect("it is set").to_string())
    };
    for claim in [json!({ "$ne": null }), json!([{ "of": { "$gt": "" } }])] {
        let refused = "403 variable @user.tenant holds a key that begins with $, expected a plain value";
        assert_eq!(ask(claim).unwrap_err(), refused);
    }
    let operators_of_the_rule = bson!({ "$in": [{ "of": "a" }] }).to_string();
    assert_eq!(ask(json!({ "of": "a" })), Ok(operators_of_the_rule));
}

#[test]
fn what_is_written_gets_the_values_of_the_server() {
    let access = access(&[doc! {
        "roles": ["$authenticated"], "methods": ["POST"], "path": "/messages",
        "mergeRequest": { "at": "@now", "from": "@user.sub", "kind": { "$literal": "@plain" } },
    }]);
    let grant = decide(&access, &json!({ "sub": "ada" }), "POST", "/messages").expect("granted");
    assert_eq!(grant.merge, doc! { "at": DateTime::from_millis(0), "from": "ada", "kind": "@plain" });
}

#[test]
fn collections_of_users_and_rules_open_to_a_rule_that_names_them_only() {
    let protect = |access: Access| Access {
        protected: vec![
            serde_json::from_value(json!({ "database": "app", "collection": "users" })).expect("name"),
        ],
        ..access
    };
    let user = json!({ "roles": ["user"] });
    for (path, target, open) in [
        ("/**", "/users", false),
        ("/{c}", "/users", false),
        ("/{c}/**", "/users/ada", false),
        ("/*/_streams/*", "/users/_streams/all", false),
        ("/users", "/users", true),
        ("/users/**", "/users/ada", true),
        ("/all/{db}/users", "/all/app/users", false),
        ("/all/app/users", "/all/app/users", true),
    ] {
        let found = decide(&protect(access(&[rule(path)])), &user, "GET", target);
        assert_eq!(found.is_ok(), open, "{path} {target}");
    }
    for mode in [Mode::Everybody, Mode::Holders] {
        let access = protect(Access { mode, roles: RolesClaim::default(), protected: Vec::new() });
        assert!(decide(&access, &user, "GET", "/users").is_err());
        assert!(decide(&access, &user, "GET", "/messages").is_ok());
    }
}

#[test]
fn no_rule_shows_a_password() {
    let users =
        vec![serde_json::from_value(json!({ "database": "app", "collection": "users" })).expect("name")];
    let user = json!({ "roles": ["user"] });
    for (shown, expected) in [
        (doc! {}, doc! { "password": 0 }),
        (doc! { "salary": 0 }, doc! { "password": 0, "salary": 0 }),
        (doc! { "password.x": 0 }, doc! { "password": 0 }),
        (doc! { "name": 1, "password": 1 }, doc! { "_etag": 1, "_id": 1, "name": 1 }),
    ] {
        let access = Access {
            protected: users.clone(),
            ..access(&[with(rule("/users/**"), doc! { "projectResponse": shown.clone() })])
        };
        let grant = decide(&access, &user, "GET", "/users/_streams/all").expect("granted");
        assert_eq!(grant.visibility.projection().document(), expected, "{shown}");
    }
}

#[test]
fn without_rules_good_credentials_read_and_follow_and_nobody_writes() {
    let access = Access { mode: Mode::Holders, roles: RolesClaim::default(), protected: Vec::new() };
    assert!(decide(&access, &json!({}), "GET", "/messages").is_ok());
    assert_eq!(
        decide(&access, &json!({}), "POST", "/messages").unwrap_err(),
        "403 no permission allows this write"
    );
    assert_eq!(decide(&access, &json!(null), "GET", "/messages").unwrap_err(), "401 credentials needed");
}

#[test]
fn a_broken_stored_rule_refuses_whatever_it_may_have_been_for() {
    let good =
        Rule::check(&doc! { "roles": ["user"], "methods": ["GET"], "path": "/**", "priority": 9 }, "p")
            .expect("rule");
    let broken = [
        doc! { "_id": "r", "roles": ["user"], "methods": ["GET"], "path": "/messages", "condition": { "$where": "1" } },
        doc! { "_id": "r", "roles": "user", "methods": ["GET"], "path": "/messages" },
        doc! { "_id": "r", "roles": ["user"], "methods": ["GET"], "path": "messages" },
        doc! { "_id": "r", "roles": ["user"], "methods": ["GET"], "path": "/messages", "readfilter": { "a": 1 } },
    ];
    let user = json!({ "roles": ["user"] });
    for document in &broken {
        let rules = Rules::new(vec![good.clone(), Rule::stored(document)]);
        assert!(rules.iter().any(|rule| rule.fault().is_some()), "{document}");
        let access = Access { mode: Mode::Rules(rules), roles: RolesClaim::default(), protected: Vec::new() };
        let refused = decide(&access, &user, "GET", "/messages").unwrap_err();
        assert!(refused.starts_with("500 permission r"), "{refused}");
        let others = document.get_str("path").is_ok_and(|path| path == "/messages");
        assert_eq!(decide(&access, &user, "GET", "/other").is_ok(), others, "{document}");
    }
}

#[test]
fn stored_rules_are_read_in_either_spelling_and_reach_the_edge_as_they_are() {
    let stored = doc! {
        "_id": "tenants", "_etag": 1, "roles": ["user"], "methods": ["GET"], "path": "/all/{tenant}/**",
        "condition": { "_$eq": ["@user.org::id", "{tenant}"] },
    };
    let rules = Rules::new(vec![Rule::stored(&stored)]);
    assert_eq!(rules.iter().next().and_then(Rule::fault), None);
    let access = Access { mode: Mode::Rules(rules), roles: RolesClaim::default(), protected: Vec::new() };
    let again = Written::from(&access).read().expect("as it was written");
    for access in [access, again] {
        let user = json!({ "roles": ["user"], "org::id": "a" });
        let grant = decide(&access, &user, "GET", "/all/a/x").expect("granted");
        assert_eq!(grant.rule.as_deref(), Some("tenants"));
    }
}

#[test]
fn a_wrong_rule_of_the_configuration_is_told_with_its_place() {
    for (change, message) in [
        (
            doc! { "role": 1 },
            "permissions[0].role: unknown member, expected id, comment, priority, roles, methods, path, condition, avars, readFilter, writeFilter, projectResponse, mergeRequest, limits",
        ),
        (doc! { "roles": [] }, "permissions[0].roles: expected an array of names, as [\"user\"]"),
        (
            doc! { "roles": ["$admin"] },
            "permissions[0].roles: \"$admin\" is no role of the server's, expected $unauthenticated or $authenticated",
        ),
        (
            doc! { "methods": ["get"] },
            "permissions[0].methods: \"get\", expected some of GET, HEAD, POST, PUT, PATCH, DELETE, *",
        ),
        (doc! { "path": 1 }, "permissions[0].path: expected a text, as /messages/_streams/{stream}"),
        (
            doc! { "priority": "high" },
            "permissions[0].priority: expected a number, the lowest is asked first",
        ),
        (
            doc! { "avars": { "force": {} } },
            "permissions[0].avars.force: unknown member, expected an object {\"allow\": [<name>, …], \"set\": {<name>: <value>}}",
        ),
        (
            doc! { "avars": { "set": { "@user": 1 } } },
            "permissions[0].avars.set.@user: expected a name without @ or $ before it",
        ),
        (
            doc! { "avars": { "set": { "a": "{x}" } } },
            "permissions[0].avars.set.a: \"{x}\" is no parameter of the path, expected a path with one",
        ),
        (
            doc! { "mergeRequest": { "_id": 1 } },
            "permissions[0].mergeRequest._id: expected names of fields other than _id and _etag, without dots",
        ),
        (doc! { "limits": 5 }, "permissions[0].limits: expected an object, as {\"connections-per-user\": 5}"),
        (
            doc! { "limits": { "queue-bytes": 5 } },
            "permissions[0].limits.queue-bytes: unknown member, expected connections-per-address, connections-per-user, bindings-per-user, avars-bytes, body-bytes",
        ),
        (
            doc! { "limits": { "avars-bytes": 0 } },
            "permissions[0].limits.avars-bytes: expected a whole number above 0",
        ),
        (
            doc! { "limits": { "body-bytes": 1.5 } },
            "permissions[0].limits.body-bytes: expected a whole number above 0",
        ),
    ] {
        assert_eq!(Rules::configured(&[with(rule("/x"), change)]).unwrap_err(), message);
    }
    let twice = [with(rule("/x"), doc! { "id": "a" }), with(rule("/y"), doc! { "id": "a" })];
    assert_eq!(Rules::configured(&twice).unwrap_err(), "permissions[1].id: \"a\" is the id of another rule");
}

#[test]
fn a_rule_narrows_the_limits_of_the_configuration_and_never_widens_them() {
    let limits = doc! { "connections-per-user": 5, "avars-bytes": 100.0, "body-bytes": 1_000_i64 };
    let access = access(&[with(rule("/messages/**"), doc! { "limits": limits })]);
    let user = json!({ "roles": ["user"] });
    let grant = decide(&access, &user, "GET", "/messages/_streams/all").expect("granted");
    assert_eq!(grant.limits.get(Limit::ConnectionsPerUser), Some(5));
    assert_eq!(grant.limits.get(Limit::BindingsPerUser), None);
    for (configured, counts) in [(4_096, 100), (50, 50)] {
        let configured = RequestLimits { avars_bytes: configured, ..RequestLimits::default() };
        assert_eq!(grant.limits.of_request(configured).avars_bytes, counts);
    }
    assert_eq!(grant.limits.narrow(Limit::BodyBytes, 16 * 1024 * 1024), 1_000);
    assert_eq!(grant.limits.narrow(Limit::ConnectionsPerAddress, 7), 7);
    assert_eq!(grant.describe(), "limits: connections-per-user 5, avars-bytes 100, body-bytes 1000");

    // Who has a stream open keeps it when a limit changes.
    let other = self::access(&[with(rule("/messages/**"), doc! { "limits": { "connections-per-user": 1 } })]);
    let other = decide(&other, &user, "GET", "/messages/_streams/all").expect("granted");
    assert!(other.has_effect_of(&grant));
}

#[test]
fn the_explanation_names_the_rule_that_decides_and_why_others_do_not() {
    let access = access(&[
        with(rule("/other"), doc! { "id": "elsewhere" }),
        doc! { "id": "admins", "roles": ["admin"], "methods": ["*"], "path": "/**" },
        with(rule("/{t}"), doc! { "id": "mine", "condition": { "$eq": ["@user.t", "{t}"] } }),
        with(rule("/messages"), doc! { "id": "all", "avars": { "allow": [] } }),
    ]);
    let address = mounts().resolve("/messages").expect("address");
    let question = Question {
        identity: &identity(&json!({ "roles": ["user"] })),
        method: &Method::GET,
        address: &address,
        query: None,
        now: DateTime::from_millis(0),
    };
    assert_eq!(
        access.explain(&question),
        [
            "roles    $authenticated, user",
            "rule     elsewhere is for another path",
            "rule     admins is for other roles",
            "rule     mine has a condition that does not hold",
            "rule     all decides",
            "allowed  everything asked for",
        ]
    );
}
