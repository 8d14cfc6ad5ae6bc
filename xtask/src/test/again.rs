//! Runs the few tests that failed once more, alone: what then passes is unsteady, and is told apart from what is broken.

use std::process::Command;

use super::count::{self, Counts};
use super::layer::Layer;

/// If more tests of a layer fail than this, something is broken, and a second run would only take time.
const FEW: usize = 2;

/// The names of tests that failed, read from the lists at the end of what `cargo test` prints.
#[derive(Debug, Default)]
pub(super) struct Failures {
    names: Vec<String>,
    in_list: bool,
    /// Names of the list that is being read. The first of two lists holds the tests' output.
    list: Vec<String>,
}

impl Failures {
    /// Takes a line of the output in.
    pub(super) fn add_line(&mut self, line: &str) {
        let line = line.trim_end();
        if line == "failures:" {
            self.in_list = true;
            self.list.clear();
        } else if line.starts_with("test result: ") {
            self.in_list = false;
            self.names.append(&mut self.list);
        } else if let Some(name) = line.strip_prefix("    ")
            && self.in_list
            && !name.is_empty()
            && !name.contains(char::is_whitespace)
        {
            self.list.push(name.to_owned());
        }
    }

    /// The failed tests, where a second run of each alone says something.
    fn few(&self) -> &[String] {
        if self.names.len() <= FEW { &self.names } else { &[] }
    }
}

/// Runs a layer's failed tests again and counts those that pass now as passed. Their names are the answer.
///
/// Only where tests meet time limits with real sockets on a machine that others may use too.
pub(super) fn run(layer: Layer, failures: &Failures, counts: &mut Counts) -> Vec<String> {
    if !layer.meets_time_limits() {
        return Vec::new();
    }
    let passed: Vec<String> = failures.few().iter().filter(|name| passes(layer, name)).cloned().collect();
    let number = passed.len() as u64;
    counts.failed = counts.failed.saturating_sub(number);
    counts.passed += number;
    passed
}

fn passes(layer: Layer, name: &str) -> bool {
    println!("== {layer}: {name} failed and is run again, alone");
    let alone = |mut command: Command| {
        command.args(["--exact", name]);
        let mut counts = Counts::default();
        count::stream(&mut command, &mut counts, layer.time_limit()).is_ok() && counts.passed == 1
    };
    layer.commands().into_iter().any(alone)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "test a::b ... FAILED\n\nfailures:\n\n---- a::b stdout ----\n    at /rust/core\n    word\n\n\
                          failures:\n    a::b\n    c::d\n\ntest result: FAILED. 1 passed; 2 failed;\n    later\n";

    fn read(text: &str) -> Failures {
        let mut failures = Failures::default();
        text.lines().for_each(|line| failures.add_line(line));
        failures
    }

    #[test]
    fn the_last_list_names_the_failed_tests() {
        assert_eq!(read(OUTPUT).names, ["a::b", "c::d"]);
        assert_eq!(read("test a ... ok\ntest result: ok. 1 passed; 0 failed;\n").names, [""; 0]);
    }

    #[test]
    fn many_failures_are_not_run_again() {
        assert_eq!(read(OUTPUT).few().len(), 2);
        assert!(read(&OUTPUT.repeat(2)).few().is_empty());
    }

    #[test]
    fn decisions_on_the_host_have_one_try() {
        let mut counts = Counts { passed: 1, failed: 2, ignored: 0 };
        assert!(run(Layer::Unit, &read(OUTPUT), &mut counts).is_empty());
        assert!(run(Layer::Kernel, &read(OUTPUT), &mut counts).is_empty());
        assert_eq!(counts.failed, 2);
    }
}
