//! `cargo xtask fuzz`: looks for inputs that break a promise of what reads the bytes of others (crate `fuzz`).

use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use parts::{tools, workspace};

use crate::step::{Count, Report, command};

#[derive(Args)]
pub(crate) struct Options {
    /// A target, by the name of its folder in `fuzz/corpus`; without it all of them, one after the other.
    target: Option<String>,
    /// How long each target runs.
    #[arg(default_value_t = 60)]
    seconds: u32,
}

pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let mut targets = targets()?;
    if let Some(target) = options.target {
        ensure!(targets.contains(&target), "no target {target}, expected one of {}", targets.join(", "));
        targets = vec![target];
    }
    let program = tools::CARGO_FUZZ.install()?;
    let mut report = Report::default();
    for target in targets {
        let found = workspace::target().join("fuzz-corpus").join(&target);
        fs::create_dir_all(&found).with_context(|| format!("cannot create {}", found.display()))?;
        let mut fuzz = Command::new(&program);
        // Without a sanitizer: there is no unsafe code here, and the stable compiler will do.
        fuzz.args(["run", "--fuzz-dir", "fuzz/libfuzzer", "--sanitizer", "none", "--target-dir"])
            .arg(workspace::target().join("fuzz"))
            .arg(&target)
            // What is new is written to the first folder.
            .arg(found)
            .arg(format!("fuzz/corpus/{target}"))
            .arg("--")
            .args(["-rss_limit_mb=2048", "-timeout=20", "-max_len=4096", "-dict=fuzz/words.dict"])
            .arg(format!("-max_total_time={}", options.seconds))
            .current_dir(workspace::root());
        report.step("fuzzing", async || command(Count::Whole, fuzz).await).await;
    }
    report.end(None)
}

fn targets() -> Result<Vec<String>> {
    let folder = workspace::root().join("fuzz/corpus");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut targets: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    targets.sort();
    Ok(targets)
}
