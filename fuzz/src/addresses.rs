//! Addresses: from the raw path of a request to what it names.

use std::sync::LazyLock;

use percent_encoding::percent_decode_str;
use shared::{
    address::{Mount, Mounts, Route},
    name::{CollectionName, DatabaseName, Namespace, StreamName},
    refusal::Kind,
};

use crate::input;

/// A database at the root, every database under its name, and mounts inside one another.
static MOUNTS: LazyLock<Vec<Mounts>> = LazyLock::new(|| {
    [
        &[("/app", "/")][..],
        &[("*", "/")],
        &[("/app", "/"), ("/app/log", "/audit"), ("/other/log", "/log"), ("*", "/all"), ("/app", "/a b/c")],
        &[("/app/log", "/")],
    ]
    .iter()
    .map(|list| {
        let list: Vec<_> =
            list.iter().map(|(what, at)| Mount { what: (*what).into(), at: (*at).into() }).collect();
        Mounts::new(&list).expect("they are good")
    })
    .collect()
});

/// Resolves a path under each kind of mounts; the text may also be a mount.
pub fn run(data: &[u8]) {
    let Some((chosen, rest)) = input::choice(data) else { return };
    let Ok(path) = std::str::from_utf8(rest) else { return };
    if chosen >= 0x80 {
        configured(path);
    }
    resolved(&MOUNTS[usize::from(chosen) % MOUNTS.len()], path);
}

fn resolved(mounts: &Mounts, path: &str) {
    let address = match mounts.resolve(path) {
        Ok(address) => address,
        Err(refusal) => {
            assert!(matches!(refusal.kind(), Kind::BadRequest | Kind::NotFound), "{refusal}");
            assert_eq!(
                refusal.kind() == Kind::BadRequest,
                is_odd(path),
                "odd is 400, and unknown is 404: {path}"
            );
            return;
        }
    };
    assert!(!is_odd(path), "an odd path names something: {path}");
    assert!(address.canonical.is_ascii() && !address.canonical.contains(['?', '#', '"', ' ', '\\']));
    let again = mounts.resolve(&address.canonical).expect("the canonical path is a path");
    assert_eq!(again, address, "the canonical spelling is its own: {path}");
    match &address.route {
        Route::Database(database) => reachable(database),
        Route::Collection(namespace)
        | Route::Document(namespace, _)
        | Route::Streams(namespace)
        | Route::EdgeDefinitions(namespace) => reachable_collection(namespace),
        Route::Stream(namespace, name) => {
            reachable_collection(namespace);
            assert_eq!(StreamName::new(name.as_str()).as_ref(), Some(name));
            assert!(address.canonical.contains("/_streams/"), "{}", address.canonical);
        }
        Route::Root
        | Route::Health
        | Route::Ready
        | Route::Metrics
        | Route::EdgeSettings
        | Route::EdgeUser
        | Route::Tickets
        | Route::Session => {}
    }
}

/// What EDGE.md calls odd, by other means than the code under test.
fn is_odd(path: &str) -> bool {
    if path == "/" {
        return false;
    }
    let Some(segments) = path.strip_prefix('/') else { return true };
    segments.split('/').any(|raw| {
        let coded = raw
            .split('%')
            .skip(1)
            .all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()));
        let decoded: Vec<u8> = percent_decode_str(raw).collect();
        let Ok(decoded) = String::from_utf8(decoded) else { return true };
        !coded
            || matches!(decoded.as_str(), "" | "." | "..")
            || decoded.chars().any(|c| matches!(c, '/' | '\\') || c.is_control())
    })
}

fn reachable(database: &DatabaseName) {
    let name = database.as_str();
    assert!(!["admin", "config", "local"].iter().any(|system| name.eq_ignore_ascii_case(system)), "{name}");
    assert!(!name.is_empty() && name.len() < 64 && !name.contains(['/', '\\', '.', '$', '\0']), "{name}");
}

fn reachable_collection(namespace: &Namespace) {
    reachable(&namespace.database);
    let name = namespace.collection.as_str();
    assert!(!name.starts_with('_') && !name.starts_with("system."), "{name}");
    assert!(!name.is_empty() && !name.contains(['$', '\0']), "{name}");
    assert_eq!(CollectionName::new(name).as_ref(), Some(&namespace.collection));
}

fn configured(text: &str) {
    let mounts: Vec<Mount> = text
        .lines()
        .take(4)
        .filter_map(|line| line.split_once(' '))
        .map(|(what, at)| Mount { what: what.to_owned(), at: at.to_owned() })
        .collect();
    match Mounts::new(&mounts) {
        Ok(mounts) => {
            for path in ["/", "/app", "/app/log", "/app/log/_streams/all", "/_edge/app/log"] {
                resolved(&mounts, path);
            }
        }
        Err(fault) => assert!(fault.starts_with("mounts"), "{fault}"),
    }
}
