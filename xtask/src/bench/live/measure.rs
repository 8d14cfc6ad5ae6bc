//! The rounds: every row once in each, forwards and backwards in turn.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::client::{self, Sample, Workload};
use super::frames::Frames;
use super::row::Row;
use super::setup::{Node, Nodes};
use crate::bench::cpu::Cpu;

/// Samples of each of `rows` rows, round by round. `once` measures the row of a number for so long.
pub(super) fn rounds(
    rows: usize,
    rounds: usize,
    slice: Duration,
    mut once: impl FnMut(usize, Duration) -> Result<Sample>,
) -> Result<Vec<Vec<Sample>>> {
    // Neighbours and caches are learned, and what does not work is found, before anything counts.
    for row in 0..rows {
        once(row, FIRST.min(slice))?;
    }
    let mut samples = vec![Vec::with_capacity(rounds); rows];
    for round in 0..rounds {
        for step in 0..rows {
            // No row always follows the same other one.
            let row = if round % 2 == 0 { step } else { rows - 1 - step };
            let sample = once(row, slice)?;
            if let Some(samples) = samples.get_mut(row) {
                samples.push(sample);
            }
        }
    }
    Ok(samples)
}

/// Length of the look at each row before the rounds.
const FIRST: Duration = Duration::from_millis(50);

/// Samples of the rows under a workload, round by round.
pub(super) fn workload(
    nodes: &Nodes,
    rows: &[Row],
    workload: Workload,
    cpu: Cpu,
    count: usize,
    slice: Duration,
) -> Result<Vec<Vec<Sample>>> {
    if workload == Workload::Frames {
        let mut frames = Frames::prepare(nodes, rows, cpu)?;
        return rounds(rows.len(), count, slice, |row, slice| frames.send(nodes, rows, row, cpu, slice));
    }
    rounds(rows.len(), count, slice, |row, slice| once(nodes, &rows[row], workload, cpu, slice))
}

/// One row, for one slice of time.
pub(super) fn once(nodes: &Nodes, row: &Row, workload: Workload, cpu: Cpu, slice: Duration) -> Result<Sample> {
    let node: &Node = nodes.get(&row.kind).with_context(|| format!("row {} has no node", row.id))?;
    let servers = node.servers(row);
    node.client(row)
        .run(|| client::run(workload, row.target(), cpu, servers, slice))
        .with_context(|| format!("row {}, workload {}", row.id, workload.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_measured_once_a_round_and_every_other_round_goes_backwards() {
        let mut order = Vec::new();
        let samples = rounds(3, 2, Duration::from_millis(1), |row, _| {
            order.push(row);
            Ok(Sample { rate: 1.0, cpu_us: 1.0, p50_us: None, p99_us: None, failed: 0 })
        });
        assert_eq!(order, [0, 1, 2, 0, 1, 2, 2, 1, 0]);
        assert!(samples.unwrap().iter().all(|samples| samples.len() == 2));
    }
}
