//! The only writers and readers of the Service maps: one seam, with a body in the kernel and one in memory.
//!
//! [`Tables`] carries out the operations of [`crate::plan`] and reads back what is there. [`kernel`] is the pinned maps;
//! `memory` and `faulty` are for tests. [`dump`] is the one text form of what tables hold.

mod address;
pub mod batch;
pub mod dump;
mod family;
#[cfg(test)]
pub mod faulty;
pub mod flows;
pub mod kernel;
#[cfg(test)]
pub mod memory;
pub mod observe;
pub mod sockets;
pub mod sweep;
pub mod traffic;

use std::net::IpAddr;
use std::path::PathBuf;

use aya::maps::MapError;
use ipnet::IpNet;
use lb_common::abi::tables;

use crate::model::desired::Family;
use crate::plan::{Existing, Limits, Op};

/// Why a map could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TableFailure {
    /// The pin is missing or of another type.
    #[error("cannot open pinned map {path} (is the agent of this pin path running, or has it been?)")]
    Open {
        /// The pin.
        path: PathBuf,
        /// Cause.
        source: MapError,
    },
    /// The map holds no more.
    #[error("map {map} is full")]
    Full {
        /// Its name.
        map: &'static str,
    },
    /// A write failed.
    #[error("cannot write map {map}")]
    Write {
        /// Its name.
        map: &'static str,
        /// Cause.
        source: MapError,
    },
    /// A read failed.
    #[error("cannot read map {map}")]
    Read {
        /// Its name.
        map: &'static str,
        /// Cause.
        source: MapError,
    },
    /// A batch system call failed.
    #[error("cannot read map {map} in a batch")]
    Batch {
        /// Its name.
        map: &'static str,
        /// Cause.
        source: std::io::Error,
    },
    /// The pins belong to another version.
    #[error("the pinned maps have ABI version {found}, this program has {ours}: use the version that made them")]
    ForeignAbi {
        /// Version found.
        found: u32,
        /// Version of this program.
        ours: u32,
    },
    /// An address of the wrong family reached a table; a defect of the planner.
    #[error("{addr} is of the wrong family for map {map}")]
    WrongFamily {
        /// The address.
        addr: IpAddr,
        /// The map.
        map: &'static str,
    },
}

impl TableFailure {
    /// The setting to raise when it is a matter of room.
    pub fn setting(&self) -> Option<&'static str> {
        let Self::Full { map } = self else { return None };
        tables::of_map(map)?.setting()
    }
}

/// Settings of the data path for one family; the range of known `ClusterIP`s comes from the planner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FamilySettings {
    /// Bits of [`lb_common::abi::config_flag`].
    pub flags: u32,
    /// The node's own address.
    pub node: Option<IpAddr>,
    /// Prefixes of in-cluster clients; the first four count.
    pub cluster: Vec<IpNet>,
    /// Prefixes of which unallocated addresses are dropped; the first two count.
    pub services: Vec<IpNet>,
    /// First and last port of the source NAT range.
    pub snat_ports: (u16, u16),
    /// Cookie of the node's network namespace; 0: it is the machine's initial one.
    pub host_netns: u64,
}

/// The maps of one node. One writer.
pub trait Tables {
    /// Carries out one operation.
    fn apply(&mut self, op: &Op) -> Result<(), TableFailure>;
    /// Reads everything back.
    fn read(&self) -> Result<Existing, TableFailure>;
    /// How much the maps hold.
    fn limits(&self) -> Limits;
    /// Writes the settings of one family.
    fn configure(&mut self, family: Family, settings: &FamilySettings) -> Result<(), TableFailure>;
}
