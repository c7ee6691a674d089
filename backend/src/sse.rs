//! One subscriber's event stream (HTML standard, "Server-sent events").

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, StatusCode, header};
use shared::close::Close;
use tokio::time::{Instant, sleep_until};
use warp::{Reply, reply::Response};

use crate::{
    event::{Form, snapshot_end},
    expiry::Expiry,
    limits::Place,
    metrics::{self, Written},
    mongo,
    sessions::Registration,
    snapshot::Frames,
    stream::Client,
    subscription::{Delivery, Subscription},
};

/// A subscriber and how it is served.
struct Session {
    subscription: Subscription,
    #[expect(dead_code, reason = "what it takes under the limits is free again when it is dropped")]
    place: Place,
    figures: metrics::Subscriber,
    /// By what right the stream is open: it is judged again when rights change.
    #[expect(dead_code, reason = "it is in the list for as long as it is held")]
    registration: Registration,
    /// The current documents, where the client wants them first.
    snapshot: Option<Frames>,
    form: Form,
    expiry: Expiry,
    keepalive: Duration,
    ended: bool,
}

/// The answer: a body that goes on until one side ends it.
pub fn respond(
    subscription: Subscription,
    place: Place,
    client: Client,
    snapshot: Option<Frames>,
    keepalive_seconds: u64,
) -> Response {
    let keepalive = Duration::from_secs(keepalive_seconds);
    // The first block makes proxies and `fetch` hand on the head at once, and a client that loses the connection before the
    // first event continues from here; not one that has yet to read its snapshot.
    let start = subscription.start().filter(|_| snapshot.is_none());
    let start = start.map_or_else(|| ": open\n\n".to_owned(), |id| format!(": open\nid: {id}\n\n"));
    let Client { registration, figures, form, expires_at, .. } = client;
    let expiry = Expiry::at(expires_at);
    let session = Session {
        subscription,
        place,
        figures,
        registration,
        snapshot,
        form,
        expiry,
        keepalive,
        ended: false,
    };
    let opening = stream::once(async { Ok::<_, Infallible>(Bytes::from(start)) });
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
        // Events wait until the snapshot is sent; a close does not.
        if self.snapshot.is_some()
            && let Some(closed @ Delivery::Close(_)) = self.subscription.try_next()
        {
            let mut blocks = Vec::new();
            self.write(&mut blocks, &mut Written::default(), closed);
            return Some(blocks.into());
        }
        if let Some(block) = self.next_of_snapshot().await {
            return Some(block);
        }
        let keepalive = Instant::now() + self.keepalive;
        let wake = self.expiry.next().map_or(keepalive, |end| end.min(keepalive));
        let delivery = tokio::select! {
            delivery = self.subscription.next() => delivery,
            () = sleep_until(wake) => {
                if self.expiry.due().is_none() {
                    let id = self.subscription.quiet_position();
                    return Some(id.map_or_else(|| ":\n\n".to_owned(), |id| format!("id: {id}\n\n")).into());
                }
                Delivery::Close(Close::Expired)
            }
        };
        let mut blocks = Vec::new();
        let mut written = Written::default();
        self.write(&mut blocks, &mut written, delivery);
        while !self.ended
            && let Some(delivery) = self.subscription.try_next()
        {
            self.write(&mut blocks, &mut written, delivery);
        }
        self.figures.wrote(written);
        Some(blocks.into())
    }

    async fn next_of_snapshot(&mut self) -> Option<Bytes> {
        let mut blocks = Vec::new();
        match self.snapshot.as_mut()?.recv().await {
            Some(Ok(frames)) => {
                let mut written = Written::default();
                for frame in frames {
                    written.other(frame.len());
                    blocks.extend_from_slice(&frame.into_bytes());
                }
                self.figures.wrote(written);
            }
            Some(Err(error)) => {
                tracing::warn!(error = mongo::unquoted(&error), "a snapshot ended early");
                self.snapshot = None;
                self.close(&mut blocks, Close::Internal, Close::Internal.reason());
            }
            None => {
                self.snapshot = None;
                let position = self.subscription.start().unwrap_or_default();
                blocks.extend_from_slice(&snapshot_end(&position, self.form).into_bytes());
                self.subscription.release();
            }
        }
        Some(blocks.into())
    }

    fn write(&mut self, blocks: &mut Vec<u8>, written: &mut Written, delivery: Delivery) {
        match delivery {
            Delivery::Event(event) => match event.encoded(self.form) {
                Ok(None) => {}
                Ok(Some(frame)) => {
                    written.event(frame.len(), || event.written_at());
                    blocks.extend_from_slice(&frame.into_bytes());
                }
                Err((close, reason)) => {
                    // The client returns behind what it was told of.
                    blocks.extend_from_slice(format!("id: {}\n", event.sealed()).as_bytes());
                    self.close(blocks, close, &reason);
                }
            },
            Delivery::Close(close) => self.close(blocks, close, close.reason()),
            // The source writes to WebSockets only.
            Delivery::Flush => {}
        }
    }

    fn close(&mut self, blocks: &mut Vec<u8>, close: Close, reason: &str) {
        self.ended = true;
        self.figures.closed(close);
        let code = close.code();
        blocks.extend_from_slice(
            format!("event: close\ndata: {{\"code\":{code},\"reason\":\"{reason}\"}}\n\n").as_bytes(),
        );
    }
}
