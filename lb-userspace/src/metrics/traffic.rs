//! Families by Service and by backend: packets, bytes and connections.

use std::collections::HashMap;
use std::path::Path;

use lb_common::abi::StatsValue;

use super::metric_family::{Families, Row, total};
use crate::maps::TableFailure;
use crate::maps::kernel::KernelTables;
use crate::maps::traffic::Traffic;
use crate::model::desired::{Family, PortId};
use crate::plan::Existing;

/// Labels that tell a row from all others.
type Labels = Vec<(&'static str, String)>;

/// Adds the families of what is pinned at `pin_path`.
pub(super) fn families(pin_path: &Path, families: &mut Families) -> Result<(), TableFailure> {
    let tables = KernelTables::open(pin_path)?;
    let existing = tables.read_owners()?;
    add(&existing, &tables.traffic(&existing)?, families);
    Ok(())
}

/// `namespace/name:port/PROTOCOL` as labels.
fn owner(name: &str, family: Family) -> Labels {
    let [namespace, service, port, protocol] = match PortId::parse(name, family) {
        Ok(PortId { service, port_name, protocol, .. }) => {
            [service.namespace, service.name, port_name, protocol.name().to_owned()]
        }
        // Written by another version: better shown than left out.
        Err(_) => [String::new(), name.to_owned(), String::new(), String::new()],
    };
    vec![
        ("namespace", namespace),
        ("service", service),
        ("port", port),
        ("protocol", protocol),
        ("ip_family", family.name().to_owned()),
    ]
}

/// Rows are in a stable order, so that a limit always leaves out the same ones. Those that it leaves out are not made: a
/// node may have a hundred thousand backends.
fn add(existing: &Existing, traffic: &Traffic, families: &mut Families) {
    let mut services: Vec<(&str, Family, StatsValue)> =
        existing.names.iter().map(|(id, family, name)| (name.as_str(), *family, traffic.service(*id))).collect();
    services.sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    services.dedup_by(|next, kept| {
        let same = (next.0, next.1) == (kept.0, kept.1);
        if same {
            kept.2 = kept.2.plus(&next.2);
        }
        same
    });
    group(&SERVICES, services.len(), families, |row| {
        let (name, family, counted) = services[row];
        (owner(name, family), counted)
    });

    let names: HashMap<u32, &str> = existing.names.iter().map(|(id, _, name)| (*id, name.as_str())).collect();
    let mut backends: Vec<(&str, usize)> = Vec::with_capacity(existing.backends.len());
    for (at, (family, id, entry)) in existing.backends.iter().enumerate() {
        if let Some(name) = names.get(&entry.service)
            && traffic.backend(*family, *id).is_some()
        {
            backends.push((name, at));
        }
    }
    let of = |at: usize| &existing.backends[at];
    let place = |at: usize| (of(at).0, of(at).2.addr);
    backends.sort_unstable_by(|a, b| a.0.cmp(b.0).then_with(|| place(a.1).cmp(&place(b.1))));
    group(&BACKENDS, backends.len(), families, |row| {
        let (name, at) = backends[row];
        let (family, id, entry) = of(at);
        let mut labels = owner(name, *family);
        labels.push(("backend", entry.addr.to_string()));
        (labels, traffic.backend(*family, *id).unwrap_or_default())
    });
}

/// Names of one group's families, with their help: packets, bytes, connections.
type Group = [(&'static str, &'static str); 3];

const SERVICES: Group = [
    ("sluice_service_packets_total", "Packets translated for a service port, towards its backends and from them"),
    ("sluice_service_bytes_total", "Bytes of these packets, link headers not counted"),
    ("sluice_service_connections_total", "New connections (of UDP: flows) to a service port"),
];
const BACKENDS: Group = [
    ("sluice_backend_packets_total", "Packets translated for a backend, towards it and from it"),
    ("sluice_backend_bytes_total", "Bytes of these packets, link headers not counted"),
    ("sluice_backend_connections_total", "New connections (of UDP: flows) to a backend"),
];

/// Adds a group's families: `of` has labels and counts of each of so many.
fn group(group: &Group, many: usize, families: &mut Families, of: impl Fn(usize) -> (Labels, StatsValue)) {
    let [packets, bytes, connections] = group;
    // One row for each direction.
    let both_ways = |values: fn(&StatsValue) -> [u64; 2]| {
        let of = &of;
        move |row: usize| -> Row<'static> {
            let (mut labels, counted) = of(row / 2);
            let [to, from] = values(&counted);
            let (direction, value) = if row.is_multiple_of(2) { ("to_backend", to) } else { ("from_backend", from) };
            labels.push(("direction", direction.to_owned()));
            (labels, total(value))
        }
    };
    let rows = 2 * many;
    families.many_counters(packets.0, packets.1, rows, both_ways(|counted| [counted.packets, counted.reply_packets]));
    families.many_counters(bytes.0, bytes.1, rows, both_ways(|counted| [counted.bytes, counted.reply_bytes]));
    families.many_counters(connections.0, connections.1, many, |row| {
        let (labels, counted) = of(row);
        (labels, total(counted.connections))
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{encode, lint};
    use crate::plan::BackendEntry;

    fn backend(id: u32, addr: &str, service: u32) -> (Family, u32, BackendEntry) {
        (Family::V4, id, BackendEntry { addr: addr.parse().unwrap(), flags: 0, generation: id, service })
    }

    fn text(limit: usize) -> String {
        let existing = Existing {
            names: vec![(7, Family::V4, "shop/web:http/TCP".into()), (8, Family::V4, "shop/dns:/UDP".into())],
            backends: vec![backend(1, "10.1.0.1:80", 7), backend(2, "10.1.0.2:80", 7), backend(9, "10.1.0.3:53", 8)],
            ..Existing::default()
        };
        let mut traffic = Traffic::default();
        let counted = |packets| StatsValue {
            packets,
            bytes: 10 * packets,
            reply_packets: 1,
            connections: 2,
            ..Default::default()
        };
        traffic.add(Family::V4, 1, 7, &counted(3));
        traffic.add(Family::V4, 2, 7, &counted(4));
        let mut families = Families::new(limit);
        add(&existing, &traffic, &mut families);
        encode(&families.finish()).unwrap()
    }

    #[test]
    fn a_service_port_has_the_sum_of_its_backends() {
        let text = text(100);
        assert_eq!(lint::lint(&text), Vec::<String>::new(), "{text}");
        let web = "namespace=\"shop\",service=\"web\",port=\"http\",protocol=\"TCP\",ip_family=\"IPv4\"";
        for line in [
            format!("sluice_service_packets_total{{{web},direction=\"to_backend\"}} 7"),
            format!("sluice_service_packets_total{{{web},direction=\"from_backend\"}} 2"),
            format!("sluice_service_bytes_total{{{web},direction=\"to_backend\"}} 70"),
            format!("sluice_service_connections_total{{{web}}} 4"),
            format!("sluice_backend_packets_total{{{web},backend=\"10.1.0.2:80\",direction=\"to_backend\"}} 4"),
            format!("sluice_backend_connections_total{{{web},backend=\"10.1.0.1:80\"}} 2"),
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line}: not in\n{text}");
        }
        // A backend beyond the counters has no rows, rather than zeros.
        assert!(!text.contains("10.1.0.3:53"), "{text}");
    }

    #[test]
    fn the_number_of_rows_is_bounded() {
        let text = text(2);
        assert_eq!(text.matches("sluice_service_packets_total{").count(), 2, "{text}");
        assert!(text.contains("sluice_metric_rows_left_out{family=\"sluice_service_packets_total\"} 2\n"), "{text}");
    }
}
