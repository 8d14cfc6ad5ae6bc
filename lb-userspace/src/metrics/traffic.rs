//! Families by Service and by backend: packets, bytes and connections.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;

use lb_common::abi::StatsValue;

use super::metric_family::{Families, total};
use crate::maps::TableFailure;
use crate::maps::causes::Cause;
use crate::maps::kernel::KernelTables;
use crate::maps::traffic::Traffic;
use crate::model::desired::{Family, PortId};
use crate::plan::Existing;

/// Labels that tell a row from all others.
type Labels = Vec<(&'static str, String)>;

/// Adds the families of what is pinned at `pin_path`: at most `room` rows.
pub(super) fn families(pin_path: &Path, room: usize, families: &mut Families) -> Result<(), TableFailure> {
    let tables = KernelTables::open(pin_path)?;
    let existing = tables.read_owners()?;
    add(&existing, &tables.traffic(&existing)?, &tables.causes()?, room, families);
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

/// What one service port or backend has counted.
struct Counted<'a> {
    name: &'a str,
    family: Family,
    /// A backend's address.
    backend: Option<SocketAddr>,
    counts: StatsValue,
}

impl Counted<'_> {
    fn labels(&self) -> Labels {
        let mut labels = owner(self.name, self.family);
        labels.extend(self.backend.map(|addr| ("backend", addr.to_string())));
        labels
    }

    const fn is_idle(&self) -> bool {
        self.counts.is_empty()
    }
}

/// Rows that are zero are not made, and of the others those of the busiest, within `room`: what fails first, then service
/// ports, then backends. A node may have a hundred thousand of these.
fn add(existing: &Existing, traffic: &Traffic, causes: &[Cause], room: usize, families: &mut Families) {
    let names: HashMap<u32, (&str, Family)> =
        existing.names.iter().map(|(id, family, name)| (*id, (name.as_str(), *family))).collect();
    let mut room = room - failures(&names, causes, room / 4, families);
    let mut services: HashMap<(&str, Family), StatsValue> = HashMap::new();
    for (id, family, name) in &existing.names {
        let counts = services.entry((name.as_str(), *family)).or_default();
        *counts = counts.plus(&traffic.service(*id));
    }
    let services = services.into_iter();
    let services = services.map(|((name, family), counts)| Counted { name, family, backend: None, counts }).collect();
    room -= group(&SERVICES, services, room / 2, families);
    let backends = existing.backends.iter().filter_map(|(family, id, entry)| {
        let counts = traffic.backend(*family, *id)?;
        let (name, _) = names.get(&entry.service)?;
        Some(Counted { name, family: *family, backend: Some(entry.addr), counts })
    });
    group(&BACKENDS, backends.collect(), room, families);
}

/// Why clients of service ports got nothing. How many rows that made.
fn failures(names: &HashMap<u32, (&str, Family)>, causes: &[Cause], room: usize, families: &mut Families) -> usize {
    let mut rows: Vec<(&str, Family, &Cause)> = causes
        .iter()
        .filter_map(|cause| names.get(&cause.service).map(|(name, family)| (*name, *family, cause)))
        .collect();
    rows.sort_unstable_by_key(|(name, family, cause)| (Reverse(cause.count), *name, *family, cause.counter));
    let left_out = rows.len().saturating_sub(room);
    rows.truncate(room);
    rows.sort_unstable_by_key(|(name, family, cause)| (*name, *family, cause.counter));
    let made = rows.len();
    families.counters(
        FAILURES.0,
        FAILURES.1,
        rows.into_iter().map(|(name, family, cause)| {
            let mut labels = owner(name, family);
            let name = cause.counter.name();
            let reason = ["drop_", "reject_"].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
            labels.push(("reason", reason.to_owned()));
            (labels, total(cause.count))
        }),
    );
    families.leave_out(FAILURES.0, left_out);
    made
}

const FAILURES: (&str, &str) = (
    "sluice_service_failures_total",
    "Packets and calls of sockets for a service port that came to nothing, by reason",
);

/// Names of one group's families, with their help: packets, bytes, connections, unanswered, refused.
type Group = [(&'static str, &'static str); 5];

/// Rows of one service port or backend.
const ROWS: usize = 7;

const SERVICES: Group = [
    ("sluice_service_packets_total", "Packets translated for a service port, towards its backends and from them"),
    ("sluice_service_bytes_total", "Bytes of these packets, link headers not counted"),
    ("sluice_service_connections_total", "New connections (of UDP: flows) to a service port"),
    ("sluice_service_unanswered", "Connections to a service port that no backend has answered, or not yet"),
    ("sluice_service_refused_total", "Connections and datagrams that a backend of a service port has refused"),
];
const BACKENDS: Group = [
    ("sluice_backend_packets_total", "Packets translated for a backend, towards it and from it"),
    ("sluice_backend_bytes_total", "Bytes of these packets, link headers not counted"),
    ("sluice_backend_connections_total", "New connections (of UDP: flows) to a backend"),
    ("sluice_backend_unanswered", "Connections that the backend has not answered, or not yet"),
    ("sluice_backend_refused_total", "Connections and datagrams that the backend has refused"),
];

/// How much it has done, the most first; then by name.
fn busy<'a>(counted: &Counted<'a>) -> (Reverse<u64>, &'a str, Family, Option<SocketAddr>) {
    let StatsValue { connections, packets, reply_packets, .. } = counted.counts;
    let done = connections.saturating_add(packets).saturating_add(reply_packets);
    (Reverse(done), counted.name, counted.family, counted.backend)
}

/// Adds a group's families: of those that are not idle the busiest, in the order of their names. How many rows that made.
fn group(group: &Group, mut all: Vec<Counted<'_>>, room: usize, families: &mut Families) -> usize {
    all.retain(|counted| !counted.is_idle());
    all.sort_unstable_by(|a, b| busy(a).cmp(&busy(b)));
    let left_out = all.len().saturating_sub(room / ROWS);
    all.truncate(room / ROWS);
    let name = |counted: &Counted<'_>| (counted.name.to_owned(), counted.family, counted.backend);
    all.sort_unstable_by_key(name);
    let [packets, bytes, connections, unanswered, refused] = group;
    // One row for each direction.
    let both_ways = |values: fn(&StatsValue) -> [u64; 2]| {
        all.iter().flat_map(move |counted| {
            ["to_backend", "from_backend"].into_iter().zip(values(&counted.counts)).map(move |(direction, value)| {
                let mut labels = counted.labels();
                labels.push(("direction", direction.to_owned()));
                (labels, total(value))
            })
        })
    };
    let once = |value: fn(&StatsValue) -> u64| {
        all.iter().map(move |counted| (counted.labels(), total(value(&counted.counts))))
    };
    families.counters(packets.0, packets.1, both_ways(|counts| [counts.packets, counts.reply_packets]));
    families.counters(bytes.0, bytes.1, both_ways(|counts| [counts.bytes, counts.reply_bytes]));
    families.counters(connections.0, connections.1, once(|counts| counts.connections));
    families.gauges(unanswered.0, unanswered.1, once(StatsValue::waiting));
    families.counters(refused.0, refused.1, once(|counts| counts.refused));
    for (family, _) in group {
        families.leave_out(family, left_out);
    }
    all.len() * ROWS
}

#[cfg(test)]
mod tests {
    use lb_common::abi::Counter;

    use super::*;
    use crate::metrics::{encode, lint};
    use crate::plan::BackendEntry;

    fn backend(id: u32, addr: &str, service: u32) -> (Family, u32, BackendEntry) {
        (Family::V4, id, BackendEntry { addr: addr.parse().unwrap(), flags: 0, weight: 1, generation: id, service })
    }

    fn text(room: usize) -> String {
        let existing = Existing {
            names: vec![
                (7, Family::V4, "shop/web:http/TCP".into()),
                (8, Family::V4, "shop/dns:/UDP".into()),
                (9, Family::V4, "shop/idle:/TCP".into()),
            ],
            backends: vec![backend(1, "10.1.0.1:80", 7), backend(2, "10.1.0.2:80", 7), backend(9, "10.1.0.3:53", 8)],
            ..Existing::default()
        };
        let mut traffic = Traffic::default();
        let counted = |packets| StatsValue {
            packets,
            bytes: 10 * packets,
            reply_packets: 1,
            connections: 2,
            unanswered: 1,
            refused: packets,
            ..Default::default()
        };
        traffic.add(Family::V4, 1, 7, &counted(3));
        traffic.add(Family::V4, 2, 7, &counted(4));
        let cause = |service, counter, count| Cause { service, counter, count, last_ns: 5 };
        let causes = [
            cause(7, Counter::DropSourceRange, 5),
            cause(9, Counter::RejectNoEndpoints, 12),
            cause(77, Counter::RejectNoEndpoints, 1),
        ];
        let mut families = Families::new(100);
        add(&existing, &traffic, &causes, room, &mut families);
        encode(&families.finish()).unwrap()
    }

    #[test]
    fn a_service_port_has_the_sum_of_its_backends_and_why_it_failed() {
        let text = text(100);
        assert_eq!(lint::lint(&text), Vec::<String>::new(), "{text}");
        let web = "namespace=\"shop\",service=\"web\",port=\"http\",protocol=\"TCP\",ip_family=\"IPv4\"";
        let idle = "namespace=\"shop\",service=\"idle\",port=\"\",protocol=\"TCP\",ip_family=\"IPv4\"";
        for line in [
            format!("sluice_service_packets_total{{{web},direction=\"to_backend\"}} 7"),
            format!("sluice_service_packets_total{{{web},direction=\"from_backend\"}} 2"),
            format!("sluice_service_bytes_total{{{web},direction=\"to_backend\"}} 70"),
            format!("sluice_service_connections_total{{{web}}} 4"),
            format!("sluice_service_unanswered{{{web}}} 2"),
            format!("sluice_service_refused_total{{{web}}} 7"),
            format!("sluice_service_failures_total{{{web},reason=\"source_range\"}} 5"),
            format!("sluice_service_failures_total{{{idle},reason=\"no_endpoints\"}} 12"),
            format!("sluice_backend_packets_total{{{web},backend=\"10.1.0.2:80\",direction=\"to_backend\"}} 4"),
            format!("sluice_backend_connections_total{{{web},backend=\"10.1.0.1:80\"}} 2"),
            format!("sluice_backend_refused_total{{{web},backend=\"10.1.0.1:80\"}} 3"),
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line}: not in\n{text}");
        }
        // A backend beyond the counters has no rows, rather than zeros; neither has a Service without traffic.
        assert!(!text.contains("10.1.0.3:53") && !text.contains("service=\"dns\""), "{text}");
    }

    #[test]
    fn the_busiest_are_shown_where_there_is_no_room_for_all() {
        let text = text(20);
        // Of the five for failures two are used; of the others half are for service ports, and the rest for one backend.
        assert_eq!(text.matches("sluice_service_packets_total{").count(), 2, "{text}");
        assert!(text.contains("sluice_backend_packets_total{") && text.contains("10.1.0.2:80"), "{text}");
        assert!(!text.contains("10.1.0.1:80"), "{text}");
        assert!(text.contains("sluice_metric_rows_left_out{family=\"sluice_backend_packets_total\"} 1\n"), "{text}");
    }

    #[test]
    fn ten_thousand_services_make_no_more_rows_than_there_is_room() {
        let mut existing = Existing::default();
        let (mut traffic, mut causes) = (Traffic::default(), Vec::new());
        for id in 1..=10_000 {
            existing.names.push((id, Family::V4, format!("n{}/s{id}:http/TCP", id % 50)));
            for n in 0..3 {
                let backend_id = 3 * id + n;
                let addr = format!("10.{}.{}.{n}:80", id / 250, id % 250);
                existing.backends.push(backend(backend_id, &addr, id));
                let counts = StatsValue { packets: u64::from(backend_id), connections: 1, ..Default::default() };
                traffic.add(Family::V4, backend_id, id, &counts);
            }
            causes.push(Cause { service: id, counter: Counter::DropNoRoute, count: u64::from(id), last_ns: 1 });
        }
        let mut families = Families::new(1000);
        add(&existing, &traffic, &causes, 800, &mut families);
        let done = families.finish();
        let rows: usize = done.iter().map(|family| family.get_metric().len()).sum();
        // What was left out is said in a row for each family.
        assert!((700..=811).contains(&rows), "{rows}");
        let text = encode(&done).unwrap();
        assert!(text.contains("service=\"s10000\"") && !text.contains("service=\"s1\""), "the busiest");
    }
}
