//! The rounds: every row once in each, forwards and backwards in turn.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::client::{self, Sample, Workload};
use super::row::Row;
use super::setup::{Node, Nodes};
use crate::bench::cpu::Cpu;

/// Samples of each row, round by round.
pub(super) fn rounds(
    nodes: &Nodes,
    rows: &[Row],
    workload: Workload,
    cpu: Cpu,
    rounds: usize,
    slice: Duration,
) -> Result<Vec<Vec<Sample>>> {
    let mut samples = vec![Vec::with_capacity(rounds); rows.len()];
    // Neighbours and caches are learned, and what does not work is found, before anything counts.
    for row in rows {
        once(nodes, row, workload, cpu, Duration::from_millis(50))?;
    }
    for round in 0..rounds {
        let forwards = samples.iter_mut().zip(rows);
        let mut measure = |(samples, row): (&mut Vec<Sample>, &Row)| {
            samples.push(once(nodes, row, workload, cpu, slice)?);
            Ok::<_, anyhow::Error>(())
        };
        // No row always follows the same other one.
        if round % 2 == 0 {
            forwards.into_iter().try_for_each(&mut measure)?;
        } else {
            forwards.rev().try_for_each(&mut measure)?;
        }
    }
    Ok(samples)
}

/// One row, for one slice of time.
pub(super) fn once(nodes: &Nodes, row: &Row, workload: Workload, cpu: Cpu, slice: Duration) -> Result<Sample> {
    let node: &Node = nodes.get(&row.kind).with_context(|| format!("row {} has no node", row.id))?;
    let servers = node.servers(row);
    node.client(row)
        .run(|| client::run(workload, row.target(), cpu, servers, slice))
        .with_context(|| format!("row {}, workload {}", row.id, workload.name()))
}
