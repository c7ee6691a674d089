//! The Workers runtime as this worker sees it: requests, time, chance, and fetches that end.

use std::{pin::pin, time::Duration};

use futures_util::future::{Either, select};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use shared::request::Head;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use worker::Delay;

/// Milliseconds since 1970. It stands still between a request's inputs and outputs.
pub(crate) fn now() -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the time is positive and small"
    )]
    let now = js_sys::Date::now() as u64;
    now
}

/// The global scope.
pub(crate) fn scope() -> web_sys::WorkerGlobalScope {
    js_sys::global().unchecked_into()
}

/// Fresh random bytes.
pub(crate) fn random() -> Result<[u8; 16], JsValue> {
    let mut bytes = [0; 16];
    scope().crypto()?.get_random_values_with_u8_array(&mut bytes)?;
    Ok(bytes)
}

/// A request's head. Header values are in UTF-8, whatever the client's bytes were: the runtime has read them.
pub(crate) fn head(request: &web_sys::Request) -> Head {
    let url = request.url();
    let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    let target = rest.find('/').map_or("/", |start| &rest[start..]);
    let target = target.split_once('#').map_or(target, |(target, _)| target);
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target, None),
    };
    let mut headers = HeaderMap::new();
    for entry in request.headers().entries().into_iter().flatten() {
        let entry: js_sys::Array = entry.unchecked_into();
        let text = |index| entry.get(index).as_string().unwrap_or_default();
        let name = HeaderName::from_bytes(text(0).as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(text(1).as_bytes())) {
            headers.append(name, value);
        }
    }
    complete_handshake(&mut headers);
    let peer = headers.get("cf-connecting-ip").and_then(|address| address.to_str().ok()?.parse().ok());
    let method = Method::from_bytes(request.method().as_bytes()).unwrap_or(Method::GET);
    Head { method, path: path.to_owned(), query, headers, peer }
}

/// The runtime has done the client's handshake, and does its own with the backend: fields that it keeps to itself are
/// not missing.
fn complete_handshake(headers: &mut HeaderMap) {
    let upgrades =
        headers.get("upgrade").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if upgrades {
        headers.insert("connection", HeaderValue::from_static("upgrade"));
        headers.entry("sec-websocket-version").or_insert(HeaderValue::from_static("13"));
        headers.entry("sec-websocket-key").or_insert(HeaderValue::from_static("AAAAAAAAAAAAAAAAAAAAAA=="));
    }
}

/// Why a fetch gave no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// No headers came in time.
    TimedOut,
    /// The connection was refused or lost; the runtime does not tell which.
    Failed(String),
}

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TimedOut => f.write_str("no headers in time"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

/// Fetches, and gives up when no headers have come in time. The time does not bound the body: a stream runs on.
pub(crate) async fn fetch(
    url: &str,
    init: &web_sys::RequestInit,
    limit: Duration,
) -> Result<web_sys::Response, NoAnswer> {
    let failed = |error: JsValue| NoAnswer::Failed(text_of(&error));
    let abort = web_sys::AbortController::new().map_err(failed)?;
    init.set_signal(Some(&abort.signal()));
    init.set_redirect(web_sys::RequestRedirect::Manual);
    let answer = pin!(JsFuture::from(scope().fetch_with_str_and_init(url, init)));
    // Dropped with this function, which clears the timer.
    let timer = pin!(Delay::from(limit));
    match select(answer, timer).await {
        Either::Left((answer, _)) => answer.map_err(failed)?.dyn_into().map_err(failed),
        Either::Right(((), _)) => {
            abort.abort();
            Err(NoAnswer::TimedOut)
        }
    }
}

/// An error of JavaScript's, as text.
pub(crate) fn text_of(error: &JsValue) -> String {
    match error.dyn_ref::<js_sys::Error>() {
        Some(error) => String::from(error.message()),
        None => format!("{error:?}"),
    }
}

/// The body as text, read up to `limit` bytes and within `time`.
pub(crate) async fn body(
    response: &web_sys::Response,
    limit: usize,
    time: Duration,
) -> Result<String, String> {
    let length = response.headers().get("content-length").ok().flatten();
    if length.and_then(|length| length.parse().ok()).is_some_and(|length: usize| length > limit) {
        return Err(format!("longer than {limit} bytes"));
    }
    let Some(stream) = response.body() else { return Ok(String::new()) };
    let reader: web_sys::ReadableStreamDefaultReader = stream.get_reader().unchecked_into();
    let mut bytes = Vec::new();
    let mut timer = pin!(Delay::from(time));
    loop {
        let read = pin!(JsFuture::from(reader.read()));
        let chunk = match select(read, timer.as_mut()).await {
            Either::Left((chunk, _)) => chunk.map_err(|error| text_of(&error))?,
            Either::Right(((), _)) => {
                drop(reader.cancel());
                return Err("not complete in time".to_owned());
            }
        };
        let field =
            |name| js_sys::Reflect::get(&chunk, &JsValue::from_str(name)).unwrap_or(JsValue::UNDEFINED);
        if field("done").is_truthy() {
            return String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned());
        }
        bytes.extend(js_sys::Uint8Array::new(&field("value")).to_vec());
        if bytes.len() > limit {
            drop(reader.cancel());
            return Err(format!("longer than {limit} bytes"));
        }
    }
}
