//! Checks of token signatures, by the runtime's WebCrypto.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use js_sys::{Object, Uint8Array};
use serde_json::{Value, json};
use shared::{
    jwks::Material,
    token::{Algorithm, SignatureCheck},
};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use crate::runtime;

/// Whether the signature is right. An error means that WebCrypto does not take the key.
pub(crate) async fn is_valid(check: &SignatureCheck<'_>) -> Result<bool, JsValue> {
    let subtle = runtime::scope().crypto()?.subtle();
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let hash = format!("SHA-{}", check.algorithm().hash_bits());
    // The key's own members only: WebCrypto refuses a JWK whose `alg` or `use` it reads differently.
    let jwk = match check.key().material() {
        Material::Hmac(secret) => json!({"kty":"oct","k":text(secret)}),
        Material::Rsa { n, e } => json!({"kty":"RSA","n":text(n),"e":text(e)}),
        Material::P256 { x, y } => json!({"kty":"EC","crv":"P-256","x":text(x),"y":text(y)}),
        Material::Ed25519 { x } => json!({"kty":"OKP","crv":"Ed25519","x":text(x)}),
    };
    let (import, verify) = match check.algorithm() {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
            (json!({"name":"HMAC","hash":hash}), json!({"name":"HMAC"}))
        }
        Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 => {
            (json!({"name":"RSASSA-PKCS1-v1_5","hash":hash}), json!({"name":"RSASSA-PKCS1-v1_5"}))
        }
        Algorithm::PS256 | Algorithm::PS384 | Algorithm::PS512 => {
            // As long a salt as the hash (RFC 7518, section 3.5).
            let salt = check.algorithm().hash_bits() / 8;
            (json!({"name":"RSA-PSS","hash":hash}), json!({"name":"RSA-PSS","saltLength":salt}))
        }
        Algorithm::ES256 => {
            (json!({"name":"ECDSA","namedCurve":"P-256"}), json!({"name":"ECDSA","hash":hash}))
        }
        Algorithm::EdDSA => (json!({"name":"Ed25519"}), json!({"name":"Ed25519"})),
    };
    let usages = JsValue::from(js_sys::Array::of1(&JsValue::from_str("verify")));
    let key = subtle.import_key_with_object("jwk", &object(&jwk)?, &object(&import)?, false, &usages)?;
    let key: web_sys::CryptoKey = JsFuture::from(key).await?.dyn_into()?;
    let (signature, message) = (Uint8Array::from(check.signature()), Uint8Array::from(check.message()));
    let verdict = subtle.verify_with_object_and_buffer_source_and_buffer_source(
        &object(&verify)?,
        &key,
        &signature,
        &message,
    )?;
    Ok(JsFuture::from(verdict).await?.is_truthy())
}

fn object(value: &Value) -> Result<Object, JsValue> {
    js_sys::JSON::parse(&value.to_string())?.dyn_into()
}
