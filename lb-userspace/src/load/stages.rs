//! The two stages of the kernel programs: which program sees a hook's packets, and which one the rare ones among them.
//!
//! A first stage tail-calls its second through a table of programs, which is pinned: it outlives the agent, and a
//! successor exchanges the programs in it in place. They are in a second table, too, for a successor with other maps.

use aya::Ebpf;
use aya::maps::{MapError, ProgramArray};
use aya::programs::ProgramError;
use lb_common::abi::{map_name, tc_rest, xdp_rest};

use crate::faults;

/// A second stage, and where its first stages find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondStage {
    /// The program.
    pub program: &'static str,
    /// The table.
    pub table: &'static str,
    /// Its index there.
    pub index: u32,
    /// It is for IPv6.
    pub v6: bool,
}

impl SecondStage {
    /// The table in which a successor's programs find it.
    pub fn own(&self) -> &'static str {
        match self.table {
            map_name::XDP_REST => map_name::XDP_OWN,
            map_name::XDP_LINEAR_REST => map_name::XDP_LINEAR_OWN,
            _ => map_name::TC_OWN,
        }
    }
}

/// All of them.
pub fn all() -> impl Iterator<Item = SecondStage> {
    [INGRESS, EGRESS, TUNNEL_INGRESS, TUNNEL_EGRESS, XDP, XDP_LINEAR].into_iter().flatten()
}

const fn tc(v4: &'static str, v6: &'static str, index: u32) -> [SecondStage; 2] {
    let table = map_name::TC_REST;
    [
        SecondStage { program: v4, table, index, v6: false },
        SecondStage { program: v6, table, index: index + tc_rest::V6, v6: true },
    ]
}

const fn xdp(v4: &'static str, v6: &'static str, table: &'static str) -> [SecondStage; 2] {
    [
        SecondStage { program: v4, table, index: xdp_rest::V4, v6: false },
        SecondStage { program: v6, table, index: xdp_rest::V6, v6: true },
    ]
}

const INGRESS: [SecondStage; 2] = tc("ingress_rest4", "ingress_rest6", tc_rest::INGRESS);
const EGRESS: [SecondStage; 2] = tc("egress_rest4", "egress_rest6", tc_rest::EGRESS);
const TUNNEL_INGRESS: [SecondStage; 2] = tc("tunnel_in_rest4", "tunnel_in_rest6", tc_rest::TUNNEL_INGRESS);
const TUNNEL_EGRESS: [SecondStage; 2] = tc("tunnel_out_rest4", "tunnel_out_rest6", tc_rest::TUNNEL_EGRESS);
const XDP: [SecondStage; 2] = xdp("xdp_rest4", "xdp_rest6", map_name::XDP_REST);
const XDP_LINEAR: [SecondStage; 2] = xdp("xdp_rest4_linear", "xdp_rest6_linear", map_name::XDP_LINEAR_REST);

/// The second stages of a program, one for each family, if it has some.
pub fn second_stages(first: &str) -> &'static [SecondStage] {
    match first {
        "pod_ingress" | "uplink_ingress" => &INGRESS,
        "pod_egress" | "uplink_egress" => &EGRESS,
        "tunnel_ingress" => &TUNNEL_INGRESS,
        "tunnel_egress" => &TUNNEL_EGRESS,
        "uplink_xdp" => &XDP,
        "uplink_xdp_linear" => &XDP_LINEAR,
        _ => &[],
    }
}

/// Why a second stage could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The object has no such map or program.
    #[error("the BPF object has no {name}")]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// The program is not loaded.
    #[error("program {name} is not loaded")]
    Program {
        /// Its name.
        name: &'static str,
        /// Cause.
        source: ProgramError,
    },
    /// The table of programs could not be written.
    #[error("cannot enter a program into {table}")]
    Table {
        /// The table.
        table: &'static str,
        /// Cause.
        source: MapError,
    },
}

/// Enters a loaded second stage where its first stages find it.
pub fn enter(object: &mut Ebpf, stage: SecondStage) -> Result<(), StageError> {
    enter_into(object, stage, stage.table)
}

/// Enters a loaded second stage into a table.
pub(super) fn enter_into(object: &mut Ebpf, stage: SecondStage, table: &'static str) -> Result<(), StageError> {
    let SecondStage { program: name, index, .. } = stage;
    let program = object.program(name).ok_or(StageError::Missing { name })?;
    let fd = program.fd().and_then(|fd| fd.try_clone().map_err(Into::into));
    let fd = fd.map_err(|source| StageError::Program { name, source })?;
    let map = object.map_mut(table).ok_or(StageError::Missing { name: table })?;
    let failed = |source| StageError::Table { table, source };
    faults::point("second stage").map_err(|error| failed(MapError::IoError(error)))?;
    ProgramArray::try_from(map).map_err(failed)?.set(index, &fd, 0).map_err(failed)
}
