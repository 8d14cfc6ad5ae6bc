//! `sluice backends`: every backend with its id, below its service port.
//!
//! JSON: a list of `{address, id, generation, flags, weight, traffic, open, silent, service, family}`; `open` are connections that
//! are not over, `silent` is whether new ones pass it over because it leaves them unanswered, `service` is
//! `namespace/name:port/PROTOCOL`, `traffic` as in `sluice services`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::backend_row::{BackendRow, TrafficRow};
use super::labelled;
use super::list::{Form, Found, Grid, ListArgs, Listed, Owner, Shown, amount};
use crate::maps::kernel::KernelTables;
use crate::maps::open_connections;
use crate::model::desired::Family;

#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    backend: BackendRow,
    /// Connections that are not over.
    open: u32,
    /// Whether it leaves connections unanswered, and new ones pass it over.
    silent: bool,
    /// `namespace/name:port/PROTOCOL`.
    service: String,
    /// `IPv4` or `IPv6`.
    family: &'static str,
    #[serde(skip)]
    owner: Owner,
}

impl Listed for Row {
    const SORT: &'static [(&'static str, &'static str)] = &[
        ("BACKEND", "address"),
        ("SERVICE", "service"),
        ("ID", "id"),
        ("GENERATION", "generation"),
        ("CONNECTIONS", "traffic.connections"),
        ("OPEN", "open"),
        ("UNANSWERED", "traffic.unanswered"),
        ("REFUSED", "traffic.refused"),
        ("PACKETS", "traffic.packets"),
        ("PACKETS-BACK", "traffic.reply_packets"),
        ("BYTES", "traffic.bytes"),
        ("BYTES-BACK", "traffic.reply_bytes"),
    ];

    fn id(&self) -> String {
        format!("backend/{}/{}", self.service, self.backend.address)
    }
}

pub(super) fn print(args: &ListArgs) -> anyhow::Result<()> {
    let select = labelled::resolve(&args.select, &args.pins.pin_path)?;
    let look = || {
        let tables = KernelTables::open(&args.pins.pin_path)?;
        let existing = tables.read_owners()?;
        let traffic = tables.traffic(&existing)?;
        let silent = tables.silent()?;
        let owners: BTreeMap<u32, (&str, Owner)> = existing
            .names
            .iter()
            .map(|(id, family, name)| (*id, (name.as_str(), Owner::read(name, *family))))
            .collect();
        let open = open_connections::by_backend(&args.pins.pin_path)?;
        let missing = select.missing(&owners.values().map(|(_, owner)| owner));
        let row = |(family, id, entry): &(Family, u32, _)| {
            let backend = BackendRow::new(*family, *id, entry, &traffic);
            let (service, owner) = owners.get(&entry.service).cloned().unwrap_or_default();
            select.wants(&owner).then(|| Row {
                backend,
                open: open.get(&(*family, *id, entry.generation)).copied().unwrap_or(0),
                silent: silent.contains(&(*family, *id)),
                service: service.to_owned(),
                family: family.name(),
                owner,
            })
        };
        let mut rows: Vec<Row> = existing.backends.iter().filter_map(row).collect();
        rows.sort_by(|a, b| (&a.owner, a.family, &a.backend.address).cmp(&(&b.owner, b.family, &b.backend.address)));
        Ok(Found { rows, missing })
    };
    // Sorted by something else, or one by one, a backend's Service is not that of the line above.
    let flat = args.form.sort_by.is_some() || args.form.watch || matches!(args.form.output, Form::Wide);
    args.form.print(look, |rows| grid(rows, flat))
}

fn state(flags: &[&str], silent: bool) -> String {
    let serving = flags.iter().any(|flag| matches!(*flag, "in-cluster-set" | "in-local-set"));
    let words = flags.iter().copied().filter(|flag| matches!(*flag, "local" | "terminating" | "host-network"));
    let mut words: Vec<&str> = (!serving).then_some("unused").into_iter().chain(words).collect();
    if words.is_empty() {
        words.push("remote");
    }
    if silent {
        words.push("silent");
    }
    words.join(",")
}

fn grid(rows: &[Row], flat: bool) -> Grid {
    let mut grid = Grid::default()
        .text(if flat { "BACKEND" } else { "SERVICE/BACKEND" }, Shown::Any)
        .text("SERVICE", if flat { Shown::Any } else { Shown::Wide })
        .word("STATE", Shown::Any)
        .number("CONNECTIONS", Shown::Any)
        .number("OPEN", Shown::Any)
        .number("UNANSWERED", Shown::Any)
        .number("REFUSED", Shown::Any)
        .number("BYTES", Shown::Medium)
        .number("BYTES-BACK", Shown::Medium)
        .number("PACKETS", Shown::Large)
        .number("PACKETS-BACK", Shown::Large)
        .number("ID", Shown::Large)
        .number("GENERATION", Shown::Large)
        .word("SETS", Shown::Large)
        .number("WEIGHT", Shown::Large);
    let mut above: Option<(&Owner, &str)> = None;
    for row in rows {
        let (backend, owner) = (&row.backend, &row.owner);
        if !flat && above != Some((owner, row.family)) {
            let heading = format!("{}/{} {}", owner.service_port(), owner.protocol, row.family);
            grid.line([heading]);
            above = Some((owner, row.family));
        }
        let counted = |of: fn(&TrafficRow) -> String| backend.traffic.as_ref().map_or("-".to_owned(), of);
        let sets = backend.flags.iter().filter_map(|flag| flag.strip_suffix("-set")?.strip_prefix("in-"));
        grid.line([
            if flat { backend.address.clone() } else { format!("  {}", backend.address) },
            format!("{}/{}", owner.service_port(), owner.protocol),
            state(&backend.flags, row.silent),
            counted(|t| t.connections.to_string()),
            row.open.to_string(),
            counted(|t| t.unanswered.to_string()),
            counted(|t| t.refused.to_string()),
            counted(|t| amount::bytes(t.bytes)),
            counted(|t| amount::bytes(t.reply_bytes)),
            counted(|t| t.packets.to_string()),
            counted(|t| t.reply_packets.to_string()),
            backend.id.to_string(),
            backend.generation.to_string(),
            sets.collect::<Vec<_>>().join(","),
            backend.weight.to_string(),
        ]);
    }
    grid
}

#[cfg(test)]
mod tests {
    use lb_common::abi::{StatsValue, backend_flag};

    use super::*;
    use crate::cli::list::golden;
    use crate::maps::traffic::Traffic;
    use crate::plan::BackendEntry;

    fn row(id: u32, address: &str, service: &str, flags: u16) -> Row {
        let entry = BackendEntry { addr: address.parse().unwrap(), flags, weight: 1, generation: 40 + id, service: 1 };
        let mut traffic = Traffic::default();
        let counted = StatsValue {
            packets: 70,
            bytes: 5_000,
            reply_packets: 60,
            reply_bytes: 90_000,
            connections: 9,
            unanswered: 4,
            refused: 1,
            ..Default::default()
        };
        if id != 3 {
            traffic.add(Family::V4, id, 1, &counted);
        }
        Row {
            backend: BackendRow::new(Family::V4, id, &entry, &traffic),
            open: 2,
            silent: id == 2,
            service: service.to_owned(),
            family: Family::of(&entry.addr.ip()).name(),
            owner: Owner::read(service, Family::V4),
        }
    }

    #[test]
    fn backends_are_below_their_service() {
        let (local, cluster) = (backend_flag::LOCAL, backend_flag::IN_CLUSTER);
        let rows = [
            row(1, "10.1.0.1:8080", "shop/storefront:http/TCP", cluster),
            row(2, "10.1.1.7:8080", "shop/storefront:http/TCP", cluster | local | backend_flag::IN_LOCAL),
            row(3, "10.1.1.9:8080", "shop/storefront:http/TCP", backend_flag::TERMINATING),
            row(4, "[fd00:1234:5678:9abc:def0:1234:5678:9abc]:53", "kube-system/kube-dns:dns/UDP", cluster),
        ];
        golden::list("backends", &rows, |rows| grid(rows, false));
        let flat = grid(&rows, true).render(crate::cli::list::Width::Columns(120), true);
        assert!(flat.len() == 5 && flat[1].contains(":http/TCP"), "{flat:#?}");
    }
}
