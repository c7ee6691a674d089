//! Public keys as PEM: `-----BEGIN PUBLIC KEY-----` (RFC 5280, section 4.1.2.7; RFC 7468, section 13).

use spki::{
    ObjectIdentifier, SubjectPublicKeyInfoOwned,
    der::{DecodePem, asn1::AnyRef},
};

use crate::jwks::{Key, Material};

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ELLIPTIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

const EXPECTED: &str = "no public key, expected one as -----BEGIN PUBLIC KEY-----, of RSA, P-256, or Ed25519";

/// Reads one key. The error says what was expected, and nothing of what was found: it may be a private one.
pub(super) fn key(pem: &str) -> Result<Key, String> {
    let unfit = || EXPECTED.to_owned();
    let info = SubjectPublicKeyInfoOwned::from_pem(pem.trim()).map_err(|_| unfit())?;
    let bytes = info.subject_public_key.as_bytes().ok_or_else(unfit)?;
    let curve =
        info.algorithm.parameters.as_ref().and_then(|any| ObjectIdentifier::try_from(AnyRef::from(any)).ok());
    if info.algorithm.oid == RSA {
        let key = pkcs1::RsaPublicKeyRef::try_from(bytes).map_err(|_| unfit())?;
        return Key::rsa(key.modulus.as_bytes(), key.public_exponent.as_bytes())
            .map_err(|fault| format!("a key that {fault}"));
    }
    if info.algorithm.oid == ELLIPTIC && curve == Some(P256) {
        // Uncompressed: a 4, then the coordinates (SEC 1, section 2.3.3).
        return match bytes {
            [4, point @ ..] if point.len() == 64 => {
                let (x, y) = point.split_at(32);
                Ok(Key::of_curve(Material::P256 { x: x.to_vec(), y: y.to_vec() }))
            }
            _ => Err(unfit()),
        };
    }
    if info.algorithm.oid == ED25519 && bytes.len() == 32 {
        return Ok(Key::of_curve(Material::Ed25519 { x: bytes.to_vec() }));
    }
    Err(unfit())
}

#[cfg(test)]
pub(super) const ED25519_KEY: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAg7MoKSaD22o0akO0iH1/5C/P7cYdL+o7ZIvrdDOT7j4=
-----END PUBLIC KEY-----";

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::token::Family;

    #[test]
    fn keys_of_the_three_kinds_are_read() {
        for (pem, family) in
            [(RSA_2048, Family::Rsa), (P256_KEY, Family::P256), (ED25519_KEY, Family::Ed25519)]
        {
            assert_eq!(key(pem).map(|key| key.family()), Ok(family), "{pem}");
        }
    }

    #[test]
    fn a_weak_or_another_key_is_refused_and_not_shown() {
        assert_eq!(key(RSA_1024), Err("a key that has 1024 bits, expected 2048 to 8192".to_owned()));
        let private = P256_KEY.replace("PUBLIC", "PRIVATE");
        for odd in ["", "secret", P384_KEY, private.as_str(), &RSA_2048[..200]] {
            assert_eq!(key(odd), Err(EXPECTED.to_owned()), "{odd}");
        }
    }

    const RSA_2048: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAtb6uuh28YwOpoJBeESrO
eqGwwjbJBvE8GxBMcUbwGUwW6FkQCRSDzhG0wO8LYMglmnvp75ftKTLkkwUvoUI5
5SWaQpHtohqCpezJBGPzfM2XW0ibj4p9cwV8u7+TGdA+TZLa9obR2ykWSK6m7GF1
iN/9GW4i2ff3n4OL+x3ZmGQ8McgHNWHnyetvLQYPhNIabzxPJxqQCjCryrc0oFKf
RpnnK9HW9Bqi1pzJCUu5S+goWbCYcbwsdm6phZCR6jWY95S65zDfqEPZEA7KhlLF
PgXVUcQkfw1+XKPiJ8auAPOIMW2q01vJQPvCpeFRbxrm1i5cClxunFOjvsjmcZ8q
FQIDAQAB
-----END PUBLIC KEY-----";
    const RSA_1024: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDD4NzDGl+sjNz9FfXhwSxDvT40
nVwLS5BnyCG8FICNH7sEXCEXW6IPYINw/5xmQHmJvfYfHf3ziqrns7AVxT/v7pfy
lta+ALbcK6YthEGyWkK6ZCVjQVknww4rNka8bm4+0LPyPE2m/uaAGrAJUxQWBf2l
9KH1CG47bvQHLC5X8wIDAQAB
-----END PUBLIC KEY-----";
    const P256_KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEnMnt2Gib7ltk3fWNg440j8Vp0lKz
+jWF6Bpx9EIBuDq0P5IEIbg92EU7JAQoidNxUd6AHLa/oQUZXgH2LJiH4Q==
-----END PUBLIC KEY-----";
    const P384_KEY: &str = "-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEl/SLg+hdP0A+yCnB7irF7EskzAj/rT+M
WBsuBLXxVckjoqZYk3E3Oeevd47OQNjw1c+HR61GNM7qNjtH7wX36zfKwBnVkDdO
2DliL6mRf9nPTos2tw6aNlrHe0J6ToC4
-----END PUBLIC KEY-----";
}
