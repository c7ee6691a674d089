//! The web chat in a real browser: what one page writes, the other shows, and a restart of the backend stops neither.

use std::process::Stdio;

use bson::{DateTime, Document, doc};
use parts::deployment::{open_backend, open_worker};
use parts::{chromium, npm, workspace};
use tailrace_tests::front::addresses;
use tailrace_tests::{Front, Own, both_fronts};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

async fn two_pages_follow_each_other_across_a_restart_of_the_backend(front: Front) {
    npm::install().expect("playwright-core is installed");
    npm::build_client().expect("the client is built");
    let chromium = chromium::find().expect("a Chromium");
    let name = format!("chat-{front:?}").to_lowercase();
    let options = open_backend(&name, &addresses().await.mongodb);
    let mut parts = Own::at(front, options, |backend| open_worker(&name, &[backend])).await;
    let server = parts.server(front);
    let database = front.database().await.at(&server);
    let metadata = include_str!("../../examples/chat/collection.json");
    database.put("messages", metadata).await;

    let mut command = Command::new("node");
    command
        .arg("tests/browser/chat.mjs")
        .current_dir(workspace::root())
        .env("TAILRACE_API_URL", format!("{server}/{}", database.name))
        .env("TAILRACE_CHROMIUM", chromium)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut browser = command.spawn().expect("node starts");
    let mut input = browser.stdin.take().expect("a pipe");
    let mut lines = BufReader::new(browser.stdout.take().expect("a pipe")).lines();
    let mut said = Vec::new();
    while let Some(line) = lines.next_line().await.expect("lines of text") {
        if line == "restart" {
            parts.backend.kill();
            let message = doc! {
                "from": "Eve", "message": "Written while the server was away.", "timestamp": DateTime::now(),
            };
            database.mongo.collection::<Document>("messages").insert_one(message).await.expect("the insert");
            parts.backend.restart().await.expect("the backend comes back");
            input.write_all(b"restarted\n").await.expect("the browser waits");
        }
        said.push(line);
    }
    let status = browser.wait().await.expect("node ends");
    assert!(status.success() && said.last().is_some_and(|line| line == "done"), "{status}: {said:?}");
}

both_fronts!(two_pages_follow_each_other_across_a_restart_of_the_backend);
