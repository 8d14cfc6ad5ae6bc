//! What a soak has shown: a page with a table and a picture for each value.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::plot;
use super::sample::{KINDS, Sample, grows};

/// What has been done.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) changes: usize,
    /// When, in seconds since the beginning.
    pub(super) restarts: Vec<f64>,
    pub(super) scrapes: usize,
    pub(super) devices: usize,
    pub(super) asked: usize,
    pub(super) failed: Vec<String>,
}

/// What each value may move by without a leak, in its unit.
const SLACK: [f64; KINDS.len()] = [6_000.0, 8.0, 3.0, 6.0, 40.0, 200.0, 2_000.0, 200.0];

/// Writes `report.md` and its pictures. Gives what grows.
pub(super) fn write(folder: &Path, samples: &[Sample], done: &Done) -> Result<Vec<&'static str>> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut page = String::from("# Soak\n\n");
    let minutes = samples.last().map_or(0.0, |sample| sample.at / 60.0);
    let Done { changes, restarts, scrapes, devices, asked, failed } = done;
    writeln!(
        page,
        "{minutes:.1} minutes: {changes} changes of Services, {} restarts (half of them by SIGKILL), {scrapes} scrapes, \
         {devices} devices that came and went, {asked} questions over TCP and UDP, {} of them without an answer.\n",
        restarts.len(),
        failed.len()
    )?;
    page.push_str("| | first | least | most | last | grows |\n|---|---|---|---|---|---|\n");
    let mut growing = Vec::new();
    for (index, kind) in KINDS.into_iter().enumerate() {
        let values: Vec<f64> = samples.iter().map(|sample| sample.values[index]).collect();
        let (least, most) =
            (values.iter().copied().fold(f64::MAX, f64::min), values.iter().copied().fold(0.0, f64::max));
        let [begin, end] = [values.first(), values.last()].map(|value| value.copied().unwrap_or_default());
        let does = grows(&values, SLACK[index]);
        if does {
            growing.push(kind);
        }
        let does = if does { "yes" } else { "no" };
        writeln!(page, "| {kind} | {begin:.0} | {least:.0} | {most:.0} | {end:.0} | {does} |")?;
    }
    page.push_str("\nA line in orange is a restart.\n");
    for (index, kind) in KINDS.into_iter().enumerate() {
        let file = format!("{index}.svg");
        let points: Vec<(f64, f64)> = samples.iter().map(|sample| (sample.at, sample.values[index])).collect();
        plot::write(&folder.join(&file), kind, &points, restarts)?;
        writeln!(page, "\n![{kind}]({file})")?;
    }
    for failure in failed {
        writeln!(page, "\n- {failure}")?;
    }
    let path = folder.join("report.md");
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(growing)
}
