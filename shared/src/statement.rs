//! How the edge tells the backend who calls: a signed, short-lived statement that is bound to one request.

use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{
    edge_key::EdgeKeys,
    identity::{Claims, Identity, UserVersion, has_nul},
    origin::Verdict,
    refusal::Refusal,
    ticket::TicketId,
    token::{LEEWAY, refused},
};

/// The header that carries the statement from edge to backend.
pub const HEADER: HeaderName = HeaderName::from_static("tailrace-identity");

/// How long a statement holds, in seconds.
pub const LIFETIME: u64 = 60;

/// The largest statement that is read, in bytes: room for the claims of the largest token.
const LIMIT: usize = 16 * 1024;

/// The `typ` that keeps statements and tokens apart.
const TYPE: &str = "tailrace-identity";

/// The request that a statement goes with, as the edge sends it: a digest of its method, host, path, and query, so that
/// a long query does not make the header long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bound(String);

impl Bound {
    /// What to bind of a request: `host` as its header, path and query raw. No query and an empty one are the same.
    pub fn new(method: &str, host: &str, path: &str, query: Option<&str>) -> Self {
        // A line feed is in none of these, so no two requests give one text.
        let request =
            format!("{method}\n{}\n{path}\n{}", host.to_ascii_lowercase(), query.unwrap_or_default());
        Self(URL_SAFE_NO_PAD.encode(Sha256::digest(request)))
    }
}

/// What the edge says of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// Who calls.
    pub identity: Identity,
    /// The client's address, if the edge knows it.
    pub client: Option<IpAddr>,
    /// What became of the request's `Origin`.
    pub origin: Verdict,
    /// Whether the credentials are such as browsers send on their own.
    pub ambient: bool,
    /// The ticket that was shown, for the backend to burn.
    pub ticket: Option<TicketId>,
}

impl Statement {
    /// Of a request that the edge makes for itself.
    pub fn of_edge(client: Option<IpAddr>) -> Self {
        Self { identity: Identity::Anonymous, client, origin: Verdict::Absent, ambient: false, ticket: None }
    }
}

/// A statement that was found valid, with what the receiver must remember: it counts once.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// What the edge says.
    pub statement: Statement,
    /// The id of the key that signed it.
    pub key_id: String,
    /// The statement's own id.
    pub id: [u8; 16],
    /// Until when the id must be remembered, in Unix seconds.
    pub remember_until: u64,
}

/// What a statement is for: a statement for one purpose is worth nothing for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A client's request that the edge passes on.
    Request,
    /// The edge's own request for definitions or settings.
    Definitions,
    /// The edge's own question whether a password is right.
    Credentials,
}

impl Purpose {
    fn audience(self, deployment: &str) -> String {
        match self {
            Self::Request => deployment.to_owned(),
            Self::Definitions => format!("{deployment}#definitions"),
            Self::Credentials => format!("{deployment}#credentials"),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Payload {
    aud: String,
    iat: u64,
    exp: u64,
    jti: String,
    request: Bound,
    client: Option<IpAddr>,
    origin: Verdict,
    claims: Option<Map<String, Value>>,
    session_end: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<UserVersion>,
    #[serde(default)]
    ambient: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ticket: Option<TicketId>,
}

/// Signs a statement, to be sent at once and once only: `id` is 16 fresh random bytes, `now` is in Unix seconds.
///
/// `None` when there is no key.
pub fn sign(
    statement: &Statement,
    purpose: Purpose,
    bound: &Bound,
    keys: &EdgeKeys,
    deployment: &str,
    id: [u8; 16],
    now: u64,
) -> Option<String> {
    let claims = statement.identity.claims();
    let payload = Payload {
        aud: purpose.audience(deployment),
        iat: now,
        exp: now + LIFETIME,
        jti: URL_SAFE_NO_PAD.encode(id),
        request: bound.clone(),
        client: statement.client,
        origin: statement.origin.clone(),
        claims: claims.map(|claims| claims.as_object().clone()),
        session_end: claims.map(Claims::session_end),
        user: claims.and_then(|claims| claims.version().cloned()),
        ambient: statement.ambient,
        ticket: statement.ticket.clone(),
    };
    keys.sign(TYPE, &payload)
}

/// Checks the statement that came with a request. Anything wrong is 401, saying what.
///
/// `Ok(None)` when there is none. `now` is in Unix seconds. That the id was not seen before is the caller's to check.
pub fn verify(
    headers: &HeaderMap,
    purpose: Purpose,
    bound: &Bound,
    keys: &EdgeKeys,
    deployment: &str,
    now: u64,
) -> Result<Option<Received>, Refusal> {
    let bad = |what: &str| refused(format!("Tailrace-Identity {what}"));
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad("is given twice"));
    }
    let malformed = || bad("is malformed");
    let value = value.to_str().ok().filter(|value| value.len() <= LIMIT).ok_or_else(malformed)?;
    let (key_id, payload): (String, Payload) = keys.open(TYPE, value).map_err(bad)?;
    if payload.aud != purpose.audience(deployment) {
        return Err(bad("is for another deployment or purpose"));
    }
    if payload.iat > now + LEEWAY || payload.exp > payload.iat.saturating_add(LIFETIME) {
        return Err(bad("is from the future"));
    }
    if payload.exp + LEEWAY <= now {
        return Err(bad("expired"));
    }
    if payload.request != *bound {
        return Err(bad("is for another request"));
    }
    let id = URL_SAFE_NO_PAD.decode(&payload.jti).ok().and_then(|id| id.try_into().ok());
    let id = id.ok_or_else(malformed)?;
    let identity = match (payload.claims, payload.session_end) {
        (None, None) => Identity::Anonymous,
        (Some(claims), Some(session_end)) if !claims.iter().any(|(name, value)| has_nul(name, value)) => {
            Identity::Verified(Claims::restored(claims, session_end, payload.user))
        }
        _ => return Err(malformed()),
    };
    Ok(Some(Received {
        statement: Statement {
            identity,
            client: payload.client,
            origin: payload.origin,
            ambient: payload.ambient,
            ticket: payload.ticket,
        },
        key_id,
        id,
        remember_until: payload.exp + LEEWAY,
    }))
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use bson::doc;
    use serde_json::json;

    use super::*;

    const OLD: (&str, &str) = ("k1", "the first key that edges sign by");
    const NEW: (&str, &str) = ("k2", "the second one, to which we turn");

    fn bound() -> Bound {
        Bound::new("GET", "Node.example:8080", "/messages/_streams/mine", Some("avars=%7B%7D"))
    }

    fn statement() -> Statement {
        let Value::Object(claims) = json!({"sub":"uji","level":5}) else { unreachable!() };
        Statement {
            identity: Identity::Verified(Claims::new(claims, 5000)),
            client: Some([192, 0, 2, 7].into()),
            origin: Verdict::Listed("https://app.example".into()),
            ambient: true,
            ticket: Some(TicketId { id: "x".into(), expires: 1030 }),
        }
    }

    fn signed(keys: &[(&str, &str)]) -> HeaderMap {
        let keys = EdgeKeys::new(keys.iter().copied()).unwrap();
        let value = sign(&statement(), Purpose::Request, &bound(), &keys, "chat", [1; 16], 1000).unwrap();
        [(HEADER, value.parse().unwrap())].into_iter().collect()
    }

    fn verified(
        headers: &HeaderMap,
        bound: &Bound,
        deployment: &str,
        now: u64,
    ) -> Result<Option<Received>, String> {
        let keys = EdgeKeys::new([OLD, NEW]).unwrap();
        verify(headers, Purpose::Request, bound, &keys, deployment, now)
            .map_err(|refusal| refusal.message().to_owned())
    }

    #[test]
    fn what_the_edge_says_arrives_and_both_keys_count_while_rotating() {
        for keys in [[OLD], [NEW]] {
            let received = verified(&signed(&keys), &bound(), "chat", 1000).unwrap().unwrap();
            assert_eq!(received.statement, statement());
            assert_eq!(received.remember_until, 1090);
        }
        assert_eq!(verified(&HeaderMap::new(), &bound(), "chat", 1000), Ok(None));
    }

    #[test]
    fn a_statement_counts_for_its_request_only() {
        let (host, path, query) = ("node.example:8080", "/messages/_streams/mine", Some("avars=%7B%7D"));
        assert_eq!(bound(), Bound::new("GET", host, path, query));
        let others = [
            Bound::new("POST", host, path, query),
            Bound::new("GET", "other.example", path, query),
            Bound::new("GET", host, "/messages/_streams/all", query),
            Bound::new("GET", host, path, Some("avars=%7B%22n%22%3A1%7D")),
            Bound::new("GET", host, path, None),
        ];
        for other in others {
            let found = verified(&signed(&[OLD]), &other, "chat", 1000);
            assert_eq!(found.unwrap_err(), "Tailrace-Identity is for another request", "{other:?}");
        }
    }

    #[test]
    fn a_statement_counts_in_its_deployment_and_for_its_purpose_only() {
        let expected = "Tailrace-Identity is for another deployment or purpose";
        assert_eq!(verified(&signed(&[OLD]), &bound(), "other", 1000).unwrap_err(), expected);
        let keys = EdgeKeys::new([OLD]).unwrap();
        let found = verify(&signed(&[OLD]), Purpose::Definitions, &bound(), &keys, "chat", 1000);
        assert_eq!(found.unwrap_err().message(), expected);
    }

    #[test]
    fn a_statement_holds_for_a_minute_with_thirty_seconds_of_skew() {
        for (now, expected) in [
            (969, Some("Tailrace-Identity is from the future")),
            (970, None),
            (1089, None),
            (1090, Some("Tailrace-Identity expired")),
        ] {
            assert_eq!(verified(&signed(&[OLD]), &bound(), "chat", now).err().as_deref(), expected, "{now}");
        }
    }

    #[test]
    fn a_forged_statement_is_401() {
        let forged = signed(&[("k1", "a key that nobody shares with us")]);
        let refusal = verified(&forged, &bound(), "chat", 1000);
        assert_eq!(refusal.unwrap_err(), "Tailrace-Identity is not signed by a known key");
        let unknown = signed(&[("k9", OLD.1)]);
        assert_eq!(
            verified(&unknown, &bound(), "chat", 1000).unwrap_err(),
            "Tailrace-Identity is not signed by a known key"
        );
        for malformed in ["", "a.b.c", "e30.e30.e30"] {
            let headers = [(HEADER, malformed.parse().unwrap())].into_iter().collect();
            assert_eq!(
                verified(&headers, &bound(), "chat", 1000).unwrap_err(),
                "Tailrace-Identity is malformed"
            );
        }
        let mut twice = signed(&[OLD]);
        twice.append(HEADER, "x".parse().unwrap());
        assert_eq!(verified(&twice, &bound(), "chat", 1000).unwrap_err(), "Tailrace-Identity is given twice");
    }

    #[test]
    fn a_user_arrives_with_types_and_version() {
        let Value::Object(claims) =
            json!({"sub":"uji","_id":"uji","team":{"$oid":"0123456789abcdef01234567"}})
        else {
            unreachable!()
        };
        let version = UserVersion { access: "a".into(), whole: "w".into() };
        let claims = Claims::of_user(claims, version.clone());
        let statement = Statement { identity: Identity::Verified(claims), ..statement() };
        let keys = EdgeKeys::new([OLD]).unwrap();
        let value = sign(&statement, Purpose::Request, &bound(), &keys, "chat", [1; 16], 1000).unwrap();
        let headers = [(HEADER, value.parse().unwrap())].into_iter().collect();
        let received = verified(&headers, &bound(), "chat", 1000).unwrap().unwrap();
        assert_eq!(received.statement, statement);
        let claims = received.statement.identity.claims().unwrap();
        assert_eq!((claims.version(), claims.subject()), (Some(&version), Some("uji")));
        let team = bson::oid::ObjectId::parse_str("0123456789abcdef01234567").unwrap();
        assert_eq!(claims.document(), doc! {"sub":"uji","_id":"uji","team":team});
    }
}
