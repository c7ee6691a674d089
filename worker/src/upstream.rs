//! The backends: which one is asked, what goes on to it, and who is next when it does not answer.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use http::Method;
use shared::{
    credentials::{self, TokenParameter},
    refusal::Refusal,
    remote::Remote,
    request::Head,
    statement::{self, Bound, Purpose, Statement},
};
use wasm_bindgen::JsValue;
use worker::{console_error, console_warn};

use crate::{answer, runtime, service_token, settings::Settings};

/// How long a backend has for the headers of its answer.
const PATIENCE: Duration = Duration::from_secs(8);

/// How long for those to a write, whose body has to arrive first.
const PATIENCE_WITH_WRITES: Duration = Duration::from_mins(1);

/// How long a backend that did not answer is asked last, in milliseconds; twice as long each further time in a row.
const REST: u64 = 5_000;

/// The longest rest, in milliseconds.
const LONGEST_REST: u64 = 40_000;

/// Headers that say who the client is. They are the platform's or the client's; the backend hears it from the statement.
const CLIENT_HEADERS: &[&str] = &[
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "forwarded",
    "true-client-ip",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

thread_local! {
    // Until when each backend that did not answer rests, and for how long.
    static SILENT: RefCell<HashMap<String, (u64, u64)>> = RefCell::default();
}

/// What is sent to a backend.
pub(crate) struct Outgoing<'a> {
    /// The method.
    pub(crate) method: &'a Method,
    /// The path, canonical.
    pub(crate) path: &'a str,
    /// The query, raw, without credentials.
    pub(crate) query: Option<&'a str>,
    /// The headers, without credentials.
    pub(crate) headers: &'a web_sys::Headers,
    /// The body, of a write.
    pub(crate) body: Option<web_sys::ReadableStream>,
    /// What is said of the caller.
    pub(crate) statement: &'a Statement,
    /// For what the statement is good.
    pub(crate) purpose: Purpose,
}

/// Whether a request of this method changes nothing, and may be sent again.
pub(crate) fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Sends to the backend that `key` belongs to, and on to the next while one does not answer. A write goes to one only.
///
/// 503 when none answers.
pub(crate) async fn send(
    outgoing: &Outgoing<'_>,
    key: &str,
    settings: &Settings,
) -> Result<web_sys::Response, Refusal> {
    let reads = reads(outgoing.method);
    for backend in ranked(key, settings).into_iter().take(if reads { usize::MAX } else { 1 }) {
        let patience = if reads { PATIENCE } else { PATIENCE_WITH_WRITES };
        let init = signed(outgoing, backend, settings).map_err(|error| {
            console_error!("a request cannot be signed: {}", runtime::text_of(&error));
            answer::internal()
        })?;
        match runtime::fetch(&url(backend, outgoing.path, outgoing.query), &init, patience).await {
            // Cloudflare's words for an origin that is away (520 to 527, 530).
            Ok(answer) if matches!(answer.status(), 520..=527 | 530) => {
                console_warn!("{}: answered {}", backend.as_str(), answer.status());
            }
            Ok(answer) => {
                SILENT.with_borrow_mut(|silent| silent.remove(backend.as_str()));
                return Ok(answer);
            }
            Err(why) => console_warn!("{}: {why}", backend.as_str()),
        }
        rest(backend);
    }
    Err(answer::unanswered())
}

fn rest(backend: &Remote) {
    let now = runtime::now();
    SILENT.with_borrow_mut(|silent| {
        let (until, rest) = silent.entry(backend.as_str().to_owned()).or_default();
        // Requests that waited at the same time count as one.
        if *until <= now {
            *rest = (*rest * 2).clamp(REST, LONGEST_REST);
            *until = now + *rest;
        }
    });
}

/// The backends in the order in which they are asked: those that were silent a moment ago come last.
fn ranked<'a>(key: &str, settings: &'a Settings) -> Vec<&'a Remote> {
    let now = runtime::now();
    let mut ranked = settings.backends.order(key);
    SILENT.with_borrow(|silent| {
        ranked.sort_by_key(|backend| silent.get(backend.as_str()).is_some_and(|(until, _)| now < *until));
    });
    ranked
}

fn url(backend: &Remote, path: &str, query: Option<&str>) -> String {
    let (mark, query) = query.map_or(("", ""), |query| ("?", query));
    format!("{}{path}{mark}{query}", backend.as_str())
}

/// The request with a statement of its own.
fn signed(
    outgoing: &Outgoing<'_>,
    backend: &Remote,
    settings: &Settings,
) -> Result<web_sys::RequestInit, JsValue> {
    let bound = Bound::new(outgoing.method.as_str(), &backend.host(), outgoing.path, outgoing.query);
    let value = statement::sign(
        outgoing.statement,
        outgoing.purpose,
        &bound,
        &settings.keys,
        &settings.deployment,
        runtime::random()?,
        runtime::now() / 1_000,
    )
    .ok_or_else(|| JsValue::from_str("no key"))?;
    let headers = web_sys::Headers::new_with_headers(outgoing.headers)?;
    headers.set(statement::HEADER.as_str(), &value)?;
    if let Some(token) = &settings.service_token {
        token.show(&headers)?;
    }
    let init = web_sys::RequestInit::new();
    init.set_method(outgoing.method.as_str());
    init.set_headers(&headers);
    if let Some(body) = &outgoing.body {
        init.set_body(body);
    }
    Ok(init)
}

/// The headers and the query that go on: the client's without its credentials and without what only the platform may say.
pub(crate) fn without_credentials(
    request: &web_sys::Request,
    head: &Head,
    parameter: Option<&TokenParameter>,
) -> Result<(web_sys::Headers, Option<String>), JsValue> {
    let headers = web_sys::Headers::new_with_headers(&request.headers())?;
    let mut kept = head.headers.clone();
    let query = credentials::strip(&mut kept, head.query.as_deref(), parameter, &statement::HEADER);
    for name in ["authorization", statement::HEADER.as_str(), "cookie", "sec-websocket-protocol"] {
        match kept.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok()) {
            Some(value) => headers.set(name, value)?,
            None => headers.delete(name)?,
        }
    }
    for name in CLIENT_HEADERS.iter().chain(service_token::HEADERS).chain(&["host"]) {
        headers.delete(name)?;
    }
    Ok((headers, query))
}
