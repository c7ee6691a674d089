//! `cargo xtask test`: checks and tests of everything, against the real parts.

use std::net::ToSocketAddrs as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use parts::backend::{self, Profile};
use parts::deployment::Deployment;
use parts::process::{output, tail};
use parts::{chromium, npm, tools, worker, workspace};

use crate::step::{Count, Counts, Report, command};

#[derive(Args)]
pub(crate) struct Options {
    /// Only the tests whose names contain this; skips the checks that have no names.
    filter: Option<String>,
    /// Only these steps, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Step>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Formatting.
    Fmt,
    /// Lints, natively and for wasm32.
    Clippy,
    /// The documentation of the code, without warnings.
    Docs,
    /// Licenses, bans, sources, and advisories of dependencies.
    Deny,
    /// Tests beside the code.
    Unit,
    /// The tests of `shared`, compiled to wasm32, under Node.
    Wasm,
    /// Syntax and types of the JavaScript.
    Js,
    /// The real parts together.
    E2e,
}

impl Options {
    fn wants(&self, step: Step) -> bool {
        let named = matches!(step, Step::Unit | Step::Wasm | Step::E2e);
        if self.only.is_empty() { named || self.filter.is_none() } else { self.only.contains(&step) }
    }

    /// A `cargo test` with the filter.
    fn tests(&self, arguments: &[&str]) -> Command {
        let mut command = cargo(&["test", "--no-fail-fast"]);
        command.args(arguments).args(&self.filter);
        command
    }
}

pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let _ = std::fs::remove_dir_all(workspace::logs());
    let mut report = Report::default();
    if options.wants(Step::Fmt) {
        report
            .step("format", async || command(Count::Whole, cargo(&["fmt", "--all", "--check"])).await)
            .await;
    }
    if options.wants(Step::Clippy) {
        report.step("lints", lints).await;
    }
    if options.wants(Step::Docs) {
        report.step("documentation", documentation).await;
    }
    if options.wants(Step::Deny) {
        report.step("dependencies", dependencies).await;
    }
    if options.wants(Step::Unit) {
        let tests = options.tests(&["--workspace", "--exclude", "tailrace-tests"]);
        report.step("unit tests", async || command(Count::Tests, tests).await).await;
    }
    if options.wants(Step::Wasm) {
        report.step("shared on wasm32", async || shared_on_wasm(&options).await).await;
    }
    if options.wants(Step::Js) {
        report.step("JavaScript", javascript).await;
    }
    if options.wants(Step::E2e) {
        report.step("end to end", async || end_to_end(&options).await).await;
    }
    report.end(options.filter.as_deref())
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(workspace::root());
    command
}

const WASM: [&str; 2] = ["--target", "wasm32-unknown-unknown"];

async fn lints() -> Result<Counts> {
    let deny = ["--", "-D", "warnings"];
    let mut native = cargo(&["clippy", "--workspace", "--all-targets"]);
    native.args(deny);
    let mut counts = whole(native).await;
    tools::wasm_target()?;
    let mut wasm = cargo(&["clippy", "--package", "tailrace-worker", "--package", "tailrace-shared"]);
    wasm.args(WASM).args(deny);
    counts += whole(wasm).await;
    Ok(counts)
}

/// One check of several in a step: its failure is counted, and the next one is made.
async fn whole(check: Command) -> Counts {
    command(Count::Whole, check).await.unwrap_or_else(|error| {
        println!("{error:#}");
        Counts::FAILED
    })
}

async fn documentation() -> Result<Counts> {
    let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--document-private-items"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    command(Count::Whole, doc).await
}

async fn dependencies() -> Result<Counts> {
    let deny = tools::CARGO_DENY.install()?;
    let check = |what: &[&str]| {
        let mut command = Command::new(&deny);
        command
            .args(["--all-features", "check", "--hide-inclusion-graph"])
            .args(what)
            .current_dir(workspace::root());
        command
    };
    let mut counts = whole(check(&["bans", "licenses", "sources"])).await;
    // The database of advisories is a git repository there.
    if reaches("github.com:443") {
        counts += whole(check(&["advisories"])).await;
    } else {
        println!("SKIPPED: advisories, because their database at github.com cannot be reached from here");
        counts += Counts::SKIPPED;
    }
    Ok(counts)
}

/// Whether a TCP connection to this host comes about within a few seconds.
fn reaches(host: &str) -> bool {
    let addresses = host.to_socket_addrs().into_iter().flatten();
    addresses
        .take(2)
        .any(|address| std::net::TcpStream::connect_timeout(&address, Duration::from_secs(3)).is_ok())
}

async fn shared_on_wasm(options: &Options) -> Result<Counts> {
    tools::wasm_target()?;
    let mut tests = options.tests(&["--package", "tailrace-shared"]);
    tests.args(WASM);
    tests.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER", tools::WASM_BINDGEN_TEST_RUNNER.install()?);
    command(Count::Tests, tests).await
}

/// The types of each folder with a `tsconfig.json`, and the syntax of every other file.
async fn javascript() -> Result<Counts> {
    npm::install()?;
    // The chat's types are partly the client's.
    npm::build_client()?;
    let listed = |patterns: &[&str]| {
        let mut git = Command::new("git");
        git.args(["ls-files", "--cached", "--others", "--exclude-standard"]).args(patterns);
        let listed = output("git ls-files", git.current_dir(workspace::root()))?;
        // The client has packages of its own, and checks its types itself when it is tested.
        let client = npm::client();
        let files = listed.lines().map(PathBuf::from);
        let files = files.filter(|file| !workspace::root().join(file).starts_with(&client));
        anyhow::Ok(files.collect::<Vec<_>>())
    };
    let mut counts = Counts::default();
    let typed = listed(&["tsconfig.json", "*/tsconfig.json"]).context("git lists the files")?;
    for config in &typed {
        let mut tsc = Command::new(npm::program("tsc")?);
        tsc.arg("--noEmit").arg("--project").arg(config).current_dir(workspace::root());
        counts += whole(tsc).await;
    }
    let is_typed = |file: &&PathBuf| typed.iter().any(|config| file.parent() == config.parent());
    for file in listed(&["*.js", "*.mjs"])?.iter().filter(|file| !is_typed(file)) {
        let mut node = Command::new("node");
        node.arg("--check").arg(file).current_dir(workspace::root());
        counts += whole(node).await;
    }
    Ok(counts)
}

async fn end_to_end(options: &Options) -> Result<Counts> {
    worker::build().context("the edge worker")?;
    let program = backend::build(Profile::Debug)?;
    let mut tests = options.tests(&["--package", "tailrace-tests"]);
    tests.env("TAILRACE_TEST_PROGRAM", program);
    // Built before the parts start: what compiles takes the processor from what is measured.
    let mut compile = cargo(&["test", "--package", "tailrace-tests", "--no-run"]);
    compile.env("CARGO_TERM_QUIET", "true");
    command(Count::Whole, compile).await?;
    let browser = chromium::find();
    if let Err(error) = &browser {
        println!("{error:#}");
    }
    let deployment = Deployment::start().await?;
    let hand_over = |command: &mut Command| {
        command.envs(deployment.addresses.to_environment());
        if let Ok(path) = &browser {
            command.env("TAILRACE_CHROMIUM", path);
        }
    };
    hand_over(&mut tests);
    let mut counts = command(Count::Tests, tests).await?;
    if options.filter.is_none() {
        npm::install_in(&npm::client())?;
        let mut client = Command::new("npm");
        client.arg("test").current_dir(npm::client());
        hand_over(&mut client);
        counts += command(Count::NodeTests, client).await?;
    }
    if counts.failed > 0 {
        show_logs();
    }
    Ok(counts)
}

/// The ends of what the parts logged, for whoever reads a failed run and cannot look into the folder.
fn show_logs() {
    let mut logs: Vec<PathBuf> = std::fs::read_dir(workspace::logs())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    logs.sort();
    let shown = |path: &&PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("backend-") || name.starts_with("worker-")
    };
    for log in logs.iter().filter(shown) {
        println!("\n-- the end of {}", relative(log).display());
        println!("{}", tail(log, 15));
    }
    println!("\nAll logs are in {}", relative(&workspace::logs()).display());
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix(workspace::root()).unwrap_or(path)
}
