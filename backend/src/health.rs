//! Whether the process is up, and whether it can serve.

use std::time::Duration;

use http::Method;
use shared::{
    refusal::{Kind, Refusal},
    request::Head,
};
use tokio::time::timeout;
use warp::reply::Response;

use crate::{answer, app::App, mongo};

/// Probes wait a second, unless they are told otherwise.
const ANSWERS_WITHIN: Duration = Duration::from_millis(900);

fn away() -> Refusal {
    Refusal::new(Kind::Unavailable, "MongoDB is not reachable")
}

const METHODS: &str = "GET, HEAD, OPTIONS";

fn check_method(head: &Head) -> Result<(), Refusal> {
    if matches!(head.method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    Err(Refusal::method_not_allowed(head.method.as_str(), METHODS))
}

/// `/_health`: 200 for as long as the process answers at all.
pub fn health(head: &Head) -> Result<Response, Refusal> {
    check_method(head)?;
    Ok(answer::json(r#"{"status":"up"}"#.to_owned()))
}

/// `/_ready`: 200 when MongoDB answers and every change of metadata is followed, else 503.
pub async fn ready(app: &App, head: &Head) -> Result<Response, Refusal> {
    check_method(head)?;
    app.catalog.followed_now()?;
    let asked = timeout(ANSWERS_WITHIN, app.mongo.ready()).await;
    asked.map_err(|_| away())?.map_err(|error| mongo::refusal(&error))?;
    Ok(answer::json(r#"{"status":"ready"}"#.to_owned()))
}
