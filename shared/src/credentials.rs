//! The credentials that a request carries, in the order in which they count, and how they are taken off it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, COOKIE},
};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use crate::{
    protocol,
    refusal::{Kind, Refusal},
    request::RESERVED_PARAMETERS,
};

/// Cookies that are credentials, in the order in which they count: our own, and RESTHeart's.
const COOKIES: &[&str] = &[OWN_COOKIE, "rh_auth"];

/// Our own cookie. Browsers keep one of this prefix only from a secure answer, for this host and every path.
pub const OWN_COOKIE: &str = "__Host-tailrace";

/// The query parameter that is a credential.
const TICKET: &str = "ticket";

/// The longest user name and password together, in bytes.
const MOST_OF_BASIC: usize = 1024;

/// Credentials that a request presents. They are not checked yet.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A token, a JWT in compact form unless it is none.
    Token(String),
    /// A name and a password.
    Basic(Basic),
    /// A ticket that this deployment gave out.
    Ticket(String),
}

/// A name and a password (RFC 7617).
#[derive(Clone, PartialEq, Eq)]
pub struct Basic {
    /// The user's name; not empty.
    pub user: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)") // never into a log
    }
}

impl std::fmt::Debug for Basic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Basic(…)") // never into a log
    }
}

/// The credentials of a request, and by what they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    /// The credentials.
    pub credentials: Credentials,
    /// Whether browsers send them on their own, whatever page asks: cookies and Basic. The `Origin` has to make up for it.
    pub ambient: bool,
}

/// The name of a query parameter that carries a token, for clients that can send it in no other way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenParameter(String);

impl TryFrom<String> for TokenParameter {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let fit = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            && !RESERVED_PARAMETERS.contains(&name.as_str());
        if fit {
            return Ok(Self(name));
        }
        Err(format!("{name:?} is no free name of a parameter, expected one such as securetoken"))
    }
}

impl From<TokenParameter> for String {
    fn from(parameter: TokenParameter) -> Self {
        parameter.0
    }
}

impl Credentials {
    /// The first credentials of the request: `Authorization`, a sub-protocol `bearer.<token>`, `?ticket=`, the parameter for
    /// tokens where one is configured, a cookie.
    ///
    /// `None` only when none of these is there at all. What is there but cannot be used is refused: never
    /// downgraded to the next kind or to anonymous. `query` is the raw one.
    pub fn of(
        headers: &HeaderMap,
        query: Option<&str>,
        parameter: Option<&TokenParameter>,
    ) -> Result<Option<Presented>, Refusal> {
        let presented = |credentials| Ok(Some(Presented { credentials, ambient: false }));
        let mut authorizations = headers.get_all(AUTHORIZATION).iter();
        if let Some(authorization) = authorizations.next() {
            if authorizations.next().is_some() {
                return Err(refused("Authorization given twice, expected one"));
            }
            let authorization = authorization
                .to_str()
                .map_err(|_| refused("Authorization is not ASCII, expected Bearer and a token"))?;
            return Self::of_authorization(authorization.trim()).map(Some);
        }
        if let Some(token) = protocol::bearer(headers)? {
            return match token {
                "" => Err(refused("sub-protocol bearer. has no token")),
                token => presented(Self::Token(token.to_owned())),
            };
        }
        if let Some(ticket) = parameter_of(query, TICKET)? {
            return presented(Self::Ticket(ticket));
        }
        if let Some(TokenParameter(name)) = parameter
            && let Some(token) = parameter_of(query, name)?
        {
            return presented(Self::Token(token));
        }
        let cookie = |name: &&'static str| {
            let (_, value) = cookies(headers).find(|(given, _)| *given == name.as_bytes())?;
            Some((*name, value))
        };
        match COOKIES.iter().find_map(cookie) {
            Some((name, value)) => Self::of_cookie(name, value).map(Some),
            None => Ok(None),
        }
    }

    fn of_authorization(value: &str) -> Result<Presented, Refusal> {
        let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            let credentials = Self::Basic(Basic::parse(rest.trim())?);
            return Ok(Presented { credentials, ambient: true });
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(refused("Authorization has another scheme, expected Bearer and a token"));
        }
        match rest.trim() {
            "" => Err(refused("Authorization has no token, expected Bearer and a token")),
            token => Ok(Presented { credentials: Self::Token(token.to_owned()), ambient: false }),
        }
    }

    /// Our own cookie holds a token. RESTHeart's holds what would stand in `Authorization`, with an underscore.
    fn of_cookie(name: &str, value: &[u8]) -> Result<Presented, Refusal> {
        let none = || refused(&format!("cookie {name} holds no credentials"));
        let value = std::str::from_utf8(value).map_err(|_| none())?;
        let value = percent_decode_str(value.trim_matches('"')).decode_utf8_lossy();
        let credentials = match value.split_once('_') {
            _ if name == OWN_COOKIE && !value.is_empty() => Self::Token(value.into_owned()),
            Some(("Bearer", token)) if name != OWN_COOKIE && !token.is_empty() => {
                Self::Token(token.to_owned())
            }
            Some(("Basic", basic)) if name != OWN_COOKIE => Self::Basic(Basic::parse(basic)?),
            _ => return Err(none()),
        };
        Ok(Presented { credentials, ambient: true })
    }
}

impl Basic {
    /// Reads base64 of a name, a colon, and a password, in UTF-8.
    fn parse(encoded: &str) -> Result<Self, Refusal> {
        let malformed = || refused("Basic credentials are malformed, expected base64 of <user>:<password>");
        let decoded = STANDARD.decode(encoded).map_err(|_| malformed())?;
        let text = String::from_utf8(decoded).map_err(|_| malformed())?;
        match text.split_once(':') {
            // A NUL would end the password for some of the hashes.
            Some((user, password))
                if !user.is_empty() && !text.contains('\0') && text.len() <= MOST_OF_BASIC =>
            {
                Ok(Self { user: user.to_owned(), password: password.to_owned() })
            }
            _ => Err(malformed()),
        }
    }

    /// As it stands behind `Basic` in `Authorization`.
    pub fn encoded(&self) -> String {
        STANDARD.encode(format!("{}:{}", self.user, self.password))
    }
}

/// The value of a parameter that is a credential: 401 when it is empty or there twice.
fn parameter_of(query: Option<&str>, name: &str) -> Result<Option<String>, Refusal> {
    let mut values = query.into_iter().flat_map(parameters).filter(|(given, _)| given == name);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some((_, value)), None) if !value.is_empty() => {
            Ok(Some(percent_decode_str(value).decode_utf8_lossy().into_owned()))
        }
        _ => Err(refused(&format!("parameter {name} holds no credentials, expected them once"))),
    }
}

fn refused(message: &str) -> Refusal {
    Refusal::new(Kind::Unauthenticated, message)
}

/// The raw query without the parameters that are credentials; `None` when nothing is left.
pub fn without_credentials(query: Option<&str>, parameter: Option<&TokenParameter>) -> Option<String> {
    let is_credential =
        |name: &str| name == TICKET || parameter.is_some_and(|TokenParameter(other)| name == other);
    let kept: Vec<&str> =
        query?.split('&').filter(|pair| !parameters(pair).any(|(name, _)| is_credential(&name))).collect();
    let kept = kept.join("&");
    (!kept.is_empty()).then_some(kept)
}

/// Takes the caller's credentials off `headers` and the raw `query`, and returns the query that is left.
///
/// Goes on to the backend: what is no credential, other cookies included. `identity` is the header that only the edge
/// may set; a client's own is taken off as well.
pub fn strip(
    headers: &mut HeaderMap,
    query: Option<&str>,
    parameter: Option<&TokenParameter>,
    identity: &HeaderName,
) -> Option<String> {
    headers.remove(AUTHORIZATION);
    headers.remove(identity);
    let rest = protocol::without_bearer(headers).and_then(|value| value.parse().ok());
    headers.remove(http::header::SEC_WEBSOCKET_PROTOCOL);
    if let Some(rest) = rest {
        headers.insert(http::header::SEC_WEBSOCKET_PROTOCOL, rest);
    }
    let kept: Vec<_> = cookies(headers)
        .filter(|(name, _)| !COOKIES.iter().any(|ours| ours.as_bytes() == *name))
        .map(|(name, value)| [name, value].join(&b'='))
        .collect();
    headers.remove(COOKIE);
    if let Ok(kept) = HeaderValue::from_bytes(&kept.join(&b"; "[..]))
        && !kept.is_empty()
    {
        headers.insert(COOKIE, kept);
    }
    without_credentials(query, parameter)
}

fn parameters(query: &str) -> impl Iterator<Item = (String, &str)> {
    query.split('&').map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decode_str(name).decode_utf8_lossy().into_owned(), value)
    })
}

/// Names and values, as bytes: a cookie of somebody else's may hold any, and hides none that stands beside it.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';')).filter_map(
        |pair| {
            let pair = pair.trim_ascii();
            let end = pair.iter().position(|byte| *byte == b'=')?;
            Some((&pair[..end], &pair[end + 1..]))
        },
    )
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn shown(of: &[(&'static str, &str)], query: Option<&str>) -> Result<Option<String>, String> {
        let parameter = TokenParameter::try_from("securetoken".to_owned()).unwrap();
        let presented = Credentials::of(&headers(of), query, Some(&parameter));
        presented.map_err(|refusal| refusal.to_string()).map(|presented| {
            let Presented { credentials, ambient } = presented?;
            let shown = match credentials {
                Credentials::Token(token) => format!("token {token}"),
                Credentials::Basic(Basic { user, password }) => format!("basic {user} {password}"),
                Credentials::Ticket(ticket) => format!("ticket {ticket}"),
            };
            Some(if ambient { format!("{shown}, ambient") } else { shown })
        })
    }

    #[test]
    fn the_kinds_count_in_their_order() {
        let all = [
            ("authorization", "bearer a"),
            ("sec-websocket-protocol", "bearer.b, tailrace.plain"),
            ("cookie", "rh_auth=Bearer_e; __Host-tailrace=d"),
        ];
        let query = Some("avars={}&securetoken=c%2E&ticket=t");
        assert_eq!(shown(&all, query), Ok(Some("token a".into())));
        assert_eq!(shown(&all[1..], query), Ok(Some("token b".into())));
        assert_eq!(shown(&all[2..], query), Ok(Some("ticket t".into())));
        assert_eq!(shown(&all[2..], Some("securetoken=c%2E")), Ok(Some("token c.".into())));
        assert_eq!(shown(&all[2..], None), Ok(Some("token d, ambient".into())));
        assert_eq!(shown(&[("cookie", "rh_auth=Bearer_e")], None), Ok(Some("token e, ambient".into())));
        assert_eq!(shown(&[("cookie", "theme=dark")], Some("avars={}")), Ok(None));
        let unnamed = Credentials::of(&HeaderMap::new(), Some("securetoken=c"), None);
        assert_eq!(unnamed, Ok(None), "off unless configured");
    }

    #[test]
    fn a_name_and_a_password_come_by_basic_or_by_a_cookie() {
        let expected = Ok(Some("basic uji p:w, ambient".into()));
        assert_eq!(shown(&[("authorization", "Basic dWppOnA6dw==")], None), expected);
        for cookie in
            ["rh_auth=Basic_dWppOnA6dw==", "rh_auth=\"Basic_dWppOnA6dw==\"", "rh_auth=Basic_dWppOnA6dw%3D%3D"]
        {
            assert_eq!(shown(&[("cookie", cookie)], None), expected, "{cookie}");
        }
        let basic = Basic { user: "uji".into(), password: "p:w".into() };
        assert_eq!(basic.encoded(), "dWppOnA6dw==");
        assert_eq!(format!("{basic:?} {:?}", Credentials::Ticket("t".into())), "Basic(…) Credentials(…)");
    }

    #[test]
    fn what_is_presented_but_unusable_is_401_and_never_the_next_kind() {
        let malformed = "401 Basic credentials are malformed, expected base64 of <user>:<password>";
        let none = |name: &str| format!("401 cookie {name} holds no credentials");
        for (name, value, message) in [
            (
                "authorization",
                "Digest x",
                "401 Authorization has another scheme, expected Bearer and a token".to_owned(),
            ),
            (
                "authorization",
                "",
                "401 Authorization has another scheme, expected Bearer and a token".to_owned(),
            ),
            (
                "authorization",
                "Bearer ",
                "401 Authorization has no token, expected Bearer and a token".to_owned(),
            ),
            ("authorization", "Basic", malformed.to_owned()),
            ("authorization", "Basic !", malformed.to_owned()),
            ("authorization", "Basic dWpp", malformed.to_owned()), // uji
            ("authorization", "Basic OnB3", malformed.to_owned()), // :pw
            ("authorization", "Basic dTpwAHc=", malformed.to_owned()), // u:p\0w
            ("cookie", "a=b; rh_auth=x", none("rh_auth")),
            ("cookie", "rh_auth=Bearer_", none("rh_auth")),
            ("cookie", "__Host-tailrace=; rh_auth=Bearer_x", none("__Host-tailrace")),
        ] {
            let query = Some("avars={}");
            assert_eq!(shown(&[(name, value)], query), Err(message), "{name}: {value}");
        }
        let digest = [("authorization", "Digest x"), ("sec-websocket-protocol", "bearer.b")];
        assert!(shown(&digest, None).is_err());
        for (query, name) in [
            ("ticket=", "ticket"),
            ("a=b&ticket", "ticket"),
            ("%74icket=", "ticket"),
            ("ticket=x&ticket=y", "ticket"),
            ("securetoken=", "securetoken"),
        ] {
            let expected = Err(format!("401 parameter {name} holds no credentials, expected them once"));
            assert_eq!(shown(&[("cookie", "rh_auth=Bearer_x")], Some(query)), expected, "{query}");
        }
    }

    #[test]
    fn a_parameter_for_tokens_has_a_name_of_its_own() {
        for odd in ["", "a b", "avars", "ticket", "resumeAfter", "filter", "a&b"] {
            let expected =
                format!("{odd:?} is no free name of a parameter, expected one such as securetoken");
            assert_eq!(TokenParameter::try_from(odd.to_owned()), Err(expected));
        }
    }

    #[test]
    fn two_authorizations_are_401() {
        let twice = [("authorization", "Bearer a"), ("authorization", "Bearer b")];
        assert_eq!(shown(&twice, None), Err("401 Authorization given twice, expected one".into()));
    }

    #[test]
    fn a_cookie_that_is_no_text_hides_none_beside_it_and_is_passed_on_as_it_is() {
        let foreign = b"name=J\xF6rg; __Host-tailrace=d; city=K\xC3\xB6ln; rh_auth=Bearer_\xF6";
        let mut sent: HeaderMap = [(COOKIE, HeaderValue::from_bytes(foreign).unwrap())].into_iter().collect();
        let token = Credentials::Token("d".into());
        let presented = Presented { credentials: token, ambient: true };
        assert_eq!(Credentials::of(&sent, None, None), Ok(Some(presented)));
        strip(&mut sent, None, None, &HeaderName::from_static("tailrace-identity"));
        assert_eq!(sent[COOKIE], HeaderValue::from_bytes(b"name=J\xF6rg; city=K\xC3\xB6ln").unwrap());
        let ours = HeaderValue::from_bytes(b"__Host-tailrace=\xF6").unwrap();
        let refusal = Credentials::of(&[(COOKIE, ours)].into_iter().collect(), None, None).unwrap_err();
        assert_eq!(refusal.to_string(), "401 cookie __Host-tailrace holds no credentials");
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
        let parameter = TokenParameter::try_from("securetoken".to_owned()).ok();
        let query = Some("avars=%7B%7D&ticket=t&%74icket=u&securetoken=c&%73ecuretoken=c&x");
        let query = strip(&mut sent, query, parameter.as_ref(), &identity);
        assert_eq!(query.as_deref(), Some("avars=%7B%7D&x"));
        let expected =
            [("sec-websocket-protocol", "tailrace.plain"), ("cookie", "theme=dark"), ("accept", "*/*")];
        assert_eq!(sent, headers(&expected));
        assert_eq!(strip(&mut HeaderMap::new(), Some("ticket=t"), None, &identity), None);
    }
}
