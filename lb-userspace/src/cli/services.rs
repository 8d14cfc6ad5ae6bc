//! `sluice services`: every frontend, the Service port behind it and its backends.
//!
//! JSON: a list of `{service, port, protocol, family, id, affinity_secs, frontends: [{address, port, kind, internal,
//! external, flags}], source_ranges, traffic, backends: [{address, id, generation, flags, traffic}]}`; `internal` and
//! `external` are lists of backend ids for clients inside and outside of the cluster; `traffic` is `{connections,
//! packets, bytes, reply_packets, reply_bytes}`, and `null` for a backend that is not counted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use lb_common::abi::{SetRef, StatsValue, frontend_kind};
use serde::Serialize;

use super::output::{self, Format};
use crate::maps::kernel::KernelTables;
use crate::maps::traffic::Traffic;
use crate::maps::{Tables, dump};
use crate::model::desired::{Family, PortId};
use crate::plan::{BackendEntry, Existing};

/// One service port and family.
#[derive(Debug, Default, Serialize)]
struct ServiceRow {
    /// `namespace/name`.
    service: String,
    /// Name of the port; empty: unnamed.
    port: String,
    /// `TCP`, `UDP` or `SCTP`.
    protocol: String,
    /// `IPv4` or `IPv6`.
    family: &'static str,
    /// Service id.
    id: u32,
    /// Session affinity; 0: none.
    affinity_secs: u32,
    frontends: Vec<FrontendRow>,
    source_ranges: Vec<String>,
    /// Of the backends that are gone, too.
    traffic: TrafficRow,
    backends: Vec<BackendRow>,
}

#[derive(Debug, Serialize)]
struct FrontendRow {
    address: String,
    port: u16,
    kind: &'static str,
    /// Backend ids for clients inside the cluster.
    internal: Vec<u32>,
    /// Backend ids for clients outside of it.
    external: Vec<u32>,
    flags: Vec<&'static str>,
}

/// One backend.
#[derive(Debug, Serialize)]
pub(super) struct BackendRow {
    /// `address:port`.
    pub(super) address: String,
    /// Backend id.
    pub(super) id: u32,
    /// Generation of the id.
    pub(super) generation: u32,
    /// Its state.
    pub(super) flags: Vec<&'static str>,
    /// What was counted for it; none: its id is beyond the counters.
    pub(super) traffic: Option<TrafficRow>,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct TrafficRow {
    /// New connections; of UDP: flows.
    pub(super) connections: u64,
    /// Packets towards the backend.
    pub(super) packets: u64,
    /// Bytes of them, link headers not counted.
    pub(super) bytes: u64,
    /// Packets from the backend.
    pub(super) reply_packets: u64,
    /// Bytes of them.
    pub(super) reply_bytes: u64,
}

impl From<StatsValue> for TrafficRow {
    fn from(counted: StatsValue) -> Self {
        let StatsValue { packets, bytes, reply_packets, reply_bytes, connections, .. } = counted;
        Self { connections, packets, bytes, reply_packets, reply_bytes }
    }
}

impl BackendRow {
    pub(super) fn new(family: Family, id: u32, entry: &BackendEntry, traffic: &Traffic) -> Self {
        Self {
            address: entry.addr.to_string(),
            id,
            generation: entry.generation,
            flags: dump::backend_flags(entry.flags),
            traffic: traffic.backend(family, id).map(Into::into),
        }
    }
}

pub(super) fn print(pin_path: &Path, format: Format) -> anyhow::Result<()> {
    let tables = KernelTables::open(pin_path)?;
    let existing = tables.read()?;
    output::print(&rows(&existing, &tables.traffic(&existing)?), format, |rows| table(rows))
}

fn rows(existing: &Existing, traffic: &Traffic) -> Vec<ServiceRow> {
    let mut rows: BTreeMap<u32, ServiceRow> = BTreeMap::new();
    for (id, family, name) in &existing.names {
        let (service, port, protocol) = match PortId::parse(name, *family) {
            Ok(PortId { service, port_name, protocol, .. }) => (service.to_string(), port_name, protocol.name()),
            Err(_) => (name.clone(), String::new(), ""),
        };
        let row = ServiceRow {
            service,
            port,
            protocol: protocol.to_owned(),
            family: family.name(),
            id: *id,
            traffic: traffic.service(*id).into(),
            ..ServiceRow::default()
        };
        rows.insert(*id, row);
    }
    let sets: BTreeMap<(Family, u32, u32), &[u32]> =
        existing.sets.iter().map(|(family, set, ids)| ((*family, set.base, set.count), &**ids)).collect();
    let ids = |family: Family, set: SetRef| sets.get(&(family, set.base, set.count)).map_or(Vec::new(), |s| s.to_vec());
    let served = existing.frontends.iter().filter(|(_, value)| value.kind != frontend_kind::KNOWN_VIP);
    for (vip, value) in served {
        let Some(row) = rows.get_mut(&value.service) else { continue };
        row.affinity_secs = value.affinity_secs;
        row.frontends.push(FrontendRow {
            address: vip.addr.to_string(),
            port: vip.port,
            kind: dump::kind(value.kind),
            internal: ids(vip.family(), value.internal),
            external: ids(vip.family(), value.external),
            flags: dump::frontend_flags(value.flags),
        });
    }
    for (family, id, entry) in &existing.backends {
        let Some(row) = rows.get_mut(&entry.service) else { continue };
        row.backends.push(BackendRow::new(*family, *id, entry, traffic));
    }
    for (service, net) in &existing.ranges {
        if let Some(row) = rows.get_mut(service) {
            row.source_ranges.push(net.to_string());
        }
    }
    let mut rows: Vec<ServiceRow> = rows.into_values().collect();
    for row in &mut rows {
        row.frontends.sort_by(|a, b| (a.kind, &a.address, a.port).cmp(&(b.kind, &b.address, b.port)));
        row.backends.sort_by(|a, b| a.address.cmp(&b.address));
        row.source_ranges.sort();
    }
    rows.sort_by(|a, b| {
        let key = |r: &ServiceRow| (r.service.clone(), r.port.clone(), r.protocol.clone(), r.family);
        key(a).cmp(&key(b))
    });
    rows
}

fn table(rows: &[ServiceRow]) -> String {
    let mut table = output::table(&[
        "SERVICE",
        "PORT",
        "KIND",
        "FRONTEND",
        "INTERNAL",
        "EXTERNAL",
        "AFFINITY",
        "CONNECTIONS",
        "BYTES",
        "BYTES-BACK",
    ]);
    for row in rows {
        for (n, frontend) in row.frontends.iter().enumerate() {
            // The numbers are the service port's, not the frontend's: they appear once.
            let counted = |number: u64| if n == 0 { number.to_string() } else { String::new() };
            let address = frontend.address.parse().map(|ip| SocketAddr::new(ip, frontend.port).to_string());
            table.add_row([
                row.service.clone(),
                row.port.clone(),
                frontend.kind.to_owned(),
                format!("{}/{}", address.unwrap_or_default(), row.protocol),
                frontend.internal.len().to_string(),
                frontend.external.len().to_string(),
                if row.affinity_secs == 0 { "-".to_owned() } else { format!("{}s", row.affinity_secs) },
                counted(row.traffic.connections),
                counted(row.traffic.bytes),
                counted(row.traffic.reply_bytes),
            ]);
        }
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Vip;
    use lb_common::abi::FrontendValue;

    #[test]
    fn a_frontend_lists_the_ids_of_its_two_sets() {
        let set = SetRef { base: 4, count: 2 };
        let existing = Existing {
            names: vec![(7, Family::V4, "default/web:http/TCP".into())],
            frontends: vec![(
                Vip { addr: "10.96.0.1".parse().unwrap(), port: 80, proto: 6 },
                FrontendValue { internal: set, service: 7, kind: frontend_kind::CLUSTER_IP, ..Default::default() },
            )],
            sets: vec![(Family::V4, set, Box::new([3, 9]))],
            backends: vec![(
                Family::V4,
                3,
                BackendEntry { addr: "10.1.0.1:80".parse().unwrap(), flags: 5, generation: 2, service: 7 },
            )],
            ..Existing::default()
        };
        let mut traffic = Traffic::default();
        traffic.add(Family::V4, 3, 7, &StatsValue { connections: 5, reply_bytes: 1234, ..StatsValue::default() });
        let json = serde_json::to_value(rows(&existing, &traffic)).unwrap();
        assert_eq!(json[0]["service"], "default/web");
        assert_eq!(json[0]["port"], "http");
        assert_eq!(json[0]["frontends"][0]["internal"], serde_json::json!([3, 9]));
        assert_eq!(json[0]["frontends"][0]["external"], serde_json::json!([]));
        assert_eq!(json[0]["backends"][0]["flags"], serde_json::json!(["local", "in-cluster-set"]));
        assert_eq!(json[0]["traffic"]["connections"], 5);
        assert_eq!(json[0]["backends"][0]["traffic"]["reply_bytes"], 1234);
        let table = table(&rows(&existing, &traffic));
        assert!(table.contains("10.96.0.1:80/TCP") && table.contains("1234"), "{table}");
    }
}
