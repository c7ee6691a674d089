//! What `cargo xtask dev` puts into the database: the collection of the web chat, its stream, and a first few messages.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use http::{Method, StatusCode};
use parts::http::{Request, Response};
use parts::workspace;

const MESSAGES: [(&str, &str); 3] = [
    ("Ada", "Hello! This message was written through the document API."),
    ("Grace", "And it came to you through a MongoDB change stream."),
    ("Ada", "Open this page in a second window and write something."),
];

/// Declares the streams of the chat as `examples/chat/collection.json` has them, and writes the messages into a new
/// collection.
pub(crate) async fn chat(backend: &str) -> Result<()> {
    let file = workspace::root().join("examples/chat/collection.json");
    let collection = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let put = Request::new(Method::PUT, "/messages").json(collection).send(backend).await?;
    let is_new = put.status == StatusCode::CREATED;
    ensure!(is_new || put.status == StatusCode::OK, "PUT /messages: {}", said(&put));
    if !is_new {
        return Ok(());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_millis();
    for (minutes_ago, (from, message)) in (1_u128..=3).rev().zip(MESSAGES) {
        let at = now - 60_000 * minutes_ago;
        let body = format!(r#"{{"message":"{message}","from":"{from}","timestamp":{{"$date":{at}}}}}"#);
        let post = Request::new(Method::POST, "/messages").json(body).send(backend).await?;
        ensure!(post.status == StatusCode::CREATED, "POST /messages: {}", said(&post));
    }
    Ok(())
}

fn said(response: &Response) -> String {
    format!("{} {}", response.status, response.text())
}
