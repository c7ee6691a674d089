//! `cargo xtask soak`: the runs under faults, with as many clients and for as long as has been promised, and random filters
//! in the number that has been.
//!
//! They are tests like the others (`tests/tests/{faults,snapshot,matcher,planner,tenants,chromium}.rs`), which
//! `cargo xtask test` runs with less of everything.

use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::Args;
use parts::backend::{self, Profile};
use parts::workspace;

use crate::step::{Count, Report, command};

#[derive(Args)]
pub(crate) struct Options {
    /// Only the runs whose names contain this.
    name: Option<String>,
}

pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    // Optimised, both of them: it is the servers that are to be under load, and not the clients.
    let program = backend::build(Profile::Release)?;
    let runs = |of: &[&str], at_once: &str| {
        let mut runs = Command::new("cargo");
        runs.args(["test", "--release", "--package", "tailrace-tests"]);
        for file in of {
            runs.args(["--test", file]);
        }
        runs.args(&options.name)
            .args(["--", "--nocapture", at_once])
            .current_dir(workspace::root())
            .env("TAILRACE_TEST_PROGRAM", &program)
            .env("TAILRACE_TEST_SCALE", "whole");
        runs
    };
    let servers = runs(&["faults", "snapshot", "matcher", "planner", "tenants"], "--test-threads=1");
    // A browser mostly waits.
    let browsers = runs(&["chromium"], "--test-threads=2");
    let mut report = Report::default();
    report.step("soak", async || command(Count::Tests, servers).await).await;
    report.step("soak in Chromium", async || command(Count::Tests, browsers).await).await;
    Ok(if report.print().failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
