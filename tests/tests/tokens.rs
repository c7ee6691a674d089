//! Which tokens are credentials: at the backend and at the edge, the same ones, and the same words for the others.

use parts::deployment::JWT_SECRET;
use serde_json::{Value, json};
use shared::refusal::Kind;
use tailrace_tests::token::{hmac_sha256, hs256, now, signed, valid, with_defaults};
use tailrace_tests::{Database, Front, Request, WebSocket, both_fronts, refusal};

async fn guarded(front: Front) -> Database {
    let database = front.database().await;
    database.put("log", r#"{"streams": [{"uri": "all", "stages": []}]}"#).await;
    database.at(front.guarded().await)
}

fn stream(database: &Database) -> Request {
    Request::get(database.path("log/_streams/all"))
}

/// A valid token but for what its header says.
fn with_header(header: &Value) -> String {
    signed(header, &with_defaults(&json!({})), |input| hmac_sha256(JWT_SECRET.as_bytes(), input))
}

fn without(claim: &str) -> String {
    let mut claims = with_defaults(&json!({}));
    claims.as_object_mut().expect("claims are an object").remove(claim);
    hs256(JWT_SECRET.as_bytes(), &claims)
}

async fn refused(front: Front, cases: &[(&str, String, &str)]) {
    let database = guarded(front).await;
    for (case, token, message) in cases {
        let answer = refusal::of_any_kind(&database.server, stream(&database).bearer(token)).await;
        refusal::is(&answer, Kind::Unauthenticated, message, case);
    }
}

async fn no_token_is_401_and_names_what_is_expected(front: Front) {
    let database = guarded(front).await;
    let answer = refusal::of_any_kind(&database.server, stream(&database)).await;
    refusal::is(&answer, Kind::Unauthenticated, "credentials needed, expected a Bearer token", "none");
    assert_eq!(answer.header("www-authenticate"), r#"Bearer realm="tailrace""#);
}

async fn a_token_that_somebody_else_signed_is_401(front: Front) {
    let good = valid(&json!({}));
    let (input, _) = good.rsplit_once('.').expect("a token has three parts");
    let (header, rest) = good.split_once('.').expect("a token has three parts");
    let (_, signature) = rest.split_once('.').expect("a token has three parts");
    let other = valid(&json!({ "sub": "root" }));
    let claims = other.split('.').nth(1).expect("a token has three parts");
    let message = "token signature is not valid";
    refused(
        front,
        &[
            (
                "another secret",
                hs256(b"another secret, as long as the right one is", &with_defaults(&json!({}))),
                message,
            ),
            ("other claims", format!("{header}.{claims}.{signature}"), message),
            ("no signature", format!("{input}."), message),
            ("half a signature", good[..good.len() - 23].to_owned(), message),
        ],
    )
    .await;
}

async fn the_algorithm_is_the_configured_one_whatever_the_token_says(front: Front) {
    let unsigned = |name: &str| signed(&json!({ "alg": name }), &with_defaults(&json!({})), |_| Vec::new());
    refused(
        front,
        &[
            ("none", unsigned("none"), "token has algorithm none, expected one of HS256"),
            ("None", unsigned("None"), "token has algorithm None, expected one of HS256"),
            (
                "HS512",
                with_header(&json!({ "alg": "HS512" })),
                "token has algorithm HS512, expected one of HS256",
            ),
            (
                "RS256",
                with_header(&json!({ "alg": "RS256" })),
                "token has algorithm RS256, expected one of HS256",
            ),
            (
                "no algorithm",
                with_header(&json!({ "typ": "JWT" })),
                "token has no algorithm, expected one of HS256",
            ),
        ],
    )
    .await;
}

async fn a_token_brings_no_keys_and_no_rules_of_its_own(front: Front) {
    let mut cases = Vec::new();
    for (member, value) in [
        ("jwk", json!({ "kty": "oct", "k": "AAAA" })),
        ("jku", json!("https://keys.example/")),
        ("x5u", json!("https://keys.example/")),
        ("crit", json!(["exp"])),
    ] {
        let token = with_header(&json!({ "alg": "HS256", member: value }));
        cases.push((member, token, format!("token header has {member}, which is not accepted")));
    }
    let cases: Vec<_> =
        cases.iter().map(|(case, token, message)| (*case, token.clone(), message.as_str())).collect();
    refused(front, &cases).await;
}

async fn a_token_counts_in_its_time_only(front: Front) {
    refused(
        front,
        &[
            ("exp", valid(&json!({ "exp": now() - 60 })), "token expired"),
            ("exp of long ago", valid(&json!({ "exp": 0 })), "token expired"),
            ("nbf", valid(&json!({ "nbf": now() + 600 })), "token not valid yet"),
            ("no exp", without("exp"), "token has no exp"),
            ("a text", valid(&json!({ "exp": "2999-01-01" })), "token has a exp that is not a number"),
        ],
    )
    .await;
}

async fn clocks_may_differ_by_half_a_minute(front: Front) {
    let database = guarded(front).await;
    for claims in [json!({ "exp": now() - 15 }), json!({ "nbf": now() + 15 })] {
        let request = stream(&database).bearer(&valid(&claims));
        let opened = WebSocket::open(&database.server, request).await;
        let socket = opened.unwrap_or_else(|refused| panic!("{claims}: {}", refused.text()));
        socket.close().await;
    }
}

async fn a_token_for_another_audience_is_401(front: Front) {
    let message = "token has another audience";
    refused(
        front,
        &[
            ("another", valid(&json!({ "aud": "tailrace" })), message),
            ("others", valid(&json!({ "aud": ["a", "b"] })), message),
            ("none", without("aud"), message),
            ("an object", valid(&json!({ "aud": { "tailrace-tests": true } })), message),
        ],
    )
    .await;
    let database = guarded(front).await;
    let several = valid(&json!({ "aud": ["other", "tailrace-tests"] }));
    let opened = WebSocket::open(&database.server, stream(&database).bearer(&several)).await;
    opened.expect("one of several audiences").close().await;
}

async fn what_is_no_token_is_401(front: Front) {
    let malformed = "token is not a JWT, expected three base64url parts";
    let long = valid(&json!({ "more": "x".repeat(8 * 1024) }));
    refused(
        front,
        &[
            ("a word", "secret".to_owned(), malformed),
            ("two parts", "e30.e30".to_owned(), malformed),
            ("four parts", format!("{}.e30", valid(&json!({}))), malformed),
            ("no base64url", "{}.{}.{}".to_owned(), malformed),
            ("no JSON", "YQ.YQ.YQ".to_owned(), "token header is not a JSON object"),
            ("over 8 KiB", long, "token longer than 8 KiB"),
        ],
    )
    .await;
}

async fn a_token_of_100_kilobytes_is_refused_and_nobody_else_is_held_up(front: Front) {
    let database = guarded(front).await;
    let huge = valid(&json!({ "more": "x".repeat(75 * 1024) }));
    assert!(huge.len() > 100_000);
    let offer = format!("tailrace.plain, bearer.{huge}");
    for request in [
        stream(&database).bearer(&huge),
        stream(&database).header("sec-websocket-protocol", offer),
        stream(&database).header("cookie", format!("__Host-tailrace={huge}")),
    ] {
        let answer = database.send(request).await;
        // Over the limit of a request's head it is not even read.
        let refused = [http::StatusCode::UNAUTHORIZED, http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE];
        assert!(refused.contains(&answer.status), "{} {}", answer.status, answer.text());
    }
    let good = stream(&database).bearer(&valid(&json!({})));
    WebSocket::open(&database.server, good).await.expect("a good token").close().await;
}

async fn a_good_token_opens_what_it_may_read_and_writes_nothing(front: Front) {
    let database = guarded(front).await;
    let token = valid(&json!({}));
    let mut socket =
        WebSocket::open(&database.server, stream(&database).bearer(&token)).await.expect("a good token");
    let posted = Request::new(http::Method::POST, database.path("log")).json("{}").bearer(&token);
    let posted = database.send(posted).await;
    refusal::is(&posted, Kind::Forbidden, "no permission allows this write", "POST");
    database.at(front.open().await).post("log", r#"{"n": 1}"#).await;
    assert_eq!(socket.event().await["fullDocument"]["n"], 1);
}

both_fronts!(
    no_token_is_401_and_names_what_is_expected,
    a_token_that_somebody_else_signed_is_401,
    the_algorithm_is_the_configured_one_whatever_the_token_says,
    a_token_brings_no_keys_and_no_rules_of_its_own,
    a_token_counts_in_its_time_only,
    clocks_may_differ_by_half_a_minute,
    a_token_for_another_audience_is_401,
    what_is_no_token_is_401,
    a_token_of_100_kilobytes_is_refused_and_nobody_else_is_held_up,
    a_good_token_opens_what_it_may_read_and_writes_nothing,
);
