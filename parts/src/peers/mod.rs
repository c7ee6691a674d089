//! What else carries events to browsers, to be measured beside Tailrace: found on this machine or fetched, and started.
//!
//! One file a peer. Each is started as its documentation has it, open to everybody, on a port of 127.0.0.1.

pub mod centrifugo;
mod java;
pub mod restheart;
pub mod uwebsockets;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::process::Process;
use crate::{port, workspace};

const START: Duration = Duration::from_mins(1);

/// A running peer; dropping it ends it.
#[derive(Debug)]
pub struct Peer {
    process: Process,
    port: u16,
    version: String,
    /// Holds its configuration file.
    _folder: TempDir,
}

impl Peer {
    /// Where it listens: `http://127.0.0.1:<port>`
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port of 127.0.0.1 on which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The id of its process: all are of one.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its version, as it is written in a report.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Starts a command that was told to listen on this port, and waits until a GET of `path` is answered at all.
    async fn start(
        name: &str,
        version: String,
        port: u16,
        path: &str,
        folder: TempDir,
        command: &mut Command,
    ) -> Result<Self> {
        let log = workspace::logs().join(format!("{name}-{port}.log"));
        let mut process = Process::start(name, command, &log)?;
        process.wait_until(START, async || port::status(port, path).await.map(drop)).await?;
        Ok(Self { process, port, version, _folder: folder })
    }
}

/// What a variable of the environment names, in place of what would be fetched.
fn named(variable: &str) -> Result<Option<PathBuf>> {
    let Some(named) = std::env::var_os(variable).map(PathBuf::from) else { return Ok(None) };
    anyhow::ensure!(named.exists(), "{variable} names {}, which is not there", named.display());
    // Whoever runs it may do so in another folder.
    named.canonicalize().context(variable.to_owned()).map(Some)
}
