//! What the kernel holds for one service port, and how a desired one translates into map values.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use lb_common::abi::{FrontendValue, SetRef, backend_flag, blocks, frontend_flag, frontend_kind};

use super::address::Hold;
use super::op::Vip;
use crate::model::algorithm::Algorithm;
use crate::model::desired::{Backend, DesiredPort, Family, Frontend, FrontendKind, Protocol, SetKind, WhenEmpty};

/// A backend of a port, as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortBackend {
    pub(crate) addr: SocketAddr,
    pub(crate) id: u32,
    pub(crate) generation: u32,
    pub(crate) flags: u16,
    pub(crate) weight: u16,
}

/// A backend set, as written. An empty set has no slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PortSet {
    pub(crate) base: u32,
    pub(crate) ids: Box<[u32]>,
    /// Places of its table; 0: it has none.
    pub(crate) places: u32,
}

impl PortSet {
    pub(crate) fn reference(&self) -> SetRef {
        SetRef { base: self.base, count: u32::try_from(self.ids.len()).unwrap_or(u32::MAX) }
    }

    /// Blocks of its table.
    pub(crate) fn blocks(&self) -> u32 {
        blocks(self.places, self.reference().count)
    }
}

/// One service port and family, as the kernel has it.
#[derive(Clone, Debug)]
pub(crate) struct PortState {
    pub(crate) port_name: Box<str>,
    pub(crate) protocol: Protocol,
    pub(crate) family: Family,
    pub(crate) service: u32,
    /// Sorted by address.
    pub(crate) backends: Vec<PortBackend>,
    /// Cluster and local set, as far as a frontend uses them.
    pub(crate) sets: [PortSet; 2],
    /// Frontends, sorted, without the entries of addresses.
    pub(crate) frontends: Vec<Vip>,
    /// Those of its addresses that the maps have entries for, sorted.
    pub(crate) addresses: Vec<(IpAddr, Hold)>,
    /// Allowed prefixes, sorted.
    pub(crate) ranges: Vec<IpNet>,
    /// Slot ranges and backends that an interrupted writer left behind; freed with the first commit.
    pub(crate) stray_slots: Vec<SetRef>,
    pub(crate) stray_backends: Vec<u32>,
}

impl PortState {
    /// A port of which nothing is written yet.
    pub(crate) fn new(port_name: &str, protocol: Protocol, family: Family, service: u32) -> Self {
        Self {
            port_name: port_name.into(),
            protocol,
            family,
            service,
            backends: Vec::new(),
            sets: [PortSet::default(), PortSet::default()],
            frontends: Vec::new(),
            addresses: Vec::new(),
            ranges: Vec::new(),
            stray_slots: Vec::new(),
            stray_backends: Vec::new(),
        }
    }

    /// Whether this is the state of that desired port.
    pub(crate) fn is(&self, want: &DesiredPort) -> bool {
        *self.port_name == *want.id.port_name && self.protocol == want.id.protocol && self.family == want.id.family
    }
}

pub(crate) const fn set_index(kind: SetKind) -> usize {
    match kind {
        SetKind::Cluster => 0,
        SetKind::Local => 1,
    }
}

/// Flags of a backend as the data path knows them.
pub(crate) fn backend_flags(backend: Backend) -> u16 {
    [
        (backend.local, backend_flag::LOCAL),
        (backend.terminating, backend_flag::TERMINATING),
        (backend.in_cluster, backend_flag::IN_CLUSTER),
        (backend.in_local, backend_flag::IN_LOCAL),
        (backend.host_network, backend_flag::HOST_NETWORK),
    ]
    .into_iter()
    .filter_map(|(is, bit)| is.then_some(bit))
    .fold(0, |all, bit| all | bit)
}

/// Whether some frontend of the port uses the set.
pub(crate) fn uses(want: &DesiredPort, kind: SetKind) -> bool {
    want.frontends.iter().any(|f| f.internal == kind || f.external == kind)
}

/// Members of a set, in the order of their address: those that new connections go to, all of them where all have weight 0.
pub(crate) fn members(backends: &[PortBackend], kind: SetKind) -> Vec<PortBackend> {
    let bit = match kind {
        SetKind::Cluster => backend_flag::IN_CLUSTER,
        SetKind::Local => backend_flag::IN_LOCAL,
    };
    let all = backends.iter().filter(|b| b.flags & bit != 0);
    let weighted = all.clone().any(|b| b.weight > 0);
    all.filter(|b| !weighted || b.weight > 0).copied().collect()
}

/// Key of a desired frontend.
pub(crate) fn vip(want: &DesiredPort, frontend: &Frontend) -> Vip {
    Vip { addr: frontend.addr.ip(), port: frontend.addr.port(), proto: want.id.protocol.number() }
}

/// Value of a desired frontend, once its sets have their slots.
pub(crate) fn frontend_value(want: &DesiredPort, frontend: &Frontend, state: &PortState) -> FrontendValue {
    let set = |kind| state.sets[set_index(kind)].reference();
    let drops = |kind| want.when_empty(kind) == WhenEmpty::Drop;
    let (internal, external) = (frontend.internal, frontend.external);
    let flags = [
        (drops(internal), frontend_flag::INTERNAL_EMPTY_DROPS),
        (drops(external), frontend_flag::EXTERNAL_EMPTY_DROPS),
        (internal == SetKind::Local, frontend_flag::INTERNAL_LOCAL),
        (external == SetKind::Local, frontend_flag::EXTERNAL_LOCAL),
        (frontend.source_ranges && !want.source_ranges.is_empty(), frontend_flag::SOURCE_RANGES),
        (frontend.node_address, frontend_flag::NODE_ADDRESS),
    ];
    // Without room for both tables it cannot go by them.
    let has_table = |kind| set(kind).count == 0 || state.sets[set_index(kind)].places > 0;
    let (algorithm, schedule) = match want.algorithm {
        Algorithm::Maglev if has_table(internal) && has_table(external) => (Algorithm::Maglev, want.table_size.get()),
        Algorithm::Maglev => (Algorithm::Random, 0),
        other => (other, 0),
    };
    FrontendValue {
        internal: set(internal),
        external: set(external),
        service: state.service,
        affinity_secs: want.affinity_secs,
        flags: flags.into_iter().filter_map(|(is, bit)| is.then_some(bit)).fold(0, |all, bit| all | bit),
        kind: match frontend.kind {
            FrontendKind::ClusterIp => frontend_kind::CLUSTER_IP,
            FrontendKind::NodePort => frontend_kind::NODE_PORT,
            FrontendKind::LoadBalancer => frontend_kind::LOAD_BALANCER,
            FrontendKind::ExternalIp => frontend_kind::EXTERNAL_IP,
        },
        algorithm: algorithm.number(),
        schedule,
        ..FrontendValue::default()
    }
}
