//! What the programs take in place, by the kernel's own statistics. A separate pass: counting costs time itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use serde::{Deserialize, Serialize};

use super::client::Workload;
use super::measure::once;
use super::row::Row;
use super::setup::Nodes;
use crate::bench::cpu::Cpu;
use crate::bench::spread::Spread;

/// One program's figures while a workload ran.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::bench) struct InPlace {
    /// The row.
    pub(in crate::bench) row: String,
    /// The workload.
    pub(in crate::bench) workload: String,
    /// The program.
    pub(in crate::bench) program: String,
    /// Nanoseconds a run, with what the kernel takes to measure them.
    pub(in crate::bench) ns: f64,
    /// Runs a transaction.
    pub(in crate::bench) runs: f64,
}

/// Rounds of this pass. Of a program's time the least counts, as whatever comes in between only adds; of the number of its
/// runs the median.
const ROUNDS: usize = 5;

/// Runs every workload but bulk on each row that has an agent.
pub(super) fn measure(
    nodes: &Nodes,
    rows: &[Row],
    workloads: &[Workload],
    cpu: Cpu,
    slice: Duration,
) -> Result<Vec<InPlace>> {
    let _counting = enable_stats(Stats::RunTime).context("the kernel does not count the programs' time")?;
    let mut all = Vec::new();
    for row in rows {
        let agent = nodes.get(&row.kind).and_then(|node| node.arm.agent.as_ref());
        let Some(pid) = agent.and_then(crate::lab::Agent::pid) else { continue };
        let ids = programs_of(pid)?;
        let counted =
            |workload: &&Workload| row.fits(**workload) && !matches!(workload, Workload::Bulk | Workload::Frames);
        for workload in workloads.iter().filter(counted) {
            all.extend(programs(nodes, row, *workload, cpu, slice, &ids)?);
        }
    }
    Ok(all)
}

fn programs(
    nodes: &Nodes,
    row: &Row,
    workload: Workload,
    cpu: Cpu,
    slice: Duration,
    ids: &BTreeSet<u32>,
) -> Result<Vec<InPlace>> {
    let mut seen: BTreeMap<String, Vec<[f64; 2]>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        let (before, begin) = (counters(ids)?, Instant::now());
        let sample = once(nodes, row, workload, cpu, slice)?;
        // The warm-up is in the counters, too.
        let transactions = sample.rate * begin.elapsed().as_secs_f64();
        for (id, after) in counters(ids)? {
            let Some(before) = before.get(&id) else { continue };
            #[expect(clippy::cast_precision_loss, reason = "far fewer runs than a float counts")]
            let runs = after.runs.saturating_sub(before.runs) as f64;
            if runs > 0.0 {
                let ns = after.time.saturating_sub(before.time).as_secs_f64() * 1e9 / runs;
                seen.entry(after.name).or_default().push([ns, runs / transactions]);
            }
        }
    }
    Ok(seen.into_iter().filter_map(|(program, rounds)| figure(row, workload, program, &rounds)).collect())
}

/// A program's figure, from time and runs of each round.
fn figure(row: &Row, workload: Workload, program: String, rounds: &[[f64; 2]]) -> Option<InPlace> {
    let ns = Spread::of(rounds.iter().map(|[ns, _]| *ns))?.min;
    let runs = Spread::of(rounds.iter().map(|[_, runs]| *runs))?.median;
    // What runs now and then, such as for a neighbour's answer, has no part in the transaction.
    let (row, workload) = (row.id.to_owned(), workload.name().to_owned());
    (runs >= RARE).then_some(InPlace { row, workload, program, ns, runs })
}

/// Runs a transaction below which a program has no part in it.
const RARE: f64 = 0.02;

struct Counter {
    name: String,
    time: Duration,
    runs: u64,
}

fn counters(ids: &BTreeSet<u32>) -> Result<HashMap<u32, Counter>> {
    let mut all = HashMap::new();
    // A program of somebody else may go between its listing and the look at it.
    for info in loaded_programs().flatten().filter(|info| ids.contains(&info.id())) {
        let name = info.name_as_str().context("a program without a name")?.to_owned();
        all.insert(info.id(), Counter { name, time: info.run_time(), runs: info.run_count() });
    }
    Ok(all)
}

/// Ids of the programs that a process holds, as its descriptors tell.
fn programs_of(pid: u32) -> Result<BTreeSet<u32>> {
    let folder = format!("/proc/{pid}/fdinfo");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
    let texts = entries.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok());
    Ok(texts.filter_map(|text| program_id(&text)).collect())
}

fn program_id(text: &str) -> Option<u32> {
    text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_time_and_the_median_of_the_runs_count_and_rare_programs_do_not() {
        let row = crate::bench::live::row::ALL[0];
        let rounds = [[90.0, 2.0], [70.0, 2.2], [400.0, 0.3]];
        let seen = figure(&row, Workload::Rr, "pod_ingress".into(), &rounds).unwrap();
        assert!((seen.ns - 70.0).abs() < 1e-9 && (seen.runs - 2.0).abs() < 1e-9, "{seen:?}");
        assert!(figure(&row, Workload::Rr, "uplink_egress".into(), &[[50.0, 0.001]]).is_none());
    }

    #[test]
    fn a_descriptor_of_a_program_tells_its_id_and_others_do_not() {
        assert_eq!(program_id("pos:\t0\nflags:\t02000002\nprog_type:\t3\nprog_id:\t4711\nrun_cnt:\t9\n"), Some(4711));
        assert_eq!(program_id("pos:\t0\nflags:\t02000002\nmap_type:\t1\nmap_id:\t12\n"), None);
    }
}
