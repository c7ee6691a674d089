//! Addresses: from the raw path of a request to the database, collection, or stream that it names.
//!
//! A path is judged as it was sent, before any normalisation, and percent-decoded once. *Mounts* map it to MongoDB.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::{
    name::{CollectionName, DatabaseName, Namespace, StreamName},
    refusal::{Kind, Refusal},
};

/// The longest path and query together, in bytes; a longer one is 414.
pub const MAX_URL_BYTES: usize = 16 * 1024;

/// What a path segment needs to have escaped (RFC 3986, section 3.3), and `%` itself.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// What a request's path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/_health`: is the process up?
    Health,
    /// `/_ready`: does MongoDB answer?
    Ready,
    /// `/_metrics`: figures for Prometheus.
    Metrics,
    /// `/_edge`: what every edge worker needs to know of this deployment.
    EdgeSettings,
    /// `/_edge/<db>/<coll>`: the definitions of one collection, for edge workers only.
    EdgeDefinitions(Namespace),
    /// `/_edge/_user`: who somebody with a name and a password is, for edge workers only.
    EdgeUser,
    /// `/_tickets`: one-time tickets.
    Tickets,
    /// `/_session`: the cookie of a browser that has signed in.
    Session,
    /// The root of a mount of every database.
    Root,
    /// A database.
    Database(DatabaseName),
    /// A collection and its metadata.
    Collection(Namespace),
    /// A document, by the text of its `_id`.
    Document(Namespace, String),
    /// The list of a collection's streams.
    Streams(Namespace),
    /// A stream.
    Stream(Namespace, StreamName),
}

/// A judged address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// What it names.
    pub route: Route,
    /// The same path in its one canonical spelling, for a hop behind us.
    pub canonical: String,
}

/// One mapping from paths to MongoDB, as configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// `*` (every database), `/<db>`, or `/<db>/<coll>`.
    pub what: String,
    /// The path under which it is served: `/`, or `/a/b`.
    #[serde(rename = "where")]
    pub at: String,
}

#[derive(Clone, Debug)]
enum Target {
    Everything,
    Database(DatabaseName),
    Collection(Namespace),
}

/// The checked mounts of a deployment.
#[derive(Clone, Debug)]
pub struct Mounts {
    // Longest prefix first, so that the most specific mount decides.
    mounts: Vec<(Vec<String>, Target)>,
    configured: Vec<Mount>,
}

impl Mounts {
    /// Checks the configured mounts. The error names the entry and what it takes.
    pub fn new(configured: &[Mount]) -> Result<Self, String> {
        let mut mounts: Vec<(Vec<String>, Target)> = Vec::with_capacity(configured.len());
        for (index, Mount { what, at }) in configured.iter().enumerate() {
            let target = target(what).ok_or_else(|| {
                format!(
                    "mounts[{index}].what is {what:?}, expected \"*\", \"/<db>\", or \"/<db>/<collection>\""
                )
            })?;
            let prefix = prefix(at).ok_or_else(|| {
                format!("mounts[{index}].where is {at:?}, expected \"/\" or a path such as \"/app\"")
            })?;
            if mounts.iter().any(|(other, _)| *other == prefix) {
                return Err(format!("mounts[{index}].where is {at:?}, which an earlier mount has already"));
            }
            mounts.push((prefix, target));
        }
        if mounts.is_empty() {
            return Err("mounts is empty, expected at least one {what, where}".to_owned());
        }
        mounts.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Ok(Self { mounts, configured: configured.to_vec() })
    }

    /// One database at `/`.
    pub fn of_database(database: &DatabaseName) -> Self {
        let mount = Mount { what: format!("/{database}"), at: "/".to_owned() };
        Self { mounts: vec![(Vec::new(), Target::Database(database.clone()))], configured: vec![mount] }
    }

    /// The mounts as they were configured.
    pub fn configured(&self) -> &[Mount] {
        &self.configured
    }

    /// The databases that can be reached, or `None` when that is all of them.
    pub fn databases(&self) -> Option<Vec<DatabaseName>> {
        let mut databases = Vec::new();
        for (_, target) in &self.mounts {
            match target {
                Target::Everything => return None,
                Target::Database(database) => databases.push(database.clone()),
                Target::Collection(namespace) => databases.push(namespace.database.clone()),
            }
        }
        databases.sort();
        databases.dedup();
        Some(databases)
    }

    /// The address that a raw path names: 400 for an odd path, 404 for one that no mount or name fits.
    pub fn resolve(&self, raw_path: &str) -> Result<Address, Refusal> {
        let mut segments = segments(raw_path)?;
        if let Some(route) = service_route(&segments)? {
            let canonical = canonical(&segments);
            return Ok(Address { route, canonical });
        }
        let (depth, target) = self
            .mounts
            .iter()
            .find(|(prefix, _)| segments.starts_with(prefix))
            .map(|(prefix, target)| (prefix.len(), target))
            .ok_or_else(no_resource)?;

        let rest = &segments[depth..];
        let (database, rest) = match target {
            Target::Everything => match rest {
                [] => return Ok(Address { route: Route::Root, canonical: canonical(&segments) }),
                [name, rest @ ..] => (DatabaseName::new(name).ok_or_else(no_resource)?, rest),
            },
            Target::Database(database) => (database.clone(), rest),
            Target::Collection(namespace) => (namespace.database.clone(), rest),
        };
        let (collection, rest) = match (target, rest) {
            (Target::Collection(namespace), rest) => (namespace.collection.clone(), rest),
            (_, []) => {
                return Ok(Address { route: Route::Database(database), canonical: canonical(&segments) });
            }
            (_, [name, rest @ ..]) => (CollectionName::new(name).ok_or_else(no_resource)?, rest),
        };
        let namespace = Namespace { database, collection };
        let streams_at = segments.len() - rest.len();
        let route = match rest {
            [] => Route::Collection(namespace),
            [streams] if is_streams(streams) => Route::Streams(namespace),
            [streams, name] if is_streams(streams) => {
                Route::Stream(namespace, StreamName::new(name).ok_or_else(Refusal::no_stream)?)
            }
            [id] if !id.starts_with('_') => Route::Document(namespace, id.clone()),
            _ => return Err(no_resource()),
        };
        if matches!(route, Route::Streams(_) | Route::Stream(..)) {
            segments[streams_at].make_ascii_lowercase();
        }
        Ok(Address { route, canonical: canonical(&segments) })
    }
}

/// RESTHeart matches `_streams` in any letter case, the stream's name exactly.
fn is_streams(segment: &str) -> bool {
    segment.eq_ignore_ascii_case("_streams")
}

fn no_resource() -> Refusal {
    Refusal::new(Kind::NotFound, "Resource does not exist")
}

/// The addresses of the service itself. They begin with `_`, which no collection may.
fn service_route(segments: &[String]) -> Result<Option<Route>, Refusal> {
    let Some(first) = segments.first().filter(|first| first.starts_with('_')) else { return Ok(None) };
    match (first.as_str(), &segments[1..]) {
        ("_health", []) => Ok(Some(Route::Health)),
        ("_ready", []) => Ok(Some(Route::Ready)),
        ("_metrics", []) => Ok(Some(Route::Metrics)),
        ("_tickets", []) => Ok(Some(Route::Tickets)),
        ("_session", []) => Ok(Some(Route::Session)),
        ("_edge", []) => Ok(Some(Route::EdgeSettings)),
        ("_edge", [user]) if user == "_user" => Ok(Some(Route::EdgeUser)),
        ("_edge", [database, collection]) => {
            let database = DatabaseName::new(database).ok_or_else(no_resource)?;
            let collection = CollectionName::new(collection).ok_or_else(no_resource)?;
            Ok(Some(Route::EdgeDefinitions(Namespace { database, collection })))
        }
        // A collection mounted at the root has `_streams` as its first segment.
        (first, _) if is_streams(first) => Ok(None),
        _ => Err(no_resource()),
    }
}

fn canonical(segments: &[String]) -> String {
    if segments.is_empty() {
        return "/".to_owned();
    }
    let mut path = String::new();
    for segment in segments {
        path.push('/');
        path.extend(utf8_percent_encode(segment, SEGMENT));
    }
    path
}

fn segments(raw_path: &str) -> Result<Vec<String>, Refusal> {
    let odd = |what: &str| Refusal::new(Kind::BadRequest, format!("odd path: {what}"));
    let rest = raw_path.strip_prefix('/').ok_or_else(|| odd("it does not begin with /"))?;
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    rest.split('/')
        .map(|raw| {
            if raw.is_empty() {
                return Err(odd("it has an empty segment"));
            }
            let mut bytes = raw.bytes();
            while let Some(byte) = bytes.next() {
                let hex = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit());
                if byte == b'%' && !(hex(bytes.next()) && hex(bytes.next())) {
                    return Err(odd("it has a bad percent code"));
                }
            }
            let segment =
                percent_decode_str(raw).decode_utf8().map_err(|_| odd("its percent codes are not UTF-8"))?;
            if segment == "." || segment == ".." {
                return Err(odd("it has a dot segment"));
            }
            if segment.contains(['/', '\\']) {
                return Err(odd("it has an encoded slash or a backslash"));
            }
            if segment.chars().any(char::is_control) {
                return Err(odd("it has a control character"));
            }
            Ok(segment.into_owned())
        })
        .collect()
}

fn target(what: &str) -> Option<Target> {
    if what == "*" {
        return Some(Target::Everything);
    }
    let mut parts = what.strip_prefix('/')?.split('/');
    let database = DatabaseName::new(parts.next()?)?;
    match (parts.next(), parts.next()) {
        (None, _) => Some(Target::Database(database)),
        (Some(name), None) => {
            let collection = CollectionName::new(name)?;
            Some(Target::Collection(Namespace { database, collection }))
        }
        _ => None,
    }
}

fn prefix(at: &str) -> Option<Vec<String>> {
    let prefix = segments(at).ok()?;
    prefix.iter().all(|segment| !segment.starts_with('_')).then_some(prefix)
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn mounts(list: &[(&str, &str)]) -> Mounts {
        let list: Vec<_> =
            list.iter().map(|(what, at)| Mount { what: (*what).to_owned(), at: (*at).to_owned() }).collect();
        Mounts::new(&list).expect("good mounts")
    }

    fn route(mounts: &Mounts, path: &str) -> Route {
        mounts.resolve(path).expect(path).route
    }

    fn ns(database: &str, collection: &str) -> Namespace {
        Namespace {
            database: DatabaseName::new(database).expect("database"),
            collection: CollectionName::new(collection).expect("collection"),
        }
    }

    #[test]
    fn a_database_at_the_root_serves_its_collections() {
        let mounts = mounts(&[("/app", "/")]);
        assert_eq!(route(&mounts, "/"), Route::Database(DatabaseName::new("app").expect("name")));
        assert_eq!(route(&mounts, "/messages"), Route::Collection(ns("app", "messages")));
        assert_eq!(route(&mounts, "/messages/5f"), Route::Document(ns("app", "messages"), "5f".into()));
        assert_eq!(route(&mounts, "/messages/_streams"), Route::Streams(ns("app", "messages")));
        assert_eq!(
            route(&mounts, "/messages/_streams/all"),
            Route::Stream(ns("app", "messages"), StreamName::new("all").expect("name"))
        );
    }

    #[test]
    fn every_database_is_served_under_its_name() {
        let mounts = mounts(&[("*", "/")]);
        assert_eq!(route(&mounts, "/"), Route::Root);
        assert_eq!(route(&mounts, "/app/messages"), Route::Collection(ns("app", "messages")));
    }

    #[test]
    fn the_longest_mount_decides() {
        let mounts = mounts(&[("/app", "/"), ("/app/log", "/audit"), ("*", "/all")]);
        assert_eq!(route(&mounts, "/audit"), Route::Collection(ns("app", "log")));
        assert_eq!(route(&mounts, "/audit/7"), Route::Document(ns("app", "log"), "7".into()));
        assert_eq!(route(&mounts, "/all/other/x"), Route::Collection(ns("other", "x")));
    }

    #[test]
    fn streams_is_matched_in_any_case_and_the_name_exactly() {
        let mounts = mounts(&[("/app", "/")]);
        let address = mounts.resolve("/messages/_StReAmS/All").expect("address");
        assert_eq!(
            address.route,
            Route::Stream(ns("app", "messages"), StreamName::new("All").expect("name"))
        );
        assert_eq!(address.canonical, "/messages/_streams/All");
    }

    #[test]
    fn a_path_is_decoded_once_and_spelled_canonically() {
        let mounts = mounts(&[("/app", "/")]);
        let address = mounts.resolve("/m%65ssages/%2541").expect("address");
        assert_eq!(address.route, Route::Document(ns("app", "messages"), "%41".into()));
        assert_eq!(address.canonical, "/messages/%2541");
    }

    #[test]
    fn odd_paths_are_refused_and_say_why() {
        let mounts = mounts(&[("*", "/")]);
        for (path, why) in [
            ("", "odd path: it does not begin with /"),
            ("a/b", "odd path: it does not begin with /"),
            ("//a", "odd path: it has an empty segment"),
            ("/a//b", "odd path: it has an empty segment"),
            ("/a/b/", "odd path: it has an empty segment"),
            ("/a/./b", "odd path: it has a dot segment"),
            ("/a/../b", "odd path: it has a dot segment"),
            ("/a/%2e%2E/b", "odd path: it has a dot segment"),
            ("/a%2Fb", "odd path: it has an encoded slash or a backslash"),
            ("/a%5cb", "odd path: it has an encoded slash or a backslash"),
            ("/a\\b", "odd path: it has an encoded slash or a backslash"),
            ("/a%00", "odd path: it has a control character"),
            ("/a%0a", "odd path: it has a control character"),
            ("/a%", "odd path: it has a bad percent code"),
            ("/a%4", "odd path: it has a bad percent code"),
            ("/a%zz", "odd path: it has a bad percent code"),
            ("/a%ff", "odd path: its percent codes are not UTF-8"),
        ] {
            let refusal = mounts.resolve(path).expect_err(path);
            assert_eq!((refusal.kind(), refusal.message()), (Kind::BadRequest, why), "{path}");
        }
    }

    #[test]
    fn system_names_and_unknown_service_paths_are_404() {
        let all = mounts(&[("*", "/")]);
        for path in [
            "/admin/x",
            "/local/oplog.rs",
            "/config/x",
            "/app/_properties",
            "/app/system.users",
            "/_other",
            "/_edge/admin/x",
            "/app/messages/_x",
            "/app/messages/a/b",
            "/app/messages/_streams/a/b",
            "/Admin/x",
        ] {
            assert_eq!(all.resolve(path).expect_err(path).kind(), Kind::NotFound, "{path}");
        }
        let app = mounts(&[("/app", "/app")]);
        assert_eq!(app.resolve("/other/x").expect_err("no mount").kind(), Kind::NotFound);
    }

    #[test]
    fn bad_mounts_are_named() {
        for (what, at, why) in [
            ("app", "/", "mounts[0].what is \"app\", expected \"*\", \"/<db>\", or \"/<db>/<collection>\""),
            (
                "/admin",
                "/",
                "mounts[0].what is \"/admin\", expected \"*\", \"/<db>\", or \"/<db>/<collection>\"",
            ),
            (
                "/a/b/c",
                "/",
                "mounts[0].what is \"/a/b/c\", expected \"*\", \"/<db>\", or \"/<db>/<collection>\"",
            ),
            ("*", "app", "mounts[0].where is \"app\", expected \"/\" or a path such as \"/app\""),
            ("*", "/_x", "mounts[0].where is \"/_x\", expected \"/\" or a path such as \"/app\""),
        ] {
            let mount = Mount { what: what.to_owned(), at: at.to_owned() };
            assert_eq!(Mounts::new(&[mount]).expect_err(what), why);
        }
    }
}
