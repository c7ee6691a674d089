//! Debian's packages, for parts that come no other way.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::process::{on_path, run, say};

/// Installs a package, where there is `apt-get` and root runs it.
pub fn install(package: &str) -> Result<()> {
    ensure!(on_path("apt-get").is_some(), "there is no apt-get here");
    ensure!(rustix::process::geteuid().is_root(), "installing packages needs root");
    say(&format!("apt-get install {package}"));
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .args(["-q", "-y", "--no-install-recommends"])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive");
        run("apt-get", &mut command)
    };
    apt(&["update"])?;
    apt(&["install", package])
}
