//! npm packages: those of the root `package.json` (Cloudflare's `wrangler` with `workerd`, `esbuild`, `binaryen`), and
//! those of the browser client.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};

use crate::process::{on_path, run, say};
use crate::workspace;

/// The packages need this; older ones fail with a message that says nothing of it.
const OLDEST_NODE: (u32, u32) = (20, 3);

/// Installs the packages of the root.
pub fn install() -> Result<()> {
    install_in(workspace::root())
}

/// Installs the packages of a folder as its `package-lock.json` has them; does nothing when they are there.
pub fn install_in(folder: &Path) -> Result<()> {
    let lock_file = folder.join("package-lock.json");
    let lock = fs::read(&lock_file).with_context(|| format!("cannot read {}", lock_file.display()))?;
    let stamp = folder.join("node_modules/.installed-from");
    let is_installed = || fs::read(&stamp).is_ok_and(|installed| installed == lock);
    if is_installed() {
        return Ok(());
    }
    let _one_at_a_time = workspace::lock("npm")?;
    if is_installed() {
        return Ok(());
    }
    check_node()?;
    say(&format!("npm ci in {}", folder.display()));
    run(
        "npm ci",
        Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(folder),
    )?;
    fs::write(&stamp, &lock).with_context(|| format!("cannot write {}", stamp.display()))
}

/// The folder of the browser client.
pub fn client() -> PathBuf {
    workspace::root().join("clients/js")
}

/// Builds the browser client, which pages import from its `dist`; does nothing when no source is newer.
pub fn build_client() -> Result<()> {
    let folder = client();
    install_in(&folder)?;
    // Taken before one looks: half of a build looks like a whole one.
    let _one_at_a_time = workspace::lock("client")?;
    if client_is_built(&folder)? {
        return Ok(());
    }
    run("npm run build", Command::new("npm").args(["run", "--silent", "build"]).current_dir(&folder))
}

fn client_is_built(folder: &Path) -> Result<bool> {
    let sources = folder.join("src");
    let listed = fs::read_dir(&sources).with_context(|| format!("cannot read {}", sources.display()))?;
    let newest = listed.flatten().map(|source| modified(&source.path())).max().flatten();
    Ok(modified(&folder.join("dist/index.js")) > newest)
}

/// `None` when it is not there.
fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}

/// A program that came with the packages.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = workspace::root().join("node_modules/.bin").join(name);
    ensure!(path.exists(), "{} is missing: run `npm ci` in the root of the repository", path.display());
    Ok(path)
}

fn check_node() -> Result<()> {
    let remedy = format!("install Node.js {}.{} or newer, with npm", OLDEST_NODE.0, OLDEST_NODE.1);
    ensure!(on_path("npm").is_some(), "npm is not on PATH: {remedy}");
    let version = crate::process::output("node --version", Command::new("node").arg("--version"))
        .with_context(|| remedy.clone())?;
    ensure!(is_new_enough(version.trim()), "node is {}: {remedy}", version.trim());
    Ok(())
}

/// Judges what `node --version` says, such as `v20.3.0`.
fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split('.').map(str::parse);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= OLDEST_NODE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_accepted_from_the_version_on_that_the_packages_name() {
        let (major, minor) = OLDEST_NODE;
        for folder in [workspace::root().to_path_buf(), client()] {
            let manifest = fs::read_to_string(folder.join("package.json")).unwrap();
            assert!(manifest.contains(&format!("\"node\": \">={major}.{minor}.0\"")), "{manifest}");
        }
        for (version, expected) in
            [("v20.2.0", false), ("v20.3.0", true), ("v22.0.0", true), ("v9.99.0", false), ("nightly", false)]
        {
            assert_eq!(is_new_enough(version), expected, "{version}");
        }
    }
}
