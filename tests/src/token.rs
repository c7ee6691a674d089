//! Tokens as the tests need them: right ones, and wrong in any way.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use parts::deployment::{JWT_AUDIENCE, JWT_SECRET};
use serde_json::{Value, json};
use sha2::{Sha256, Sha384, Sha512};

/// A token that the guarded servers accept, for ten minutes, with these claims besides.
pub fn valid(claims: &Value) -> String {
    hs256(JWT_SECRET.as_bytes(), &with_defaults(claims))
}

/// The claims that every valid token has, with these over them.
///
/// # Panics
/// When the claims are no object.
pub fn with_defaults(claims: &Value) -> Value {
    let mut all = json!({ "sub": "a test", "aud": JWT_AUDIENCE, "exp": now() + 600 });
    for (name, value) in claims.as_object().expect("claims are an object") {
        all[name] = value.clone();
    }
    all
}

/// These claims, signed with HMAC and SHA-256 under any secret.
pub fn hs256(secret: &[u8], claims: &Value) -> String {
    hs("HS256", secret, claims)
}

/// These claims, signed by one of the algorithms of RFC 7518, section 3.2.
///
/// # Panics
/// When it is none of them.
pub fn hs(algorithm: &str, secret: &[u8], claims: &Value) -> String {
    let sign = match algorithm {
        "HS256" => hmac_sha256,
        "HS384" => hmac_of::<Hmac<Sha384>>,
        "HS512" => hmac_of::<Hmac<Sha512>>,
        other => panic!("{other}: not one of HS256, HS384, HS512"),
    };
    signed(&json!({ "alg": algorithm, "typ": "JWT" }), claims, |input| sign(secret, input))
}

/// The signature of HS256, for headers that say other things.
pub fn hmac_sha256(secret: &[u8], input: &[u8]) -> Vec<u8> {
    hmac_of::<Hmac<Sha256>>(secret, input)
}

fn hmac_of<M: Mac + KeyInit>(secret: &[u8], input: &[u8]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(secret).expect("HMAC takes a key of any length");
    mac.update(input);
    mac.finalize().into_bytes().to_vec()
}

/// Any header and claims, with any signature over them (RFC 7515, section 7.1).
pub fn signed(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let input = format!("{}.{}", part(header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(input.as_bytes()));
    format!("{input}.{signature}")
}

/// Seconds since 1970.
///
/// # Panics
/// When the clock is before that.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs()
}
