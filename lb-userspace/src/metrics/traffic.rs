//! Families by Service and by backend: packets, bytes and connections.

use std::path::Path;

use lb_common::abi::StatsValue;

use super::metric_family::{Families, Row, total};
use crate::maps::kernel::KernelTables;
use crate::maps::{FirstRows, TableFailure};
use crate::model::desired::{Family, PortId};

/// Labels that tell a row from all others.
type Labels = Vec<(&'static str, String)>;

/// Adds the families of what is pinned at `pin_path`.
pub(super) fn families(pin_path: &Path, families: &mut Families) -> Result<(), TableFailure> {
    add(&KernelTables::open(pin_path)?.first_rows(families.limit())?, families);
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
fn add(rows: &FirstRows, families: &mut Families) {
    group(&SERVICES, rows.all_services, families, |row| {
        let (name, family, counted) = &rows.services[row];
        (owner(name, *family), *counted)
    });
    group(&BACKENDS, rows.all_backends, families, |row| {
        let (name, family, addr, counted) = &rows.backends[row];
        let mut labels = owner(name, *family);
        labels.push(("backend", addr.to_string()));
        (labels, *counted)
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

    fn text(limit: usize) -> String {
        let counted = |packets, backends| StatsValue {
            packets,
            bytes: 10 * packets,
            reply_packets: backends,
            connections: 2 * backends,
            ..Default::default()
        };
        let backend =
            |addr: &str, packets| ("shop/web:http/TCP".into(), Family::V4, addr.parse().unwrap(), counted(packets, 1));
        let rows = FirstRows {
            services: vec![
                ("shop/dns:/UDP".into(), Family::V4, counted(0, 0)),
                ("shop/web:http/TCP".into(), Family::V4, counted(7, 2)),
            ],
            all_services: 2,
            backends: vec![backend("10.1.0.1:80", 3), backend("10.1.0.2:80", 4)],
            all_backends: 2,
        };
        let mut families = Families::new(limit);
        add(&rows, &mut families);
        encode(&families.finish()).unwrap()
    }

    #[test]
    fn each_row_has_its_labels_and_both_directions() {
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
    }

    #[test]
    fn the_number_of_rows_is_bounded() {
        let text = text(2);
        assert_eq!(text.matches("sluice_service_packets_total{").count(), 2, "{text}");
        assert!(text.contains("sluice_metric_rows_left_out{family=\"sluice_service_packets_total\"} 2\n"), "{text}");
    }
}
