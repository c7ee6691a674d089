//! What edge workers ask the backend for, each answer with a MAC: the settings, and the definitions of a collection.

use std::time::SystemTime;

use http::{HeaderValue, StatusCode, header};
use shared::{
    edge_definitions::{self, MAC_HEADER, Settings, Signed},
    name::Namespace,
    permission,
    refusal::Refusal,
    request::Head,
};
use warp::reply::Response;

use crate::{answer, app::App, authentication::EdgeCaller};

/// `GET /_edge`
pub fn settings(app: &App, head: &Head, asker: &EdgeCaller) -> Result<Response, Refusal> {
    let settings = Settings {
        mounts: app.mounts.configured().to_vec(),
        origins: app.origins.clone(),
        check_operators: app.config.aggregation_check_operators,
        access: permission::Written::from(&*app.permissions.current()?),
        limits: app.config.limits.of_request(),
        basic: app.authenticator.takes_basic(),
        token_parameter: app.authenticator.token_parameter().cloned(),
    };
    Ok(respond(head, app.authenticator.sign_settings(asker, &settings)))
}

/// `GET /_edge/_user`, with the caller's name and password in `Authorization`.
pub async fn user(app: &App, head: &Head) -> Result<Response, Refusal> {
    Ok(respond(head, app.authenticator.user_for_edge(head, SystemTime::now()).await?))
}

/// `GET /_edge/<db>/<coll>`: read from the database, so that the edge never refuses what was declared a moment ago.
pub async fn definitions(
    app: &App,
    head: &Head,
    asker: &EdgeCaller,
    namespace: &Namespace,
) -> Result<Response, Refusal> {
    let declared = app.catalog.read_through(namespace).await?;
    let streams = declared.streams.clone().filter(|_| declared.exists);
    let collection = edge_definitions::Collection { streams };
    Ok(respond(head, app.authenticator.sign_collection(asker, namespace, &collection)))
}

fn respond(head: &Head, signed: Signed) -> Response {
    let etag = signed.etag();
    let unchanged = head.header("if-none-match").is_some_and(|known| known == etag);
    let mut response =
        if unchanged { answer::empty(StatusCode::NOT_MODIFIED) } else { answer::json(signed.body) };
    let headers = response.headers_mut();
    for (name, value) in [(header::ETAG, etag), (MAC_HEADER, signed.mac)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    response
}
