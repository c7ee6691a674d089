//! A database of one test, seen from both sides: through Tailrace, and directly in MongoDB.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use http::Method;
use serde_json::Value;

use crate::event_source::EventSource;
use crate::{Request, Response, WebSocket, soon};

/// How often to look for cursors.
const LOOKS: usize = 5;

/// A database with a name that no other test has.
#[derive(Clone, Debug)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// The server of Tailrace that its requests go to.
    pub server: String,
    /// The same database with MongoDB's own driver.
    pub mongo: mongodb::Database,
}

impl Database {
    /// A new one, at this server of Tailrace and this MongoDB.
    ///
    /// # Panics
    /// When the connection string is none.
    pub async fn new(server: &str, mongodb: &str) -> Self {
        let client = mongodb::Client::with_uri_str(mongodb).await.expect("a connection string of MongoDB");
        let name = unique_name();
        Self { mongo: client.database(&name), name, server: server.to_owned() }
    }

    /// The same database at another server.
    #[must_use]
    pub fn at(&self, server: &str) -> Self {
        Self { server: server.to_owned(), ..self.clone() }
    }

    /// The address of something in it: `log/_streams/all` becomes `/<name>/log/_streams/all`.
    pub fn path(&self, inner: &str) -> String {
        format!("/{}/{inner}", self.name)
    }

    /// Sends a request of any kind.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn send(&self, request: Request) -> Response {
        soon("an answer", request.send(&self.server)).await.expect("an answer")
    }

    /// Sends a request with a JSON body (none when empty).
    pub async fn request(&self, method: Method, inner: &str, body: &str) -> Response {
        let request = Request::new(method, self.path(inner));
        self.send(if body.is_empty() { request } else { request.json(body) }).await
    }

    /// GET.
    pub async fn get(&self, inner: &str) -> Response {
        self.request(Method::GET, inner, "").await
    }

    /// PUT that must succeed: metadata of a collection, or a document.
    pub async fn put(&self, inner: &str, body: &str) -> Response {
        succeeded("PUT", inner, self.request(Method::PUT, inner, body).await)
    }

    /// PATCH that must succeed.
    pub async fn patch(&self, inner: &str, body: &str) -> Response {
        succeeded("PATCH", inner, self.request(Method::PATCH, inner, body).await)
    }

    /// POST of a document that must succeed.
    pub async fn post(&self, collection: &str, body: &str) -> Response {
        succeeded("POST", collection, self.request(Method::POST, collection, body).await)
    }

    /// A stream over WebSocket that must open.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn connect(&self, inner: &str) -> WebSocket {
        WebSocket::open(&self.server, Request::get(self.path(inner)))
            .await
            .unwrap_or_else(|refused| panic!("{inner} is refused: {} {}", refused.status, refused.text()))
    }

    /// How many cursors servers of Tailrace have open on a collection, or are about to open.
    ///
    /// # Panics
    /// When MongoDB does not tell.
    pub async fn cursors(&self, collection: &str) -> usize {
        let mut open = HashSet::new();
        // MongoDB may not tell of one that is between two of its commands: who looks once may see one of two.
        for _ in 0..LOOKS {
            self.look_at_cursors(collection, &mut open).await;
        }
        open.len()
    }

    async fn look_at_cursors(&self, collection: &str, open: &mut HashSet<i64>) {
        let operations = self
            .mongo
            .client()
            .database("admin")
            .aggregate([
                bson::doc! { "$currentOp": { "allUsers": true, "idleCursors": true, "localOps": true } },
                bson::doc! { "$match": { "ns": format!("{}.{collection}", self.name), "appName": "tailrace" } },
            ])
            .await;
        let mut operations = operations.expect("$currentOp");
        while operations.advance().await.expect("$currentOp") {
            let operation: bson::Document = operations.deserialize_current().expect("a document");
            if let Ok(cursor) = operation.get_document("cursor").and_then(|cursor| cursor.get_i64("cursorId"))
            {
                open.insert(cursor);
            } else if operation.get_document("command").is_ok_and(|command| command.contains_key("aggregate"))
            {
                // It is about to have one.
                open.insert(-operation.get("opid").and_then(bson::Bson::as_i32).map_or(1, i64::from));
            }
        }
    }

    /// The refusal of a stream over WebSocket that must not open.
    ///
    /// # Panics
    /// When it opens.
    pub async fn refused(&self, inner: &str) -> Response {
        match WebSocket::open(&self.server, Request::get(self.path(inner))).await {
            Ok(_) => panic!("{inner} opens, and should have been refused"),
            Err(refused) => *refused,
        }
    }

    /// A stream as server-sent events that must open.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn event_source(&self, inner: &str) -> EventSource {
        EventSource::open(&self.server, Request::get(self.path(inner)))
            .await
            .unwrap_or_else(|refused| panic!("{inner} is refused: {} {}", refused.status, refused.text()))
    }
}

fn succeeded(method: &str, inner: &str, response: Response) -> Response {
    assert!(response.status.is_success(), "{method} {inner}: {} {}", response.status, response.text());
    response
}

/// Reads a body as JSON.
///
/// # Panics
/// When it is none.
pub fn json(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap_or_else(|error| {
        panic!("the body is no JSON ({error}): {} {}", response.status, response.text())
    })
}

/// A value of a parameter: all but letters and digits as percent codes.
pub fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("test_{:x}_{}_{number}", now.as_millis(), std::process::id())
}
