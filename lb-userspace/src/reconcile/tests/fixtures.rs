//! Services to write.

use std::net::{IpAddr, SocketAddr};

use crate::model::algorithm::{Algorithm, TableSize};
use crate::model::desired::{
    Backend, Change, DesiredPort, DesiredService, Frontend, FrontendKind, PortId, Protocol, ServiceName, SetKind,
    WhenEmpty,
};
use crate::model::ejection::Ejection;
use crate::model::family::{Family, PerFamily};
use crate::plan::Limits;

const fn both(number: u32) -> PerFamily<u32> {
    PerFamily { v4: number, v6: number }
}

/// More than any test needs.
pub(super) const ROOMY: Limits = Limits { services: 1000, backends: both(1000), slots: both(2000), blocks: both(2000) };

pub(super) fn service_name(n: u8) -> ServiceName {
    ServiceName { namespace: "default".into(), name: format!("svc{n}") }
}

pub(super) fn backend(bits: u8) -> Backend {
    Backend {
        local: bits & 1 != 0,
        host_network: false,
        terminating: bits & 2 != 0,
        in_cluster: bits & 4 != 0,
        in_local: bits & 1 != 0 && bits & 8 != 0,
        weight: 1,
    }
}

/// A port of service `n` with its `ClusterIP` and a node port, and endpoints `10.1.0.x`.
pub(super) fn port(n: u8, port: u16, endpoints: &[(u8, u8)]) -> DesiredPort {
    let frontend = |addr: IpAddr, port, kind, external| Frontend {
        addr: SocketAddr::new(addr, port),
        kind,
        internal: SetKind::Cluster,
        external,
        source_ranges: kind == FrontendKind::LoadBalancer,
        node_address: false,
    };
    let cluster_ip = IpAddr::from([10, 96, 0, n]);
    let node = IpAddr::from([192, 0, 2, 1]);
    DesiredPort {
        id: PortId {
            service: service_name(n),
            port_name: format!("p{port}"),
            protocol: Protocol::Tcp,
            family: Family::V4,
        },
        frontends: vec![
            frontend(cluster_ip, port, FrontendKind::ClusterIp, SetKind::Cluster),
            frontend(node, 30000 + u16::from(n) * 10 + port % 10, FrontendKind::NodePort, SetKind::Local),
        ],
        backends: endpoints
            .iter()
            .map(|(host, bits)| (SocketAddr::new(IpAddr::from([10, 1, 0, *host]), 8080), backend(*bits)))
            .collect(),
        affinity_secs: 0,
        algorithm: Algorithm::Random,
        table_size: TableSize::default(),
        ejection: Ejection::Off,
        cluster_empty: WhenEmpty::Refuse,
        local_empty: WhenEmpty::Drop,
        source_ranges: Vec::new(),
    }
}

pub(super) fn upsert(n: u8, ports: Vec<DesiredPort>) -> Change {
    Change::Upsert(DesiredService { name: service_name(n), ports, health: None })
}
