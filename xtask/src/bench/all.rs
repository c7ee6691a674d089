//! Every benchmark in turn, and what came of each in one table.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use parts::workspace;
use serde_json::Value;

/// The benchmarks and their reports, in rounds that fit into half an hour together.
const ALL: [(&[&str], &[&str]); 12] = [
    (&["floor"], &["floor-1000", "floor-8000", "floor-19000"]),
    (
        &["fanout", "--clients", "1000,8000,19000", "--deliveries", "200000"],
        &[
            "fanout-1000x1",
            "fanout-1000x8",
            "fanout-8000x1",
            "fanout-8000x8",
            "fanout-19000x1",
            "fanout-19000x8",
        ],
    ),
    (&["idle"], &["idle"]),
    (&["latency"], &["latency"]),
    (&["bindings"], &["bindings"]),
    (&["ingest"], &["ingest"]),
    (&["upgrades"], &["upgrades"]),
    (&["resume"], &["resume"]),
    (&["peers"], &["peers"]),
    (
        &["cursors", "--rounds", "3", "--seconds", "3"],
        &["cursors-1", "cursors-10", "cursors-50", "cursors-100", "cursors-200"],
    ),
    (&["slow", "--rounds", "5"], &["slow"]),
    (&["attack", "--rounds", "3"], &["attack"]),
];

/// Runs all of them, also where one does not reach what is promised, and fails then at the end.
pub(super) fn run() -> Result<()> {
    let program = std::env::current_exe().context("the path of this program")?;
    let mut table = Vec::new();
    let mut missed = Vec::new();
    for (arguments, reports) in ALL {
        println!("\n== cargo xtask bench {}", arguments.join(" "));
        // What an earlier run has left is no result of this one.
        for report in reports {
            let _ = std::fs::remove_file(path(report));
        }
        let began = Instant::now();
        let status = Command::new(&program)
            .arg("bench")
            .args(arguments)
            .status()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let name = arguments.first().copied().unwrap_or_default();
        if !status.success() {
            missed.push(name);
        }
        let verdict = if status.success() { "as promised" } else { "less than promised, or failed" };
        table.push(format!("{name}: {verdict}, {} s", began.elapsed().as_secs()));
        table.extend(reports.iter().map(|report| format!("  {report}: {}", figures(report))));
    }
    println!("\n{}", table.join("\n"));
    ensure!(missed.is_empty(), "less than promised, or failed: {}", missed.join(", "));
    Ok(())
}

fn path(report: &str) -> std::path::PathBuf {
    workspace::target().join("bench").join(report).with_extension("json")
}

/// The results of a report, and the medians of each way, in one line.
fn figures(report: &str) -> String {
    let read = std::fs::read_to_string(path(report)).ok().and_then(|text| serde_json::from_str(&text).ok());
    let Some(report): Option<Value> = read else { return "no report".to_owned() };
    let ways = report["series"].as_array().into_iter().flatten();
    let ways =
        ways.map(|way| format!("{} {}", way["name"].as_str().unwrap_or_default(), brief(&way["medians"])));
    format!("{}; {}", brief(&report["results"]), ways.collect::<Vec<_>>().join("; "))
}

/// `name value, name value`, with no more digits than are meant.
fn brief(figures: &Value) -> String {
    let figures = figures.as_object().into_iter().flatten();
    let figures = figures.map(|(name, value)| match value.as_f64() {
        Some(number) if number.abs() < 100.0 => format!("{name} {number:.2}"),
        Some(number) => format!("{name} {number:.0}"),
        None => format!("{name} {value}"),
    });
    figures.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_are_brief() {
        let figures = json!({ "share": 0.8567, "a_second": 4123.7, "bounds": [1, 2] });
        assert_eq!(brief(&figures), "share 0.86, a_second 4124, bounds [1,2]");
    }
}
