//! Why a map could not be read or written.

use std::net::IpAddr;
use std::path::PathBuf;

use aya::maps::MapError;
use lb_common::abi::tables;

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
    /// An array could not be mapped.
    #[error("cannot map the memory of map {map}")]
    Mapping {
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
