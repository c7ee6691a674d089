//! The head of a request, as the edge and the backend both see it.

use std::net::IpAddr;

use http::{HeaderMap, Method};
use percent_encoding::percent_decode;

use crate::refusal::{Kind, Refusal};

/// Everything of a request but its body.
#[derive(Clone, Debug)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The path as it was sent, percent codes and all.
    pub path: String,
    /// The query as it was sent, without `?`.
    pub query: Option<String>,
    /// The headers.
    pub headers: HeaderMap,
    /// The address of the peer, where there is one.
    pub peer: Option<IpAddr>,
}

impl Head {
    /// A header's text, if it is there once and is visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        if values.next().is_some() { None } else { value.to_str().ok() }
    }

    /// Whether the client asks for a WebSocket (RFC 6455, section 4.2.1).
    pub fn is_upgrade(&self) -> bool {
        let has = |name: &str, token: &str| {
            self.headers
                .get_all(name)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
        };
        has("connection", "upgrade") && has("upgrade", "websocket")
    }

    /// Whether the client asks for server-sent events.
    pub fn wants_event_stream(&self) -> bool {
        self.headers.get_all("accept").iter().filter_map(|value| value.to_str().ok()).any(|value| {
            value.split(',').any(|part| {
                part.split(';')
                    .next()
                    .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
            })
        })
    }
}

/// The parameters that a stream's address takes. Each may be given once.
const STREAM_PARAMETERS: &[&str] = &["avars", "jsonMode", "position", "resumeAfter", "snapshot", "ticket"];

/// Every parameter that means something at some address.
pub(crate) const RESERVED_PARAMETERS: &[&str] = &[
    "avars",
    "jsonMode",
    "position",
    "resumeAfter",
    "snapshot",
    "ticket",
    "filter",
    "sort",
    "keys",
    "page",
    "pagesize",
    "rep",
];

/// The decoded parameters of a query, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes a raw query as forms do (`+` is a space). 400 for bad percent codes and for a stream parameter given twice.
    pub fn parse(raw: Option<&str>) -> Result<Self, Refusal> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for part in raw.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if STREAM_PARAMETERS.contains(&name.as_str()) && pairs.iter().any(|(other, _)| *other == name) {
                return Err(Refusal::new(
                    Kind::BadRequest,
                    format!("parameter {name} is given twice, expected once"),
                ));
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that is `true` or `false`; absent is `false`.
    pub fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true" | "") => Ok(true),
            Some(other) => Err(Refusal::new(
                Kind::BadRequest,
                format!("parameter {name} is {other:?}, expected true or false"),
            )),
        }
    }
}

fn decode(raw: &str) -> Result<String, Refusal> {
    let bytes = raw.replace('+', " ");
    percent_decode(bytes.as_bytes())
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| Refusal::new(Kind::BadRequest, "the query's percent codes are not UTF-8"))
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn head(headers: &[(&'static str, &'static str)]) -> Head {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, http::HeaderValue::from_bytes(value.as_bytes()).expect(value));
        }
        Head { method: Method::GET, path: "/".into(), query: None, headers: map, peer: None }
    }

    #[test]
    fn a_header_that_is_there_twice_or_is_no_text_says_nothing() {
        assert_eq!(head(&[("host", "a.example")]).header("host"), Some("a.example"));
        assert_eq!(head(&[("host", "a.example"), ("host", "b.example")]).header("host"), None);
        assert_eq!(head(&[("host", "\u{f6}.example")]).header("host"), None);
    }

    #[test]
    fn an_upgrade_needs_both_headers_in_any_case_and_list() {
        assert!(head(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")]).is_upgrade());
        assert!(!head(&[("upgrade", "websocket")]).is_upgrade());
        assert!(!head(&[("connection", "upgrade"), ("upgrade", "h2c")]).is_upgrade());
    }

    #[test]
    fn an_event_stream_is_asked_for_by_accept() {
        assert!(head(&[("accept", "text/html, text/event-stream;q=0.9")]).wants_event_stream());
        assert!(!head(&[("accept", "*/*")]).wants_event_stream());
    }

    #[test]
    fn a_stream_parameter_given_twice_is_refused_and_others_repeat() {
        let refusal = Query::parse(Some("avars={}&avars={}")).expect_err("twice");
        assert_eq!(refusal.message(), "parameter avars is given twice, expected once");
        let query = Query::parse(Some("filter=a&filter=b%20c&x")).expect("query");
        assert_eq!(query.all("filter").collect::<Vec<_>>(), ["a", "b c"]);
        assert_eq!(query.get("x"), Some(""));
    }
}
