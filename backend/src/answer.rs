//! Answers: the few shapes of response that the service sends.

use bson::oid::ObjectId;
use http::{HeaderValue, StatusCode, header};
use shared::refusal::Refusal;
use warp::reply::Response;

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// A response of a body and its media type.
pub fn with_body(status: StatusCode, media_type: &'static str, body: String) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// A response of JSON.
pub fn json(body: String) -> Response {
    with_body(StatusCode::OK, "application/json", body)
}

/// A response without a body.
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new("".into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// Names the version of what the response is about.
pub fn with_etag(mut response: Response, etag: ObjectId) -> Response {
    let value = HeaderValue::try_from(etag.to_hex()).expect("hexadecimal is visible ASCII");
    response.headers_mut().insert(header::ETAG, value);
    response
}

/// The response that a refusal is.
pub fn refused(refusal: &Refusal) -> Response {
    let mut response = with_body(refusal.status(), "application/json", refusal.body());
    for (name, value) in refusal.headers() {
        if let Ok(value) = HeaderValue::try_from(value.as_str()) {
            response.headers_mut().insert(*name, value);
        }
    }
    response
}
