//! uWebSockets: a WebSocket server in C++, driven from Python by the package `socketify`. The program is ours, and says no more
//! than who gets what; publishing is uWebSockets' own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Peer;
use crate::process::{output, say};
use crate::{port, workspace};

const REQUIREMENT: &str = "socketify==0.0.31";

/// Starts it. Who connects to `/subscribe` is sent what comes from `/publish`.
pub async fn start() -> Result<Peer> {
    let python = find()?;
    let port = port::free()?;
    let folder = workspace::scratch("uwebsockets")?;
    let mut command = Command::new(python);
    command.args(["-c", include_str!("uwebsockets.py"), &port.to_string()]);
    let version = format!("uWebSockets of {}", REQUIREMENT.replace("==", " "));
    Peer::start("uwebsockets", version, port, "/", folder, &mut command).await
}

/// A Python that has the package.
fn find() -> Result<PathBuf> {
    let _one_at_a_time = workspace::lock("uwebsockets")?;
    let folder = workspace::tools().join("uwebsockets");
    let (python, stamp) = (folder.join("bin/python"), folder.join(".installed"));
    if !fs::read_to_string(&stamp).is_ok_and(|installed| installed == REQUIREMENT) {
        fetch(&folder, &python)?;
        fs::write(&stamp, REQUIREMENT).with_context(|| format!("cannot write {}", stamp.display()))?;
    }
    Ok(python)
}

fn fetch(folder: &Path, python: &Path) -> Result<()> {
    let what = format!("fetching the Python package {REQUIREMENT}");
    say(&what);
    output("python3 -m venv", Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", REQUIREMENT]);
    output(&what, &mut pip).map(drop)
}
