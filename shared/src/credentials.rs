//! The credentials that a request carries, in the order in which they count, and how they are taken off it.

use http::{
    HeaderMap, HeaderName,
    header::{AUTHORIZATION, COOKIE},
};
use percent_encoding::percent_decode_str;

use crate::{
    protocol,
    refusal::{Kind, Refusal},
};

/// Cookies that are credentials: our own, and RESTHeart's.
const COOKIES: &[&str] = &["__Host-tailrace", "rh_auth"];

/// The query parameter that is a credential.
const TICKET: &str = "ticket";

/// Credentials that a request presents. They are not checked yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    token: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)") // never into a log
    }
}

impl Credentials {
    /// The first credentials of the request: `Authorization`, a sub-protocol `bearer.<token>`, `?ticket=`, a cookie.
    ///
    /// `None` only when none of these is there at all. What is there but cannot be used is refused: never
    /// downgraded to the next kind or to anonymous. `query` is the raw one.
    pub fn of(headers: &HeaderMap, query: Option<&str>) -> Result<Option<Self>, Refusal> {
        let refused = |message: &str| Err(Refusal::new(Kind::Unauthenticated, message));
        let mut authorizations = headers.get_all(AUTHORIZATION).iter();
        if let Some(authorization) = authorizations.next() {
            if authorizations.next().is_some() {
                return refused("Authorization given twice, expected one");
            }
            let Ok(authorization) = authorization.to_str() else {
                return refused("Authorization is not ASCII, expected Bearer and a token");
            };
            let (scheme, token) = authorization.trim().split_once(' ').unwrap_or((authorization.trim(), ""));
            if !scheme.eq_ignore_ascii_case("bearer") {
                return refused("Authorization has another scheme, expected Bearer and a token");
            }
            return match token.trim() {
                "" => refused("Authorization has no token, expected Bearer and a token"),
                token => Ok(Some(Self { token: token.to_owned() })),
            };
        }
        if let Some(token) = protocol::bearer(headers)? {
            return match token {
                "" => refused("sub-protocol bearer. has no token"),
                token => Ok(Some(Self { token: token.to_owned() })),
            };
        }
        if query.is_some_and(|query| parameters(query).any(|(name, _)| name == TICKET)) {
            return refused("a ticket is not accepted here, expected a Bearer token");
        }
        match cookies(headers).find(|(name, _)| COOKIES.contains(name)) {
            Some((name, _)) => {
                refused(&format!("cookie {name} is not accepted here, expected a Bearer token"))
            }
            None => Ok(None),
        }
    }

    /// The token, a JWT in compact form unless it is none.
    pub fn token(&self) -> &str {
        &self.token
    }
}

/// Takes the caller's credentials off `headers` and the raw `query`, and returns the query that is left.
///
/// Goes on to the backend: what is no credential, other cookies included. `identity` is the header that only the edge
/// may set; a client's own is taken off as well.
pub fn strip(headers: &mut HeaderMap, query: Option<&str>, identity: &HeaderName) -> Option<String> {
    headers.remove(AUTHORIZATION);
    headers.remove(identity);
    let rest = protocol::without_bearer(headers).and_then(|value| value.parse().ok());
    headers.remove(http::header::SEC_WEBSOCKET_PROTOCOL);
    if let Some(rest) = rest {
        headers.insert(http::header::SEC_WEBSOCKET_PROTOCOL, rest);
    }
    let kept: Vec<String> = cookies(headers)
        .filter(|(name, _)| !COOKIES.contains(name))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    headers.remove(COOKIE);
    if let Ok(kept) = kept.join("; ").parse::<http::HeaderValue>()
        && !kept.is_empty()
    {
        headers.insert(COOKIE, kept);
    }
    let kept: Vec<&str> =
        query?.split('&').filter(|pair| !parameters(pair).any(|(name, _)| name == TICKET)).collect();
    let kept = kept.join("&");
    (!kept.is_empty()).then_some(kept)
}

fn parameters(query: &str) -> impl Iterator<Item = (String, &str)> {
    query.split('&').map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decode_str(name).decode_utf8_lossy().into_owned(), value)
    })
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn token(of: &[(&'static str, &str)], query: Option<&str>) -> Result<Option<String>, String> {
        Credentials::of(&headers(of), query)
            .map(|found| found.map(|credentials| credentials.token))
            .map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn authorization_counts_before_a_sub_protocol() {
        let both = [("authorization", "bearer a"), ("sec-websocket-protocol", "bearer.b, tailrace.plain")];
        assert_eq!(token(&both, None), Ok(Some("a".into())));
        assert_eq!(token(&both[1..], None), Ok(Some("b".into())));
        assert_eq!(token(&[], Some("avars={}")), Ok(None));
    }

    #[test]
    fn what_is_presented_but_unusable_is_401_and_never_the_next_kind() {
        for (name, value, message) in [
            (
                "authorization",
                "Basic dTpw",
                "401 Authorization has another scheme, expected Bearer and a token",
            ),
            ("authorization", "", "401 Authorization has another scheme, expected Bearer and a token"),
            ("authorization", "Bearer ", "401 Authorization has no token, expected Bearer and a token"),
            (
                "cookie",
                "a=b; rh_auth=Bearer_x",
                "401 cookie rh_auth is not accepted here, expected a Bearer token",
            ),
        ] {
            assert_eq!(token(&[(name, value)], None), Err(message.to_owned()), "{name}: {value}");
        }
        let basic = [("authorization", "Basic dTpw"), ("sec-websocket-protocol", "bearer.b")];
        assert!(token(&basic, None).is_err());
        for query in ["ticket=x", "a=b&ticket", "%74icket=x"] {
            let expected = Err("401 a ticket is not accepted here, expected a Bearer token".to_owned());
            assert_eq!(token(&[], Some(query)), expected);
        }
    }

    #[test]
    fn two_authorizations_are_401() {
        let twice = [("authorization", "Bearer a"), ("authorization", "Bearer b")];
        assert_eq!(token(&twice, None), Err("401 Authorization given twice, expected one".into()));
    }

    #[test]
    fn no_credential_is_passed_on() {
        let mut sent = headers(&[
            ("authorization", "Bearer a"),
            ("sec-websocket-protocol", "bearer.b, tailrace.plain"),
            ("cookie", "theme=dark; rh_auth=Bearer_x; __Host-tailrace=y"),
            ("tailrace-identity", "forged"),
            ("accept", "*/*"),
        ]);
        let identity = HeaderName::from_static("tailrace-identity");
        let query = strip(&mut sent, Some("avars=%7B%7D&ticket=t&%74icket=u&x"), &identity);
        assert_eq!(query.as_deref(), Some("avars=%7B%7D&x"));
        let expected =
            [("sec-websocket-protocol", "tailrace.plain"), ("cookie", "theme=dark"), ("accept", "*/*")];
        assert_eq!(sent, headers(&expected));
        assert_eq!(strip(&mut HeaderMap::new(), Some("ticket=t"), &identity), None);
    }
}
