//! Where credentials are looked for, and that those which cannot be used never turn into none.

use serde_json::json;
use shared::refusal::Kind;
use tailrace_tests::token::valid;
use tailrace_tests::{Database, Front, Request, WebSocket, both_fronts, refusal};

/// What is presented, and the words with which it is refused wherever no passwords are accepted.
const UNUSABLE: &[(&str, &str, &str)] = &[
    ("authorization", "Basic dTpw", "passwords are not accepted here, expected a Bearer token"),
    ("cookie", "rh_auth=Basic_dTpw", "passwords are not accepted here, expected a Bearer token"),
    ("authorization", "Basic dT", "Basic credentials are malformed, expected base64 of <user>:<password>"),
    ("authorization", "Bearer", "Authorization has no token, expected Bearer and a token"),
    ("authorization", "Digest username=u", "Authorization has another scheme, expected Bearer and a token"),
    ("cookie", "rh_auth=e30", "cookie rh_auth holds no credentials"),
];

/// Tokens in cookies, which are none.
const COOKIES: &[&str] = &["rh_auth=Bearer_e30", "theme=dark; __Host-tailrace=e30"];

async fn declared(front: Front) -> Database {
    let database = front.database().await;
    database.put("log", r#"{"streams": [{"uri": "all", "stages": []}]}"#).await;
    database
}

fn stream(database: &Database) -> Request {
    Request::get(database.path("log/_streams/all"))
}

/// Whatever is unusable is refused by itself, and what cookies carry with this message.
async fn all_are_refused(database: &Database, of_cookies: &str) {
    let headers = UNUSABLE.iter().copied();
    let cookies = COOKIES.iter().map(|cookie| ("cookie", *cookie, of_cookies));
    for (name, value, message) in headers.chain(cookies) {
        let answer = refusal::of_any_kind(&database.server, stream(database).header(name, value)).await;
        refusal::is(&answer, Kind::Unauthenticated, message, value);
    }
}

async fn what_is_presented_and_unusable_is_401(front: Front) {
    let database = declared(front).await.at(front.guarded().await);
    all_are_refused(&database, "token is not a JWT, expected three base64url parts").await;
    let ticket = Request::get(database.path("log/_streams/all?ticket=x"));
    let answer = refusal::of_any_kind(&database.server, ticket).await;
    refusal::is(&answer, Kind::Unauthenticated, "ticket is malformed", "ticket");
}

async fn where_everybody_may_come_in_bad_credentials_still_may_not(front: Front) {
    let database = declared(front).await;
    all_are_refused(&database, "tokens are not accepted here").await;
    let answer = refusal::of_any_kind(&database.server, stream(&database).bearer(&valid(&json!({})))).await;
    refusal::is(&answer, Kind::Unauthenticated, "tokens are not accepted here", "a token");
    for request in [
        Request::get(database.path("log")).header("authorization", "Basic dTpw"),
        Request::new(http::Method::POST, database.path("log")).json("{}").bearer("x"),
    ] {
        let answer = database.send(request).await;
        assert_eq!(answer.status, http::StatusCode::UNAUTHORIZED, "{}", answer.text());
    }
}

async fn unusable_credentials_are_not_made_good_by_others(front: Front) {
    let database = declared(front).await.at(front.guarded().await);
    let protocols = format!("tailrace.plain, bearer.{}", valid(&json!({})));
    let basic =
        stream(&database).header("authorization", "Basic dTpw").header("sec-websocket-protocol", protocols);
    let answer = refusal::of_any_kind(&database.server, basic).await;
    let message = "passwords are not accepted here, expected a Bearer token";
    refusal::is(&answer, Kind::Unauthenticated, message, "Basic before a good sub-protocol");

    let protocols = "tailrace.plain, bearer.e30.e30.e30";
    let good = stream(&database).bearer(&valid(&json!({}))).header("sec-websocket-protocol", protocols);
    let socket = WebSocket::open(&database.server, good).await.expect("the first one counts");
    socket.close().await;
}

async fn a_token_may_come_as_a_sub_protocol_and_is_never_echoed(front: Front) {
    let database = declared(front).await.at(front.guarded().await);
    let token = valid(&json!({}));
    for offer in [
        vec![format!("tailrace.plain, bearer.{token}")],
        vec![format!("bearer.{token},tailrace.plain")],
        vec![format!("bearer.{token}"), "tailrace.plain".to_owned()],
    ] {
        let request = offer
            .iter()
            .fold(stream(&database), |request, offer| request.header("sec-websocket-protocol", offer));
        let socket = WebSocket::open(&database.server, request).await;
        let socket = socket.unwrap_or_else(|refused| panic!("{offer:?}: {}", refused.text()));
        let echoed: Vec<_> = socket.headers.get_all("sec-websocket-protocol").iter().collect();
        assert_eq!(echoed, ["tailrace.plain"], "{offer:?}");
        for (name, value) in &socket.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            assert!(!value.contains("bearer") && !value.contains(&token), "{name}: {value}");
        }
        socket.close().await;
    }
}

async fn a_bad_token_in_a_sub_protocol_is_401_and_two_are_400(front: Front) {
    let database = declared(front).await.at(front.guarded().await);
    let open = |offer: String| {
        WebSocket::open(&database.server, stream(&database).header("sec-websocket-protocol", offer))
    };
    let refused = open("tailrace.plain, bearer.e30".to_owned()).await.expect_err("no token");
    let message = "token is not a JWT, expected three base64url parts";
    refusal::is(&refused, Kind::Unauthenticated, message, "e30");
    let refused = open("tailrace.plain, bearer.".to_owned()).await.expect_err("no token");
    refusal::is(&refused, Kind::Unauthenticated, "sub-protocol bearer. has no token", "empty");

    let token = valid(&json!({}));
    let refused = open(format!("tailrace.plain, bearer.{token}, bearer.{token}")).await.expect_err("two");
    let message = "two bearer tokens in Sec-WebSocket-Protocol, expected one";
    refusal::is(&refused, Kind::BadRequest, message, "two");
    let refused = open(format!("bearer.{token}")).await.expect_err("nothing to echo");
    assert_eq!(refused.status, http::StatusCode::BAD_REQUEST);
    let message = "no known sub-protocol offered, expected one of tailrace.plain";
    assert!(refused.text().contains(message), "{}", refused.text());
}

async fn authorization_given_twice_is_401(front: Front) {
    let database = declared(front).await.at(front.guarded().await);
    let token = valid(&json!({}));
    let answer = database.send(stream(&database).bearer(&token).bearer(&token)).await;
    assert_eq!(answer.status, http::StatusCode::UNAUTHORIZED, "{}", answer.text());
}

both_fronts!(
    what_is_presented_and_unusable_is_401,
    where_everybody_may_come_in_bad_credentials_still_may_not,
    unusable_credentials_are_not_made_good_by_others,
    a_token_may_come_as_a_sub_protocol_and_is_never_echoed,
    a_bad_token_in_a_sub_protocol_is_401_and_two_are_400,
    authorization_given_twice_is_401,
);
