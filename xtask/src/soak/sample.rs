//! What an agent uses at one moment: memory, descriptors, threads, entries of maps.

use std::fs;

use anyhow::{Context as _, Result};

use crate::lab::Agent;

/// What is looked at, in this order.
pub(super) const KINDS: [&str; 8] = [
    "resident memory, KiB",
    "open descriptors",
    "threads",
    "pinned links",
    "frontends",
    "backends",
    "flow entries",
    "socket entries",
];

/// One look.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// Seconds since the beginning.
    pub(super) at: f64,
    /// Values, in the order of [`KINDS`].
    pub(super) values: [f64; KINDS.len()],
}

impl Sample {
    /// Looks at a running agent.
    pub(super) fn take(agent: &Agent, at: f64) -> Result<Self> {
        let pid = agent.pid().context("the agent is not running")?;
        let process = format!("/proc/{pid}");
        let text = fs::read_to_string(format!("{process}/status")).context("the agent's memory cannot be read")?;
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<f64>().ok()
        };
        let status = agent.json(&["status"])?;
        let used = |maps: &[&str]| -> f64 {
            let rows = status["maps"].as_array().into_iter().flatten();
            let of = rows.filter(|row| row["map"].as_str().is_some_and(|map| maps.contains(&map)));
            of.filter_map(|row| row["used"].as_f64()).sum()
        };
        let values = [
            field("VmRSS").unwrap_or_default(),
            entries(&format!("{process}/fd")),
            field("Threads").unwrap_or_default(),
            entries(&agent.pin_path().join("links").to_string_lossy()),
            status["frontends"].as_f64().unwrap_or_default(),
            status["backends"].as_f64().unwrap_or_default(),
            used(&["FLOWS4", "FLOWS6", "HALF4", "HALF6"]),
            used(&["SOCKETS4", "SOCKETS6"]),
        ];
        Ok(Self { at, values })
    }
}

fn entries(folder: &str) -> f64 {
    let many = fs::read_dir(folder).map_or(0, Iterator::count);
    f64::from(u32::try_from(many).unwrap_or(u32::MAX))
}

/// Whether the last third of the values lies above the first one, beyond what a busy agent's memory moves by anyway.
pub(super) fn grows(values: &[f64], slack: f64) -> bool {
    let third = values.len() / 3;
    if third == 0 {
        return false;
    }
    // The first look is before anything has been done.
    let mean = |of: &[f64]| of.iter().sum::<f64>() / f64::from(u32::try_from(of.len()).unwrap_or(1).max(1));
    let (first, last) = (mean(&values[third / 2..third.max(third / 2 + 1)]), mean(&values[values.len() - third..]));
    last > first * 1.15 + slack
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_moves_does_not_grow_and_a_leak_does() {
        let moves: Vec<f64> = (0..90).map(|n| 100.0 + f64::from(n % 7)).collect();
        let leaks: Vec<f64> = (0..90).map(|n| 100.0 + f64::from(n)).collect();
        assert!(!grows(&moves, 5.0) && grows(&leaks, 5.0));
        assert!(!grows(&leaks[..2], 5.0), "too few to say");
    }
}
