//! The operations on maps, in terms that no map type leaks into: what `plan` emits and `maps` carries out.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use lb_common::abi::{FrontendValue, SetRef};

use crate::model::family::{Family, PerFamily};

/// Key of a frontend. Port 0 and protocol 0: the address's own entry, which says whether it is a `ClusterIP` and answers
/// ICMP echo requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vip {
    /// Address.
    pub addr: IpAddr,
    /// Port, host byte order.
    pub port: u16,
    /// IP protocol number.
    pub proto: u8,
}

impl Vip {
    /// The entry of an address itself.
    pub const fn of_address(addr: IpAddr) -> Self {
        Self { addr, port: 0, proto: 0 }
    }

    /// The address family.
    pub const fn family(&self) -> Family {
        Family::of(&self.addr)
    }
}

/// What a backend id stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendEntry {
    /// The endpoint.
    pub addr: SocketAddr,
    /// Bits of [`lb_common::abi::backend_flag`].
    pub flags: u16,
    /// Share of new connections against the others'.
    pub weight: u16,
    /// Never 0.
    pub generation: u32,
    /// The owning service id.
    pub service: u32,
}

/// One write to one map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Generations below this may be handed out from now on; a restart continues here.
    ReserveGenerations(u32),
    /// Lowest and highest known `ClusterIP`; `None`: no `ClusterIP` is known.
    SetVipRange(Family, Option<(IpAddr, IpAddr)>),
    /// Name a service id.
    PutName {
        /// Service id.
        service: u32,
        /// Address family of the service port.
        family: Family,
        /// `namespace/name:port/PROTOCOL`.
        name: String,
    },
    /// Write a backend.
    PutBackend(Family, u32, BackendEntry),
    /// Write one backend set.
    PutSlots {
        /// Address family.
        family: Family,
        /// First slot.
        base: u32,
        /// Backend ids.
        ids: Box<[u32]>,
    },
    /// Write the table of a backend set.
    PutTable {
        /// Address family.
        family: Family,
        /// The set's first slot.
        set: u32,
        /// The table.
        bytes: Box<[u8]>,
    },
    /// Allow clients of a prefix.
    PutRange(u32, IpNet),
    /// Write or replace a frontend.
    PutFrontend(Vip, FrontendValue),
    /// Remove a frontend.
    DeleteFrontend(Vip),
    /// Remove an allowed prefix.
    DeleteRange(u32, IpNet),
    /// Remove the table of a backend set, which has so many blocks.
    DeleteTable(Family, u32, u32),
    /// Free a backend.
    DeleteBackend(Family, u32),
    /// Free a service id.
    DeleteName(u32),
}

/// How much the maps hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Service ids.
    pub services: u32,
    /// Backends; index 0 is never used.
    pub backends: PerFamily<u32>,
    /// Slots.
    pub slots: PerFamily<u32>,
    /// Blocks of tables.
    pub blocks: PerFamily<u32>,
}

/// What the maps hold, as read back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Existing {
    /// Service id, family, name.
    pub names: Vec<(u32, Family, String)>,
    /// Backends in use.
    pub backends: Vec<(Family, u32, BackendEntry)>,
    /// Frontends.
    pub frontends: Vec<(Vip, FrontendValue)>,
    /// The backend sets that frontends lead to.
    pub sets: Vec<(Family, SetRef, Box<[u32]>)>,
    /// Tables: the set's first slot, and how many blocks there are.
    pub tables: Vec<(Family, u32, u32)>,
    /// Allowed prefixes by service id.
    pub ranges: Vec<(u32, IpNet)>,
    /// Lowest and highest known `ClusterIP`.
    pub vip_range: PerFamily<Option<(IpAddr, IpAddr)>>,
    /// See [`Op::ReserveGenerations`].
    pub next_generation: u32,
}
