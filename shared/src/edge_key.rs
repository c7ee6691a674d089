//! The keys that edge and backend share: what one signs, the other believes.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sha2::Sha256;

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

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const OLD: (&str, &str) = ("k1", "the first key that edges sign by");
    const NEW: (&str, &str) = ("k2", "the second one, to which we turn");

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
}
