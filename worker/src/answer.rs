//! The answers that the edge gives itself.

use http::{HeaderName, HeaderValue};
use shared::refusal::{Kind, Refusal};
use wasm_bindgen::JsValue;
use worker::Result;

/// A refusal: the body and the headers that the backend would give.
pub(crate) fn refusal(refusal: &Refusal, cors: &[(HeaderName, HeaderValue)]) -> Result<web_sys::Response> {
    let headers = json_headers(cors)?;
    for (name, value) in refusal.headers() {
        // The runtime keeps these to real upgrades; a 426 says what it means without it.
        if *name != "upgrade" {
            headers.set(name, value)?;
        }
    }
    build(Some(&refusal.body()), refusal.status().as_u16(), &headers)
}

/// 204: to a preflight, and to an `EventSource` that must stop.
pub(crate) fn no_content(cors: &[(HeaderName, HeaderValue)]) -> Result<web_sys::Response> {
    build(None, 204, &headers(cors)?)
}

/// 204 with a cookie.
pub(crate) fn with_cookie(
    cookie: &HeaderValue,
    cors: &[(HeaderName, HeaderValue)],
) -> Result<web_sys::Response> {
    let headers = headers(cors)?;
    headers.set("set-cookie", cookie.to_str().unwrap_or_default())?;
    build(None, 204, &headers)
}

/// 200: the edge is up.
pub(crate) fn healthy() -> Result<web_sys::Response> {
    build(Some(r#"{"status":"up"}"#), 200, &json_headers(&[])?)
}

/// 500 while the worker's variables are wrong, or those of the backend do not agree with them; which ones is for the log.
pub(crate) fn misconfigured() -> Refusal {
    Refusal::new(Kind::Internal, "the edge is misconfigured: its log says where")
}

/// 500 for what cannot happen.
pub(crate) fn internal() -> Refusal {
    Refusal::new(Kind::Internal, "internal fault at the edge")
}

/// 503 where no backend answered, or not to the end.
pub(crate) fn unanswered() -> Refusal {
    Refusal::new(Kind::Unavailable, "no backend answered")
}

fn json_headers(cors: &[(HeaderName, HeaderValue)]) -> Result<web_sys::Headers> {
    let headers = headers(cors)?;
    headers.set("content-type", "application/json")?;
    Ok(headers)
}

fn headers(cors: &[(HeaderName, HeaderValue)]) -> Result<web_sys::Headers> {
    let headers = web_sys::Headers::new()?;
    headers.set("cache-control", "no-store")?;
    for (name, value) in cors {
        headers.set(name.as_str(), value.to_str().unwrap_or_default())?;
    }
    Ok(headers)
}

fn build(body: Option<&str>, status: u16, headers: &web_sys::Headers) -> Result<web_sys::Response> {
    let init = web_sys::ResponseInit::new();
    init.set_status(status);
    init.set_headers(&JsValue::from(headers));
    Ok(web_sys::Response::new_with_opt_str_and_init(body, &init)?)
}
