//! Tokens of an identity provider, whose keys are fetched from its JSON Web Key Set.

use std::time::{Duration, Instant};

use http::StatusCode;
use parts::backend;
use parts::deployment::{bare_backend, bare_worker};
use parts::worker;
use serde_json::{Value, json};
use shared::refusal::Kind;
use tailrace_tests::front::{addresses, bounded};
use tailrace_tests::issuer::{AUDIENCE, ISSUER, Issuer, NEXT, P256, RSA};
use tailrace_tests::token::{hmac_sha256, hs256, now, signed};
use tailrace_tests::witness::Witness;
use tailrace_tests::{Database, Front, Own, Request, WebSocket, both_fronts, refusal, until_within};
use tokio::sync::OnceCell;

/// A deployment that takes the issuer's tokens, and callers without any.
struct Deployment {
    issuer: Issuer,
    parts: Own,
}

/// A backend that takes the tokens of the key set at this address, and callers without any; and a worker that does.
async fn options(name: &str, keys: &str) -> (backend::Options, impl FnOnce(&str) -> worker::Options) {
    let backend = bare_backend(name, &addresses().await.mongodb)
        .set("TAILRACE_AUTH__ANONYMOUS", "true")
        .set("TAILRACE_AUTH__JWT__JWKS", keys)
        .set("TAILRACE_AUTH__JWT__ISSUER", ISSUER)
        .set("TAILRACE_AUTH__JWT__AUDIENCE", AUDIENCE);
    let worker = move |backend: &str| {
        bare_worker(name, &[backend])
            .set("ANONYMOUS", "true")
            .set("JWKS_URL", keys)
            .set("JWT_ISSUER", ISSUER)
            .set("JWT_AUDIENCE", AUDIENCE)
    };
    (backend, worker)
}

impl Deployment {
    async fn start(name: &str) -> Self {
        let issuer = Issuer::start();
        let (backend, worker) = options(name, &issuer.url).await;
        let parts = Own::with(backend, worker).await;
        Self { issuer, parts }
    }
}

async fn deployment() -> &'static Deployment {
    static SHARED: OnceCell<Deployment> = OnceCell::const_new();
    SHARED.get_or_init(|| Deployment::start("key-set")).await
}

async fn declared(front: Front) -> (&'static Issuer, Database) {
    let deployment = deployment().await;
    let streams = r#"{"streams": [{"uri": "all", "stages": []}]}"#;
    (&deployment.issuer, deployment.parts.declared(front, streams).await)
}

fn stream(database: &Database) -> Request {
    Request::get(database.path("log/_streams/all"))
}

async fn refused(database: &Database, case: &str, token: &str, message: &str) {
    let answer = refusal::of_any_kind(&database.server, stream(database).bearer(token)).await;
    refusal::is(&answer, Kind::Unauthenticated, message, case);
}

/// A key server that accepts connections and says nothing has three seconds; a request is answered within five.
async fn a_key_server_that_says_nothing_is_not_waited_for(front: Front) {
    let silent = Witness::silent().await;
    let name = format!("silent-keys-{front:?}").to_lowercase();
    let (backend, worker) = options(&name, &silent.url).await;
    let deployment = Own::with(backend, worker).await;
    let database = front.database().await;
    database.put("log", r#"{"streams": [{"uri": "all", "stages": []}]}"#).await;
    let token = Issuer::start().rs256(RSA, &Issuer::claims(&json!({})));
    let asked = Instant::now();
    let answer = stream(&database).bearer(&token).send(&deployment.server(front)).await.expect("an answer");
    let took = asked.elapsed();
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text());
    assert_ne!(answer.header("retry-after"), "");
    assert!((Duration::from_secs(2)..Duration::from_secs(8)).contains(&took), "{took:?}");
    assert!(!silent.seen().is_empty(), "it was asked");
    // Who shows no token is not concerned.
    let open = WebSocket::open(&deployment.server(front), stream(&database)).await;
    open.expect("everybody may come in").close().await;
}

async fn good_tokens_by_rs256_and_by_es256_open_the_stream(front: Front) {
    let (issuer, database) = declared(front).await;
    let claims = Issuer::claims(&json!({}));
    for token in [issuer.rs256(RSA, &claims), issuer.es256(P256, &claims)] {
        let opened = WebSocket::open(&database.server, stream(&database).bearer(&token)).await;
        let mut socket = opened.unwrap_or_else(|refused| panic!("{}", refused.text()));
        database.post("log", r#"{"n": 1}"#).await;
        assert_eq!(socket.event().await["fullDocument"]["n"], 1);
    }
}

async fn the_public_key_is_no_secret_to_sign_with(front: Front) {
    let (issuer, database) = declared(front).await;
    let claims = Issuer::claims(&json!({}));
    let message = "token has algorithm HS256, expected one of RS256, ES256";
    let pem = issuer.rsa_pem.as_bytes();
    refused(&database, "HS256 with the PEM", &hs256(pem, &claims), message).await;
    let trimmed = issuer.rsa_pem.trim_end().as_bytes();
    refused(&database, "HS256 with the PEM, trimmed", &hs256(trimmed, &claims), message).await;
    let header = json!({ "alg": "HS256", "kid": RSA });
    let named = signed(&header, &claims, |input| hmac_sha256(pem, input));
    refused(&database, "HS256 that names the key", &named, message).await;
    let header = json!({ "alg": "RS256", "kid": RSA });
    let disguised = signed(&header, &claims, |input| hmac_sha256(pem, input));
    refused(&database, "HMAC that is called RS256", &disguised, "token signature is not valid").await;
    let unsigned = signed(&json!({ "alg": "none", "kid": RSA }), &claims, |_| Vec::new());
    let message = "token has algorithm none, expected one of RS256, ES256";
    refused(&database, "none", &unsigned, message).await;
}

async fn a_key_signs_by_its_own_algorithm_only(front: Front) {
    let (issuer, database) = declared(front).await;
    let claims = Issuer::claims(&json!({}));
    for (token, name, algorithm) in
        [(issuer.rs256(P256, &claims), P256, "RS256"), (issuer.es256(RSA, &claims), RSA, "ES256")]
    {
        let message = format!(
            "token is signed by a key that cannot be used: key {name} does not fit algorithm {algorithm}"
        );
        refused(&database, name, &token, &message).await;
    }
}

async fn an_unknown_key_is_401(front: Front) {
    let (issuer, database) = declared(front).await;
    let token = issuer.rs256("another", &Issuer::claims(&json!({})));
    refused(&database, "kid", &token, "token is signed by a key that is not known: key another").await;
}

async fn a_key_is_looked_up_by_its_name_and_by_nothing_that_a_name_could_mean(front: Front) {
    let (issuer, database) = declared(front).await;
    let claims = Issuer::claims(&json!({}));
    let unknown = "token is signed by a key that is not known";
    for kid in [
        "../../../../dev/null",
        "/etc/passwd",
        "file:///dev/null",
        "https://evil.example/keys",
        "' OR '1'='1",
        "x'; DROP TABLE keys; --",
        "an-rsa-key\u{0}",
        "",
    ] {
        for token in [
            issuer.rs256(kid, &claims),
            // By the secret that a file without content would be.
            signed(&json!({ "alg": "HS256", "kid": kid }), &claims, |input| hmac_sha256(b"", input)),
        ] {
            let answer = refusal::of_any_kind(&database.server, stream(&database).bearer(&token)).await;
            assert_eq!(answer.status, http::StatusCode::UNAUTHORIZED, "{kid:?}: {}", answer.text());
            let known =
                answer.text().contains(unknown) || answer.text().contains("token has algorithm HS256");
            assert!(known, "{kid:?}: {}", answer.text());
            let shown = ["DROP", "OR '1'"].iter().any(|odd| answer.text().contains(odd));
            assert!(!shown, "{}", answer.text());
        }
    }
}

async fn claims_are_judged_whatever_signed_them(front: Front) {
    let (issuer, database) = declared(front).await;
    for (claims, message) in [
        (json!({ "exp": now() - 60 }), "token expired"),
        (json!({ "exp": null }), "token has no exp"),
        (json!({ "nbf": now() + 600 }), "token not valid yet"),
        (json!({ "iss": "https://evil.example" }), "token has another issuer"),
        (json!({ "iss": null }), "token has another issuer"),
        (json!({ "aud": "other" }), "token has another audience"),
        (json!({ "aud": null }), "token has another audience"),
    ] {
        let claims = Issuer::claims(&claims);
        let case = claims.to_string();
        refused(&database, &case, &issuer.rs256(RSA, &claims), message).await;
        refused(&database, &case, &issuer.es256(P256, &claims), message).await;
    }
}

async fn changed_claims_do_not_keep_their_signature(front: Front) {
    let (issuer, database) = declared(front).await;
    let root = Issuer::claims(&json!({ "sub": "root" }));
    let swap = |good: &str, other: &str| {
        let good: Vec<&str> = good.split('.').collect();
        let other: Vec<&str> = other.split('.').collect();
        format!("{}.{}.{}", good[0], other[1], good[2])
    };
    let claims = Issuer::claims(&json!({}));
    let message = "token signature is not valid";
    let token = swap(&issuer.rs256(RSA, &claims), &issuer.rs256(RSA, &root));
    refused(&database, "RS256", &token, message).await;
    let token = swap(&issuer.es256(P256, &claims), &issuer.es256(P256, &root));
    refused(&database, "ES256", &token, message).await;
    // What a verifier takes that forgets to look: r and s of nothing (CVE-2022-21449).
    let zeros = signed(&json!({ "alg": "ES256", "kid": P256 }), &root, |_| vec![0; 64]);
    refused(&database, "a signature of zeros", &zeros, message).await;
}

async fn where_everybody_may_come_in_a_bad_token_still_may_not(front: Front) {
    let (issuer, database) = declared(front).await;
    database.connect("log/_streams/all").await.close().await;
    let expired = issuer.rs256(RSA, &Issuer::claims(&json!({ "exp": now() - 60 })));
    refused(&database, "Authorization", &expired, "token expired").await;
    let offer = format!("tailrace.plain, bearer.{expired}");
    let request = stream(&database).header("sec-websocket-protocol", offer);
    let answer = refusal::of_any_kind(&database.server, request).await;
    refusal::is(&answer, Kind::Unauthenticated, "token expired", "sub-protocol");
}

both_fronts!(
    a_key_server_that_says_nothing_is_not_waited_for,
    good_tokens_by_rs256_and_by_es256_open_the_stream,
    the_public_key_is_no_secret_to_sign_with,
    a_key_signs_by_its_own_algorithm_only,
    an_unknown_key_is_401,
    a_key_is_looked_up_by_its_name_and_by_nothing_that_a_name_could_mean,
    claims_are_judged_whatever_signed_them,
    changed_claims_do_not_keep_their_signature,
    where_everybody_may_come_in_a_bad_token_still_may_not,
);

#[tokio::test]
async fn invented_keys_cost_the_key_server_next_to_nothing() {
    bounded(async {
        let (issuer, native) = declared(Front::Native).await;
        let edge = native.at(&deployment().await.parts.server(Front::Edge));
        let claims: Value = Issuer::claims(&json!({}));
        let before = issuer.fetches();
        let tokens: Vec<_> = (0..50).map(|n| issuer.rs256(&format!("invented-{n}"), &claims)).collect();
        let began = std::time::Instant::now();
        for token in &tokens {
            for database in [&native, &edge] {
                let answer = database.send(stream(database).bearer(token)).await;
                assert_eq!(answer.status, http::StatusCode::UNAUTHORIZED, "{}", answer.text());
            }
        }
        assert!(began.elapsed() < Duration::from_secs(25), "too slow to tell: the pause is 30 s");
        // Each of the two: its first fetch, and at most one for all unknown keys of half a minute.
        let fetches = issuer.fetches() - before;
        assert!(fetches <= 4, "{fetches} fetches");
    })
    .await;
}

#[tokio::test]
async fn a_new_key_counts_within_half_a_minute_and_known_ones_go_on_while_their_server_is_away() {
    bounded(async {
        let deployment = Deployment::start("key-rotation").await;
        let issuer = &deployment.issuer;
        let native = Front::Native.database().await.at(&deployment.parts.server(Front::Native));
        native.put("log", r#"{"streams": [{"uri": "all", "stages": []}]}"#).await;
        let edge = native.at(&deployment.parts.server(Front::Edge));
        let claims = Issuer::claims(&json!({}));
        let opens = async |token: String| {
            for database in [&native, &edge] {
                let opened = WebSocket::open(&database.server, stream(database).bearer(&token)).await;
                let socket = opened.unwrap_or_else(|refused| panic!("{}", refused.text()));
                socket.close().await;
            }
        };
        opens(issuer.es256(P256, &claims)).await;
        issuer.rotate();
        // An unknown key is looked for once in 30 s, whoever invents it.
        for database in [&native, &edge] {
            let token = issuer.es256(NEXT, &claims);
            until_within(Duration::from_secs(45), "the new key counts", async || {
                WebSocket::open(&database.server, stream(database).bearer(&token)).await.is_ok()
            })
            .await;
        }
        opens(issuer.es256(P256, &claims)).await;

        issuer.go_away();
        opens(issuer.es256(NEXT, &claims)).await;
        opens(issuer.rs256(RSA, &claims)).await;
        for database in [&native, &edge] {
            let message = "token is signed by a key that is not known: key another";
            refused(database, "another", &issuer.rs256("another", &claims), message).await;
        }
    })
    .await;
}
