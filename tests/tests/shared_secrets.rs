//! Tokens by a secret that is shared with who issues them, with each of the hashes that there are: at the backend and at the edge.

use parts::deployment::{bare_backend, bare_worker};
use serde_json::json;
use shared::refusal::Kind;
use tailrace_tests::front::addresses;
use tailrace_tests::token::{hmac_sha256, hs, signed, with_defaults};
use tailrace_tests::{Database, Front, Own, Request, WebSocket, both_fronts, refusal};
use tokio::sync::OnceCell;

const ALGORITHMS: [&str; 3] = ["HS256", "HS384", "HS512"];
/// As long as the longest hash, which RFC 7518 asks for.
const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

async fn deployment() -> &'static Own {
    static SHARED: OnceCell<Own> = OnceCell::const_new();
    let start = async || {
        let options = bare_backend("shared-secrets", &addresses().await.mongodb)
            .set("TAILRACE_AUTH__JWT__SECRET", SECRET)
            .set("TAILRACE_AUTH__JWT__ALGORITHMS", json!(ALGORITHMS).to_string());
        let worker = |backend: &str| {
            bare_worker("shared-secrets", &[backend])
                .set("JWT_SECRET", SECRET)
                .set("JWT_ALGORITHMS", ALGORITHMS.join(","))
        };
        Own::with(options, worker).await
    };
    SHARED.get_or_init(start).await
}

async fn declared(front: Front) -> Database {
    let database = front.database().await;
    database.put("log", r#"{"streams": [{"uri": "all", "stages": []}]}"#).await;
    database.at(&deployment().await.server(front))
}

fn stream(database: &Database, token: &str) -> Request {
    Request::get(database.path("log/_streams/all")).bearer(token)
}

async fn each_algorithm_opens_the_stream(front: Front) {
    let database = declared(front).await;
    let claims = with_defaults(&json!({}));
    for (n, algorithm) in ALGORITHMS.into_iter().enumerate() {
        let token = hs(algorithm, SECRET.as_bytes(), &claims);
        let opened = WebSocket::open(&database.server, stream(&database, &token)).await;
        let mut socket = opened.unwrap_or_else(|refused| panic!("{algorithm}: {}", refused.text()));
        database.at(front.open().await).post("log", &json!({ "n": n }).to_string()).await;
        assert_eq!(socket.event().await["fullDocument"]["n"], n, "{algorithm}");
    }
}

async fn a_signature_is_that_of_the_algorithm_which_the_token_names(front: Front) {
    let database = declared(front).await;
    let claims = with_defaults(&json!({}));
    let mut cases: Vec<(String, String)> = ALGORITHMS
        .map(|algorithm| (format!("{algorithm}, another secret"), hs(algorithm, &[b'x'; 64], &claims)))
        .into();
    for named in &ALGORITHMS[1..] {
        let token = signed(&json!({ "alg": named }), &claims, |input| hmac_sha256(SECRET.as_bytes(), input));
        cases.push((format!("{named}, signed as HS256"), token));
    }
    for (case, token) in cases {
        let answer = refusal::of_any_kind(&database.server, stream(&database, &token)).await;
        refusal::is(&answer, Kind::Unauthenticated, "token signature is not valid", &case);
    }
}

both_fronts!(each_algorithm_opens_the_stream, a_signature_is_that_of_the_algorithm_which_the_token_names,);
