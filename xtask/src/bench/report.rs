//! `cargo xtask bench report`: runs every bench and writes figures, pictures and a page into `docs/benchmarks`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;

use super::live::{Figure, LiveResults};
use super::load::{Load, Results as LoadResults};
use super::plot::{Bar, Chart, Side};
use super::spread::Spread;
use super::test_run::{Results as TestRunResults, Row as TestRunRow};
use crate::command::{clean, run as run_command, workspace_root};

/// How the report is made.
#[derive(clap::Args, Clone, Debug)]
#[group(id = "report")]
pub(super) struct Args {
    /// Measure nothing: draw what the JSON files of the folder say.
    #[arg(long)]
    draw: bool,
    /// A few short rounds: enough to see that all is well, too few to judge by.
    #[arg(long)]
    quick: bool,
    /// Measure this agent instead of the one that is built here.
    #[arg(long, value_name = "FILE")]
    sluice: Option<PathBuf>,
    /// Where figures, pictures and page go; without it `docs/benchmarks`.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

const LIVE: &str = "live.json";
const LOAD: &str = "load.json";
const TEST_RUN: &str = "test-run.json";

/// Measures, draws and writes.
pub(super) fn run(args: &Args) -> Result<()> {
    let folder = args.folder.clone().unwrap_or_else(|| workspace_root().join("docs/benchmarks"));
    let folder = std::path::absolute(folder)?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    if !args.draw {
        // Each in a separate process: what one has tied to a processor must not be so for the next.
        let quick: &[&str] = if args.quick { &["--quick"] } else { &[] };
        let few: &[&str] = if args.quick { &["--services", "0,1000", "--starts", "1", "--changes", "5"] } else { &[] };
        bench(&folder, "run", TEST_RUN, quick, None)?;
        bench(&folder, "live", LIVE, quick, args.sluice.as_deref())?;
        bench(&folder, "load", LOAD, few, args.sluice.as_deref())?;
    }
    let report = Report { live: read(&folder, LIVE)?, load: read(&folder, LOAD)?, test_run: read(&folder, TEST_RUN)? };
    report.write(&folder)
}

fn bench(folder: &Path, verb: &str, file: &str, args: &[&str], sluice: Option<&Path>) -> Result<()> {
    let own = std::env::current_exe().context("cannot find the running program")?;
    let mut command = clean(own);
    command.args(["bench", verb, "--json"]).arg(folder.join(file)).args(args);
    if let Some(sluice) = sluice {
        command.arg("--sluice").arg(std::path::absolute(sluice)?);
    }
    run_command(&mut command)
}

fn read<T: DeserializeOwned>(folder: &Path, file: &str) -> Result<T> {
    let path = folder.join(file);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not of this version", path.display()))
}

struct Report {
    live: LiveResults,
    load: LoadResults,
    test_run: TestRunResults,
}

/// The workloads that have a picture: name, title, and which quotient its bars show.
const PICTURES: [(&str, &str, Shown); 6] = [
    ("crr", "TCP connect, request, answer, close", Shown::Rate),
    ("rr", "TCP request and answer on one connection", Shown::Latency),
    ("udp-new", "UDP question and answer, a new port each", Shown::Rate),
    ("udp-one", "UDP question and answer, one port", Shown::Latency),
    ("bulk", "TCP, one connection that sends all it can", Shown::Rate),
    ("frames", "Small UDP frames into the uplink", Shown::Rate),
];

/// What a picture's bars show.
#[derive(Clone, Copy)]
enum Shown {
    Rate,
    Latency,
}

impl Shown {
    const fn axis(self) -> &'static str {
        match self {
            Self::Rate => "rate, to the same way without a proxy (more is better)",
            Self::Latency => "median latency, to the same way without a proxy (less is better)",
        }
    }

    fn of(self, figure: &Figure) -> Option<Spread> {
        match self {
            Self::Rate => figure.to_base.rate,
            Self::Latency => figure.to_base.p50,
        }
    }
}

impl Report {
    fn write(&self, folder: &Path) -> Result<()> {
        let mut page = self.head();
        for (workload, title, shown) in PICTURES {
            let figures: Vec<_> = self.live.figures.iter().filter(|figure| figure.workload == workload).collect();
            let bars: Vec<Bar> = figures.iter().filter_map(|figure| live_bar(figure, shown)).collect();
            if bars.is_empty() {
                continue;
            }
            let file = format!("{workload}.svg");
            Chart { title, axis: shown.axis(), line: Some(1.0), bars: &bars }.write(&folder.join(&file))?;
            page += &format_section(title, &file, &live_table(&figures));
        }
        page += &self.in_place();
        page += &self.load();
        page += &self.test_run(folder)?;
        let path = folder.join("README.md");
        fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
        Ok(())
    }

    fn head(&self) -> String {
        let live = &self.live;
        format!(
            "# Benchmarks\n\nMade by `cargo xtask bench report`; [how to read it](../bench.md). Only quotients count: the \
             same machine gives other\nnumbers an hour later. Linux {}, {}; clients and servers on one processor; {} rounds \
             of {} s a row;\n{} Services of ten endpoints in the maps. Whiskers are the least and the greatest of all \
             rounds.\n",
            live.kernel, live.processor, live.rounds, live.seconds, live.services
        )
    }

    fn in_place(&self) -> String {
        let rows = self.live.in_place.iter().map(|figure| {
            [
                figure.row.clone(),
                figure.workload.clone(),
                format!("`{}`", figure.program),
                format!("{:.0}", figure.ns),
                format!("{:.2}", figure.runs),
            ]
        });
        let table = markdown(["row", "workload", "program", "ns a run", "runs a transaction"], rows);
        format!("\n## The programs in place\n\nBy the kernel's statistics, whose own cost is in it.\n\n{table}")
    }

    fn load(&self) -> String {
        let median = |spread: Option<Spread>, digits: usize| {
            spread.map_or(String::new(), |spread| format!("{:.digits$}", spread.median))
        };
        let rows = self.load.loads.iter().map(|load: &Load| {
            [
                load.services.to_string(),
                median(load.full_state_s, 2),
                median(load.cpu_s, 2),
                median(load.resident_mib, 0),
                median(load.peak_mib, 0),
                median(load.maps_mib, 0),
                median(load.change_ms, 1),
                load.change_ms.map_or(String::new(), |spread| format!("{:.1}", spread.max)),
            ]
        });
        let head =
            ["Services", "full state s", "CPU s", "RSS MiB", "peak MiB", "maps MiB", "one change ms", "at most ms"];
        format!("\n## Loading\n\n{}", markdown(head, rows))
    }

    fn test_run(&self, folder: &Path) -> Result<String> {
        let mut text = "\n## The programs by test run\n".to_owned();
        for (file, title, axis, shown) in TEST_RUN_PICTURES {
            let wanted = |row: &&TestRunRow| row.family == 4 && row.services != MANY;
            let bars: Vec<Bar> =
                self.test_run.rows.iter().filter(wanted).filter_map(|row| test_run_bar(row, shown)).collect();
            Chart { title, axis, line: Some(1.0), bars: &bars }.write(&folder.join(file))?;
            let _never_fails = writeln!(text, "\n![{title}]({file})");
        }
        let ratio = |spread: Option<Spread>| spread.map_or(String::new(), |spread| format!("{:.2}", spread.median));
        let rows = self.test_run.rows.iter().map(|row| {
            [
                row.hook.clone(),
                format!("IPv{}", row.family),
                row.case.clone(),
                format!("`{}`", row.program),
                if row.services == 0 { String::new() } else { row.services.to_string() },
                format!("{:.0}", row.ns.median),
                ratio(row.to_floor),
                ratio(row.to_insert),
                ratio(row.to_few),
            ]
        });
        let head = ["hook", "", "case", "program", "Services", "ns", "x floor", "x insert", "x few"];
        Ok(text + "\n" + &markdown(head, rows))
    }
}

/// A picture of the test run: file, title, axis, and what its bars show.
type TestRunPicture = (&'static str, &'static str, &'static str, fn(&TestRunRow) -> Option<Spread>);

const TEST_RUN_PICTURES: [TestRunPicture; 2] = [
    (
        "test-run.svg",
        "Single packets, IPv4, ten Services",
        "time, to the floor of the same hook (less is better)",
        |row| row.to_floor.filter(|_| row.services > 0 && row.to_insert.is_none()),
    ),
    (
        "test-run-new.svg",
        "New flows, IPv4, ten Services",
        "time, to one insert into a full table (less is better)",
        |row| row.to_insert,
    ),
];

/// The larger of the test run's two clusters.
const MANY: u32 = 10_000;

fn format_section(title: &str, picture: &str, table: &str) -> String {
    format!("\n## {title}\n\n![{title}]({picture})\n\n{table}")
}

fn live_bar(figure: &Figure, shown: Shown) -> Option<Bar> {
    let value = shown.of(figure)?;
    let side = if figure.row.contains("nft") {
        Side::KubeProxy
    } else if figure.row.ends_with("empty") {
        Side::Base
    } else {
        Side::Sluice
    };
    let cpu = figure.to_base.cpu.map_or(String::new(), |cpu| format!(" (CPU {:.2})", cpu.median));
    Some(Bar { label: figure.title.clone(), value, note: format!("{:.2}{cpu}", value.median), side })
}

fn test_run_bar(row: &TestRunRow, shown: fn(&TestRunRow) -> Option<Spread>) -> Option<Bar> {
    let value = shown(row)?;
    let label = format!("{} {}, {}", row.hook, row.program, row.case);
    Some(Bar { label, value, note: format!("{:.2}", value.median), side: Side::Sluice })
}

fn live_table(figures: &[&Figure]) -> String {
    let number = |spread: Option<Spread>, digits: usize| {
        spread.map_or(String::new(), |spread| format!("{:.digits$}", spread.median))
    };
    let rows = figures.iter().map(|figure| {
        let to_base = &figure.to_base;
        [
            figure.title.clone(),
            format!("`{}`", figure.row),
            number(figure.rate, 0),
            number(figure.p50_us, 1),
            number(figure.p99_us, 1),
            number(figure.cpu_us, 2),
            number(to_base.rate, 3),
            number(to_base.cpu, 3),
            number(to_base.p50, 3),
            number(to_base.p99, 3),
        ]
    });
    let unit = figures.first().map_or("", |figure| figure.unit.as_str());
    let head = ["", "row", &format!("{unit}/s"), "p50 us", "p99 us", "CPU us", "x rate", "x CPU", "x p50", "x p99"];
    markdown(head, rows)
}

fn markdown<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut text = String::new();
    let mut line = |cells: &[String]| {
        let _never_fails = writeln!(text, "| {} |", cells.join(" | "));
    };
    line(&head.map(str::to_owned));
    line(&head.map(|_| "---".to_owned()));
    for row in rows {
        line(&row);
    }
    text
}
