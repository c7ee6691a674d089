//! `cargo xtask soak`: the runs under faults, with as many clients and for as long as has been promised, and random filters
//! in the number that has been.
//!
//! They are tests like the others (`tests/tests/{faults,snapshot,matcher,planner,images,tenants,chromium}.rs`), which
//! `cargo xtask test` runs with less of everything.

use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::Args;
use parts::backend::{self, Profile};
use parts::workspace;

use crate::step::{Count, Report, command};

#[derive(Args)]
pub(crate) struct Options {
    /// Only the runs of this file (`tenants`), or those whose names contain this.
    name: Option<String>,
}

/// Files of runs, and how many of them go on at once.
struct Group {
    name: &'static str,
    files: &'static [&'static str],
    at_once: &'static str,
}

const GROUPS: [Group; 2] = [
    Group {
        name: "soak",
        files: &["faults", "snapshot", "matcher", "planner", "images", "tenants"],
        at_once: "--test-threads=1",
    },
    // A browser mostly waits.
    Group { name: "soak in Chromium", files: &["chromium"], at_once: "--test-threads=2" },
];

pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    // Optimised, both of them: it is the servers that are to be under load, and not the clients.
    let program = backend::build(Profile::Release)?;
    let name = options.name.as_deref();
    let is_file = GROUPS.iter().any(|group| group.files.iter().any(|file| Some(*file) == name));
    let mut report = Report::default();
    for Group { name: step, files, at_once } in GROUPS {
        let mut runs = Command::new("cargo");
        runs.args(["test", "--release", "--package", "tailrace-tests"]);
        let files: Vec<_> = files.iter().filter(|file| !is_file || Some(**file) == name).collect();
        if files.is_empty() {
            continue;
        }
        for file in files {
            runs.args(["--test", file]);
        }
        runs.args(name.filter(|_| !is_file))
            .args(["--", "--nocapture", at_once])
            .current_dir(workspace::root())
            .env("TAILRACE_TEST_PROGRAM", &program)
            .env("TAILRACE_TEST_SCALE", "whole");
        report.step(step, async || command(Count::Tests, runs).await).await;
    }
    report.end(name)
}
