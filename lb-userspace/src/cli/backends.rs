//! `sluice backends`: every backend with its id.
//!
//! JSON: a list of `{address, id, generation, flags, traffic, service, family}`; `service` is
//! `namespace/name:port/PROTOCOL`, `traffic` as in `sluice services`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::output::{self, Format};
use super::services::{BackendRow, TrafficRow};
use crate::maps::kernel::KernelTables;

#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    backend: BackendRow,
    /// `namespace/name:port/PROTOCOL`.
    service: String,
    /// `IPv4` or `IPv6`.
    family: &'static str,
}

pub(super) fn print(pin_path: &Path, format: Format) -> anyhow::Result<()> {
    let tables = KernelTables::open(pin_path)?;
    let existing = tables.read_owners()?;
    let traffic = tables.traffic(&existing)?;
    let names: BTreeMap<u32, &str> = existing.names.iter().map(|(id, _, name)| (*id, name.as_str())).collect();
    let rows: Vec<Row> = existing
        .backends
        .iter()
        .map(|(family, id, entry)| Row {
            backend: BackendRow::new(*family, *id, entry, &traffic),
            service: names.get(&entry.service).map_or_else(String::new, |name| (*name).to_owned()),
            family: family.name(),
        })
        .collect();
    output::print(&rows, format, |rows| {
        let mut table = output::table(&[
            "ID",
            "GENERATION",
            "BACKEND",
            "SERVICE",
            "STATE",
            "CONNECTIONS",
            "PACKETS",
            "BYTES",
            "PACKETS-BACK",
            "BYTES-BACK",
        ]);
        for row in rows {
            let backend = &row.backend;
            let counted =
                |of: fn(&TrafficRow) -> u64| backend.traffic.as_ref().map_or("-".to_owned(), |t| of(t).to_string());
            table.add_row([
                backend.id.to_string(),
                backend.generation.to_string(),
                backend.address.clone(),
                row.service.clone(),
                backend.flags.join(","),
                counted(|t| t.connections),
                counted(|t| t.packets),
                counted(|t| t.bytes),
                counted(|t| t.reply_packets),
                counted(|t| t.reply_bytes),
            ]);
        }
        table.to_string()
    })
}
