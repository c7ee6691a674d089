//! The processes that make the load: `cargo xtask load …`, compiled to run quickly.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use parts::process::run;
use parts::workspace;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::cores::pin;

/// Builds the program that makes the load.
pub(super) fn build() -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--release", "--package", "xtask"]).current_dir(workspace::root());
    run("cargo build --release --package xtask", &mut cargo)?;
    Ok(workspace::target().join("release/xtask"))
}

/// A process that makes load until it is dropped.
pub(super) struct Generator {
    // It ends with its input, whatever way this process ends.
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    child: Child,
}

impl Generator {
    /// Starts one, and waits for what it says when it is ready.
    pub(super) async fn start(program: &Path, arguments: &[&str]) -> Result<(Self, Value)> {
        Self::spawn(tokio::process::Command::new(program), arguments).await
    }

    /// The same, in a process that gets what the others leave of the processors.
    pub(super) async fn start_of_low_priority(program: &Path, arguments: &[&str]) -> Result<(Self, Value)> {
        let mut nice = tokio::process::Command::new("nice");
        nice.args(["-n", "19"]).arg(program);
        Self::spawn(nice, arguments).await
    }

    async fn spawn(mut command: tokio::process::Command, arguments: &[&str]) -> Result<(Self, Value)> {
        let mut child = command
            .arg("load")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start the load {}", arguments.join(" ")))?;
        let input = child.stdin.take().context("its input")?;
        let output = BufReader::new(child.stdout.take().context("its output")?).lines();
        let mut generator = Self { input, output, child };
        let ready = generator.answer().await?;
        Ok((generator, ready))
    }

    /// The id of the process.
    pub(super) fn id(&self) -> Result<u32> {
        self.child.id().context("the load generator has ended")
    }

    /// Lets it run on this core alone.
    pub(super) fn pin(&self, core: usize) -> Result<()> {
        pin(self.id()?, core)
    }

    /// Makes it send so many events, so many together, and so long from the beginning of some to that of the next; zero is as
    /// fast as can be.
    pub(super) async fn fire(&mut self, events: u32, batch: u32, every: Duration) -> Result<()> {
        self.order(&format!("volley {events} {batch} {}", every.as_micros())).await.map(drop)
    }

    /// Waits until so many have come, or were sent, from now on: what is measured next is under way.
    pub(super) async fn is_under_way(&mut self, number: u32) -> Result<()> {
        self.order("take").await?;
        let figures = self.order(&format!("await {number}")).await?;
        let number_of = |figure: &str| figures[figure].as_u64();
        let came = number_of("events").or(number_of("sent")).unwrap_or_default();
        ensure!(came >= u64::from(number), "{came} came, {number} are expected: {figures}");
        Ok(())
    }

    /// Tells it what to do; its answer.
    pub(super) async fn order(&mut self, order: &str) -> Result<Value> {
        self.input
            .write_all(format!("{order}\n").as_bytes())
            .await
            .context("the load generator has ended")?;
        self.answer().await
    }

    async fn answer(&mut self) -> Result<Value> {
        let line = self.output.next_line().await?.context("the load generator has ended")?;
        Ok(serde_json::from_str(&line)?)
    }
}
