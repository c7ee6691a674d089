//! What a process has cost the processors, and what others have taken from them.

use anyhow::{Context as _, Result};

/// What Linux has had for decades, whatever the kernel's own is: `USER_HZ`.
const TICKS_PER_SECOND: f64 = 100.0;

/// The processor time of a process up to now, in seconds (`proc_pid_stat(5)`).
pub(super) fn processor_time(process: u32) -> Result<f64> {
    let path = format!("/proc/{process}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The second field is a name in parentheses, which may hold anything.
    let (_, fields) = stat.rsplit_once(") ").context("no name in stat")?;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / TICKS_PER_SECOND)
}

/// The time in which a virtual machine was ready to run and its host did something else, of all cores up to now, in seconds
/// (`proc_stat(5)`); `None` where that is not told.
pub(super) fn stolen_time() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let ticks: f64 = stat.strip_prefix("cpu ")?.split_whitespace().nth(7)?.parse().ok()?;
    Some(ticks / TICKS_PER_SECOND)
}
