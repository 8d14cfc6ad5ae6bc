//! Runs `cargo test`, passes its output on as it comes and counts the tests by its result lines.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::shown;

/// Tests by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) ignored: u64,
}

impl Counts {
    pub(super) fn ran(self) -> u64 {
        self.passed + self.failed
    }

    /// Adds one `test result:` line's numbers; other lines change nothing.
    fn add_line(&mut self, line: &str) {
        let Some(result) = line.trim_start().strip_prefix("test result: ") else { return };
        let numbers = result.split_once(". ").map_or("", |(_, numbers)| numbers);
        for part in numbers.split("; ") {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) = (words.next().and_then(|word| word.parse::<u64>().ok()), words.next())
            else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.ignored > 0 {
            write!(f, ", {} skipped", self.ignored)?;
        }
        Ok(())
    }
}

/// Runs the command with its output shown, adding to `counts`; an error if it ends badly or takes too long.
pub(super) fn stream(command: &mut Command, counts: &mut Counts, limit: Duration) -> Result<()> {
    stream_to(command, counts, limit, |_| {})
}

/// The same, and hands over each line.
pub(super) fn stream_to(
    command: &mut Command,
    counts: &mut Counts,
    limit: Duration,
    mut each: impl FnMut(&str),
) -> Result<()> {
    watch(command, limit, |text| {
        print!("{text}");
        counts.add_line(text);
        each(text);
    })
}

/// Runs the command and hands over its output line by line; an error if it ends badly or takes too long.
pub(crate) fn watch(command: &mut Command, limit: Duration, each: impl FnMut(&str)) -> Result<()> {
    let name = shown(command);
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("starting `{name}`"))?;
    let stdout = child.stdout.take().context("a piped child has an output")?;
    // Dropping the sender at the end of the scope tells the watch that there is nothing left to end.
    let (finished, watched) = mpsc::channel::<()>();
    let pid = child.id();
    let watch = thread::spawn(move || {
        let late = watched.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
        if late {
            end_tree(pid);
        }
        late
    });
    let read = read_lines(stdout, each);
    let ended = reap(&mut child);
    drop(finished);
    let late = watch.join().unwrap_or(false);
    if late {
        bail!("`{name}` did not end within {} minutes", limit.as_secs() / 60);
    }
    read?;
    ended
}

fn read_lines(stdout: impl std::io::Read, mut each: impl FnMut(&str)) -> Result<()> {
    let mut reader = BufReader::new(stdout);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).context("reading the tests' output")? > 0 {
        each(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok(())
}

fn reap(child: &mut Child) -> Result<()> {
    let status = child.wait().context("waiting for cargo test")?;
    if !status.success() {
        bail!("{status}");
    }
    Ok(())
}

/// Ends a process and all its descendants: a test binary left behind would hold the output open for ever.
fn end_tree(pid: u32) {
    for child in children(pid) {
        end_tree(child);
    }
    if let Ok(pid) = i32::try_from(pid) {
        // It may have ended by itself meanwhile.
        kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
    }
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn result_lines_add_up_and_others_do_not_count() {
        let mut counts = Counts::default();
        for line in [
            "running 3 tests",
            "test a ... ok",
            "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 4 passed; 3 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1.20s\n",
            "9 passed, by my own words",
        ] {
            counts.add_line(line);
        }
        assert_eq!(counts, Counts { passed: 6, failed: 3, ignored: 1 });
        assert_eq!(counts.to_string(), "6 passed, 3 failed, 1 skipped");
    }

    #[test]
    fn output_of_a_failing_command_still_counts() {
        let mut counts = Counts::default();
        let script = "echo 'test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured'; exit 101";
        let ended = stream(Command::new("sh").args(["-c", script]), &mut counts, Duration::from_secs(60));
        assert!(ended.is_err());
        assert_eq!(counts, Counts { passed: 1, failed: 1, ignored: 0 });
    }

    #[test]
    fn command_that_hangs_is_ended_with_its_children() {
        let start = Instant::now();
        let mut hanging = Command::new("sh");
        hanging.args(["-c", "sleep 600 & wait"]);
        let ended = stream(&mut hanging, &mut Counts::default(), Duration::from_millis(300));
        assert!(ended.unwrap_err().to_string().contains("did not end"));
        assert!(start.elapsed() < Duration::from_secs(60));
    }
}
