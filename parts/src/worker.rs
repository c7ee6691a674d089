//! Our edge worker: built, and running in Cloudflare's own runtime by `wrangler dev`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::process::{Process, log_file, outside_of_cargo, run, tail};
use crate::{npm, port, tools, workspace};

const START: Duration = Duration::from_mins(1);

/// The build that wrangler calls waits for other builds of cargo.
const START_WITH_BUILD: Duration = Duration::from_mins(10);

/// A path that the worker answers by itself: it may be started before there is a backend.
const OWN_PATH: &str = "/_ready";

/// How a worker is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Appears in the name of its log.
    pub name: String,
    /// A free port when `None`.
    pub port: Option<u16>,
    /// Whether it is built again when its sources change.
    pub follows_sources: bool,
    /// Its variables and secrets, over those of `wrangler.toml`.
    pub variables: Vec<(String, String)>,
    /// How many requests of one address its rate limit lets pass in a minute; without one, none is bound. Not for a worker that
    /// follows its sources.
    pub rate: Option<u32>,
}

impl Options {
    /// Adds a variable.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }
}

/// A running worker; dropping it kills it, with the runtime.
#[derive(Debug)]
pub struct Worker {
    port: u16,
    process: Process,
    /// What it stores locally; dropped after the process.
    _folder: tempfile::TempDir,
}

impl Worker {
    /// Starts the worker that [`build`] left and waits until it answers. Several can run side by side.
    pub async fn start(options: Options) -> Result<Self> {
        npm::install()?;
        let port = options.port.map_or_else(port::free, Ok)?;
        ensure!(port::is_free(port), "the worker cannot listen on port {port}: something else does already");
        let folder = workspace::scratch("worker")?;
        let (config, within) = if options.follows_sources {
            (workspace::root().join(CONFIG), START_WITH_BUILD)
        } else {
            (write_config_without_build(folder.path(), options.rate)?, START)
        };
        // An empty one: the variables are what the options say, and `.dev.vars` is somebody else's.
        let no_variables = folder.path().join("variables.env");
        std::fs::write(&no_variables, "").context("cannot write in the folder of the worker")?;
        let mut command = Command::new(npm::program("wrangler")?);
        command
            .current_dir(workspace::root())
            .args(["dev", "--ip", "127.0.0.1", "--port", &port.to_string()])
            .args(["--inspector-port", &port::free()?.to_string()])
            .arg("--show-interactive-dev-session=false")
            .arg("--config")
            .arg(config)
            .arg("--persist-to")
            .arg(folder.path())
            .arg("--env-file")
            .arg(no_variables)
            .env("WRANGLER_SEND_METRICS", "false")
            // Workers that run side by side are to know nothing of each other.
            .env("WRANGLER_REGISTRY_PATH", folder.path().join("registry"))
            .env("WRANGLER_LOG_PATH", folder.path().join("logs"));
        for (name, value) in &options.variables {
            command.arg("--var").arg(format!("{name}:{value}"));
        }
        let log = workspace::logs().join(format!("worker-{}-{port}.log", options.name));
        let mut process = Process::start(&format!("the worker {}", options.name), &mut command, &log)?;
        process.wait_until(within, async || port::status(port, OWN_PATH).await.map(drop)).await?;
        Ok(Self { port, process, _folder: folder })
    }

    /// The port of 127.0.0.1 on which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `http://127.0.0.1:<port>`
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where its log goes.
    pub fn log(&self) -> &Path {
        self.process.log()
    }

    /// An error with the end of its log, when it has ended though nobody asked it to.
    pub fn must_run(&mut self) -> Result<()> {
        self.process.must_run()
    }
}

/// The worker's configuration, in the root.
const CONFIG: &str = "wrangler.toml";

/// The same configuration without the build: what is tested is not built anew, nor restarted when a source is saved.
fn write_config_without_build(folder: &Path, rate: Option<u32>) -> Result<PathBuf> {
    let text =
        std::fs::read_to_string(workspace::root().join(CONFIG)).context("cannot read wrangler.toml")?;
    let mut config: toml::Table = text.parse().context("cannot read wrangler.toml")?;
    config.remove("build");
    if let Some(rate) = rate {
        let bound = format!(
            "name = \"RATE_LIMITER\"\nnamespace_id = \"1\"\nsimple = {{ limit = {rate}, period = 60 }}\n"
        );
        let bound: toml::Table = bound.parse().context("the rate limit")?;
        config.insert("ratelimits".to_owned(), vec![bound].into());
    }
    config.insert("main".to_owned(), built().display().to_string().into());
    let path = folder.join(CONFIG);
    std::fs::write(&path, config.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Where [`build`] leaves what `wrangler.toml` names as `main`.
pub fn built() -> PathBuf {
    workspace::root().join("worker/build/index.js")
}

/// Builds the worker as it is deployed; quick when nothing changed.
pub fn build() -> Result<()> {
    npm::install()?;
    tools::wasm_target()?;
    let _one_at_a_time = workspace::lock("worker")?;
    let mut cargo = Command::new("cargo");
    // The way in which worker-build calls it below, so that what is compiled here is not compiled again there.
    cargo
        .args([
            "build",
            "--quiet",
            "--package",
            "tailrace-worker",
            "--lib",
            "--target",
            "wasm32-unknown-unknown",
        ])
        .args(["--profile", PROFILE])
        .env("WASM_BINDGEN_USE_JS_SYS", "1")
        .current_dir(workspace::root());
    run("compiling the worker", &mut cargo)?;
    let compiled =
        workspace::target().join("wasm32-unknown-unknown").join(PROFILE).join("tailrace_worker.wasm");
    if is_older(&compiled, &built()) {
        return Ok(());
    }
    let folder = workspace::root().join("worker");
    let log = workspace::tools().join("worker-build.log");
    let output = log_file(&log)?;
    let mut worker_build = Command::new(tools::WORKER_BUILD.install()?);
    let status = outside_of_cargo(&mut worker_build)
        .args(["--profile", PROFILE])
        .current_dir(folder)
        // It would download each of these.
        .env("WASM_BINDGEN_BIN", tools::WASM_BINDGEN.install()?)
        .env("ESBUILD_BIN", npm::program("esbuild")?)
        .env("WASM_OPT_BIN", npm::program("wasm-opt")?)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()
        .context("cannot run worker-build")?;
    ensure!(
        status.success(),
        "worker-build ended with {status}. The end of {}:\n{}",
        log.display(),
        tail(&log, 30)
    );
    ensure!(is_older(&compiled, &built()), "worker-build left no new {}", built().display());
    Ok(())
}

/// The cargo profile of what is deployed.
const PROFILE: &str = "edge";

fn is_older(file: &Path, other: &Path) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
    matches!((modified(file), modified(other)), (Ok(file), Ok(other)) if file < other)
}
