//! Keeps ids and what is written. Changes become transactions in `stage`, what they leave behind goes in `take_out`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use lb_common::abi::FrontendValue;
use lb_common::abi::backend_flag::{IN_CLUSTER, IN_LOCAL};

use super::address::Hold;
use super::ids::IdPool;
use super::op::{Limits, Vip};
use super::port::{PortBackend, PortState};
use super::removal::Removals;
use super::slots::SlotPool;
use crate::model::desired::{Protocol, ServiceName};
use crate::model::family::{Family, PerFamily};

/// A backend in the maps that may get new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedBackend {
    /// Its address and port.
    pub addr: SocketAddr,
    /// Address family.
    pub family: Family,
    /// Id of its service port.
    pub service: u32,
    /// Its id.
    pub id: u32,
    /// Its generation.
    pub generation: u32,
}

fn placed(port: &PortState) -> impl Iterator<Item = PlacedBackend> {
    let PortState { family, service, backends, .. } = port;
    let members = backends.iter().filter(|b| b.weight > 0 && b.flags & (IN_CLUSTER | IN_LOCAL) != 0);
    members.map(|&PortBackend { addr, id, generation, .. }| PlacedBackend {
        addr,
        family: *family,
        service: *service,
        id,
        generation,
    })
}

/// The planner. See the module's chart.
#[derive(Debug)]
pub struct Planner {
    pub(super) services: HashMap<ServiceName, Vec<PortState>>,
    pub(super) written: HashMap<Vip, FrontendValue>,
    /// Who has each address that the maps have an entry for.
    pub(super) holders: BTreeMap<IpAddr, Vec<Hold>>,
    pub(super) vip_range: PerFamily<Option<(IpAddr, IpAddr)>>,
    pub(super) service_ids: IdPool,
    pub(super) backend_ids: PerFamily<IdPool>,
    pub(super) slots: PerFamily<SlotPool>,
    pub(super) slot_limits: PerFamily<u32>,
    /// Blocks of tables, those included that are about to go.
    pub(super) blocks_in_use: PerFamily<u32>,
    pub(super) block_limits: PerFamily<u32>,
    pub(super) next_generation: u32,
    pub(super) reserved: u32,
    pub(super) removals: Removals,
    /// Services found in the maps that no source has named yet.
    pub(super) unclaimed: BTreeSet<ServiceName>,
    pub(super) freed_room: bool,
}

impl Planner {
    pub(super) fn empty(limits: &Limits) -> Self {
        let none = BTreeSet::new();
        let ranges = BTreeSet::new();
        Self {
            services: HashMap::new(),
            written: HashMap::new(),
            holders: BTreeMap::new(),
            vip_range: PerFamily::default(),
            service_ids: IdPool::new(limits.services.saturating_add(1), &none),
            backend_ids: PerFamily::from_fn(|family| IdPool::new(limits.backends[family], &none)),
            slots: PerFamily::from_fn(|family| SlotPool::new(limits.slots[family], &ranges)),
            slot_limits: limits.slots,
            blocks_in_use: PerFamily::default(),
            block_limits: limits.blocks,
            next_generation: 1,
            reserved: 1,
            removals: Removals::default(),
            unclaimed: BTreeSet::new(),
            freed_room: false,
        }
    }

    /// A new batch begins: ids and slots that the last one freed may be used again.
    pub fn begin(&mut self) {
        self.service_ids.release();
        self.backend_ids.each_mut().into_iter().for_each(IdPool::release);
        self.slots.each_mut().into_iter().for_each(SlotPool::release);
    }

    /// Whether room has appeared since the last call: the moment to try again what did not fit.
    pub fn take_freed_room(&mut self) -> bool {
        std::mem::take(&mut self.freed_room)
    }

    /// Number of Services with something written.
    pub fn services(&self) -> usize {
        self.services.len()
    }

    /// Slots in use, per family.
    pub fn slots_in_use(&self) -> PerFamily<usize> {
        PerFamily::from_fn(|family| {
            let limit = usize::try_from(self.slot_limits[family]).unwrap_or(usize::MAX);
            limit.saturating_sub(self.slots[family].free())
        })
    }

    /// A Service's backends that have new connections, TCP's ports alone.
    pub fn tcp_backends(&self, name: &ServiceName) -> impl Iterator<Item = PlacedBackend> {
        self.services.get(name).into_iter().flatten().filter(|port| port.protocol == Protocol::Tcp).flat_map(placed)
    }

    /// The Service that has this backend, and its place.
    pub fn owner(&self, family: Family, id: u32) -> Option<(&ServiceName, PlacedBackend)> {
        self.services.iter().find_map(|(name, ports)| {
            let of_family = ports.iter().filter(|port| port.family == family);
            Some((name, of_family.flat_map(placed).find(|backend| backend.id == id)?))
        })
    }

    /// Whether an address and port is a frontend's.
    pub fn is_frontend(&self, addr: SocketAddr, protocol: Protocol) -> bool {
        let vip = Vip { addr: addr.ip(), port: addr.port(), proto: protocol.number() };
        self.written.contains_key(&vip)
    }

    /// Whether a Service was found in the maps and no change has named it since.
    pub fn is_unclaimed(&self, name: &ServiceName) -> bool {
        self.unclaimed.contains(name)
    }

    /// Services found in the maps that no change has named since: to be removed once the source has listed everything.
    pub fn unclaimed(&self) -> Vec<ServiceName> {
        self.unclaimed.iter().cloned().collect()
    }
}
