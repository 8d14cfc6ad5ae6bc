//! From times to a table and JSON: all figures are differences and quotients of one round, then of all rounds the
//! least, the median and the greatest.

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::cases::Case;

/// Least, median and greatest.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    /// Least.
    pub(crate) min: f64,
    /// Median.
    pub(crate) median: f64,
    /// Greatest.
    pub(crate) max: f64,
}

impl Spread {
    fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().map(|value| (value * 1000.0).round() / 1000.0).collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self { min: at(0), median: at(values.len() / 2), max: at(values.len().saturating_sub(1)) }
    }
}

/// A case's figures.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    hook: &'static str,
    family: u8,
    case: String,
    program: &'static str,
    services: u32,
    /// Nanoseconds per packet without the harness; of the empty program, which is the harness, with it.
    ns: Spread,
    /// Multiples of the floor in the same round.
    to_floor: Option<Spread>,
    /// Of a first packet: multiples of one insert into a full LRU table in the same round.
    to_insert: Option<Spread>,
    /// Multiples of the same case with few Services in the same round.
    to_few: Option<Spread>,
}

/// All figures of one run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    kernel: String,
    machine: String,
    rounds: usize,
    flows: u32,
    rows: Vec<Row>,
}

impl Report {
    /// Works out the figures. `times` has, for each case, nanoseconds per packet round by round.
    pub(crate) fn new(cases: &[Case], times: &[Vec<f64>], flows: u32) -> Self {
        let few = cases.iter().map(|case| case.services).filter(|&services| services > 0).min();
        let net: Vec<Vec<f64>> = (0..cases.len()).map(|at| net_times(cases, times, at)).collect();
        let rows = cases.iter().enumerate().map(|(at, case)| {
            let floor = find(cases, |other| other.name == "floor" && place(other) == place(case));
            let insert = find(cases, |other| other.name == "insert" && place(other) == place(case));
            let same = find(cases, |other| {
                (&other.name, other.program, place(other)) == (&case.name, case.program, place(case))
                    && Some(other.services) == few
            });
            let ratio = |base: Option<usize>| {
                base.filter(|&base| base != at)
                    .map(|base| Spread::of(net[at].iter().zip(&net[base]).map(|(mine, theirs)| mine / theirs)))
            };
            let empty = case.name == "empty";
            Row {
                hook: case.hook.name(),
                family: if case.v6 { 6 } else { 4 },
                case: case.name.clone(),
                program: case.program,
                services: case.services,
                ns: Spread::of(if empty { times[at].clone() } else { net[at].clone() }),
                to_floor: if empty { None } else { ratio(floor) },
                to_insert: ratio(insert.filter(|_| case.name.starts_with("new flow"))),
                to_few: ratio(same),
            }
        });
        let rows: Vec<Row> = rows.collect();
        let (kernel, machine) = nix::sys::utsname::uname().map_or_else(
            |_| (String::new(), String::new()),
            |name| (name.release().to_string_lossy().into_owned(), name.machine().to_string_lossy().into_owned()),
        );
        Self { kernel, machine, rounds: times.first().map_or(0, Vec::len), flows, rows }
    }

    /// A table for people.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header([
            "hook", "IP", "case", "program", "Services", "ns", "min", "max", "x floor", "x insert", "x few",
        ]);
        for row in &self.rows {
            let ratio =
                |spread: &Option<Spread>| spread.map_or(String::new(), |spread| format!("{:.2}", spread.median));
            table.add_row([
                row.hook.into(),
                row.family.to_string(),
                row.case.clone(),
                row.program.into(),
                if row.services == 0 { String::new() } else { row.services.to_string() },
                format!("{:.1}", row.ns.median),
                format!("{:.1}", row.ns.min),
                format!("{:.1}", row.ns.max),
                ratio(&row.to_floor),
                ratio(&row.to_insert),
                ratio(&row.to_few),
            ]);
        }
        for column in [1, 4, 5, 6, 7, 8, 9, 10] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let head = format!(
            "Linux {} {}, {} rounds, {} flows a case; ns per packet without the harness (\"empty\" is the harness)",
            self.kernel, self.machine, self.rounds, self.flows
        );
        format!("{head}\n{table}")
    }
}

/// Hook and family: what the baselines are taken for.
fn place(case: &Case) -> (&'static str, bool) {
    (case.hook.name(), case.v6)
}

fn find(cases: &[Case], wanted: impl Fn(&Case) -> bool) -> Option<usize> {
    cases.iter().position(wanted)
}

fn net_times(cases: &[Case], times: &[Vec<f64>], at: usize) -> Vec<f64> {
    let empty = find(cases, |other| other.name == "empty" && place(other) == place(&cases[at])).unwrap_or(at);
    times[at].iter().zip(&times[empty]).map(|(gross, harness)| gross - harness).collect()
}
