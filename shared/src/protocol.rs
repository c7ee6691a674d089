//! Which WebSocket sub-protocol a client speaks (RFC 6455, section 1.9).

use http::{HeaderMap, header::SEC_WEBSOCKET_PROTOCOL};

use crate::refusal::{Kind, Refusal};

/// The form in which a client receives its events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// One text message an event, the event's JSON alone.
    #[default]
    Plain,
    /// Typed messages as JSON.
    V1Json,
    /// Typed messages as BSON.
    V1Bson,
}

/// The names that are known, in the one place that says so.
const KNOWN: &[(&str, Protocol)] = &[
    ("tailrace.plain", Protocol::Plain),
    ("tailrace.v1.json", Protocol::V1Json),
    ("tailrace.v1.bson", Protocol::V1Bson),
];

/// A sub-protocol of this prefix carries a token: a browser's WebSocket cannot send `Authorization`.
const BEARER: &str = "bearer.";

/// What a client's sub-protocols come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Negotiated {
    /// The form that the client receives.
    pub protocol: Protocol,
    /// The name for the answer's `Sec-WebSocket-Protocol`: browsers fail a handshake that echoes nothing they offered.
    pub echo: Option<&'static str>,
}

impl Negotiated {
    /// Judges the offered sub-protocols: the first known one counts, none at all is the plain form.
    ///
    /// 400 when only unknown ones are offered, when a `bearer.` stands alone, or when there are two of them.
    pub fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let offered: Vec<&str> = offered(headers).collect();
        if offered.iter().filter(|name| name.starts_with(BEARER)).count() > 1 {
            return Err(Refusal::new(
                Kind::BadRequest,
                "two bearer tokens in Sec-WebSocket-Protocol, expected one",
            ));
        }
        if offered.is_empty() {
            return Ok(Self::default());
        }
        let known = offered.iter().find_map(|name| KNOWN.iter().find(|(known, _)| known == name));
        if let Some(&(name, protocol)) = known {
            return Ok(Self { protocol, echo: Some(name) });
        }
        let names: Vec<_> = KNOWN.iter().map(|(name, _)| *name).collect();
        let message = format!("no known sub-protocol offered, expected one of {}", names.join(", "));
        Err(Refusal::new(Kind::BadRequest, message))
    }
}

/// The token in the offered sub-protocols, if there is exactly one; two are refused by [`Negotiated::of`] as well.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut tokens = offered(headers).filter_map(|name| name.strip_prefix(BEARER));
    match (tokens.next(), tokens.next()) {
        (_, Some(_)) => {
            Err(Refusal::new(Kind::BadRequest, "two bearer tokens in Sec-WebSocket-Protocol, expected one"))
        }
        (token, None) => Ok(token),
    }
}

/// The offered sub-protocols without those that carry a token, as one header value; `None` when none is left.
pub fn without_bearer(headers: &HeaderMap) -> Option<String> {
    let rest: Vec<&str> = offered(headers).filter(|name| !name.starts_with(BEARER)).collect();
    (!rest.is_empty()).then(|| rest.join(", "))
}

fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn offering(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (SEC_WEBSOCKET_PROTOCOL, value.parse().unwrap())).collect()
    }

    #[test]
    fn no_sub_protocol_is_the_plain_form_and_nothing_is_echoed() {
        assert_eq!(
            Negotiated::of(&HeaderMap::new()),
            Ok(Negotiated { protocol: Protocol::Plain, echo: None })
        );
    }

    #[test]
    fn the_first_known_one_is_echoed_and_a_bearer_never() {
        for offer in
            [&["bearer.x, tailrace.plain"][..], &["chat,tailrace.plain"], &["bearer.x", "tailrace.plain"]]
        {
            assert_eq!(Negotiated::of(&offering(offer)).unwrap().echo, Some("tailrace.plain"), "{offer:?}");
        }
    }

    #[test]
    fn only_unknown_ones_or_a_lone_bearer_are_400() {
        for offer in ["chat", "bearer.x", "tailrace.v2.json", "TAILRACE.PLAIN"] {
            let refusal = Negotiated::of(&offering(&[offer])).unwrap_err();
            assert_eq!(
                refusal.to_string(),
                "400 no known sub-protocol offered, expected one of tailrace.plain, tailrace.v1.json, tailrace.v1.bson"
            );
        }
    }

    #[test]
    fn two_bearers_are_400() {
        let headers = offering(&["bearer.x, bearer.y, tailrace.plain"]);
        let expected = "400 two bearer tokens in Sec-WebSocket-Protocol, expected one";
        assert_eq!(Negotiated::of(&headers).unwrap_err().to_string(), expected);
        assert_eq!(bearer(&headers).unwrap_err().to_string(), expected);
    }

    #[test]
    fn what_is_passed_on_carries_no_token() {
        assert_eq!(
            without_bearer(&offering(&["bearer.x, tailrace.plain"])).as_deref(),
            Some("tailrace.plain")
        );
        assert_eq!(without_bearer(&offering(&["bearer.x"])), None);
    }
}
