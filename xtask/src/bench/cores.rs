//! Which core a process runs on: what is measured has one for itself.

use std::fs;

use anyhow::{Context as _, Result};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

/// The core of the process that is measured.
pub(super) const MEASURED: usize = 0;
/// The core of those that make its load.
pub(super) const LOAD: usize = 1;

/// Lets all threads of a process, and those that they start from now on, run on this core alone.
pub(super) fn pin(process: u32, core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    let threads = format!("/proc/{process}/task");
    for thread in fs::read_dir(&threads).with_context(|| format!("cannot read {threads}"))? {
        let name = thread?.file_name();
        let id = name.to_str().and_then(|id| Pid::from_raw(id.parse().ok()?)).context("a thread's id")?;
        match sched_setaffinity(Some(id), &cores) {
            // It has ended meanwhile.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot run process {process} on core {core} alone"));
            }
        }
    }
    Ok(())
}
