//! A real browser for the tests of the web chat.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::process::{on_path, run, say};
use crate::{apt, npm, workspace};

const NAMES: &[&str] = &["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
const PLAYWRIGHT: &str = "the download of playwright";

/// Finds a Chromium: `TAILRACE_CHROMIUM`, PATH, playwright's own download, or Debian's package when run as root.
pub fn find() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("TAILRACE_CHROMIUM") {
        let path = PathBuf::from(named);
        anyhow::ensure!(path.is_file(), "TAILRACE_CHROMIUM names no file: {}", path.display());
        return Ok(path);
    }
    if let Some(found) = NAMES.iter().find_map(|name| on_path(name)) {
        return Ok(found);
    }
    let _one_at_a_time = workspace::lock("chromium")?;
    let mut reasons = Vec::new();
    for (name, fetch) in [(PLAYWRIGHT, from_playwright as fn() -> Result<PathBuf>), ("apt-get", from_apt)] {
        match fetch() {
            Ok(path) => return Ok(path),
            Err(reason) => reasons.push(format!("{name}: {reason:#}")),
        }
    }
    bail!(
        "no Chromium could be found or fetched:\n  - {}\nInstall Chromium or Chrome so that it is on PATH, or name the \
         program in TAILRACE_CHROMIUM.",
        reasons.join("\n  - ")
    )
}

fn from_playwright() -> Result<PathBuf> {
    npm::install()?;
    let folder = workspace::tools().join("chromium");
    let playwright = || {
        let mut command = Command::new("node");
        command.arg(workspace::root().join("node_modules/playwright-core/cli.js"));
        command
            .env("PLAYWRIGHT_BROWSERS_PATH", &folder)
            .env("PLAYWRIGHT_DOWNLOAD_CONNECTION_TIMEOUT", "5000");
        command
    };
    let find = || {
        let script = "console.log(require('playwright-core').chromium.executablePath())";
        let mut node = Command::new("node");
        node.args(["-e", script]).current_dir(workspace::root()).env("PLAYWRIGHT_BROWSERS_PATH", &folder);
        crate::process::output(PLAYWRIGHT, &mut node).map(|path| PathBuf::from(path.trim()))
    };
    if let Ok(path) = find()
        && path.is_file()
    {
        return Ok(path);
    }
    say("fetching Chromium by playwright");
    run(PLAYWRIGHT, playwright().args(["install", "chromium"]))?;
    let path = find()?;
    anyhow::ensure!(path.is_file(), "it left no program at {}", path.display());
    Ok(path)
}

fn from_apt() -> Result<PathBuf> {
    apt::install("chromium")?;
    NAMES.iter().find_map(|name| on_path(name)).context("the package brought no program of that name")
}
