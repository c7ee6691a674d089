//! JSON Web Tokens (RFC 7519) as credentials: what a token must be before, and after, its signature is checked.
//!
//! The signature itself is checked by the caller, with WebCrypto at the edge and natively in the backend. The way is
//! [`Unverified`] → [`SignatureCheck`] → [`Verified`] → [`Claims`]; there is no other way to claims, and none of the
//! steps reads anything from the payload before the last.

mod algorithm;
mod pem;
mod policy;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

pub use self::{
    algorithm::{Algorithm, Family},
    policy::{KeySource, Policy, Setting, SettingFault, Settings},
};
use crate::{
    identity::{self, Claims},
    jwks::Key,
    refusal::{Kind, Refusal},
};

/// The largest token that is read, in bytes.
pub const LIMIT: usize = 8 * 1024;

/// How far clocks may differ, in seconds.
pub const LEEWAY: u64 = 30;

/// Header members that would let a token bring its own rules or keys.
const REFUSED_MEMBERS: &[&str] = &["crit", "jku", "jwk", "x5u"];

pub(crate) fn refused(message: impl Into<String>) -> Refusal {
    Refusal::new(Kind::Unauthenticated, message)
}

/// A token of the right form, by an algorithm that is accepted. Its payload is not to be read yet.
#[derive(Debug)]
pub struct Unverified {
    algorithm: Algorithm,
    key_id: Option<String>,
    signed: String,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl Unverified {
    /// Reads a compact JWS (RFC 7515, section 3.1) by the policy. Anything unfit is 401, saying why.
    pub fn parse(token: &str, policy: &Policy) -> Result<Self, Refusal> {
        if token.len() > LIMIT {
            return Err(refused("token longer than 8 KiB"));
        }
        let malformed = || refused("token is not a JWT, expected three base64url parts");
        let (signed, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
        let (header, payload) = signed.split_once('.').ok_or_else(malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed());
        let (header, payload, signature) = (decode(header)?, decode(payload)?, decode(signature)?);
        let Ok(Value::Object(header)) = serde_json::from_slice(&header) else {
            return Err(refused("token header is not a JSON object"));
        };
        for member in REFUSED_MEMBERS {
            if header.contains_key(*member) {
                return Err(refused(format!("token header has {member}, which is not accepted")));
            }
        }
        let algorithm = match header.get("alg") {
            Some(Value::String(name)) => policy.accepted(name).ok_or_else(|| {
                refused(format!(
                    "token has algorithm {}, expected one of {}",
                    shown(name),
                    policy.accepted_names()
                ))
            })?,
            _ => {
                return Err(refused(format!(
                    "token has no algorithm, expected one of {}",
                    policy.accepted_names()
                )));
            }
        };
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(refused("token header has a kid that is not a string")),
        };
        Ok(Self { algorithm, key_id, signed: signed.to_owned(), payload, signature })
    }

    /// The algorithm, one of those that the policy accepts.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The header's `kid`.
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// What is to be checked, with a key that must fit the algorithm.
    pub fn against(self, key: &Key) -> Result<SignatureCheck<'_>, Refusal> {
        key.fits(self.algorithm).map_err(refused)?;
        Ok(SignatureCheck { token: self, key })
    }
}

/// A signature that waits for its verdict.
#[derive(Debug)]
pub struct SignatureCheck<'key> {
    token: Unverified,
    key: &'key Key,
}

impl SignatureCheck<'_> {
    /// The algorithm, which fits the key.
    pub fn algorithm(&self) -> Algorithm {
        self.token.algorithm
    }

    /// The key.
    pub fn key(&self) -> &Key {
        self.key
    }

    /// The bytes that were signed.
    pub fn message(&self) -> &[u8] {
        self.token.signed.as_bytes()
    }

    /// The signature: for ES256 the two numbers one behind the other (RFC 7518, section 3.4).
    pub fn signature(&self) -> &[u8] {
        &self.token.signature
    }

    /// Takes the verdict of whoever checked the signature.
    pub fn verdict(self, valid: bool) -> Result<Verified, Refusal> {
        if valid {
            Ok(Verified { payload: self.token.payload })
        } else {
            Err(refused("token signature is not valid"))
        }
    }
}

/// A token whose signature is valid.
#[derive(Debug)]
pub struct Verified {
    payload: Vec<u8>,
}

impl Verified {
    /// The claims, when they hold at `now` (Unix seconds).
    pub fn claims(self, policy: &Policy, now: u64) -> Result<Claims, Refusal> {
        let Ok(Value::Object(claims)) = serde_json::from_slice::<Value>(&self.payload) else {
            return Err(refused("token payload is not a JSON object"));
        };
        if claims.iter().any(|(name, value)| identity::has_nul(name, value)) {
            return Err(refused("token has a claim with NUL in its name"));
        }
        let Some(expires) = time(&claims, "exp")? else { return Err(refused("token has no exp")) };
        if expires.saturating_add(LEEWAY) <= now {
            return Err(refused("token expired"));
        }
        if time(&claims, "nbf")?.is_some_and(|begins| begins > now + LEEWAY) {
            return Err(refused("token not valid yet"));
        }
        time(&claims, "iat")?;
        if let Some(issuer) = policy.issuer()
            && claims.get("iss").and_then(Value::as_str) != Some(issuer)
        {
            return Err(refused("token has another issuer"));
        }
        if let Some(audience) = policy.audience() {
            let named = match claims.get("aud") {
                Some(Value::String(one)) => one == audience,
                Some(Value::Array(several)) => several.iter().any(|one| one.as_str() == Some(audience)),
                _ => false,
            };
            if !named {
                return Err(refused("token has another audience"));
            }
        }
        // One that is let in by the leeway alone is not thrown out at once: else its client would come back at once.
        let session_end = if expires > now { expires } else { expires + LEEWAY };
        Ok(Claims::new(claims, session_end))
    }
}

/// A `NumericDate` (RFC 7519, section 2) in whole seconds.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, Refusal> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates, which is what is wanted"
    )]
    let seconds = value.as_u64().or_else(|| value.as_f64().map(|seconds| seconds.max(0.0) as u64));
    match seconds {
        // Far from where sums overflow, and later than any session.
        Some(seconds) => Ok(Some(seconds.min(1 << 53))),
        None => Err(refused(format!("token has a {name} that is not a number"))),
    }
}

/// A text from a token as a message may show it.
pub(crate) fn shown(text: &str) -> String {
    let plain = !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:+/=".contains(&byte));
    if plain { text.to_owned() } else { "with an odd name".to_owned() }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use serde_json::json;

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn policy(issuer: Option<&str>, audience: Option<&str>) -> Policy {
        let settings = Settings {
            secret: Some(SECRET.into()),
            issuer: issuer.map(Into::into),
            audience: audience.map(Into::into),
            ..Settings::default()
        };
        settings.check().unwrap().unwrap()
    }

    fn token(header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.{}", part(header), part(claims), URL_SAFE_NO_PAD.encode("signature"))
    }

    fn parse(header: &Value) -> Result<Unverified, String> {
        Unverified::parse(&token(header, &json!({})), &policy(None, None))
            .map_err(|refusal| refusal.to_string())
    }

    fn claims(claims: &Value, policy: &Policy) -> Result<Claims, String> {
        let token = token(&json!({"alg":"HS256"}), claims);
        let KeySource::Secret(key) = policy.keys() else { panic!("a secret") };
        let check = Unverified::parse(&token, policy).unwrap().against(key).unwrap();
        check.verdict(true).unwrap().claims(policy, 1000).map_err(|refusal| refusal.message().to_owned())
    }

    #[test]
    fn the_algorithm_is_one_of_the_configured_whatever_the_token_says() {
        assert!(parse(&json!({"alg":"HS256"})).is_ok());
        for (alg, found) in [
            ("none", "none"),
            ("None", "None"),
            ("hs256", "hs256"),
            ("HS512", "HS512"),
            ("RS256", "RS256"),
            ("<b>", "with an odd name"),
        ] {
            let expected = format!("401 token has algorithm {found}, expected one of HS256");
            assert_eq!(parse(&json!({"alg":alg})).unwrap_err(), expected);
        }
        assert_eq!(
            parse(&json!({"alg":1})).unwrap_err(),
            "401 token has no algorithm, expected one of HS256"
        );
    }

    #[test]
    fn a_token_brings_neither_keys_nor_extensions() {
        for member in ["crit", "jku", "jwk", "x5u"] {
            let mut header = json!({"alg":"HS256"});
            header[member] = json!(["x"]);
            assert_eq!(
                parse(&header).unwrap_err(),
                format!("401 token header has {member}, which is not accepted")
            );
        }
    }

    #[test]
    fn what_is_no_compact_jwt_is_401() {
        let policy = policy(None, None);
        for bad in ["", "a", "a.b", "e30.e30", "e30=.e30.e30", "!.e30.e30", "e30.e30.e30.e30.e30"] {
            let refusal = Unverified::parse(bad, &policy).unwrap_err();
            assert_eq!(
                refusal.to_string(),
                "401 token is not a JWT, expected three base64url parts",
                "{bad}"
            );
        }
        let long = Unverified::parse(&"a".repeat(LIMIT + 1), &policy).unwrap_err();
        assert_eq!(long.to_string(), "401 token longer than 8 KiB");
    }

    #[test]
    fn a_signature_that_is_not_valid_gives_no_claims() {
        let policy = policy(None, None);
        let KeySource::Secret(key) = policy.keys() else { panic!("a secret") };
        let token = token(&json!({"alg":"HS256"}), &json!({"exp":2000}));
        let check = Unverified::parse(&token, &policy).unwrap().against(key).unwrap();
        assert_eq!(check.verdict(false).unwrap_err().to_string(), "401 token signature is not valid");
    }

    #[test]
    fn times_hold_with_thirty_seconds_of_leeway() {
        let policy = policy(None, None);
        for (found, expected) in [
            (json!({}), Err("token has no exp")),
            (json!({"exp":"2000"}), Err("token has a exp that is not a number")),
            (json!({"exp":970}), Err("token expired")),
            (json!({"exp":971}), Ok(1001)),
            (json!({"exp":1000}), Ok(1030)),
            (json!({"exp":1001}), Ok(1001)),
            (json!({"exp":1e300}), Ok(1 << 53)),
            (json!({"exp":2000.5, "nbf":1030, "iat":5000}), Ok(2000)),
            (json!({"exp":2000, "nbf":1031}), Err("token not valid yet")),
            (json!({"exp":-1}), Err("token expired")),
        ] {
            let end = claims(&found, &policy).map(|claims| claims.session_end());
            assert_eq!(end, expected.map_err(str::to_owned), "{found}");
        }
    }

    #[test]
    fn a_claim_that_is_no_name_of_bson_is_refused_at_any_depth() {
        let policy = policy(None, None);
        for found in [json!({"exp":2000, "a\0b":1}), json!({"exp":2000, "sub":[{"a":{"\0":1}}]})] {
            let refused = claims(&found, &policy).err();
            assert_eq!(refused.as_deref(), Some("token has a claim with NUL in its name"), "{found}");
        }
        assert!(claims(&json!({"exp":2000, "sub":"a\0b"}), &policy).is_ok());
    }

    #[test]
    fn issuer_and_audience_must_be_the_configured_ones() {
        let policy = policy(Some("https://id.example"), Some("tailrace"));
        for (iss, aud, expected) in [
            (json!("https://id.example"), json!("tailrace"), None),
            (json!("https://id.example"), json!(["other", "tailrace"]), None),
            (json!("https://id.example/"), json!("tailrace"), Some("token has another issuer")),
            (json!(null), json!("tailrace"), Some("token has another issuer")),
            (json!("https://id.example"), json!("other"), Some("token has another audience")),
            (json!("https://id.example"), json!(null), Some("token has another audience")),
        ] {
            let found = claims(&json!({"exp":2000, "iss":iss, "aud":aud}), &policy);
            assert_eq!(found.err().as_deref(), expected, "{iss} {aud}");
        }
    }
}
