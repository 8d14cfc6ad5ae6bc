//! `sluice backends`: every backend with its id, below its service port.
//!
//! JSON: a list of `{address, id, generation, flags, weight, traffic, open, silent, rest, service, family}`; `open` are
//! connections that are not over, `silent` is whether new ones pass it over because it leaves them unanswered, `rest` is `ejected` or
//! `probation` where outlier ejection has it so, `service` is
//! `namespace/name:port/PROTOCOL`, `traffic` as in `sluice services`.

use std::collections::HashMap;
use std::rc::Rc;

use serde::Serialize;

use super::backend_row::{BackendRow, TrafficRow};
use super::labelled;
use super::list::{Form, Found, Grid, ListArgs, Listed, Owner, Shown, Width, amount, form_width};
use crate::maps::kernel::KernelTables;
use crate::maps::open_connections;
use crate::maps::{BackendMarks as _, Marked};
use crate::model::desired::Family;
use crate::plan::{BackendEntry, Existing};

#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    backend: BackendRow,
    /// Connections that are not over.
    open: u32,
    /// Whether it leaves connections unanswered, and new ones pass it over.
    silent: bool,
    /// `ejected` or `probation`, by outlier ejection.
    rest: Option<&'static str>,
    /// `namespace/name:port/PROTOCOL`.
    service: String,
    /// `IPv4` or `IPv6`.
    family: &'static str,
    /// Shared by its Service port's backends: there may be a hundred thousand of them.
    #[serde(skip)]
    owner: Rc<Owner>,
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
        let marks: HashMap<_, _> = tables.marked()?.into_iter().map(|mark| ((mark.family, mark.id), mark)).collect();
        let owners = Owners::of(&existing);
        let open = open_connections::by_backend(&args.pins.pin_path)?;
        let missing = select.missing(&owners.0.values().map(|known| &*known.owner));
        let nobody = Known::default();
        let row = |(family, id, entry): &(Family, u32, BackendEntry)| {
            let known = owners.0.get(&entry.service).unwrap_or(&nobody);
            let mark = marks.get(&(*family, *id));
            let row = || Row {
                backend: BackendRow::new(*family, *id, entry, &traffic),
                open: open.get(&(*family, *id, entry.generation)).copied().unwrap_or(0),
                silent: mark.is_some_and(|mark| mark.silent != 0),
                rest: mark.and_then(Marked::resting),
                service: known.name.to_owned(),
                family: family.name(),
                owner: Rc::clone(&known.owner),
            };
            select.wants(&known.owner).then(|| (known.place, row()))
        };
        let mut rows: Vec<(usize, Row)> = existing.backends.iter().filter_map(row).collect();
        rows.sort_by(|(a_place, a), (b_place, b)| {
            (a_place, a.family, &a.backend.address).cmp(&(b_place, b.family, &b.backend.address))
        });
        let rows = rows.into_iter().map(|(_, row)| row).collect();
        Ok(Found { rows, missing })
    };
    // Sorted by something else, or one by one, a backend's Service is not that of the line above.
    let flat = args.form.sort_by.is_some() || args.form.watch || matches!(args.form.output, Form::Wide);
    let width = if flat { Width::Wide } else { form_width(&args.form.output) };
    args.form.print(look, |rows| grid(rows, flat, width))
}

/// A service port, as its backends share it.
#[derive(Default)]
struct Known<'a> {
    name: &'a str,
    owner: Rc<Owner>,
    /// Its place among all of them, in the order in which they are shown.
    place: usize,
}

/// Service ports by id.
struct Owners<'a>(HashMap<u32, Known<'a>>);

impl<'a> Owners<'a> {
    fn of(existing: &'a Existing) -> Self {
        let read = |(id, family, name): &'a (u32, Family, String)| {
            (Owner::read(name, *family), family.name(), *id, name.as_str())
        };
        let mut all: Vec<(Owner, &str, u32, &str)> = existing.names.iter().map(read).collect();
        all.sort_unstable();
        let known = |(place, (owner, _, id, name))| (id, Known { name, owner: Rc::new(owner), place });
        Self(all.into_iter().enumerate().map(known).collect())
    }
}

fn state(flags: &[&str], silent: bool, rest: Option<&'static str>) -> String {
    let serving = flags.iter().any(|flag| matches!(*flag, "in-cluster-set" | "in-local-set"));
    let words = flags.iter().copied().filter(|flag| matches!(*flag, "local" | "terminating" | "host-network"));
    let mut words: Vec<&str> = (!serving).then_some("unused").into_iter().chain(words).collect();
    if words.is_empty() {
        words.push("remote");
    }
    if silent {
        words.push("silent");
    }
    words.extend(rest);
    words.join(",")
}

/// `width`: what it has no room for is not written down.
fn grid(rows: &[Row], flat: bool, width: Width) -> Grid {
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
        let (backend, owner) = (&row.backend, &*row.owner);
        if !flat && above != Some((owner, row.family)) {
            let heading = format!("{}/{} {}", owner.service_port(), owner.protocol, row.family);
            grid.line([heading]);
            above = Some((owner, row.family));
        }
        let counted = |of: fn(&TrafficRow) -> String| backend.traffic.as_ref().map_or("-".to_owned(), of);
        let sets = || backend.flags.iter().filter_map(|flag| flag.strip_suffix("-set")?.strip_prefix("in-"));
        let cells: [&dyn Fn() -> String; 15] = [
            &|| if flat { backend.address.clone() } else { format!("  {}", backend.address) },
            &|| format!("{}/{}", owner.service_port(), owner.protocol),
            &|| state(&backend.flags, row.silent, row.rest),
            &|| counted(|t| t.connections.to_string()),
            &|| row.open.to_string(),
            &|| counted(|t| t.unanswered.to_string()),
            &|| counted(|t| t.refused.to_string()),
            &|| counted(|t| amount::bytes(t.bytes)),
            &|| counted(|t| amount::bytes(t.reply_bytes)),
            &|| counted(|t| t.packets.to_string()),
            &|| counted(|t| t.reply_packets.to_string()),
            &|| backend.id.to_string(),
            &|| backend.generation.to_string(),
            &|| sets().collect::<Vec<_>>().join(","),
            &|| backend.weight.to_string(),
        ];
        grid.line_within(width, cells);
    }
    grid
}

#[cfg(test)]
mod tests {
    use lb_common::abi::{StatsValue, backend_flag};

    use super::*;
    use crate::cli::list::golden;
    use crate::maps::traffic::Traffic;

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
            rest: (id == 1).then_some("ejected"),
            service: service.to_owned(),
            family: Family::of(&entry.addr.ip()).name(),
            owner: Rc::new(Owner::read(service, Family::V4)),
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
        golden::list("backends", &rows, |rows| grid(rows, false, Width::Wide));
        for width in [Width::Columns(80), Width::Columns(120), Width::Columns(200), Width::Unlimited] {
            let narrow = grid(&rows, false, width).render(width, true);
            assert_eq!(narrow, grid(&rows, false, Width::Wide).render(width, true), "what is shown is written down");
        }
        let flat = grid(&rows, true, Width::Wide).render(Width::Columns(120), true);
        assert!(flat.len() == 5 && flat[1].contains(":http/TCP"), "{flat:#?}");
    }
}
