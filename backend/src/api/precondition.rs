//! `If-Match`: a write that only holds for the version that its author has seen (RFC 9110, section 13.1.1).

use bson::oid::ObjectId;
use shared::{
    refusal::{Kind, Refusal},
    request::Head,
};

use crate::metadata::Expected;

/// What `If-Match` asks for. An entity tag is an `_etag` in hexadecimal, quoted or, as RESTHeart's clients send it, bare.
pub fn expected(head: &Head) -> Option<Expected> {
    let value = head.header("if-match")?.trim();
    let tag = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    Some(match tag {
        "*" => Expected::Existing,
        tag => ObjectId::parse_str(tag).map_or(Expected::Nothing, Expected::Etag),
    })
}

/// As [`expected`], for writes that hold without it as well.
pub fn optional(head: &Head) -> Expected {
    expected(head).unwrap_or(Expected::Anything)
}

/// As [`expected`], for writes that destroy much: 409 without it.
pub fn required(head: &Head, what: &str) -> Result<Expected, Refusal> {
    expected(head).ok_or_else(|| {
        Refusal::new(Kind::Conflict, format!("deleting a {what} needs If-Match with its current ETag"))
    })
}

/// 412.
pub fn failed() -> Refusal {
    Refusal::new(Kind::PreconditionFailed, "If-Match names another version than the current one")
}
