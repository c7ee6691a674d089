//! One subscriber's event stream (HTML standard, "Server-sent events").

use std::{
    convert::Infallible,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, StatusCode, header};
use shared::{close::Close, event_json::JsonMode};
use tokio::time::{Instant, sleep_until};
use warp::{Reply, reply::Response};

use crate::subscription::{Delivery, Subscription};

/// A subscriber and how it is served.
struct Session {
    subscription: Subscription,
    mode: JsonMode,
    expires: Option<Instant>,
    keepalive: Duration,
    ended: bool,
}

/// The answer: a body that goes on until one side ends it.
pub fn respond(
    subscription: Subscription,
    mode: JsonMode,
    expires_at: Option<u64>,
    keepalive_seconds: u64,
) -> Response {
    let expires = expires_at.and_then(|at| {
        let then = UNIX_EPOCH.checked_add(Duration::from_secs(at))?;
        Instant::now().checked_add(then.duration_since(SystemTime::now()).unwrap_or_default())
    });
    let keepalive = Duration::from_secs(keepalive_seconds);
    let session = Session { subscription, mode, expires, keepalive, ended: false };
    // The comment makes proxies and `fetch` hand on the head at once.
    let opening = stream::once(async { Ok::<_, Infallible>(Bytes::from_static(b": open\n\n")) });
    let events = stream::unfold(session, |mut session| async move {
        let block = session.next().await?;
        Some((Ok(block), session))
    });
    let mut response = warp::reply::stream(stream::StreamExt::chain(opening, events)).into_response();
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx and its kin would gather events otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

impl Session {
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let keepalive = Instant::now() + self.keepalive;
        let wake = self.expires.map_or(keepalive, |expires| expires.min(keepalive));
        let delivery = tokio::select! {
            delivery = self.subscription.next() => delivery,
            () = sleep_until(wake) => {
                if self.expires.is_none_or(|expires| expires > Instant::now()) {
                    return Some(Bytes::from_static(b":\n\n"));
                }
                Delivery::Close(Close::Expired)
            }
        };
        let mut block = String::new();
        self.write(&mut block, delivery);
        while !self.ended
            && let Some(delivery) = self.subscription.try_next()
        {
            self.write(&mut block, delivery);
        }
        Some(block.into())
    }

    fn write(&mut self, block: &mut String, delivery: Delivery) {
        match delivery {
            // JSON on one line: `data:` takes no line breaks, and JSON escapes them.
            Delivery::Event(event) => {
                block.push_str("event: change\ndata: ");
                block.push_str(event.plain(self.mode).as_str());
                block.push_str("\n\n");
            }
            Delivery::Close(close) => {
                self.ended = true;
                let code = close.code();
                let reason = close.reason();
                block.push_str(&format!(
                    "event: close\ndata: {{\"code\":{code},\"reason\":\"{reason}\"}}\n\n"
                ));
            }
        }
    }
}
