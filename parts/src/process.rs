//! Child processes that end with whoever started them, whatever way that ends.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process_group};

/// A child in a process group of its own: its children are signalled and ended with it.
///
/// Dropping it kills the group. When this process is killed and drops nothing, the guard does: a shell that holds
/// the reading end of a pipe from this process, and kills the group when the pipe closes.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    group: Pid,
    guard: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the command, with its output appended to `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let output = log_file(log)?;
        command.stdout(output.try_clone()?).stderr(output);
        Self::spawn(name, command, log)
    }

    /// Starts the command with its output as the command has it; what it prints is believed to end up in `log`.
    pub fn spawn(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = outside_of_cargo(command)
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name} ({program})"))?;
        let group = Pid::from_child(&child);
        let guard = Command::new("sh")
            .args(["-c", r#"read -r _; kill -s KILL -- "-$0""#, &group.as_raw_nonzero().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start sh, which guards the processes that are started")?;
        Ok(Self { name: name.to_owned(), child, group, guard, log: log.to_owned() })
    }

    /// Waits until the child ends.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.child.wait().with_context(|| format!("cannot wait for {}", self.name))
    }

    /// The id of the child.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Sends a signal to the child and its children.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process_group(self.group, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// How the child ended, if it did.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot wait for {}", self.name))
    }

    /// An error with the end of its log, when the child has ended though nobody asked it to.
    pub fn must_run(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => {
                bail!("{} ended ({status}). The end of {}:\n{}", self.name, self.log.display(), self.tail(30))
            }
        }
    }

    /// Kills the child and its children, and waits until the child is gone.
    pub fn kill(&mut self) {
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = self.child.wait();
    }

    /// Asks the child to end (SIGTERM) and waits; kills it when the time is over, which is an error.
    pub async fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        self.signal(Signal::TERM)?;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                self.kill();
                bail!("{} did not end within {within:?} of SIGTERM, and was killed", self.name);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The last lines of its output.
    pub fn tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }

    /// Waits until `ready` says so; an error when the child ends before, or the time is over.
    pub async fn wait_until(&mut self, within: Duration, ready: impl AsyncFn() -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            self.must_run()?;
            let Err(reason) = ready().await else { return Ok(()) };
            if Instant::now() > deadline {
                bail!(
                    "{} did not become ready within {within:?}: {reason:#}. The end of {}:\n{}",
                    self.name,
                    self.log.display(),
                    self.tail(30)
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

/// Kills the group of a [`Process`] by the id of its child, from another thread than the one that waits for it.
pub fn kill_group(id: u32) -> Result<()> {
    let group = i32::try_from(id).ok().and_then(Pid::from_raw).context("no id of a process")?;
    kill_process_group(group, Signal::KILL).with_context(|| format!("cannot kill the process group {id}"))
}

/// Opens a log to append to it, with its folder.
pub fn log_file(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Between two looks at a condition that cannot be awaited.
pub const POLL: Duration = Duration::from_millis(25);

/// The last lines of a file, or why it cannot be read.
pub fn tail(path: &Path, lines: usize) -> String {
    match fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("(cannot read {}: {error})", path.display()),
    }
}

/// One line of progress, on the standard error.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "    {line}");
}

/// Runs a command to its end with its output shown; an error names what failed.
pub fn run(what: &str, command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    // What the command prints is progress, and the standard output belongs to results.
    let status = outside_of_cargo(command).stdin(Stdio::null()).stdout(std::io::stderr()).status();
    let status = status.with_context(|| format!("{what}: cannot run {program}"))?;
    if !status.success() {
        bail!("{what} failed: {program} ended with {status}");
    }
    Ok(())
}

/// Runs a command to its end and gives what it printed; an error carries the end of its complaints.
pub fn output(what: &str, command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("{what}: cannot run {program}"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = complaint.trim().lines().collect();
        let end = lines[lines.len().saturating_sub(5)..].join("\n");
        bail!("{what} failed: {program} ended with {}: {end}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Takes away what `cargo run` and `cargo test` tell their program of its package.
///
/// A cargo that is called further down would see it as a change: the build script of ring looks at these variables, and
/// ring, with everything above it, would be compiled anew each time.
pub fn outside_of_cargo(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let bytes = name.as_encoded_bytes();
        if bytes.starts_with(b"CARGO_PKG_") || bytes.starts_with(b"CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}

/// The program of this name on PATH.
pub fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(id: u32) -> bool {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z') && !rest.is_empty())
    }

    #[test]
    fn dropping_a_process_ends_its_children_too() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let process =
            Process::start("a shell", Command::new("sh").args(["-c", "sleep 60 & echo $!; wait"]), &log)
                .unwrap();
        let grandchild = loop {
            if let Ok(id) = tail(&log, 1).parse() {
                break id;
            }
        };
        assert!(alive(grandchild));
        drop(process);
        let deadline = Instant::now() + Duration::from_secs(5);
        while alive(grandchild) {
            assert!(Instant::now() < deadline, "the grandchild lives on");
        }
    }

    #[test]
    fn the_children_of_a_killed_starter_are_ended() {
        let folder = tempfile::tempdir().unwrap();
        let mut process =
            Process::start("a sleeper", Command::new("sleep").arg("60"), &folder.path().join("log")).unwrap();
        // What the system does with the pipes of a process that it kills.
        drop(process.guard.stdin.take());
        assert_eq!(process.wait().unwrap().to_string(), "signal: 9 (SIGKILL)");
    }

    #[test]
    fn a_process_that_ends_on_its_own_is_an_error_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut process =
            Process::start("a shell", Command::new("sh").args(["-c", "echo no such luck; exit 3"]), &log)
                .unwrap();
        process.child.wait().unwrap();
        let error = process.must_run().unwrap_err().to_string();
        assert!(
            error.contains("a shell ended (exit status: 3)") && error.ends_with("no such luck"),
            "{error}"
        );
    }
}
