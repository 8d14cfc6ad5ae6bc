//! `sluice backends`: every backend with its id.
//!
//! JSON: a list of `{address, id, generation, flags, service, family}`; `service` is `namespace/name:port/PROTOCOL`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::output::{self, Format};
use super::services::{BackendRow, family_name};
use crate::maps::kernel::KernelTables;
use crate::maps::{Tables, dump};

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
    let existing = KernelTables::open(pin_path)?.read()?;
    let names: BTreeMap<u32, &str> = existing.names.iter().map(|(id, _, name)| (*id, name.as_str())).collect();
    let rows: Vec<Row> = existing
        .backends
        .iter()
        .map(|(family, id, entry)| Row {
            backend: BackendRow {
                address: entry.addr.to_string(),
                id: *id,
                generation: entry.generation,
                flags: dump::backend_flags(entry.flags),
            },
            service: names.get(&entry.service).map_or_else(String::new, |name| (*name).to_owned()),
            family: family_name(*family),
        })
        .collect();
    output::print(&rows, format, |rows| {
        let mut table = output::table(&["ID", "GENERATION", "BACKEND", "SERVICE", "STATE"]);
        for row in rows {
            let backend = &row.backend;
            table.add_row([
                backend.id.to_string(),
                backend.generation.to_string(),
                backend.address.clone(),
                row.service.clone(),
                backend.flags.join(","),
            ]);
        }
        table.to_string()
    })
}
