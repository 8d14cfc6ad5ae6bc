//! From samples to figures: rates, latencies and CPU time, and their quotients to the base of the same round.

use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

use super::client::{Sample, Workload};
use super::in_place::InPlace;
use super::row::Row;
use crate::bench::cpu::Cpu;
use crate::bench::spread::Spread;

/// One row under one workload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::bench) struct Figure {
    /// The row, as on the command line.
    pub(in crate::bench) row: String,
    /// The row, for people.
    pub(in crate::bench) title: String,
    /// The row that it is compared with.
    pub(in crate::bench) base: String,
    /// The workload.
    pub(in crate::bench) workload: String,
    /// What is counted.
    pub(in crate::bench) unit: String,
    /// A second.
    pub(in crate::bench) rate: Option<Spread>,
    /// Microseconds.
    pub(in crate::bench) p50_us: Option<Spread>,
    /// Microseconds.
    pub(in crate::bench) p99_us: Option<Spread>,
    /// Microseconds of CPU time for each.
    pub(in crate::bench) cpu_us: Option<Spread>,
    /// Quotients to the base in the same round.
    pub(in crate::bench) to_base: ToBase,
    /// Transactions that failed, in all rounds.
    pub(in crate::bench) failed: u32,
}

/// Quotients to the base in the same round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::bench) struct ToBase {
    /// Of rates: more is better.
    pub(in crate::bench) rate: Option<Spread>,
    /// Of medians: less is better.
    pub(in crate::bench) p50: Option<Spread>,
    /// Of the 99th percentiles: less is better.
    pub(in crate::bench) p99: Option<Spread>,
    /// Of CPU time: less is better.
    pub(in crate::bench) cpu: Option<Spread>,
}

/// All figures of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::bench) struct Results {
    /// Kernel release.
    pub(in crate::bench) kernel: String,
    /// Processor of the machine.
    pub(in crate::bench) processor: String,
    /// The one on which clients and servers were.
    pub(in crate::bench) cpu: usize,
    /// Rounds.
    pub(in crate::bench) rounds: usize,
    /// Seconds of each row in a round.
    pub(in crate::bench) seconds: f64,
    /// Services in the maps beside the measured ones.
    pub(in crate::bench) services: u32,
    /// Rows and workloads.
    pub(in crate::bench) figures: Vec<Figure>,
    /// The programs' time in place.
    pub(in crate::bench) in_place: Vec<InPlace>,
}

impl Results {
    /// No figures yet.
    pub(super) fn new(rounds: usize, slice: Duration, services: u32, cpu: Cpu) -> Self {
        let kernel = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
        Self {
            kernel: kernel.unwrap_or_default(),
            processor: processor(),
            cpu: cpu.number(),
            rounds,
            seconds: slice.as_secs_f64(),
            services,
            figures: Vec::new(),
            in_place: Vec::new(),
        }
    }

    /// Works out a workload's figures.
    pub(super) fn add(&mut self, workload: Workload, rows: &[Row], samples: &[Vec<Sample>]) {
        self.figures.extend(figures(workload, rows, samples));
    }

    /// Tables for people.
    pub(super) fn table(&self) -> String {
        let mut text = format!(
            "Linux {}, {}; clients and servers on processor {}; {} rounds of {} s a row, {} Services\n\
             \"x\": to the row's base in the same round, median of the rounds\n",
            self.kernel, self.processor, self.cpu, self.rounds, self.seconds, self.services
        );
        let mut workloads: Vec<&str> = Vec::new();
        for figure in &self.figures {
            if !workloads.contains(&figure.workload.as_str()) {
                workloads.push(&figure.workload);
            }
        }
        for workload in workloads {
            let figures: Vec<&Figure> = self.figures.iter().filter(|figure| figure.workload == workload).collect();
            let unit = figures.first().map_or("", |figure| figure.unit.as_str());
            let _never_fails = write!(text, "\n{workload} ({unit})\n{}\n", workload_table(&figures));
        }
        if !self.in_place.is_empty() {
            let _never_fails = write!(text, "\nprograms in place\n{}\n", self.in_place_table());
        }
        text
    }

    fn in_place_table(&self) -> Table {
        let mut table = plain_table(["row", "workload", "program", "ns a run", "runs"]);
        for InPlace { row, workload, program, ns, runs } in &self.in_place {
            table.add_row([row.clone(), workload.clone(), program.clone(), format!("{ns:.0}"), format!("{runs:.2}")]);
        }
        align_right(&mut table, 3..5);
        table
    }
}

fn figures(workload: Workload, rows: &[Row], samples: &[Vec<Sample>]) -> Vec<Figure> {
    let of = |id: &str| rows.iter().position(|row| row.id == id).and_then(|at| samples.get(at));
    let figure = |(row, mine): (&Row, &Vec<Sample>)| {
        let spread = |field: fn(&Sample) -> Option<f64>| Spread::of(mine.iter().filter_map(field));
        let ratio = |field: fn(&Sample) -> Option<f64>| {
            let base = of(row.base).filter(|_| !row.is_base())?;
            let values = |samples: &[Sample]| samples.iter().map(field).collect::<Vec<_>>();
            Spread::of_ratios(&values(mine), &values(base))
        };
        Figure {
            row: row.id.to_owned(),
            title: row.title.to_owned(),
            base: row.base.to_owned(),
            workload: workload.name().to_owned(),
            unit: workload.unit().to_owned(),
            rate: spread(|sample| Some(sample.rate)),
            p50_us: spread(|sample| sample.p50_us),
            p99_us: spread(|sample| sample.p99_us),
            cpu_us: spread(|sample| Some(sample.cpu_us)),
            to_base: ToBase {
                rate: ratio(|sample| Some(sample.rate)),
                p50: ratio(|sample| sample.p50_us),
                p99: ratio(|sample| sample.p99_us),
                cpu: ratio(|sample| Some(sample.cpu_us)),
            },
            failed: mine.iter().map(|sample| sample.failed).sum(),
        }
    };
    rows.iter().zip(samples).map(figure).collect()
}

fn workload_table(figures: &[&Figure]) -> Table {
    let head = [
        "row",
        "",
        "rate/s",
        "p50 us",
        "p99 us",
        "CPU us",
        "x rate",
        "(min, max)",
        "x CPU",
        "x p50",
        "x p99",
        "failed",
    ];
    let mut table = plain_table(head);
    let number = |spread: &Option<Spread>, digits: usize| {
        spread.map_or(String::new(), |spread| format!("{:.digits$}", spread.median))
    };
    for figure in figures {
        let ToBase { rate, p50, p99, cpu } = &figure.to_base;
        table.add_row([
            figure.row.clone(),
            figure.title.clone(),
            number(&figure.rate, 0),
            number(&figure.p50_us, 1),
            number(&figure.p99_us, 1),
            number(&figure.cpu_us, 1),
            number(rate, 3),
            rate.map_or(String::new(), |rate| format!("{:.2} {:.2}", rate.min, rate.max)),
            number(cpu, 3),
            number(p50, 3),
            number(p99, 3),
            if figure.failed == 0 { String::new() } else { figure.failed.to_string() },
        ]);
    }
    align_right(&mut table, 2..12);
    table
}

fn plain_table<const N: usize>(head: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(head);
    table
}

fn align_right(table: &mut Table, columns: std::ops::Range<usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(String::new, |(_, name)| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::live::row;

    fn sample(rate: f64) -> Sample {
        Sample { rate, cpu_us: 1e6 / rate, p50_us: Some(1e6 / rate), p99_us: None, failed: 1 }
    }

    #[test]
    fn figures_are_compared_with_the_base_of_the_same_round() {
        let rows: Vec<Row> = row::ALL.into_iter().filter(|row| ["direct", "tax"].contains(&row.id)).collect();
        // The machine became half as fast after the first round.
        let samples = [vec![sample(1000.0), sample(500.0)], vec![sample(900.0), sample(450.0)]];
        let figures = figures(Workload::Rr, &rows, &samples);
        let tax = &figures[1];
        assert!((tax.to_base.rate.unwrap().median - 0.9).abs() < 1e-9);
        assert!((tax.to_base.p50.unwrap().median - 1.0 / 0.9).abs() < 1e-9);
        assert_eq!(tax.to_base.p99, None);
        assert_eq!(tax.failed, 2);
        assert_eq!(figures[0].to_base.rate, None);
    }
}
