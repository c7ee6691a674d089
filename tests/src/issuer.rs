//! An issuer of tokens as an identity provider is one: keys of its own, and a server of its JSON Web Key Set.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::rsa;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
    RsaKeyPair,
};
use serde_json::{Value, json};

use crate::token::signed;

/// The name of the RSA key in the key set.
pub const RSA: &str = "an-rsa-key";
/// The name of the P-256 key in the key set.
pub const P256: &str = "a-p256-key";
/// The name of the key that is in the key set once it is rotated.
pub const NEXT: &str = "the-next-key";
/// The `iss` of its tokens.
pub const ISSUER: &str = "https://id.example";
/// The `aud` of its tokens.
pub const AUDIENCE: &str = "tailrace-tests";

/// ring uses RSA keys and makes none; Node.js, which the edge's tools need anyway, does.
const MAKE_RSA: &str = r"
    const pair = require('node:crypto').generateKeyPairSync('rsa', { modulusLength: 2048 });
    console.log(JSON.stringify({
        pkcs8: pair.privateKey.export({ type: 'pkcs8', format: 'der' }).toString('base64'),
        pem: pair.publicKey.export({ type: 'spki', format: 'pem' }),
    }));
";

/// An issuer; its server lives as long as the test program.
#[derive(Debug)]
pub struct Issuer {
    /// The address of the key set.
    pub url: String,
    /// The public RSA key as PEM, which everybody may have.
    pub rsa_pem: String,
    /// The public P-256 key as PEM.
    pub p256_pem: String,
    /// The public Ed25519 key as PEM; it is in no key set.
    pub ed25519_pem: String,
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
    next: EcdsaKeyPair,
    served: Arc<Mutex<Option<String>>>,
    fetches: Arc<AtomicUsize>,
}

/// A new key.
fn p256() -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let pkcs8 =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("chance is at hand");
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random)
        .expect("it was just made")
}

/// What stands before the key itself in the DER of a public key (RFC 5480, section 2; RFC 8410, section 4).
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const ED25519_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

fn pem(prefix: &[u8], key: &[u8]) -> String {
    let text = STANDARD.encode([prefix, key].concat());
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

impl Issuer {
    /// Makes the keys, and serves the set.
    ///
    /// # Panics
    /// When Node.js is missing, or no port is free.
    pub fn start() -> Self {
        let made = parts::process::output("making an RSA key", Command::new("node").args(["-e", MAKE_RSA]))
            .expect("Node.js makes an RSA key");
        let made: Value = serde_json::from_str(&made).expect("the script prints JSON");
        let text = |name: &str| made[name].as_str().expect("the script prints it");
        let rsa = STANDARD.decode(text("pkcs8")).expect("the script prints base64");
        let rsa = RsaKeyPair::from_pkcs8(&rsa).expect("an RSA key of 2048 bits");
        let (p256, next) = (p256(), p256());
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("chance is at hand");
        let ed25519 = Ed25519KeyPair::from_pkcs8(ed25519.as_ref()).expect("it was just made");
        let p256_pem = pem(&P256_PREFIX, p256.public_key().as_ref());
        let ed25519_pem = pem(&ED25519_PREFIX, ed25519.public_key().as_ref());
        let fetches = Arc::default();
        let served = Arc::new(Mutex::new(Some(key_set(&rsa, &[(P256, &p256)]).to_string())));
        let url = serve(Arc::clone(&served), Arc::clone(&fetches));
        let rsa_pem = text("pem").to_owned();
        Self { url, rsa_pem, p256_pem, ed25519_pem, rsa, p256, ed25519, next, served, fetches }
    }

    fn serve(&self, key_set: Option<String>) {
        *self.served.lock().unwrap_or_else(PoisonError::into_inner) = key_set;
    }

    /// Adds the next key to the set.
    pub fn rotate(&self) {
        let keys = key_set(&self.rsa, &[(P256, &self.p256), (NEXT, &self.next)]);
        self.serve(Some(keys.to_string()));
    }

    /// Takes the server away: whoever connects gets no answer.
    pub fn go_away(&self) {
        self.serve(None);
    }

    /// The claims that every token of its has, with these over them; `null` takes one away.
    ///
    /// # Panics
    /// When the claims are no object.
    pub fn claims(claims: &Value) -> Value {
        let mut all = crate::token::with_defaults(&json!({ "iss": ISSUER, "aud": AUDIENCE }));
        for (name, value) in claims.as_object().expect("claims are an object") {
            all[name] = value.clone();
        }
        all.as_object_mut().expect("it is one").retain(|_, value| !value.is_null());
        all
    }

    /// A token by RS256, which says that this key signed it.
    ///
    /// # Panics
    /// Never: the key is fit.
    pub fn rs256(&self, key_id: &str, claims: &Value) -> String {
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": key_id });
        signed(&header, claims, |input| self.rsa_signature(&RSA_PKCS1_SHA256, input))
    }

    /// A token by any algorithm for RSA keys.
    ///
    /// # Panics
    /// When it is none.
    pub fn rsa(&self, algorithm: &str, claims: &Value) -> String {
        let encoding: &'static dyn RsaEncoding = match algorithm {
            "RS256" => &RSA_PKCS1_SHA256,
            "RS384" => &RSA_PKCS1_SHA384,
            "RS512" => &RSA_PKCS1_SHA512,
            "PS256" => &RSA_PSS_SHA256,
            "PS384" => &RSA_PSS_SHA384,
            "PS512" => &RSA_PSS_SHA512,
            other => panic!("{other} is no algorithm for RSA keys"),
        };
        let header = json!({ "alg": algorithm, "typ": "JWT" });
        signed(&header, claims, |input| self.rsa_signature(encoding, input))
    }

    fn rsa_signature(&self, encoding: &'static dyn RsaEncoding, input: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.rsa.public().modulus_len()];
        self.rsa.sign(encoding, &SystemRandom::new(), input, &mut signature).expect("the key is fit");
        signature
    }

    /// A token by ES256, which says that this key signed it.
    ///
    /// # Panics
    /// Never: the key is fit.
    pub fn es256(&self, key_id: &str, claims: &Value) -> String {
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": key_id });
        let key = if key_id == NEXT { &self.next } else { &self.p256 };
        signed(&header, claims, |input| {
            key.sign(&SystemRandom::new(), input).expect("the key is fit").as_ref().to_vec()
        })
    }

    /// A token by `EdDSA`.
    pub fn eddsa(&self, claims: &Value) -> String {
        let header = json!({ "alg": "EdDSA", "typ": "JWT" });
        signed(&header, claims, |input| self.ed25519.sign(input).as_ref().to_vec())
    }

    /// How often the key set was fetched.
    pub fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

/// The public halves (RFC 7518, section 6).
fn key_set(rsa: &RsaKeyPair, p256: &[(&str, &EcdsaKeyPair)]) -> Value {
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let public: rsa::PublicKeyComponents<Vec<u8>> = rsa.public().into();
    let mut keys = vec![json!(
        { "kty": "RSA", "kid": RSA, "use": "sig", "alg": "RS256", "n": text(&public.n), "e": text(&public.e) }
    )];
    for (name, pair) in p256 {
        // An uncompressed point: a 4, then the coordinates.
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let key =
            json!({ "kty": "EC", "kid": name, "use": "sig", "crv": "P-256", "x": text(x), "y": text(y) });
        keys.push(key);
    }
    json!({ "keys": keys })
}

/// On a thread of its own: each test has its own runtime, and the issuer serves them all.
fn serve(served: Arc<Mutex<Option<String>>>, fetches: Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/keys", listener.local_addr().expect("it is bound"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = Vec::new();
            let mut piece = [0; 1024];
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut piece) {
                    Ok(length) if length > 0 => head.extend_from_slice(&piece[..length]),
                    _ => break,
                }
            }
            fetches.fetch_add(1, Ordering::SeqCst);
            let Some(key_set) = served.lock().unwrap_or_else(PoisonError::into_inner).clone() else {
                continue;
            };
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{key_set}",
                key_set.len()
            );
            // Who asked and left is not missed.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}
