//! What browsers sign in with: one-time tickets (`/_tickets`), and a cookie (`/_session`).

use std::time::SystemTime;

use http::{HeaderValue, Method, StatusCode, header};
use serde_json::json;
use shared::{
    address::Route,
    credentials::Credentials,
    refusal::{Kind, Refusal},
    request::Head,
    session_cookie,
};
use warp::reply::Response;

use crate::{answer, app::App, authentication::Caller, body::Body};

/// `POST /_tickets {"stream": "<path>"}`
pub async fn ticket(app: &App, head: &Head, caller: &Caller, body: Body) -> Result<Response, Refusal> {
    if head.method != Method::POST {
        return Err(Refusal::method_not_allowed(head.method.as_str(), "POST, OPTIONS"));
    }
    let claims = holder(caller)?;
    let expected = || Refusal::new(Kind::BadRequest, "expected {\"stream\": \"<path of a stream>\"}");
    let body = body.object().await?;
    let stream = body.get_str("stream").map_err(|_| expected())?;
    let address = app.mounts.resolve(stream).map_err(|_| expected())?;
    if !matches!(address.route, Route::Stream(..)) {
        return Err(expected());
    }
    let now = SystemTime::now();
    let (ticket, expires) = app.authenticator.issue_ticket(claims, &address.canonical, now).await?;
    Ok(answer::json(json!({ "ticket": ticket, "expires": expires * 1_000 }).to_string()))
}

/// `POST /_session`, with a token, sets the cookie, and `DELETE /_session` takes it away.
pub fn session(app: &App, head: &Head, caller: &Caller) -> Result<Response, Refusal> {
    let cookie = match head.method {
        Method::POST => {
            let claims = holder(caller)?;
            let query = head.query.as_deref();
            let presented = Credentials::of(&head.headers, query, app.authenticator.token_parameter())?;
            let presented = presented.ok_or_else(|| {
                Refusal::new(
                    Kind::Internal,
                    "the edge keeps credentials to itself, and answers this by itself",
                )
            })?;
            session_cookie::set(&presented, claims.session_end(), unix_seconds())?
        }
        Method::DELETE => return Ok(signed_out()),
        _ => return Err(Refusal::method_not_allowed(head.method.as_str(), "POST, DELETE, OPTIONS")),
    };
    Ok(with_cookie(cookie))
}

/// The answer to a page that signs out.
pub fn signed_out() -> Response {
    with_cookie(session_cookie::clear())
}

fn with_cookie(cookie: HeaderValue) -> Response {
    let mut response = answer::empty(StatusCode::NO_CONTENT);
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    response
}

fn holder(caller: &Caller) -> Result<&shared::identity::Claims, Refusal> {
    let needed = || Refusal::new(Kind::Unauthenticated, "credentials needed, expected a Bearer token");
    caller.identity.claims().ok_or_else(needed)
}

fn unix_seconds() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}
