//! Who calls, and how the edge tells the backend: a signed, short-lived statement that is bound to one request.

use std::{net::IpAddr, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bson::{Bson, Document};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{
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

/// Who calls.
#[derive(Clone, Debug, PartialEq)]
pub enum Identity {
    /// Nobody in particular: the request carried no credentials, and the deployment lets such requests in.
    Anonymous,
    /// The holder of a token.
    Verified(Claims),
}

/// One user, whatever token speaks for it: `iss` and `sub` (RFC 7519, section 4.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct User {
    issuer: Option<Arc<str>>,
    subject: Arc<str>,
}

/// The claims of a verified token, or what is known of a user whose password was right; made only by such a check, or by
/// that of the edge's signature.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    members: Map<String, Value>,
    session_end: u64,
    user: Option<UserVersion>,
}

/// Which version of a user's document claims come from, so that nobody goes on who was changed or removed since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserVersion {
    /// Changes with the password and the roles.
    pub access: String,
    /// Changes with anything.
    pub whole: String,
}

/// The end of sessions that nothing but a change of their user ends; later than any.
const NEVER: u64 = 1 << 53;

impl Claims {
    /// Claims that somebody's credentials were found to give, for a session that ends at a Unix time in seconds.
    pub fn new(claims: Map<String, Value>, session_end: u64) -> Self {
        Self { members: claims, session_end, user: None }
    }

    /// What is known of a user who has shown the right password, as relaxed Extended JSON. For whoever checked it.
    pub fn of_user(claims: Map<String, Value>, version: UserVersion) -> Self {
        Self { members: claims, session_end: NEVER, user: Some(version) }
    }

    /// What another holder of the keys has signed.
    pub(crate) fn restored(claims: Map<String, Value>, session_end: u64, user: Option<UserVersion>) -> Self {
        Self { members: claims, session_end, user }
    }

    /// The claims as they stand in the token.
    pub fn as_object(&self) -> &Map<String, Value> {
        &self.members
    }

    /// The claims as BSON, for `@user`. In a token a string stays a string and an object an object, whatever they look like;
    /// a user's document keeps its types.
    pub fn document(&self) -> Document {
        let bson = |value: &Value| match &self.user {
            None => plain(value),
            Some(_) => Bson::try_from(value.clone()).unwrap_or_else(|_| plain(value)),
        };
        self.members.iter().map(|(name, value)| (name.clone(), bson(value))).collect()
    }

    /// The version of the user's document, of somebody who came with a password.
    pub fn version(&self) -> Option<&UserVersion> {
        self.user.as_ref()
    }

    /// The name of whoever these are of: `sub`.
    pub fn subject(&self) -> Option<&str> {
        self.members.get("sub").and_then(Value::as_str)
    }

    /// Whom the token speaks of; `None` where it has no `sub`.
    pub fn user(&self) -> Option<User> {
        let text = |name: &str| self.members.get(name).and_then(Value::as_str).map(Into::into);
        Some(User { issuer: text("iss"), subject: text("sub")? })
    }

    /// When a session on these claims ends, in Unix seconds.
    pub fn session_end(&self) -> u64 {
        self.session_end
    }

    /// Whether these are the same holder's as `other`: issuer and subject are the same. Tokens that name no subject are the
    /// same holder's only when all that they say is the same, apart from when.
    pub fn is_of_same_holder(&self, other: &Self) -> bool {
        let same = |name: &&str| self.members.get(*name) == other.members.get(*name);
        if !HOLDER.iter().all(same) {
            return false;
        }
        let lasting = |claims: &Map<String, Value>| {
            let mut claims = claims.clone();
            claims.retain(|name, _| !PASSING.contains(&name.as_str()));
            claims
        };
        self.members.contains_key("sub") || lasting(&self.members) == lasting(&other.members)
    }
}

/// The claims that say whose a token is; `_id` is that of a user who signed in with a password.
const HOLDER: &[&str] = &["iss", "sub", "_id"];

/// The claims that differ from one token of a holder to the next (RFC 7519, section 4.1).
const PASSING: &[&str] = &["exp", "iat", "nbf", "jti"];

impl Identity {
    /// The claims, of a verified identity.
    pub fn claims(&self) -> Option<&Claims> {
        match self {
            Self::Anonymous => None,
            Self::Verified(claims) => Some(claims),
        }
    }
}

/// Whether a name here or below has a NUL in it: BSON has no such name, and no filter that holds the claim could be one.
pub(crate) fn has_nul(name: &str, value: &Value) -> bool {
    let below = |value: &Value| has_nul("", value);
    name.contains('\0')
        || match value {
            Value::Array(values) => values.iter().any(below),
            Value::Object(members) => members.iter().any(|(name, value)| has_nul(name, value)),
            _ => false,
        }
}

fn plain(value: &Value) -> Bson {
    match value {
        Value::Null => Bson::Null,
        Value::Bool(value) => Bson::Boolean(*value),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => i32::try_from(whole).map_or(Bson::Int64(whole), Bson::Int32),
            None => Bson::Double(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Bson::String(text.clone()),
        Value::Array(values) => Bson::Array(values.iter().map(plain).collect()),
        Value::Object(members) => {
            Bson::Document(members.iter().map(|(name, value)| (name.clone(), plain(value))).collect())
        }
    }
}

/// The keys that edge and backend share, by their id. Two are valid while one replaces the other.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EdgeKeys(Vec<(String, Vec<u8>)>);

impl std::fmt::Debug for EdgeKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(id, _)| id)).finish()
    }
}

impl EdgeKeys {
    /// Checks the keys; the first one signs. The error names the key's id and what was expected.
    pub fn new<'a>(keys: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, String> {
        let mut checked: Vec<(String, Vec<u8>)> = Vec::new();
        for (id, secret) in keys {
            let fit = !id.is_empty() && id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_graphic());
            if !fit {
                return Err(
                    "a key id is empty, too long, or has odd characters, expected such as k1".to_owned()
                );
            }
            if secret.len() < 32 {
                return Err(format!("key {id} is {} bytes long, expected at least 32", secret.len()));
            }
            if checked.iter().any(|(other, _)| other == id) {
                return Err(format!("key {id} is given twice"));
            }
            checked.push((id.to_owned(), secret.as_bytes().to_vec()));
        }
        if checked.len() > 2 {
            return Err(format!(
                "{} keys, expected at most two: the current one and the one it replaces",
                checked.len()
            ));
        }
        Ok(Self(checked))
    }

    /// The key of this id alone, so that an answer is signed by the key that the asker has for certain.
    #[must_use]
    pub fn only(&self, id: &str) -> Self {
        Self(self.0.iter().filter(|(known, _)| known == id).cloned().collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them is this secret.
    pub fn contains_secret(&self, secret: &str) -> bool {
        self.0.iter().any(|(_, key)| key == secret.as_bytes())
    }

    /// A compact JWS of this `typ`; `None` when there is no key.
    pub(crate) fn sign(&self, kind: &str, payload: &impl Serialize) -> Option<String> {
        let (key_id, _) = self.0.first()?;
        let header = json!({"alg": "HS256", "typ": kind, "kid": key_id}).to_string();
        let payload = serde_json::to_string(payload).expect("strings and numbers are JSON");
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let (_, tag) = self.mac(signed.as_bytes())?;
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag)))
    }

    /// The key's id and the payload of a compact JWS of this `typ`, if one of the keys has signed it. The error says what it is.
    pub(crate) fn open<T: DeserializeOwned>(
        &self,
        kind: &str,
        text: &str,
    ) -> Result<(String, T), &'static str> {
        let malformed = "is malformed";
        let (signed, tag) = text.rsplit_once('.').ok_or(malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed);
        let header: Value = serde_json::from_slice(&decode(header)?).map_err(|_| malformed)?;
        if header["alg"] != "HS256" || header["typ"] != kind {
            return Err(malformed);
        }
        let key_id = header["kid"].as_str().ok_or(malformed)?;
        if !self.verifies(key_id, signed.as_bytes(), &decode(tag)?) {
            return Err("is not signed by a known key");
        }
        let payload = serde_json::from_slice(&decode(payload)?).map_err(|_| malformed)?;
        Ok((key_id.to_owned(), payload))
    }

    /// A MAC by the signing key over a text that begins with its purpose, and that key's id.
    pub(crate) fn mac(&self, message: &[u8]) -> Option<(&str, Vec<u8>)> {
        let (id, secret) = self.0.first()?;
        Some((id, hmac(secret).chain_update(message).finalize().into_bytes().to_vec()))
    }

    /// Whether `tag` is the MAC by the key of this id; compared in constant time.
    pub(crate) fn verifies(&self, id: &str, message: &[u8], tag: &[u8]) -> bool {
        let key = self.0.iter().find(|(known, _)| known == id);
        key.is_some_and(|(_, secret)| hmac(secret).chain_update(message).verify_slice(tag).is_ok())
    }
}

fn hmac(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("HMAC takes keys of any length (RFC 2104)")
}

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
        claims: claims.map(|claims| claims.members.clone()),
        session_end: claims.map(|claims| claims.session_end),
        user: claims.and_then(|claims| claims.user.clone()),
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
    fn keys_are_refused_with_their_id_and_never_shown() {
        let fault = |keys: &[(&str, &str)]| EdgeKeys::new(keys.iter().copied()).unwrap_err();
        assert_eq!(fault(&[("k1", "short")]), "key k1 is 5 bytes long, expected at least 32");
        assert_eq!(fault(&[OLD, OLD]), "key k1 is given twice");
        assert_eq!(
            fault(&[OLD, NEW, ("k3", NEW.1)]),
            "3 keys, expected at most two: the current one and the one it replaces"
        );
        assert_eq!(format!("{:?}", EdgeKeys::new([OLD]).unwrap()), r#"["k1"]"#);
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

    #[test]
    fn a_holder_is_known_by_issuer_and_subject() {
        let same = |one: Value, other: Value| {
            let claims = |value: Value| match value {
                Value::Object(claims) => Claims::new(claims, 0),
                _ => unreachable!(),
            };
            claims(one).is_of_same_holder(&claims(other))
        };
        assert!(same(json!({"sub":"a","iss":"i","exp":1,"level":1}), json!({"sub":"a","iss":"i","exp":2})));
        assert!(!same(json!({"sub":"a","iss":"i"}), json!({"sub":"b","iss":"i"})));
        assert!(!same(json!({"sub":"a","iss":"i"}), json!({"sub":"a","iss":"j"})));
        assert!(!same(json!({"sub":"a","_id":"a"}), json!({"sub":"a"})));
        assert!(same(json!({"iss":"i","exp":1,"jti":"x"}), json!({"iss":"i","exp":2,"jti":"y"})));
        assert!(!same(json!({"iss":"i","name":"a"}), json!({"iss":"i","name":"b"})));
    }

    #[test]
    fn claims_become_plain_values() {
        let Value::Object(claims) =
            json!({"sub":"$fullDocument.x","n":5,"big":5_000_000_000_u64,"id":{"$oid":"x"}})
        else {
            unreachable!()
        };
        let expected = doc! {"sub":"$fullDocument.x","n":5_i32,"big":5_000_000_000_i64,"id":{"$oid":"x"}};
        assert_eq!(Claims::new(claims, 0).document(), expected);
    }
}
