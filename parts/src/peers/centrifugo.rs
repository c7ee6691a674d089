//! Centrifugo: channels with subscribers, and an HTTP API to publish there, in Go.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{Peer, named};
use crate::process::{on_path, output, say};
use crate::{port, workspace};

const MODULE: &str = "github.com/centrifugal/centrifugo/v6";
const VERSION: &str = "v6.9.1";

/// Starts it. Everybody may subscribe to every channel (`/connection/websocket`), and publish there (`/api/publish`).
///
/// The program is what `TAILRACE_CENTRIFUGO` names, or one on PATH, or what Go builds of its module.
pub async fn start() -> Result<Peer> {
    let program = find()?;
    let version = output("centrifugo version", Command::new(&program).arg("version"))?;
    let port = port::free()?;
    let folder = workspace::scratch("centrifugo")?;
    let configuration = folder.path().join("config.json");
    // Neither history nor recovery nor presence: what a channel is without being told more.
    let text = format!(
        r#"{{
            "http_server": {{ "address": "127.0.0.1", "port": {port} }},
            "log": {{ "level": "error" }},
            "health": {{ "enabled": true }},
            "client": {{ "allow_anonymous_connect_without_token": true, "allowed_origins": ["*"] }},
            "channel": {{ "without_namespace": {{ "allow_subscribe_for_anonymous": true, "allow_subscribe_for_client": true }} }},
            "http_api": {{ "insecure": true }}
        }}"#
    );
    fs::write(&configuration, text).context("cannot write its configuration")?;
    let mut command = Command::new(program);
    command.arg("--config").arg(configuration);
    let version = version.split(" (").next().unwrap_or(&version).trim().to_owned();
    Peer::start("centrifugo", version, port, "/health", folder, &mut command).await
}

fn find() -> Result<PathBuf> {
    if let Some(named) = named("TAILRACE_CENTRIFUGO")? {
        return Ok(named);
    }
    if let Some(program) = on_path("centrifugo") {
        return Ok(program);
    }
    let _one_at_a_time = workspace::lock("centrifugo")?;
    let folder = workspace::tools().join(format!("centrifugo-{VERSION}"));
    let program = folder.join("centrifugo");
    if !program.exists() {
        fetch(&folder)?;
    }
    Ok(program)
}

fn fetch(folder: &Path) -> Result<()> {
    anyhow::ensure!(on_path("go").is_some(), "building Centrifugo: go is not on PATH");
    say(&format!("go install {MODULE}@{VERSION} (a few minutes, once)"));
    let mut go = Command::new("go");
    go.args(["install", &format!("{MODULE}@{VERSION}")]).env("GOBIN", folder);
    let printed = go.stdin(std::process::Stdio::null()).output().context("cannot run go")?;
    if !printed.status.success() {
        let text = String::from_utf8_lossy(&printed.stderr);
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("go: downloading")).collect();
        bail!("go install {MODULE}@{VERSION}: {}", lines[lines.len().saturating_sub(2)..].join(" ").trim());
    }
    Ok(())
}
