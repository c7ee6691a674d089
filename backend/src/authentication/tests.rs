use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, Method, header::AUTHORIZATION};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};
use shared::statement::{Statement, sign};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{
    config::{JwtConfig, Secret},
    *,
};

const SECRET: &str = "the secret that tokens are signed by";
const EDGE_SECRET: &str = "the secret that the edge is known by";

// Tokens for https://id.example and tailrace, valid until 2100, by an RSA key that was thrown away.
const MODULUS: &str = "49auI0R8a2A6ZBXjw5ZYPy5QX4DmKrhHzqiFdRwylG8lMh-TwQo9HtUCktups4h2E6IQ96SWxwimP_rtoM1UieaW2QZgWk6tGmI_\
    rDAGKfzMx8SWfmVxHVwRC7ol0ve2kCeCW9jCtdcfJqVABuh8uwYDIsuHkXLwpJPgp8KELPqE9ASdboCB2WN0uORHbod4_kp52oCU\
    JPw2DHrXqtKg9a2AapmnBWKF7TWZj8RjTcJQ_rXiVWpMex73f7jOLg2hf9DAmSpiUO6w-qsGjkiTf21i5Jh4bVlHyGDqA5qBDmTd\
    KHIyPP7j7Zj6tmpXzwsI-cZasLEJMOQI0tzLBfbtfw";
const RS256: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJhdWQiOiJ0YWlscmFjZSIsInN\
    1YiI6InVqaSIsImV4cCI6NDEwMjQ0NDgwMH0.hM7xAhD39w_MYz_UNhZYRkcPnbLefdJhgeelnRFRelap_Ei1AsknL69SvTyW3U8\
    jMo_2QEfMm__xvD7wWAHR3gkZvSwkJ8s1brtpLd0v8CQlfAkIphcZzUBlbGoxCZhjFj9KZ3q_W7gf_oZ_548RqnotqGzo3QgRYKd\
    GTYRuv6tm6JZfImNdN_M6uOiT7R5JX6oO7eW2dchojYwockIXZgtth3noCRWkLtv2kmKlZSNt_kVgoxF7719MtQDMPaAFU55SGC-\
    -4sEga9Olro7aJGXysU1FLRSoatIpwF1sf6QuC9B9daZ7VHHbfeimsN7k7L4WyXb9m6rpkLWRB0YsTg";
const PS256: &str = "eyJhbGciOiJQUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJhdWQiOiJ0YWlscmFjZSIsInN\
    1YiI6InVqaSIsImV4cCI6NDEwMjQ0NDgwMH0.m_EUHciHneyKqSQvVm76yM6wtCZFksdm49MKDL6JgtzEC4uwcOxNmH3GiJ6MN8R\
    ZpZJ-YEgo6DUhJucq9hgsrRy10yfZRiNtMS-qBHMp-SvYiO5pdAqaGo_edbbzhrGsTc2ykYB2_2aGxSEQN7-0vQ7bOXxiVGwiXDz\
    HC8BK8iLXE0yDUidWlqZpLrvQ6nYv5QbnygWq0QfWXcd46jITpjki_QjoQjhClKU_XcbOEKGndZUvKreesjf_Q5WdOb_gnJmCP4h\
    UQVEW_huzhR1eiSxJUWnckWgIIG1AUebo_NL4ETbAjHdvgojcskstZFBl2O8Zi_06iegq4ViV9dJHDw";
/// HS256 with the RSA key's public PEM as its secret: what a verifier takes that believes the token's `alg`.
const CONFUSED: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJhdWQiOiJ0YWlscmFjZSIsInN\
    1YiI6InVqaSIsImV4cCI6NDEwMjQ0NDgwMH0.eHEXaZLr2KFEV6GwXpPg-wXNsuWAIJ2v4yKFGXECFu4";

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_hours(500_000)
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn hs256(claims: &Value) -> String {
    let signed = format!("{}.{}", part(&json!({"alg":"HS256","typ":"JWT"})), part(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn request(headers: &[(&'static str, &str)]) -> Head {
    let mut map: HeaderMap = [(http::header::HOST, "node.example".parse().unwrap())].into_iter().collect();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    Head {
        method: Method::GET,
        path: "/messages/_streams/all".into(),
        query: None,
        headers: map,
        peer: Some(Ipv4Addr::new(192, 0, 2, 1).into()),
    }
}

fn bearer(token: &str) -> Head {
    request(&[(AUTHORIZATION.as_str(), &format!("Bearer {token}"))])
}

fn with_secret() -> AuthConfig {
    let jwt = JwtConfig { secret: Some(Secret::new(SECRET)), ..JwtConfig::default() };
    AuthConfig { jwt, ..AuthConfig::default() }
}

fn with_edge() -> EdgeConfig {
    EdgeConfig { keys: [("k1".to_owned(), Secret::new(EDGE_SECRET))].into(), ..EdgeConfig::default() }
}

async fn judged(authenticator: &Authenticator, head: &Head) -> Result<Caller, String> {
    authenticator.authenticate(head, None, now()).await.map_err(|refusal| refusal.to_string())
}

#[tokio::test]
async fn a_valid_token_is_its_claims_until_it_expires() {
    let authenticator = Authenticator::new(&with_secret(), &EdgeConfig::default(), false).unwrap();
    let caller =
        judged(&authenticator, &bearer(&hs256(&json!({"sub":"uji","exp":1_800_000_060})))).await.unwrap();
    assert_eq!(caller.identity.claims().unwrap().as_object()["sub"], "uji");
    assert_eq!(caller.expires_at, Some(1_800_000_060));
    assert_eq!(caller.client_address, Some(Ipv4Addr::new(192, 0, 2, 1).into()));
    assert!(!caller.from_edge);
}

#[tokio::test]
async fn bad_credentials_are_401_even_where_anonymous_callers_are_let_in() {
    let open = AuthConfig { anonymous: true, ..with_secret() };
    let valid = hs256(&json!({"exp":1_800_000_060}));
    let (signed, _) = valid.rsplit_once('.').unwrap();
    for auth in [open, with_secret()] {
        let authenticator = Authenticator::new(&auth, &EdgeConfig::default(), auth.anonymous).unwrap();
        for (token, message) in [
            (hs256(&json!({"exp":1_799_999_970})), "401 token expired"),
            (format!("{signed}.{}", URL_SAFE_NO_PAD.encode([0; 32])), "401 token signature is not valid"),
            (format!("{signed}."), "401 token signature is not valid"),
            (
                format!("{}.{}.", part(&json!({"alg":"none"})), part(&json!({"exp":1_800_000_060}))),
                "401 token has algorithm none, expected one of HS256",
            ),
            (RS256.to_owned(), "401 token has algorithm RS256, expected one of HS256"),
        ] {
            assert_eq!(judged(&authenticator, &bearer(&token)).await, Err(message.to_owned()));
        }
    }
}

#[tokio::test]
async fn no_credentials_are_anonymous_only_where_that_is_set() {
    let closed = Authenticator::new(&with_secret(), &EdgeConfig::default(), false).unwrap();
    let expected = Err("401 credentials needed, expected a Bearer token".to_owned());
    assert_eq!(judged(&closed, &request(&[])).await, expected);

    let anonymous = AuthConfig { anonymous: true, ..AuthConfig::default() };
    let open = Authenticator::new(&anonymous, &EdgeConfig::default(), true).unwrap();
    let caller = judged(&open, &request(&[])).await.unwrap();
    assert_eq!((caller.identity, caller.expires_at), (Identity::Anonymous, None));
    let expected = Err("401 tokens are not accepted here".to_owned());
    assert_eq!(judged(&open, &bearer(&hs256(&json!({})))).await, expected);
}

/// A key server that counts how often it is asked. It answers by one connection a request.
async fn key_server(keys: Value) -> (AuthConfig, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let jwks = format!("http://{}/keys", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let body = json!({ "keys": keys }).to_string();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let mut head = [0; 4096];
            let _ = socket.read(&mut head).await.unwrap();
            let length = body.len();
            let answer =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let jwt = JwtConfig {
        jwks: Some(jwks),
        algorithms: Some(["RS256", "PS256", "ES256"].map(str::to_owned).to_vec()),
        issuer: Some("https://id.example".into()),
        audience: Some("tailrace".into()),
        ..JwtConfig::default()
    };
    (AuthConfig { jwt, ..AuthConfig::default() }, asked)
}

#[tokio::test]
async fn tokens_are_checked_by_the_keys_of_a_key_set_that_is_fetched_once() {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
    let point = pair.public_key().as_ref();
    let (auth, asked) = key_server(json!([
        {"kty":"RSA","kid":"rsa","n":MODULUS,"e":"AQAB"},
        {"kty":"EC","crv":"P-256","kid":"ec","x":URL_SAFE_NO_PAD.encode(&point[1..33]),"y":URL_SAFE_NO_PAD.encode(&point[33..])},
    ]))
    .await;
    let authenticator = Authenticator::new(&auth, &EdgeConfig::default(), auth.anonymous).unwrap();

    let claims = json!({"iss":"https://id.example","aud":["tailrace"],"exp":1_800_000_060});
    let signed = format!("{}.{}", part(&json!({"alg":"ES256","kid":"ec"})), part(&claims));
    let es256 =
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(pair.sign(&random, signed.as_bytes()).unwrap()));
    for token in [RS256, PS256, &es256] {
        assert!(judged(&authenticator, &bearer(token)).await.is_ok());
    }

    let (signed, signature) = RS256.rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    let forged = format!("{header}.{}.{signature}", part(&claims));
    let expected = Err("401 token signature is not valid".to_owned());
    assert_eq!(judged(&authenticator, &bearer(&forged)).await, expected);
    let expected = Err("401 token has algorithm HS256, expected one of RS256, PS256, ES256".to_owned());
    assert_eq!(judged(&authenticator, &bearer(CONFUSED)).await, expected);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn who_comes_while_the_first_keys_are_fetched_waits_for_them() {
    let (auth, asked) = key_server(json!([{"kty":"RSA","kid":"rsa","n":MODULUS,"e":"AQAB"}])).await;
    let authenticator = Authenticator::new(&auth, &EdgeConfig::default(), auth.anonymous).unwrap();
    let head = bearer(RS256);
    let judgements = (0..20).map(|_| judged(&authenticator, &head));
    for judgement in futures_util::future::join_all(judgements).await {
        assert!(judgement.is_ok(), "{judgement:?}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn without_keys_to_judge_by_the_answer_is_503() {
    let (mut auth, _) = key_server(json!([])).await;
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    auth.jwt.jwks = Some(format!("http://{unused}/keys"));
    let authenticator = Authenticator::new(&auth, &EdgeConfig::default(), auth.anonymous).unwrap();
    let expected = Err("503 the keys that tokens are checked with cannot be fetched".to_owned());
    assert_eq!(judged(&authenticator, &bearer(RS256)).await, expected);
}

fn edge_keys(secret: &str) -> EdgeKeys {
    EdgeKeys::new([("k1", secret)]).unwrap()
}

fn stated(identity: Identity, purpose: Purpose, secret: &str) -> Head {
    let bound = Bound::new("GET", "node.example", "/messages/_streams/all", None);
    let statement = Statement {
        identity,
        origin: Verdict::Own,
        ..Statement::of_edge(Some(Ipv4Addr::new(198, 51, 100, 9).into()))
    };
    let signed =
        sign(&statement, purpose, &bound, &edge_keys(secret), "tailrace", rand(), unix_seconds(now()));
    request(&[("tailrace-identity", &signed.unwrap())])
}

fn rand() -> [u8; 16] {
    let mut id = [0; 16];
    ring::rand::SecureRandom::fill(&SystemRandom::new(), &mut id).unwrap();
    id
}

#[tokio::test]
async fn what_the_edge_says_counts_once() {
    let anonymous = AuthConfig { anonymous: true, ..with_secret() };
    let authenticator = Authenticator::new(&anonymous, &with_edge(), true).unwrap();
    let head = stated(Identity::Anonymous, Purpose::Request, EDGE_SECRET);
    let caller = judged(&authenticator, &head).await.unwrap();
    assert!(caller.from_edge);
    assert_eq!(caller.client_address, Some(Ipv4Addr::new(198, 51, 100, 9).into()));
    assert_eq!(caller.origin, Some(Verdict::Own));
    assert_eq!(judged(&authenticator, &head).await, Err("401 Tailrace-Identity was used before".into()));
}

#[tokio::test]
async fn a_forged_identity_is_401_whether_or_not_an_edge_is_configured() {
    let anonymous = AuthConfig { anonymous: true, ..with_secret() };
    for edge in [with_edge(), EdgeConfig::default()] {
        let authenticator = Authenticator::new(&anonymous, &edge, true).unwrap();
        let forged = stated(Identity::Anonymous, Purpose::Request, "a secret that nobody shares with us");
        let expected = Err("401 Tailrace-Identity is not signed by a known key".to_owned());
        assert_eq!(judged(&authenticator, &forged).await, expected);
    }
}

#[tokio::test]
async fn where_the_edge_is_required_no_token_stands_in_for_it() {
    let edge = EdgeConfig { required: true, ..with_edge() };
    let authenticator = Authenticator::new(&with_secret(), &edge, false).unwrap();
    let token = bearer(&hs256(&json!({"exp":1_800_000_060})));
    let expected =
        Err("401 Tailrace-Identity is missing: this backend is reached through the edge".to_owned());
    assert_eq!(judged(&authenticator, &token).await, expected);
}

#[tokio::test]
async fn an_anonymous_caller_of_the_edge_is_let_in_only_where_the_backend_does_so_too() {
    let authenticator = Authenticator::new(&with_secret(), &with_edge(), false).unwrap();
    let head = stated(Identity::Anonymous, Purpose::Request, EDGE_SECRET);
    let expected = Err("401 credentials needed, expected a Bearer token".to_owned());
    assert_eq!(judged(&authenticator, &head).await, expected);
}

#[test]
fn definitions_are_for_the_edge_and_signed_by_the_key_that_asked() {
    let authenticator = Authenticator::new(&with_secret(), &with_edge(), false).unwrap();
    let asking = stated(Identity::Anonymous, Purpose::Definitions, EDGE_SECRET);
    let edge = authenticator.authenticate_edge(&asking, now()).unwrap();
    let namespace: Namespace =
        serde_json::from_value(json!({"database":"app","collection":"messages"})).unwrap();
    let collection = Collection { streams: None };
    let signed = authenticator.sign_collection(&edge, &namespace, &collection);
    assert_eq!(signed.read_collection(&namespace, &edge_keys(EDGE_SECRET), "tailrace"), Ok(collection));

    let refusal = authenticator.authenticate_edge(&request(&[]), now()).unwrap_err();
    assert_eq!(refusal.to_string(), "401 Tailrace-Identity is missing: this address is for the edge");
    let client = stated(Identity::Anonymous, Purpose::Request, EDGE_SECRET);
    let refusal = authenticator.authenticate_edge(&client, now()).unwrap_err();
    assert_eq!(refusal.to_string(), "401 Tailrace-Identity is for another deployment or purpose");
}
