//! What the edge says of a caller to the backend, and what anybody else says in its name.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value};
use sha2::Sha256;
use shared::{
    edge_key::EdgeKeys,
    identity::Identity,
    refusal::Refusal,
    statement::{self, Bound, HEADER, Purpose, Received, Statement},
    token::{KeySource, Policy, Settings, Unverified},
};

use crate::input;

const KEY: &str = "the key that edge and backend share here";
const NOW: u64 = 1_700_000_000;

static KEYS: LazyLock<EdgeKeys> = LazyLock::new(|| EdgeKeys::new([("k1", KEY)]).expect("a long key"));

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let settings = Settings { secret: Some("s".repeat(32)), ..Settings::default() };
    settings.check().expect("good settings").expect("a secret is set")
});

/// The parts of the input: a header as anybody may send it, a payload that is signed with the real key, claims, and the
/// request that all this goes with.
pub fn run(data: &[u8]) {
    let mut texts = input::texts(data);
    let (sent, payload, claims) = (texts.next(), texts.next(), texts.next());
    let request: Vec<&str> = texts.take(4).collect();
    let [method, host, path, query] = std::array::from_fn(|index| *request.get(index).unwrap_or(&"a"));
    let bound = Bound::new(method, host, path, Some(query));
    if let Some(sent) = sent
        && let Some(Ok(Some(_))) = received(sent, &bound)
    {
        let (signed, tag) = sent.trim().rsplit_once('.').expect("it has three parts");
        let tag = URL_SAFE_NO_PAD.decode(tag).expect("the last is the signature");
        assert!(
            hmac(signed.as_bytes()).verify_slice(&tag).is_ok(),
            "nobody but the edge is believed: {sent}"
        );
    }
    if let Some(payload) = payload {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"tailrace-identity","kid":"k1"}"#);
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
        let tag = URL_SAFE_NO_PAD.encode(hmac(signed.as_bytes()).finalize().into_bytes());
        if let Some(Ok(Some(received))) = received(&format!("{signed}.{tag}"), &bound) {
            assert!(received.remember_until > NOW, "it is remembered while it could come again");
        }
    }
    if let Some(identity) = claims.and_then(identity) {
        arrives(&identity, &bound, method, host, path, query);
    }
}

fn received(value: &str, bound: &Bound) -> Option<Result<Option<Received>, Refusal>> {
    let headers = HeaderMap::from_iter([(HEADER, HeaderValue::try_from(value).ok()?)]);
    let received = statement::verify(&headers, Purpose::Request, bound, &KEYS, "chat", NOW);
    if let Err(refusal) = &received {
        assert_eq!(refusal.status().as_u16(), 401);
        assert!(refusal.message().starts_with("Tailrace-Identity "), "{refusal}");
        assert!(refusal.message().len() < 100, "nothing of it is repeated");
    }
    Some(received)
}

/// What was said arrives, at its own request only, and unchanged or not at all.
fn arrives(identity: &Identity, bound: &Bound, method: &str, host: &str, path: &str, query: &str) {
    let statement =
        Statement { identity: identity.clone(), ..Statement::of_edge(Some([192, 0, 2, 7].into())) };
    let said = statement::sign(&statement, Purpose::Request, bound, &KEYS, "chat", [7; 16], NOW);
    let said = said.expect("there is a key");
    match received(&said, bound).expect("it is ASCII") {
        Ok(received) => assert_eq!(received.expect("it is there").statement, statement),
        // Of claims that are larger than those of the largest token.
        Err(refusal) => return assert!(said.len() > 16 * 1024, "{refusal}"),
    }
    let others = [
        Bound::new(&format!("{method}x"), host, path, Some(query)),
        Bound::new(method, &format!("{host}x"), path, Some(query)),
        Bound::new(method, host, &format!("{path}x"), Some(query)),
        Bound::new(method, host, path, Some(&format!("{query}x"))),
    ];
    for other in others {
        assert!(received(&said, &other).is_some_and(|received| received.is_err()), "at another request");
    }
    let mut forged = said.clone().into_bytes();
    let place = path.len() % forged.len();
    forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).expect("ASCII");
    assert!(received(&forged, bound).is_some_and(|received| received.is_err()), "a letter of it was changed");
}

/// The holder of a token with these claims, in JSON: claims come from tokens alone.
pub(crate) fn identity(claims: &str) -> Option<Identity> {
    let mut claims: Map<String, Value> = serde_json::from_str(claims).ok()?;
    claims.insert("exp".to_owned(), (NOW + 600).into());
    claims.retain(|name, _| !matches!(name.as_str(), "nbf" | "iat"));
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let token = format!("{}.{}.e30", part(serde_json::json!({ "alg": "HS256" })), part(claims.into()));
    let KeySource::Secret(key) = POLICY.keys() else { panic!("a secret is set") };
    let check = Unverified::parse(&token, &POLICY).ok()?.against(key).expect("the key fits");
    let claims = check.verdict(true).expect("it was said to be valid").claims(&POLICY, NOW).ok()?;
    Some(Identity::Verified(claims))
}

fn hmac(message: &[u8]) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(KEY.as_bytes())
        .expect("HMAC takes a key of any length")
        .chain_update(message)
}
