//! Refusals as they must be everywhere: one answer, in whatever way a stream is asked for.

use shared::refusal::{Kind, Refusal};

use crate::{EventSource, Request, Response, WebSocket, soon};

/// The refusal of a stream: asked for by a plain GET, as server-sent events, and over WebSocket, it is one and the same.
///
/// # Panics
/// When one of the three opens, or is answered in another way.
pub async fn of_any_kind(server: &str, request: Request) -> Response {
    let plain = soon("an answer", request.send(server)).await.expect("an answer");
    let events = EventSource::open(server, request.clone()).await.expect_err("no stream of events");
    let upgrade = WebSocket::open(server, request).await.expect_err("no WebSocket");
    for other in [*events, *upgrade] {
        assert_eq!((plain.status, plain.text()), (other.status, other.text()));
        for name in HEADERS {
            assert_eq!(plain.header(name), other.header(name), "{name} of {}", plain.text());
        }
    }
    plain
}

/// What belongs to a refusal besides status and body.
const HEADERS: [&str; 6] = [
    "content-type",
    "cache-control",
    "www-authenticate",
    "retry-after",
    "access-control-allow-origin",
    "access-control-allow-credentials",
];

/// Checks that an answer is exactly this refusal.
///
/// # Panics
/// When it is not.
pub fn is(response: &Response, kind: Kind, message: &str, case: &str) {
    let expected = Refusal::new(kind, message);
    assert_eq!((response.status, response.text()), (expected.status(), expected.body()), "{case}");
    for (name, value) in expected.headers() {
        assert_eq!(response.header(name), value, "{case}: {name}");
    }
    assert_eq!(response.header("content-type"), "application/json", "{case}");
    assert_eq!(response.header("cache-control"), "no-store", "{case}");
}
