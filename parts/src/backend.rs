//! Our native server, as a process of its own: what is tested is what is shipped.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::process::{Process, run};
use crate::{port, workspace};

/// With it another one may be at its port.
const REUSE_PORT: &str = "TAILRACE_REUSE_PORT";

const START: Duration = Duration::from_secs(30);

/// How a backend is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Appears in the name of its log.
    pub name: String,
    /// A free port when `None`.
    pub port: Option<u16>,
    /// The text of its configuration file (TOML).
    pub config: String,
    /// Variables of its environment: `TAILRACE_MONGODB__URI`, `TAILRACE_AUTH__ANONYMOUS`, …
    pub environment: Vec<(String, String)>,
    /// The program; the debug build when `None`.
    pub program: Option<PathBuf>,
}

impl Options {
    /// Adds a variable to its environment.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }
}

/// A running backend; dropping it kills it.
#[derive(Debug)]
pub struct Backend {
    options: Options,
    program: PathBuf,
    port: u16,
    /// `None` while it is killed.
    process: Option<Process>,
    log: PathBuf,
    /// Holds its configuration file.
    folder: tempfile::TempDir,
}

impl Backend {
    /// Starts it and waits until `/_health` answers.
    pub async fn start(options: Options) -> Result<Self> {
        let program = match &options.program {
            Some(program) => program.clone(),
            None => build(Profile::Debug)?,
        };
        let port = options.port.map_or_else(port::free, Ok)?;
        let folder = workspace::scratch("backend")?;
        std::fs::write(folder.path().join("tailrace.toml"), &options.config)
            .context("cannot write its configuration")?;
        let log = workspace::logs().join(format!("backend-{}-{port}.log", options.name));
        let mut backend = Self { options, program, port, process: None, log, folder };
        backend.restart().await?;
        Ok(backend)
    }

    /// The port of 127.0.0.1 on which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it is asked whether it is up: where it speaks TLS, or shares its port, that is its admin listener.
    fn health_port(&self) -> u16 {
        let mut environment = self.options.environment.iter();
        let admin = environment.find(|(name, _)| name == "TAILRACE_ADMIN__LISTEN");
        let admin = admin.and_then(|(_, listen)| listen.parse::<SocketAddr>().ok());
        admin.map_or(self.port, |listen| listen.port())
    }

    /// `http://127.0.0.1:<port>`
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where its log goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// All that it logged.
    pub fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Asks it to end (SIGTERM), and waits for that.
    pub async fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        self.process.take().context("the backend does not run")?.terminate(within).await
    }

    /// The running process, for signals.
    pub fn process(&self) -> Result<&Process> {
        self.process.as_ref().context("the backend does not run")
    }

    /// An error with the end of its log, when it has ended though nobody asked it to.
    pub fn must_run(&mut self) -> Result<()> {
        self.process.as_mut().context("the backend does not run")?.must_run()
    }

    /// Kills it if it runs, and starts it on the same port with the same configuration.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill();
        let shares =
            self.options.environment.iter().any(|(name, value)| name == REUSE_PORT && value == "true");
        ensure!(
            shares || port::is_free(self.port),
            "the backend cannot listen on port {}: something else does already",
            self.port
        );
        let mut command = command(&self.program);
        command
            .arg("serve")
            .arg("--config")
            .arg(self.folder.path().join("tailrace.toml"))
            .env("TAILRACE_LISTEN", format!("127.0.0.1:{}", self.port))
            .envs(self.options.environment.iter().cloned());
        let mut process =
            Process::start(&format!("the backend {}", self.options.name), &mut command, &self.log)?;
        let port = self.health_port();
        let healthy = async || match port::status(port, "/_health").await? {
            200 => Ok(()),
            other => anyhow::bail!("/_health answers {other}"),
        };
        process.wait_until(START, healthy).await?;
        self.process = Some(process);
        Ok(())
    }

    /// How many files and sockets it has open.
    pub fn open_files(&self) -> Result<usize> {
        let path = format!("/proc/{}/fd", self.process()?.id());
        Ok(std::fs::read_dir(&path).with_context(|| format!("cannot read {path}"))?.count())
    }

    /// Its resident memory, in bytes.
    pub fn resident(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.process()?.id());
        let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kibibytes: u64 =
            line.trim().trim_end_matches("kB").trim().parse().context("VmRSS is no number")?;
        Ok(kibibytes * 1024)
    }
}

/// How the program is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Compiles quickly.
    Debug,
    /// Runs quickly: for measurements.
    Release,
}

/// The program, configured by what it is given from here on: nothing slips in from the environment of the tests.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"TAILRACE_"))
    {
        command.env_remove(name);
    }
    command
}

/// Builds the program and says where it is. `TAILRACE_TEST_PROGRAM` names one that is built already.
pub fn build(profile: Profile) -> Result<PathBuf> {
    if let Some(built) = std::env::var_os("TAILRACE_TEST_PROGRAM") {
        return Ok(PathBuf::from(built));
    }
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--quiet", "--package", "tailrace", "--bin", "tailrace"])
        .current_dir(workspace::root());
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    run("cargo build --package tailrace", &mut cargo)?;
    let folder = if profile == Profile::Release { "release" } else { "debug" };
    Ok(workspace::target().join(folder).join("tailrace"))
}
