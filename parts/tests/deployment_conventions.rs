//! `wrangler.toml`, and what belongs to it, as a deployment relies on them.

use tailrace_parts::workspace;
use toml::{Table, Value};

fn read(path: &str) -> String {
    std::fs::read_to_string(workspace::root().join(path)).expect(path)
}

fn table(path: &str) -> Table {
    read(path).parse().expect(path)
}

/// The value at a dotted path.
fn at<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    let mut parts = path.split('.');
    let first = table.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.get(part))
}

const ENVIRONMENTS: [&str; 2] = ["staging", "production"];

#[test]
fn the_worker_is_built_by_wrangler_itself_and_runs_on_the_pinned_runtime() {
    let config = table("wrangler.toml");
    assert_eq!(at(&config, "main"), Some(&"worker/build/index.js".into()));
    assert_eq!(at(&config, "build.command"), Some(&"cargo xtask worker".into()));
    let watched = at(&config, "build.watch_dir").and_then(Value::as_array).expect("what is watched");
    assert!(["worker/src", "shared/src"].iter().all(|source| watched.contains(&(*source).into())));
    // A newer date than the pinned runtime's fails to start.
    assert_eq!(at(&config, "compatibility_date"), Some(&"2026-04-01".into()));
}

#[test]
fn the_worker_is_reached_by_its_own_names_alone_and_stays_at_the_edge() {
    let config = table("wrangler.toml");
    assert_eq!(at(&config, "workers_dev"), Some(&false.into()));
    assert_eq!(at(&config, "preview_urls"), Some(&false.into()));
    for key in
        ["placement".to_owned()].into_iter().chain(ENVIRONMENTS.map(|name| format!("env.{name}.placement")))
    {
        assert_eq!(at(&config, &key), None, "smart placement moves the worker away from the user");
    }
}

#[test]
fn each_environment_has_its_own_variables_bindings_and_named_secrets() {
    let config = table("wrangler.toml");
    for name in ENVIRONMENTS {
        let of = |key: &str| at(&config, &format!("env.{name}.{key}"));
        let text =
            |key: &str| of(key).and_then(Value::as_str).unwrap_or_else(|| panic!("{name} has no {key}"));
        assert!(
            of("vars").and_then(Value::as_table).is_some_and(|variables| !variables.is_empty()),
            "{name}"
        );
        for backend in text("vars.BACKENDS").split(',').map(str::trim) {
            let host =
                backend.strip_prefix("https://").unwrap_or_else(|| panic!("{name}: {backend} is not https"));
            assert!(
                host.parse::<std::net::IpAddr>().is_err() && !host.contains(['/', ':']),
                "{name}: {host}"
            );
        }
        let secrets = of("secrets.required").and_then(Value::as_array).expect("secrets");
        assert!(secrets.contains(&"EDGE_KEY".into()), "{name}");
        let limits = of("ratelimits").and_then(Value::as_array).expect("a rate limit");
        assert_eq!(limits[0].get("name"), Some(&"RATE_LIMITER".into()), "{name}");
    }
    let shared: Vec<_> = ["EDGE_AUDIENCE", "BACKENDS", "JWT_AUDIENCE"]
        .into_iter()
        .filter(|key| {
            let [one, other] = ENVIRONMENTS.map(|name| at(&config, &format!("env.{name}.vars.{key}")));
            one == other
        })
        .collect();
    assert!(shared.is_empty(), "staging and production share {shared:?}");
}

#[test]
fn no_secret_stands_in_the_configuration_or_gets_into_the_repository() {
    let text = read("wrangler.toml");
    let values =
        text.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n");
    for secret in ["EDGE_KEY =", "EDGE_KEY=", "JWT_SECRET", "ANONYMOUS"] {
        assert!(!values.contains(secret), "{secret} is a secret, or for development only");
    }
    assert!(read(".gitignore").lines().any(|line| line.starts_with(".dev.vars")), ".dev.vars is ignored");
}

#[test]
fn logs_are_sampled_and_hold_no_addresses() {
    let config = table("wrangler.toml");
    assert_eq!(at(&config, "observability.enabled"), Some(&true.into()));
    let sampled = |key: &str| at(&config, key).and_then(Value::as_float).is_some_and(|rate| rate < 1.0);
    assert!(sampled("observability.head_sampling_rate"));
    // An invocation log tells the whole address, with its query, and so `avars`.
    assert_eq!(at(&config, "observability.logs.invocation_logs"), Some(&false.into()));
}

#[test]
fn the_worker_is_compiled_for_size_and_keeps_what_wasm_bindgen_needs() {
    let config = table("Cargo.toml");
    assert_eq!(at(&config, "profile.edge.lto"), Some(&true.into()));
    assert_eq!(at(&config, "profile.edge.opt-level"), Some(&"s".into()));
    assert_eq!(at(&config, "profile.edge.strip"), None);
}
