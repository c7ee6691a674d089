//! Tokens of callers, all the way through the backend's judgement of who calls.

use std::{
    sync::LazyLock,
    time::{Duration, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::FutureExt as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Map, Value};
use sha2::Sha256;
use shared::{refusal::Refusal, request::Head};
use tailrace::{
    authentication::{Authenticator, Caller},
    config::{Config, Flags},
};

const SECRET: &str = "a secret of this target, long enough for HS256";
const NOW: u64 = 1_700_000_000;

static AUTHENTICATOR: LazyLock<Authenticator> = LazyLock::new(|| {
    let secret = [("TAILRACE_AUTH__JWT__SECRET".to_owned(), SECRET.to_owned())];
    let config = Config::load(None, secret, &Flags::new()).expect("a good configuration");
    Authenticator::new(&config.auth, &config.edge, config.admits_anonymous()).expect("a good configuration")
});

/// Takes the input for a token; and its two first lines for header and claims, which are signed with the real key.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(Ok(caller)) = caller(text) {
        let (signed, tag) = text.trim().rsplit_once('.').expect("a token has three parts");
        let tag = URL_SAFE_NO_PAD.decode(tag).expect("the last is its signature");
        assert!(
            hmac(signed.as_bytes()).verify_slice(&tag).is_ok(),
            "nobody without the key is let in: {text}"
        );
        let (header, claims) = signed.split_once('.').expect("a token has three parts");
        let part = |part| String::from_utf8(URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON");
        assert!(is_fit(&part(header), &part(claims)), "{text}");
        assert!(caller.expires_at.is_some_and(|end| end > NOW));
    }
    let Some((header, claims)) = text.split_once('\n') else { return };
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let tag = URL_SAFE_NO_PAD.encode(hmac(signed.as_bytes()).finalize().into_bytes());
    let token = format!("{signed}.{tag}");
    let expected = token.len() <= shared::token::LIMIT && is_fit(header, claims);
    match caller(&token).expect("a token is ASCII") {
        Ok(caller) => {
            assert!(expected, "it should have been refused: {text}");
            let told = caller.identity.claims().expect("who is it?").as_object().clone();
            assert_eq!(Some(told), object(claims), "the claims are those of the token");
        }
        Err(refusal) => {
            assert!(!expected, "{refusal}: {text}");
            assert_eq!(refusal.status().as_u16(), 401);
            assert!(refusal.message().len() < 300, "a refusal repeats no more of a token than a name");
        }
    }
}

fn caller(token: &str) -> Option<Result<Caller, Refusal>> {
    let value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, value)]);
    let head = Head { method: Method::GET, path: "/".into(), query: None, headers, peer: None };
    let judged =
        AUTHENTICATOR.authenticate(&head, None, UNIX_EPOCH + Duration::from_secs(NOW)).now_or_never();
    Some(judged.expect("with a secret there is nothing to wait for"))
}

fn hmac(message: &[u8]) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(SECRET.as_bytes())
        .expect("HMAC takes a key of any length")
        .chain_update(message)
}

fn object(json: &str) -> Option<Map<String, Value>> {
    match serde_json::from_str(json) {
        Ok(Value::Object(members)) => Some(members),
        _ => None,
    }
}

fn nul_below(value: &Value) -> bool {
    match value {
        Value::Array(values) => values.iter().any(nul_below),
        Value::Object(members) => members.iter().any(|(name, value)| name.contains('\0') || nul_below(value)),
        _ => false,
    }
}

/// What EDGE.md asks of a token with a good signature.
fn is_fit(header: &str, claims: &str) -> bool {
    let (Some(header), Some(claims)) = (object(header), object(claims)) else { return false };
    let plain = !["crit", "jku", "jwk", "x5u"].iter().any(|member| header.contains_key(*member));
    let kid = header.get("kid").is_none_or(Value::is_string);
    let number = |name: &str| claims.get(name).map(|value| value.as_f64().map(f64::trunc));
    #[expect(clippy::cast_precision_loss, reason = "these times are small")]
    let (now, leeway) = (NOW as f64, shared::token::LEEWAY as f64);
    plain
        && kid
        && !nul_below(&Value::Object(claims.clone()))
        && header.get("alg").is_some_and(|name| name == "HS256")
        && matches!(number("exp"), Some(Some(end)) if end + leeway > now)
        && matches!(number("nbf"), None | Some(Some(..)))
        && number("nbf").flatten().is_none_or(|begin| begin <= now + leeway)
        && matches!(number("iat"), None | Some(Some(..)))
}
