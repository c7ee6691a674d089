//! The `Origin` of a request (RFC 6454), and the CORS headers of its answer (Fetch standard, "CORS protocol").

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HOST, ORIGIN,
        VARY,
    },
};
use serde::{Deserialize, Serialize};

use crate::{
    refusal::{Kind, Refusal},
    request::Head,
};

/// The origins of other sites whose pages may call. An empty list lets every page call, without cookies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Origins(Vec<String>);

/// What an `Origin` header comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// No `Origin`: not a browser, or a request that browsers send without one.
    Absent,
    /// Some origin, and no list is set.
    Any,
    /// The address that the request itself went to.
    Own,
    /// One of the list: its text, as the answer repeats it.
    Listed(String),
    /// Neither own nor listed.
    Foreign,
}

impl Origins {
    /// Reads a list of origins such as `https://app.example`. The error names the one that is wrong.
    pub fn new<T: AsRef<str>>(origins: impl IntoIterator<Item = T>) -> Result<Self, String> {
        let mut list = Vec::new();
        for origin in origins {
            let origin = origin.as_ref().trim().trim_end_matches('/').to_ascii_lowercase();
            let well_formed = origin.parse::<Uri>().is_ok_and(|uri| {
                matches!(uri.scheme_str(), Some("http" | "https"))
                    && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
                    && uri.path() == "/"
                    && uri.query().is_none()
            });
            if !well_formed {
                return Err(format!("{origin:?} is no origin, expected one such as https://app.example"));
            }
            list.push(origin);
        }
        Ok(Self(list))
    }

    /// Judges the `Origin` of a request that was sent to its `Host`.
    pub fn judge(&self, headers: &HeaderMap) -> Verdict {
        let Some(origin) = headers.get(ORIGIN) else { return Verdict::Absent };
        let origin = origin.to_str().unwrap_or("null");
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        // The scheme is left out of the comparison: behind a proxy the server cannot know it.
        let own = origin
            .split_once("://")
            .is_some_and(|(_, site)| host.is_some_and(|host| host.eq_ignore_ascii_case(site)));
        if own {
            return Verdict::Own;
        }
        if self.0.is_empty() {
            return Verdict::Any;
        }
        match self.0.iter().find(|listed| listed.eq_ignore_ascii_case(origin)) {
            Some(_) => Verdict::Listed(origin.to_owned()),
            None => Verdict::Foreign,
        }
    }

    fn varies(&self) -> bool {
        !self.0.is_empty()
    }

    /// The CORS headers of the answer to a request of this verdict, refusals included.
    pub fn headers(&self, verdict: &Verdict) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = Vec::new();
        if self.varies() {
            headers.push((VARY, HeaderValue::from_static("origin")));
        }
        match verdict {
            Verdict::Absent if self.varies() => {}
            // Without a list the answer is the same for all, so that it says so for a request without Origin too.
            Verdict::Absent | Verdict::Any => {
                headers.push((ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")));
            }
            Verdict::Listed(origin) => {
                if let Ok(origin) = HeaderValue::from_str(origin) {
                    headers.push((ACCESS_CONTROL_ALLOW_ORIGIN, origin));
                    headers.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")));
                }
            }
            Verdict::Own | Verdict::Foreign => return headers,
        }
        headers.push((ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED)));
        headers
    }

    /// The headers of the 204 that answers a preflight, besides those of [`Origins::headers`].
    pub fn preflight_headers(&self, verdict: &Verdict) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = self.headers(verdict);
        if matches!(verdict, Verdict::Any | Verdict::Listed(_)) {
            headers.push((ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS)));
            headers.push((ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(ALLOWED)));
            headers.push((ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600")));
        }
        headers
    }
}

/// Headers of an answer that a page of another origin may read.
const EXPOSED: &str = "Allow, ETag, Last-Modified, Location, Retry-After, WWW-Authenticate";
/// Methods that a page of another origin may use.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
/// Headers that a page of another origin may send.
const ALLOWED: &str = "Accept, Authorization, Content-Type, If-Match, If-None-Match, Last-Event-ID";

impl Verdict {
    /// Refuses a foreign origin, 403.
    pub fn admit(&self) -> Result<(), Refusal> {
        match self {
            Verdict::Foreign => Err(Refusal::new(Kind::Forbidden, "origin not allowed")),
            _ => Ok(()),
        }
    }

    /// Refuses, 403, what a page of another site could have made a browser ask for: with credentials that browsers send on
    /// their own, every upgrade, event stream, and write needs an origin that is own or listed. A plain GET may do without
    /// one: what it is answered, no page of another site can read.
    pub fn admit_ambient(&self, head: &Head) -> Result<(), Refusal> {
        let reads = matches!(head.method, Method::GET | Method::HEAD);
        let acts = !reads || head.is_upgrade() || head.wants_event_stream();
        match self {
            Verdict::Own | Verdict::Listed(_) => Ok(()),
            Verdict::Absent if !acts => Ok(()),
            Verdict::Absent => Err(Refusal::new(
                Kind::Forbidden,
                "origin missing, expected one that is allowed beside a cookie or a password",
            )),
            Verdict::Any | Verdict::Foreign => Err(Refusal::new(Kind::Forbidden, "origin not allowed")),
        }
    }
}

impl TryFrom<Vec<String>> for Origins {
    type Error = String;

    fn try_from(origins: Vec<String>) -> Result<Self, String> {
        Self::new(origins)
    }
}

impl From<Origins> for Vec<String> {
    fn from(origins: Origins) -> Self {
        origins.0
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn from(origin: &str) -> HeaderMap {
        [(HOST, "live.example".parse().unwrap()), (ORIGIN, origin.parse().unwrap())].into_iter().collect()
    }

    fn text(headers: &[(HeaderName, HeaderValue)]) -> String {
        let line =
            |(name, value): &(HeaderName, HeaderValue)| format!("{name}={}\n", value.to_str().unwrap());
        headers.iter().map(line).collect::<Vec<_>>().concat()
    }

    #[test]
    fn without_a_list_every_page_may_call_without_cookies() {
        let origins = Origins::default();
        let verdict = origins.judge(&from("https://app.example"));
        assert_eq!(verdict, Verdict::Any);
        assert_eq!(verdict.admit(), Ok(()));
        let headers = text(&origins.headers(&verdict));
        assert!(headers.contains("access-control-allow-origin=*\n"), "{headers}");
        assert!(!headers.contains("credentials"), "{headers}");
    }

    #[test]
    fn with_a_list_a_foreign_or_null_origin_is_403_and_told_nothing() {
        let origins = Origins::new(["https://app.example"]).unwrap();
        for foreign in
            ["https://evil.example", "null", "http://app.example", "https://app.example.evil.example"]
        {
            let verdict = origins.judge(&from(foreign));
            assert_eq!(verdict.admit().unwrap_err().to_string(), "403 origin not allowed", "{foreign}");
            assert_eq!(text(&origins.headers(&verdict)), "vary=origin\n");
        }
    }

    #[test]
    fn own_and_listed_origins_and_those_without_one_pass() {
        let origins = Origins::new(["https://App.example/"]).unwrap();
        assert_eq!(origins.judge(&from("https://live.example")), Verdict::Own);
        assert_eq!(origins.judge(&HeaderMap::new()), Verdict::Absent);
        let listed = origins.judge(&from("https://app.example"));
        assert_eq!(listed, Verdict::Listed("https://app.example".into()));
        let headers = text(&origins.headers(&listed));
        let expected =
            "access-control-allow-origin=https://app.example\naccess-control-allow-credentials=true\n";
        assert!(headers.contains(expected), "{headers}");
    }

    #[test]
    fn credentials_that_browsers_send_by_themselves_need_an_origin_that_is_own_or_listed() {
        let head = |method: Method, extra: &[(&'static str, &str)]| {
            let headers =
                extra.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
            Head { method, path: "/".into(), query: None, headers: headers.collect(), peer: None }
        };
        let asks = [
            (head(Method::GET, &[]), true),
            (head(Method::HEAD, &[]), true),
            (head(Method::GET, &[("accept", "text/event-stream")]), false),
            (head(Method::GET, &[("connection", "upgrade"), ("upgrade", "websocket")]), false),
            (head(Method::POST, &[]), false),
            (head(Method::DELETE, &[]), false),
        ];
        for (head, without_origin) in asks {
            for (verdict, passes) in [
                (Verdict::Own, true),
                (Verdict::Listed("https://app.example".into()), true),
                (Verdict::Absent, without_origin),
                (Verdict::Any, false),
                (Verdict::Foreign, false),
            ] {
                let admitted = verdict.admit_ambient(&head);
                assert_eq!(admitted.is_ok(), passes, "{verdict:?} {head:?}");
                assert!(admitted.is_ok() || admitted.unwrap_err().kind() == Kind::Forbidden);
            }
        }
    }

    #[test]
    fn a_preflight_names_methods_and_headers() {
        let origins = Origins::default();
        let headers = text(&origins.preflight_headers(&Verdict::Any));
        assert!(
            headers.contains("access-control-allow-methods=GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\n")
        );
        assert!(headers.contains("Authorization"), "{headers}");
        assert_eq!(
            text(&Origins::new(["https://a.example"]).unwrap().preflight_headers(&Verdict::Foreign)),
            "vary=origin\n"
        );
    }

    #[test]
    fn a_list_is_refused_with_the_origin_that_is_wrong() {
        for bad in ["app.example", "*", "https://app.example/x", "null", "ftp://a.example"] {
            let fault = Origins::new([bad]).unwrap_err();
            assert_eq!(fault, format!("{bad:?} is no origin, expected one such as https://app.example"));
        }
    }
}
