//! `If-Match`: a write that only holds for the version that its author has seen (RFC 9110, section 13.1.1).

use bson::oid::ObjectId;
use shared::{
    refusal::{Kind, Refusal},
    request::Head,
};

use crate::metadata::Expected;

/// What `If-Match` asks for. An entity tag is an `_etag` in hexadecimal, quoted or, as RESTHeart's clients send it, bare.
pub fn expected(head: &Head) -> Option<Expected> {
    head.headers.get("if-match")?;
    // One that is there twice or is no text names no version: it must not count as none.
    let value = head.header("if-match").unwrap_or_default().trim();
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

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;

    #[test]
    fn an_if_match_that_cannot_be_read_holds_for_no_version() {
        let tag = HeaderValue::from_static("\"0123456789abcdef01234567\"");
        let asked = |values: &[&HeaderValue]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("if-match", (*value).clone());
            }
            optional(&Head { method: Method::PATCH, path: "/".into(), query: None, headers, peer: None })
        };
        assert_eq!(asked(&[]), Expected::Anything);
        assert!(matches!(asked(&[&tag]), Expected::Etag(_)));
        let unreadable = HeaderValue::from_bytes(b"\xF6").expect("bytes");
        assert_eq!(asked(&[&unreadable]), Expected::Nothing);
        assert_eq!(asked(&[&tag, &tag]), Expected::Nothing);
    }
}
