//! Tokens by a public key that stands in the configuration as PEM: of the backend, and of the edge worker.

use parts::deployment::{bare_backend, bare_worker};
use serde_json::json;
use shared::refusal::Kind;
use tailrace_tests::front::addresses;
use tailrace_tests::issuer::{AUDIENCE, ISSUER, Issuer, P256};
use tailrace_tests::token::hs256;
use tailrace_tests::{Database, Front, Own, Request, WebSocket, both_fronts, refusal};
use tokio::sync::OnceCell;

/// What an RSA key is for.
const RSA_ALGORITHMS: [&str; 6] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];

/// For each kind of key, a deployment that has the issuer's one.
struct Deployments {
    issuer: Issuer,
    of: Vec<(&'static [&'static str], Own)>,
}

async fn deployments() -> &'static Deployments {
    static SHARED: OnceCell<Deployments> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let issuer = Issuer::start();
            let mut of = Vec::new();
            for (algorithms, pem) in [
                (&RSA_ALGORITHMS[..], &issuer.rsa_pem),
                (&["ES256"], &issuer.p256_pem),
                (&["EdDSA"], &issuer.ed25519_pem),
            ] {
                let name = format!("public-{}", algorithms[0].to_lowercase());
                let options = bare_backend(&name, &addresses().await.mongodb)
                    .set("TAILRACE_AUTH__JWT__PUBLIC_KEY", pem)
                    .set("TAILRACE_AUTH__JWT__ALGORITHMS", json!(algorithms).to_string())
                    .set("TAILRACE_AUTH__JWT__ISSUER", ISSUER)
                    .set("TAILRACE_AUTH__JWT__AUDIENCE", AUDIENCE);
                let worker = |backend: &str| {
                    bare_worker(&name, &[backend])
                        .set("JWT_PUBLIC_KEY", pem)
                        .set("JWT_ALGORITHMS", algorithms.join(","))
                        .set("JWT_ISSUER", ISSUER)
                        .set("JWT_AUDIENCE", AUDIENCE)
                };
                of.push((algorithms, Own::with(options, worker).await));
            }
            Deployments { issuer, of }
        })
        .await
}

/// A database, at each deployment.
async fn declared(front: Front) -> Vec<(&'static [&'static str], Database)> {
    let database = front.database().await;
    database.put("log", r#"{"streams": [{"uri": "all", "stages": []}]}"#).await;
    let deployments = deployments().await.of.iter();
    deployments
        .map(|(algorithms, deployment)| (*algorithms, database.at(&deployment.server(front))))
        .collect()
}

fn stream(database: &Database, token: &str) -> Request {
    Request::get(database.path("log/_streams/all")).bearer(token)
}

/// A token by this algorithm.
fn signed_by(issuer: &Issuer, algorithm: &str) -> String {
    let claims = Issuer::claims(&json!({}));
    match algorithm {
        "ES256" => issuer.es256(P256, &claims),
        "EdDSA" => issuer.eddsa(&claims),
        algorithm => issuer.rsa(algorithm, &claims),
    }
}

async fn a_token_that_its_private_key_has_signed_opens_the_stream(front: Front) {
    let issuer = &deployments().await.issuer;
    for (algorithms, database) in declared(front).await {
        for algorithm in algorithms {
            let token = signed_by(issuer, algorithm);
            let opened = WebSocket::open(&database.server, stream(&database, &token)).await;
            let mut socket = opened.unwrap_or_else(|refused| panic!("{algorithm}: {}", refused.text()));
            database.at(front.open().await).post("log", r#"{"n": 1}"#).await;
            assert_eq!(socket.event().await["fullDocument"]["n"], 1, "{algorithm}");
        }
    }
}

async fn no_other_key_signs_and_the_public_key_is_no_secret(front: Front) {
    let issuer = &deployments().await.issuer;
    let stranger = Issuer::start();
    let claims = Issuer::claims(&json!({}));
    let pems = [&issuer.rsa_pem, &issuer.p256_pem, &issuer.ed25519_pem];
    for ((algorithms, database), pem) in declared(front).await.into_iter().zip(pems) {
        let expected = algorithms.join(", ");
        let of_another_kind = if algorithms.contains(&"ES256") { "EdDSA" } else { "ES256" };
        let mut cases = vec![
            (
                signed_by(issuer, of_another_kind),
                format!("token has algorithm {of_another_kind}, expected one of {expected}"),
            ),
            (
                hs256(pem.as_bytes(), &claims),
                format!("token has algorithm HS256, expected one of {expected}"),
            ),
        ];
        for algorithm in algorithms {
            cases.push((signed_by(&stranger, algorithm), "token signature is not valid".to_owned()));
        }
        for (token, message) in cases {
            let answer = refusal::of_any_kind(&database.server, stream(&database, &token)).await;
            refusal::is(&answer, Kind::Unauthenticated, &message, &expected);
        }
    }
}

both_fronts!(
    a_token_that_its_private_key_has_signed_opens_the_stream,
    no_other_key_signs_and_the_public_key_is_no_secret,
);
