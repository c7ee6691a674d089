//! One step of `cargo xtask test`: a runner of checks or tests, what it counted, and how long it took.

use std::fmt;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use parts::process::{Process, log_file};
use parts::workspace;

/// What a runner counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    /// A check that passed.
    pub(crate) const PASSED: Self = Self { passed: 1, failed: 0, skipped: 0 };
    /// One that failed.
    pub(crate) const FAILED: Self = Self { passed: 0, failed: 1, skipped: 0 };
    /// One that could not be made here.
    pub(crate) const SKIPPED: Self = Self { passed: 0, failed: 0, skipped: 1 };
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// How the results of a command are counted.
#[derive(Clone, Copy)]
pub(crate) enum Count {
    /// It is one check: it passes or fails.
    Whole,
    /// By the lines `test result: …` of Rust's test runners.
    Tests,
    /// By the last lines of Node's test runner: `ℹ pass 5`, or `# pass 5` where it does not write to a terminal.
    NodeTests,
}

/// All steps so far.
#[derive(Default)]
pub(crate) struct Report {
    steps: Vec<(&'static str, Counts, Duration)>,
}

impl Report {
    /// Makes a step under its heading. An error in it counts as one failure, and the next steps are made all the same.
    pub(crate) async fn step(&mut self, name: &'static str, step: impl AsyncFnOnce() -> Result<Counts>) {
        let started = Instant::now();
        println!("\n== {name}");
        let counts = step().await.unwrap_or_else(|error| {
            println!("{name}: {error:#}");
            Counts::FAILED
        });
        println!("-- {name}: {counts}, {:.1} s", started.elapsed().as_secs_f64());
        self.steps.push((name, counts, started.elapsed()));
    }

    /// Prints the table, and whether all went well. Where only tests of a name were wanted there have to be some.
    pub(crate) fn end(&self, wanted: Option<&str>) -> Result<ExitCode> {
        let counts = self.print();
        if let Some(name) = wanted {
            ensure!(counts != Counts::default(), "{name}: no test has a name that contains this");
        }
        Ok(if counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Prints the table and, alone on its line, the sum. Returns the sum.
    fn print(&self) -> Counts {
        let mut total = Counts::default();
        let width = self.steps.iter().map(|(name, ..)| name.len()).max().unwrap_or_default();
        println!("\n{:width$}  {:>7} {:>7} {:>7} {:>9}", "step", "passed", "failed", "skipped", "time");
        for (name, counts, time) in &self.steps {
            let Counts { passed, failed, skipped } = counts;
            println!("{name:width$}  {passed:>7} {failed:>7} {skipped:>7} {:>7.1} s", time.as_secs_f64());
            total += *counts;
        }
        println!("\n{total}");
        total
    }
}

/// Longer than any step takes; a test that hangs is not to hang the whole run.
const LIMIT: Duration = Duration::from_mins(25);

/// Runs a command with its output shown, and kept in a log, and counts.
pub(crate) async fn command(count: Count, command: Command) -> Result<Counts> {
    tokio::task::spawn_blocking(move || run(count, command)).await.context("the step panicked")?
}

fn run(count: Count, mut command: Command) -> Result<Counts> {
    let line = describe(&command);
    println!("   {line}");
    let log_path = workspace::logs().join("steps.log");
    let mut log = log_file(&log_path)?;
    // One pipe for both: which test belongs to which program is told by the order of the lines.
    let (output, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    if std::io::stdout().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut process = Process::spawn(&line, &mut command, &log_path)?;
    // It holds writing ends, which would keep the pipe open.
    drop(command);
    let (ended, running) = std::sync::mpsc::channel::<()>();
    let id = process.id();
    std::thread::spawn(move || {
        // Disconnected when the step is over.
        if running.recv_timeout(LIMIT) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            println!("the step takes more than {LIMIT:?} and is ended");
            let _ = parts::process::kill_group(id);
        }
    });
    let mut counts = Counts::default();
    for line in BufReader::new(output).lines() {
        let line = line.unwrap_or_else(|error| format!("(unreadable output: {error})"));
        println!("{line}");
        let _ = writeln!(log, "{line}");
        let counted = match count {
            Count::Whole => None,
            Count::Tests => test_result(&line),
            Count::NodeTests => node_result(&line),
        };
        counts += counted.unwrap_or_default();
    }
    let status = process.wait()?;
    drop(ended);
    match (count, status.success()) {
        (Count::Whole, true) => Ok(Counts::PASSED),
        (Count::Whole, false) => bail!("`{line}` ended with {status}"),
        (Count::Tests | Count::NodeTests, success) => {
            // A crash or an error of the compiler has no line of its own.
            if !success && counts.failed == 0 {
                println!("`{line}` ended with {status}");
                counts.failed = 1;
            }
            Ok(counts)
        }
    }
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Reads `test result: ok. 5 passed; 0 failed; 1 ignored; …`.
fn test_result(line: &str) -> Option<Counts> {
    let counted = line.split_once("test result: ")?.1.split_once(". ")?.1;
    let number = |word: &str| {
        counted.split(';').find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok()).unwrap_or(0)
    };
    Some(Counts { passed: number("passed"), failed: number("failed"), skipped: number("ignored") })
}

/// Reads one of `ℹ pass 5`, `ℹ fail 0`, `ℹ cancelled 0`, `ℹ skipped 1`, `ℹ todo 0`.
fn node_result(line: &str) -> Option<Counts> {
    let (word, number) = line.strip_prefix("ℹ ").or_else(|| line.strip_prefix("# "))?.split_once(' ')?;
    let number = number.parse().ok()?;
    let none = Counts::default();
    match word {
        "pass" => Some(Counts { passed: number, ..none }),
        "fail" | "cancelled" => Some(Counts { failed: number, ..none }),
        "skipped" | "todo" => Some(Counts { skipped: number, ..none }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_no_test_has_is_no_success() {
        let mut report = Report::default();
        report.step("unit tests", async || Ok(Counts::default())).await;
        assert!(report.end(None).is_ok());
        let error = report.end(Some("tennants")).expect_err("nothing ran");
        assert_eq!(error.to_string(), "tennants: no test has a name that contains this");
        report.step("end to end", async || Ok(Counts::PASSED)).await;
        assert!(report.end(Some("tenants")).is_ok());
    }

    #[test]
    fn the_results_of_a_test_runner_are_read_from_its_last_line() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.02s";
        assert_eq!(test_result(line), Some(Counts { passed: 12, failed: 3, skipped: 1 }));
        assert_eq!(test_result("test results_are_read ... ok"), None);
    }

    #[test]
    fn the_results_of_nodes_test_runner_are_read_in_both_its_forms() {
        let text = "ℹ tests 8\nℹ suites 0\nℹ pass 5\nℹ fail 1\n# cancelled 1\n# skipped 1\n# todo 0\nℹ duration_ms 12.5";
        let mut counts = Counts::default();
        text.lines().filter_map(node_result).for_each(|counted| counts += counted);
        assert_eq!(counts, Counts { passed: 5, failed: 2, skipped: 1 });
    }

    #[test]
    fn a_runner_that_fails_without_a_word_counts_as_a_failure() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'; exit 9"]);
        let counts = run(Count::Tests, shell);
        assert_eq!(counts.unwrap(), Counts { passed: 2, failed: 1, skipped: 0 });
    }
}
