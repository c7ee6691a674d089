//! JSON Web Key Sets (RFC 7517): which keys are fit, which one a token means, and how long a fetched set serves.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::{
    refusal::{Kind, Refusal},
    token::{Algorithm, Family, refused, shown},
};

/// The largest key set that is read, in bytes.
pub const LIMIT: usize = 256 * 1024;

/// The most keys of a set.
const MOST_KEYS: usize = 50;

/// How long a fetch may take, in milliseconds.
pub const FETCH_TIMEOUT: u64 = 3_000;

/// A key that is strong enough for its kind.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Material);

/// What a key is made of; numbers are big-endian.
#[derive(Clone, PartialEq, Eq)]
pub enum Material {
    /// A shared secret, at least 32 bytes.
    Hmac(Vec<u8>),
    /// Modulus (at least 2048 bits) and exponent, without leading zeros.
    Rsa {
        /// The modulus.
        n: Vec<u8>,
        /// The public exponent.
        e: Vec<u8>,
    },
    /// The point's coordinates, 32 bytes each.
    P256 {
        /// The x coordinate.
        x: Vec<u8>,
        /// The y coordinate.
        y: Vec<u8>,
    },
    /// The encoded point, 32 bytes.
    Ed25519 {
        /// The encoded point.
        x: Vec<u8>,
    },
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:?})", self.family()) // a secret never gets into a log
    }
}

impl Key {
    /// A shared secret. The error says how long it must be.
    pub fn secret(secret: &[u8]) -> Result<Self, String> {
        if secret.len() < 32 {
            return Err(format!("{} bytes long, expected at least 32", secret.len()));
        }
        Ok(Self(Material::Hmac(secret.to_vec())))
    }

    /// What it is made of.
    pub fn material(&self) -> &Material {
        &self.0
    }

    pub(crate) fn family(&self) -> Family {
        match self.0 {
            Material::Hmac(_) => Family::Hmac,
            Material::Rsa { .. } => Family::Rsa,
            Material::P256 { .. } => Family::P256,
            Material::Ed25519 { .. } => Family::Ed25519,
        }
    }

    pub(crate) fn fits(&self, algorithm: Algorithm) -> Result<(), String> {
        if self.family() == algorithm.family() {
            Ok(())
        } else {
            Err(format!("the key does not fit algorithm {algorithm}"))
        }
    }

    /// An RSA key of a size that is neither weak nor a burden. The error says what it is.
    pub(crate) fn rsa(n: &[u8], e: &[u8]) -> Result<Self, String> {
        let strip =
            |digits: &[u8]| digits.iter().copied().skip_while(|digit| *digit == 0).collect::<Vec<u8>>();
        let (n, e) = (strip(n), strip(e));
        let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
        if !(2048..=8192).contains(&bits) {
            return Err(format!("has {bits} bits, expected 2048 to 8192"));
        }
        if e.len() > 4 || e.as_slice() <= [1].as_slice() || e.last().is_none_or(|last| last % 2 == 0) {
            return Err("has an unfit exponent, expected 65537 or its kin".to_owned());
        }
        Ok(Self(Material::Rsa { n, e }))
    }

    pub(crate) fn of_curve(material: Material) -> Self {
        Self(material)
    }

    /// Reads the public members of a JWK (RFC 7518, section 6; RFC 8037, section 2).
    fn of_jwk(jwk: &Map<String, Value>) -> Result<Self, String> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let number = |name: &str| {
            let digits = text(name).and_then(|digits| URL_SAFE_NO_PAD.decode(digits).ok());
            digits.ok_or_else(|| format!("has no base64url member {name}"))
        };
        let whole = |name: &str| {
            number(name).and_then(|digits| {
                if digits.len() == 32 {
                    Ok(digits)
                } else {
                    Err(format!("has a member {name} that is not 32 bytes long"))
                }
            })
        };
        let material = match (text("kty"), text("crv")) {
            (Some("RSA"), _) => {
                return Self::rsa(&number("n")?, &number("e")?);
            }
            (Some("EC"), Some("P-256")) => Material::P256 { x: whole("x")?, y: whole("y")? },
            (Some("OKP"), Some("Ed25519")) => Material::Ed25519 { x: whole("x")? },
            // A secret in a set that is read over the network is no secret.
            (Some("oct"), _) => return Err("is a shared secret, which no key set may hold".to_owned()),
            _ => return Err("has another type, expected RSA, EC on P-256, or OKP on Ed25519".to_owned()),
        };
        Ok(Self(material))
    }
}

/// A fetched key set. Keys that are unfit stay in it as their fault, so that one bad key stops only its own tokens.
#[derive(Clone, Debug)]
pub struct KeySet(Vec<Entry>);

#[derive(Clone, Debug)]
struct Entry {
    id: Option<String>,
    algorithm: Option<String>,
    key: Result<Key, String>,
}

/// Why no key of a set serves a token.
#[derive(Debug)]
pub enum NoKey {
    /// The set has no key of this name: perhaps a newer one has.
    Unknown(Refusal),
    /// The set has one, but it cannot be used.
    Unfit(Refusal),
}

impl KeySet {
    /// Reads a key set. The error says what was expected.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        if body.len() > LIMIT {
            return Err("key set longer than 256 KiB".to_owned());
        }
        let set: Value = serde_json::from_slice(body).map_err(|_| "key set is not JSON".to_owned())?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or("key set has no array keys")?;
        if keys.len() > MOST_KEYS {
            return Err(format!("key set has {} keys, expected at most {MOST_KEYS}", keys.len()));
        }
        Ok(Self(keys.iter().filter_map(Value::as_object).map(Entry::of).collect()))
    }

    /// The key that a token of this algorithm and `kid` means.
    pub fn choose(&self, algorithm: Algorithm, key_id: Option<&str>) -> Result<&Key, NoKey> {
        let named: Vec<&Entry> =
            self.0.iter().filter(|entry| key_id.is_none() || entry.id.as_deref() == key_id).collect();
        let name = key_id.map_or_else(|| "without a kid".to_owned(), |id| format!("key {}", shown(id)));
        if named.is_empty() {
            return Err(NoKey::Unknown(refused(format!(
                "token is signed by a key that is not known: {name}"
            ))));
        }
        let fit: Vec<&Key> = named.iter().filter_map(|entry| entry.serves(algorithm).ok()).collect();
        match (fit.as_slice(), named.as_slice()) {
            ([key], _) => Ok(key),
            ([], [one]) => {
                let fault = one.serves(algorithm).err().unwrap_or_default();
                Err(NoKey::Unfit(refused(format!(
                    "token is signed by a key that cannot be used: {name} {fault}"
                ))))
            }
            // Without a kid, a set that is renewed may have the key that is missing.
            ([], _) => Err(NoKey::Unknown(refused(format!("no key fits algorithm {algorithm}: {name}")))),
            (several, _) => Err(NoKey::Unfit(refused(format!(
                "{} keys fit the token, expected one: {name}",
                several.len()
            )))),
        }
    }
}

impl Entry {
    fn of(jwk: &Map<String, Value>) -> Self {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let key = match (jwk.get("use"), jwk.get("key_ops")) {
            (Some(purpose), _) if purpose != "sig" => Err("is not for signatures".to_owned()),
            (_, Some(Value::Array(purposes))) if !purposes.iter().any(|purpose| purpose == "verify") => {
                Err("is not for verifying".to_owned())
            }
            _ => Key::of_jwk(jwk),
        };
        Self { id: text("kid").map(str::to_owned), algorithm: text("alg").map(str::to_owned), key }
    }

    fn serves(&self, algorithm: Algorithm) -> Result<&Key, String> {
        let key = self.key.as_ref().map_err(Clone::clone)?;
        // RFC 9864 calls EdDSA on this curve Ed25519, and key sets do so already.
        let same =
            |name: &str| name == algorithm.name() || (algorithm == Algorithm::EdDSA && name == "Ed25519");
        if self.algorithm.as_deref().is_some_and(|name| !same(name)) || key.fits(algorithm).is_err() {
            return Err(format!("does not fit algorithm {algorithm}"));
        }
        Ok(key)
    }
}

/// How long a fetched set serves. Times are milliseconds of any clock that does not run backwards.
#[derive(Debug, Default)]
pub struct Memory {
    set: Option<(KeySet, u64)>,
    tried: Option<u64>,
    renewed_for_unknown: Option<u64>,
}

impl Memory {
    const FRESH: u64 = 10 * 60_000;
    const STALE: u64 = 24 * 3_600_000;
    /// After a failure with a stale set at hand, and between two renewals for unknown keys.
    const PAUSE: u64 = 30_000;
    /// After a failure with nothing at hand.
    const SHORT_PAUSE: u64 = 2_000;

    /// The set, unless it is too old to be believed.
    pub fn keys(&self, now: u64) -> Option<&KeySet> {
        self.set
            .as_ref()
            .filter(|(_, fetched)| now.saturating_sub(*fetched) < Self::STALE)
            .map(|(set, _)| set)
    }

    /// Whether a fetch should begin.
    pub fn wants_fetch(&self, now: u64) -> bool {
        let rested = |pause| self.tried.is_none_or(|tried| now.saturating_sub(tried) >= pause);
        match &self.set {
            Some((_, fetched)) if now.saturating_sub(*fetched) < Self::FRESH => false,
            Some(_) if self.keys(now).is_some() => rested(Self::PAUSE),
            _ => rested(Self::SHORT_PAUSE),
        }
    }

    /// Whether a token has to wait for a fetch before it is judged: a new one, or one that runs while there is no set.
    pub fn waits_for_fetch(&self, now: u64) -> bool {
        self.wants_fetch(now) || self.keys(now).is_none()
    }

    /// Whether the set should be fetched because a token names a key that it lacks: once in 30 s for all of them, so that
    /// invented names cost the key server nothing. When it says yes, the pause begins.
    pub fn renew_for_unknown(&mut self, now: u64) -> bool {
        let just_fetched = self.set.as_ref().is_some_and(|(_, fetched)| now.saturating_sub(*fetched) < 1_000);
        let rested =
            self.renewed_for_unknown.is_none_or(|renewed| now.saturating_sub(renewed) >= Self::PAUSE);
        if just_fetched || !rested {
            return false;
        }
        self.renewed_for_unknown = Some(now);
        true
    }

    /// Notes that a fetch begins.
    pub fn trying(&mut self, now: u64) {
        self.tried = Some(now);
    }

    /// Takes a fetched set.
    pub fn fetched(&mut self, set: KeySet, now: u64) {
        self.set = Some((set, now));
    }

    /// The refusal when there is no set to judge by: not the caller's fault, so no 401.
    pub fn unavailable() -> Refusal {
        Refusal::new(Kind::Unavailable, "the keys that tokens are checked with cannot be fetched")
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use serde_json::json;

    use super::*;

    fn rsa(kid: &str, bytes: usize) -> Value {
        json!({"kty":"RSA","kid":kid,"n":URL_SAFE_NO_PAD.encode(vec![0x81; bytes]),"e":"AQAB"})
    }

    fn with(mut key: Value, name: &str, value: Value) -> Value {
        key[name] = value;
        key
    }

    fn set(keys: &[Value]) -> KeySet {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    fn choose(set: &KeySet, algorithm: Algorithm, kid: Option<&str>) -> Result<(), String> {
        match set.choose(algorithm, kid) {
            Ok(_) => Ok(()),
            Err(NoKey::Unknown(refusal)) => Err(format!("unknown: {}", refusal.message())),
            Err(NoKey::Unfit(refusal)) => Err(format!("unfit: {}", refusal.message())),
        }
    }

    #[test]
    fn a_key_must_fit_kty_use_alg_and_be_strong() {
        let point = URL_SAFE_NO_PAD.encode([7; 32]);
        let keys = set(&[
            rsa("good", 256),
            rsa("weak", 128),
            with(rsa("encrypts", 256), "use", json!("enc")),
            with(rsa("signs", 256), "key_ops", json!(["sign"])),
            with(rsa("other", 256), "alg", json!("RS512")),
            with(rsa("even", 256), "e", json!("AQAA")),
            json!({"kty":"oct","kid":"secret","k":"AAAA"}),
            json!({"kty":"EC","crv":"P-256","kid":"ec","x":point,"y":point}),
            json!({"kty":"EC","crv":"P-384","kid":"p384","x":point,"y":point}),
            json!({"kty":"OKP","crv":"Ed25519","kid":"ed","x":point,"alg":"Ed25519"}),
        ]);
        let unfit =
            |rest: &str| Err(format!("unfit: token is signed by a key that cannot be used: key {rest}"));
        for (algorithm, kid, expected) in [
            (Algorithm::RS256, "good", Ok(())),
            (Algorithm::ES256, "ec", Ok(())),
            (Algorithm::EdDSA, "ed", Ok(())),
            (Algorithm::RS256, "weak", unfit("weak has 1024 bits, expected 2048 to 8192")),
            (Algorithm::RS256, "encrypts", unfit("encrypts is not for signatures")),
            (Algorithm::RS256, "signs", unfit("signs is not for verifying")),
            (Algorithm::RS256, "other", unfit("other does not fit algorithm RS256")),
            (Algorithm::RS256, "even", unfit("even has an unfit exponent, expected 65537 or its kin")),
            (Algorithm::HS256, "secret", unfit("secret is a shared secret, which no key set may hold")),
            (Algorithm::HS256, "good", unfit("good does not fit algorithm HS256")),
            (Algorithm::RS256, "ec", unfit("ec does not fit algorithm RS256")),
            (
                Algorithm::ES256,
                "p384",
                unfit("p384 has another type, expected RSA, EC on P-256, or OKP on Ed25519"),
            ),
        ] {
            assert_eq!(choose(&keys, algorithm, Some(kid)), expected, "{algorithm} {kid}");
        }
        let expected = Err("unknown: token is signed by a key that is not known: key new".to_owned());
        assert_eq!(choose(&keys, Algorithm::RS256, Some("new")), expected);
    }

    #[test]
    fn without_a_kid_the_only_fitting_key_serves() {
        assert_eq!(choose(&set(&[rsa("a", 256)]), Algorithm::RS256, None), Ok(()));
        let two = set(&[rsa("a", 256), rsa("b", 256)]);
        let expected = Err("unfit: 2 keys fit the token, expected one: without a kid".to_owned());
        assert_eq!(choose(&two, Algorithm::RS256, None), expected);
    }

    #[test]
    fn a_set_is_limited_in_bytes_and_keys() {
        let fault = |body: String| KeySet::parse(body.as_bytes()).unwrap_err();
        assert_eq!(fault(" ".repeat(LIMIT + 1)), "key set longer than 256 KiB");
        assert_eq!(
            fault(json!({"keys": vec![json!({}); 51]}).to_string()),
            "key set has 51 keys, expected at most 50"
        );
        assert_eq!(fault("{}".into()), "key set has no array keys");
        assert_eq!(fault("<html>".into()), "key set is not JSON");
    }

    #[test]
    fn a_set_is_fresh_for_ten_minutes_and_serves_stale_for_a_day() {
        let mut memory = Memory::default();
        assert!(memory.wants_fetch(0));
        memory.trying(0);
        memory.fetched(set(&[]), 0);
        assert!(!memory.wants_fetch(599_999));
        assert!(memory.wants_fetch(600_000));
        memory.trying(600_000);
        assert!(!memory.wants_fetch(629_999), "a failing address is left alone for 30 s");
        assert!(memory.wants_fetch(630_000));
        assert!(memory.keys(86_399_999).is_some());
        assert!(memory.keys(86_400_000).is_none());
    }

    #[test]
    fn unknown_kids_share_one_fetch_in_thirty_seconds() {
        let mut memory = Memory::default();
        memory.fetched(set(&[]), 0);
        assert!(!memory.renew_for_unknown(999), "the set is as new as can be");
        assert!(memory.renew_for_unknown(1_000));
        assert!(!memory.renew_for_unknown(30_999));
        assert!(memory.renew_for_unknown(31_000));
    }
}
