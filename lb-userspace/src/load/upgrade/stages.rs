//! The programs of a transition: second stages and socket hooks that know the new tables and the former ones. They take the
//! places of the former agent's programs, so that the programs that look first may be exchanged one after the other.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::maps::MapData;
use lb_common::abi::{former, map_name};

use super::steps::{failed, step};
use crate::linux::{bpf_link, bpf_map};
use crate::load::map_pins::pinned;
use crate::load::stages::{self, SecondStage};
use crate::load::{LoadError, Programs, layouts, socket_pins};

/// The programs, verified.
#[derive(Debug)]
pub(super) struct FormerStages {
    programs: Programs,
    stages: Vec<SecondStage>,
    /// Socket hooks that are attached, with their links.
    hooks: Vec<(&'static str, PathBuf)>,
}

/// Whether a table of programs has one there.
fn has_program(dir: &Path, table: &str, index: u32) -> Result<bool, LoadError> {
    let path = dir.join(table);
    if !path.exists() {
        return Ok(false);
    }
    let map = MapData::from_pin(&path).map_err(|source| LoadError::Map { name: table.to_owned(), source })?;
    bpf_map::read(map.fd().as_fd(), &index.to_ne_bytes(), &mut [0; 4]).map_err(failed("table of programs"))
}

/// Second stages that packets come to.
fn in_use(maps: &Path) -> Result<Vec<SecondStage>, LoadError> {
    let mut found = Vec::new();
    for stage in stages::all() {
        if has_program(maps, stage.table, stage.index)? {
            found.push(stage);
        }
    }
    Ok(found)
}

/// Whether each second stage in use is also where a successor finds it.
pub(super) fn own_are_there(maps: &Path) -> Result<bool, LoadError> {
    for stage in in_use(maps)? {
        if !has_program(maps, stage.own(), stage.index)? {
            return Ok(false);
        }
    }
    Ok(true)
}

impl FormerStages {
    /// Has them verified. `maps`: the former ones.
    pub(super) fn load(root: &Path, maps: &Path, bits: u8, mut programs: Programs) -> Result<Self, LoadError> {
        let stages = if bits & former::FLOWS == 0 { Vec::new() } else { in_use(maps)? };
        let hooks = if bits & (former::AFFINITY | former::SOCKETS) == 0 { Vec::new() } else { socket_pins::all(root) };
        let names: Vec<&'static str> =
            stages.iter().map(|stage| stage.program).chain(hooks.iter().map(|(name, _)| *name)).collect();
        programs.load(&names);
        for name in names {
            programs.ready(name)?;
        }
        Ok(Self { programs, stages, hooks })
    }

    /// Enters the second stages where the former agent's are.
    pub(super) fn enter(&mut self) -> Result<(), LoadError> {
        for stage in &self.stages {
            step("upgrade, second stage")?;
            self.programs.enter(*stage, stage.table)?;
        }
        Ok(())
    }

    /// Puts the socket hooks under the links of the former agent's.
    pub(super) fn exchange_hooks(&mut self) -> Result<(), LoadError> {
        for (name, pin) in &self.hooks {
            step("upgrade, socket hook")?;
            let program = self.programs.descriptor(name)?;
            let exchanged = bpf_link::open(pin).and_then(|link| bpf_link::update(&link, &program));
            exchanged.map_err(failed("socket hook"))?;
        }
        Ok(())
    }
}

/// What the programs of a transition look for in the former maps: bits of [`former`]. Values of another layout are not read.
pub(super) fn bits(replaced: &BTreeSet<&'static str>, former: &Path) -> Result<u8, LoadError> {
    let mut bits = 0;
    for layout in layouts::all().iter().filter(|layout| replaced.contains(layout.name)) {
        let bit = bit_of(layout.name);
        let path = former.join(layout.name);
        if bit == former::FLOWS || (bit != 0 && pinned(&path)?.value_size() == layout.value) {
            bits |= bit;
        }
        if bit == former::AFFINITY {
            // The second stages look into it, and have to know whose a flow is.
            bits |= former::FLOWS;
        }
    }
    Ok(bits)
}

/// What the programs of a transition have to know of a former map.
pub(super) fn bit_of(map: &str) -> u8 {
    let is_of = |names: [&str; 2]| names.contains(&map);
    if is_of(map_name::FLOWS) || is_of(map_name::HALF_OPEN) {
        former::FLOWS
    } else if is_of(map_name::AFFINITY) {
        former::AFFINITY
    } else if is_of(map_name::SOCKETS) {
        former::SOCKETS
    } else {
        0
    }
}

/// Maps of the programs of a transition that are the former agent's, with the names that these have.
pub(in crate::load) fn former_maps() -> Vec<(&'static str, &'static str)> {
    let [flows4, flows6] = map_name::FLOWS;
    let [half4, half6] = map_name::HALF_OPEN;
    let [affinity4, affinity6] = map_name::AFFINITY;
    let [sockets4, sockets6] = map_name::SOCKETS;
    vec![
        ("FORMER_FLOWS4", flows4),
        ("FORMER_FLOWS6", flows6),
        ("FORMER_HALF4", half4),
        ("FORMER_HALF6", half6),
        ("FORMER_AFFIN4", affinity4),
        ("FORMER_AFFIN6", affinity6),
        ("FORMER_SOCKS4", sockets4),
        ("FORMER_SOCKS6", sockets6),
        ("FORMER_TC", map_name::TC_OWN),
        ("FORMER_XDP", map_name::XDP_OWN),
        ("FORMER_XDP_LIN", map_name::XDP_LINEAR_OWN),
    ]
}
