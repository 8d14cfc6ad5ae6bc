//! The two stages of the kernel programs: which program sees a hook's packets, and which one the rare ones among them.
//!
//! A first stage tail-calls its second through a table of programs, which is pinned: it outlives the agent, and a
//! successor exchanges the programs in it in place.

use aya::Ebpf;
use aya::maps::{MapError, ProgramArray};
use aya::programs::ProgramError;
use lb_common::abi::{map_name, tc_rest};

/// A second stage, and where its first stages find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondStage {
    /// The program.
    pub program: &'static str,
    /// The table.
    table: &'static str,
    /// Its index there.
    index: u32,
}

const fn tc(program: &'static str, index: u32) -> SecondStage {
    SecondStage { program, table: map_name::TC_REST, index }
}

const fn xdp(program: &'static str, table: &'static str) -> SecondStage {
    SecondStage { program, table, index: 0 }
}

/// The second stage of a program, if it has one.
pub fn second_stage(first: &str) -> Option<SecondStage> {
    Some(match first {
        "pod_ingress" | "uplink_ingress" => tc("ingress_rest", tc_rest::INGRESS),
        "pod_egress" | "uplink_egress" => tc("egress_rest", tc_rest::EGRESS),
        "tunnel_ingress" => tc("tunnel_in_rest", tc_rest::TUNNEL_INGRESS),
        "tunnel_egress" => tc("tunnel_out_rest", tc_rest::TUNNEL_EGRESS),
        "uplink_xdp" => xdp("xdp_rest", map_name::XDP_REST),
        "uplink_xdp_linear" => xdp("xdp_rest_linear", map_name::XDP_LINEAR_REST),
        _ => return None,
    })
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

/// Enters a loaded second stage into its table.
pub fn enter(object: &mut Ebpf, stage: SecondStage) -> Result<(), StageError> {
    let SecondStage { program: name, table, index } = stage;
    let program = object.program(name).ok_or(StageError::Missing { name })?;
    let fd = program.fd().and_then(|fd| fd.try_clone().map_err(Into::into));
    let fd = fd.map_err(|source| StageError::Program { name, source })?;
    let map = object.map_mut(table).ok_or(StageError::Missing { name: table })?;
    let failed = |source| StageError::Table { table, source };
    ProgramArray::try_from(map).map_err(failed)?.set(index, &fd, 0).map_err(failed)
}
