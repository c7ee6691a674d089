//! What a developer types in the project's root: `npx wrangler dev`, and nothing else.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::StatusCode;
use parts::deployment::{EDGE_KEY, EDGE_KEY_ID};
use parts::process::Process;
use parts::{npm, worker, workspace};
use tailrace_tests::front::bounded;
use tailrace_tests::{Request, soon};

/// The file with the secrets of `wrangler dev`: one that is there is left alone, and one that is not goes with the test.
struct DevVars(Option<PathBuf>);

impl DevVars {
    fn there() -> Self {
        let file = workspace::root().join(".dev.vars");
        if file.exists() {
            return Self(None);
        }
        let text = format!("EDGE_KEY_ID=\"{EDGE_KEY_ID}\"\nEDGE_KEY=\"{EDGE_KEY}\"\nANONYMOUS=\"true\"\n");
        fs::write(&file, text).expect("it can be written");
        Self(Some(file))
    }
}

impl Drop for DevVars {
    fn drop(&mut self) {
        if let Some(file) = self.0.take() {
            let _ = fs::remove_file(file);
        }
    }
}

/// Where the log says that the worker listens.
fn address(log: &str) -> Option<&str> {
    let (_, rest) = log.split_once("Ready on ")?;
    rest.split_whitespace().next()
}

#[tokio::test]
async fn a_bare_wrangler_dev_builds_the_worker_and_serves_it() {
    bounded(async {
        npm::install().expect("npm packages");
        // So that the build that wrangler calls finds nothing left to do.
        worker::build().expect("the worker");
        let _dev_vars = DevVars::there();
        let log = workspace::logs().join("wrangler-dev.log");
        let mut command = Command::new("npx");
        command.args(["wrangler", "dev"]).current_dir(workspace::root());
        let mut wrangler = Process::start("npx wrangler dev", &mut command, &log).expect("it starts");
        let read = || fs::read_to_string(&log).context("its log");
        let ready = async || {
            ensure!(address(&read()?).is_some(), "it does not listen yet");
            Ok(())
        };
        wrangler.wait_until(Duration::from_mins(2), ready).await.expect("it listens");
        let log = read().expect("its log");
        assert!(log.contains("cargo xtask worker"), "it has called the build: {log}");
        let server = address(&log).expect("an address").replace("localhost", "127.0.0.1");
        let healthy = soon("an answer", Request::get("/_health").send(&server)).await.expect("an answer");
        assert_eq!(healthy.status, StatusCode::OK, "{}", healthy.text());
        let hidden = soon("an answer", Request::get("/_ready").send(&server)).await.expect("an answer");
        assert_eq!(hidden.status, StatusCode::NOT_FOUND, "{}", hidden.text());
    })
    .await;
}
