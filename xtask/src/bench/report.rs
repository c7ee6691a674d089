//! What a benchmark leaves behind: figures as JSON, and a plot, in `target/bench/`.

use std::fs;

use anyhow::{Context as _, Result};
use parts::workspace;
use serde_json::{Value, json};

use super::plot::plot;
use super::rounds::Series;

/// A finished benchmark.
pub(super) struct Report<'a> {
    /// Its name, and that of its files.
    pub(super) name: &'a str,
    /// What was measured, and how.
    pub(super) method: String,
    /// The ways that were compared.
    pub(super) series: &'a [Series],
    /// The figures of each round of which the medians are told.
    pub(super) figures: &'a [&'a str],
    /// What follows from them.
    pub(super) results: Value,
    /// The figure that is plotted, and its unit.
    pub(super) plotted: (&'a str, &'a str),
}

impl Report<'_> {
    /// Writes `target/bench/<name>.json` and `.svg`.
    pub(super) fn write(&self) -> Result<()> {
        let folder = workspace::target().join("bench");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let report = json!({
            "name": self.name,
            "method": self.method,
            "machine": machine(),
            "results": self.results,
            "series": self.series.iter().map(|series| series.json(self.figures)).collect::<Vec<_>>(),
        });
        let (figure, unit) = self.plotted;
        for (extension, text) in [
            ("json", format!("{report:#}\n")),
            ("svg", plot(&format!("{}: {figure}", self.name), unit, figure, self.series)),
        ] {
            let path = folder.join(format!("{}.{extension}", self.name));
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            println!("written: {}", path.strip_prefix(workspace::root()).unwrap_or(&path).display());
        }
        Ok(())
    }
}

/// Where it was measured; what cannot be told is left out.
fn machine() -> Value {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let processor = read("/proc/cpuinfo");
    let processor = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    json!({
        "processor": processor.map(|(_, name)| name),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "system": format!("{} {}", std::env::consts::OS, read("/proc/sys/kernel/osrelease").trim()),
        // What else the machine had to do at the end: figures of a busy machine say less.
        "load": read("/proc/loadavg").split(' ').next().and_then(|load| load.parse::<f64>().ok()),
    })
}
