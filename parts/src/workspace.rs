//! Where things lie: the root of the repository, the folder of builds, tools, and what runs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies one folder below the root")
}

/// Cargo's folder of builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |given| root().join(given))
}

/// What was fetched or built to work on Tailrace; survives until `cargo clean`.
pub fn tools() -> PathBuf {
    target().join("tools")
}

/// The logs of the parts that a test run started.
pub fn logs() -> PathBuf {
    target().join("test-logs")
}

/// A new folder for what one running part stores; it goes when the value is dropped.
///
/// Folders of runs that were killed before they could clean up are removed on the way.
pub fn scratch(name: &str) -> Result<tempfile::TempDir> {
    let all = target().join("run");
    fs::create_dir_all(&all).with_context(|| format!("cannot create {}", all.display()))?;
    for left in fs::read_dir(&all)?.flatten() {
        let owner = left.file_name().to_str().and_then(|name| name.split('-').next()?.parse().ok());
        let alive = owner
            .and_then(rustix::process::Pid::from_raw)
            .is_none_or(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH));
        if !alive {
            let _ = fs::remove_dir_all(left.path());
        }
    }
    tempfile::Builder::new()
        .prefix(&format!("{}-{name}-", std::process::id()))
        .tempdir_in(&all)
        .with_context(|| format!("cannot create a folder in {}", all.display()))
}

/// Holds off other processes of this repository that are about to fetch or build the same thing.
///
/// The lock goes with the value, and with the process.
pub fn lock(name: &str) -> Result<File> {
    let path = tools().join(format!("{name}.lock"));
    fs::create_dir_all(tools()).with_context(|| format!("cannot create {}", tools().display()))?;
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    if file.try_lock().is_err() {
        crate::process::say(&format!("waiting for another process to finish with {name}"));
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}
