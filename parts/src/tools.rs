//! What builds and checks Tailrace beside cargo itself, installed below `target/tools`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::process::{on_path, output, run, say};
use crate::workspace;

/// A program that cargo installs.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    package: &'static str,
    program: &'static str,
    version: Version,
}

#[derive(Clone, Copy, Debug)]
enum Version {
    /// The version of this package in Cargo.lock: both must speak the same format.
    OfLocked(&'static str),
    /// This one.
    Pinned(&'static str),
}

/// Turns the compiled worker into a module that JavaScript can load.
pub const WASM_BINDGEN: Tool =
    Tool { package: "wasm-bindgen-cli", program: "wasm-bindgen", version: Version::OfLocked("wasm-bindgen") };

/// Runs tests that were compiled to wasm, under Node; comes with [`WASM_BINDGEN`].
pub const WASM_BINDGEN_TEST_RUNNER: Tool = Tool { program: "wasm-bindgen-test-runner", ..WASM_BINDGEN };

/// Turns the compiled worker into what Cloudflare's runtime loads; belongs to the `worker` crate.
pub const WORKER_BUILD: Tool =
    Tool { package: "worker-build", program: "worker-build", version: Version::OfLocked("worker") };

/// Licenses, sources, and advisories of dependencies.
pub const CARGO_DENY: Tool =
    Tool { package: "cargo-deny", program: "cargo-deny", version: Version::Pinned("0.20.2") };

/// Builds and runs the fuzz targets.
pub const CARGO_FUZZ: Tool =
    Tool { package: "cargo-fuzz", program: "cargo-fuzz", version: Version::Pinned("0.13.2") };

impl Tool {
    /// Where the program is, after installing it if needed.
    pub fn install(self) -> Result<PathBuf> {
        let version = self.version()?;
        let path = self.path();
        let installed = || {
            let told = output(self.program, Command::new(&path).arg("--version")).ok()?;
            told.split_whitespace().any(|word| word == version).then_some(())
        };
        if installed().is_some() {
            return Ok(path);
        }
        let _one_at_a_time = workspace::lock("cargo-install")?;
        if installed().is_some() {
            return Ok(path);
        }
        say(&format!("cargo install {} {version} (a minute or two, once)", self.package));
        let mut cargo = Command::new("cargo");
        cargo
            // Unoptimised: the tools run for seconds here, and optimised they would compile for minutes.
            .args(["install", "--debug", "--quiet", "--force", "--version", &version, "--root"])
            .arg(workspace::tools())
            .arg("--target-dir")
            .arg(workspace::tools().join("build"))
            // Not --locked: the tools' own lock files name versions that were withdrawn.
            .arg(self.package)
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .current_dir(workspace::root());
        run(&format!("cargo install {}", self.package), &mut cargo)?;
        ensure!(
            installed().is_some(),
            "{} does not say the version {version} after its installation: remove {} and try again",
            path.display(),
            workspace::tools().display()
        );
        Ok(path)
    }

    fn path(self) -> PathBuf {
        workspace::tools().join("bin").join(self.program)
    }

    fn version(self) -> Result<String> {
        match self.version {
            Version::Pinned(version) => Ok(version.to_owned()),
            Version::OfLocked(package) => locked(package),
        }
    }
}

/// The version of a package in Cargo.lock.
fn locked(package: &str) -> Result<String> {
    let text = fs::read_to_string(workspace::root().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let lock: toml::Table = text.parse().context("cannot read Cargo.lock")?;
    let packages =
        lock.get("package").and_then(toml::Value::as_array).context("Cargo.lock lists no packages")?;
    packages
        .iter()
        .find(|entry| entry.get("name").and_then(toml::Value::as_str) == Some(package))
        .and_then(|entry| entry.get("version")?.as_str())
        .map(str::to_owned)
        .with_context(|| format!("Cargo.lock has no package {package}"))
}

/// Makes sure that rustc compiles for wasm32.
pub fn wasm_target() -> Result<()> {
    const TARGET: &str = "wasm32-unknown-unknown";
    let print = ["--print", "target-libdir", "--target", TARGET];
    let folder = output("rustc", Command::new("rustc").args(print).current_dir(workspace::root()))?;
    if PathBuf::from(folder.trim()).exists() {
        return Ok(());
    }
    ensure!(
        on_path("rustup").is_some(),
        "rustc has no library for {TARGET}, and there is no rustup to add it: install it with the means that rustc came by"
    );
    say(&format!("rustup target add {TARGET}"));
    run("rustup", Command::new("rustup").args(["target", "add", TARGET]).current_dir(workspace::root()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_package_is_read_from_the_lock() {
        assert_eq!(locked("bson").unwrap().split('.').next(), Some("3"));
        assert_eq!(locked("no-such").unwrap_err().to_string(), "Cargo.lock has no package no-such");
    }
}
