//! The parameters of an address: of streams, and of documents.

use shared::request::Query;
use tailrace::api::query::DocumentQuery;

use crate::values::{bytes, has_key};

/// Reads a raw query.
pub fn run(data: &[u8]) {
    let Ok(raw) = std::str::from_utf8(data) else { return };
    let query = match Query::parse(Some(raw)) {
        Ok(query) => query,
        Err(refusal) => return assert_eq!(refusal.status().as_u16(), 400),
    };
    for name in ["avars", "jsonMode", "position", "resumeAfter", "snapshot", "ticket"] {
        assert!(query.all(name).count() <= 1, "{name} is there once");
        assert_eq!(query.get(name), query.all(name).next());
    }
    match DocumentQuery::parse(&query) {
        Ok(read) => {
            assert!(read.limit <= 1000, "a page is bounded");
            assert!(read.skip <= u64::from(u32::MAX) * 1000);
            for document in [&read.filter, &read.keys] {
                let code = |key: &str| matches!(key, "$where" | "$function" | "$accumulator");
                assert!(!has_key(&document.into(), code), "it runs code: {raw}");
            }
            assert!(!read.sort.is_empty(), "there is an order");
            for document in [read.filter, read.keys, read.sort] {
                bytes(&document.into());
            }
        }
        Err(refusal) => {
            assert_eq!(refusal.status().as_u16(), 400);
            assert!(refusal.message().starts_with("parameter "), "it names the parameter: {refusal}");
        }
    }
}
