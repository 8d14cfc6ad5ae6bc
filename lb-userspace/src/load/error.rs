//! What can go wrong while loading.

use std::io;
use std::path::PathBuf;

/// Why the data path cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel lacks something without a fallback.
    #[error("kernel {found} is older than {needed}: {what} is missing and has no fallback")]
    KernelTooOld {
        /// Version found.
        found: String,
        /// Version needed.
        needed: &'static str,
        /// What is missing.
        what: &'static str,
    },
    /// The kernel has no such map or program type, or the agent may not use it.
    #[error("the kernel does not offer {what} to this process: run as root, with CONFIG_BPF_SYSCALL=y and {config}")]
    Unsupported {
        /// What is missing.
        what: &'static str,
        /// Kernel option to look for.
        config: &'static str,
    },
    /// A directory for pins cannot be made.
    #[error("cannot create directory {path} for pins")]
    CreateDirectory {
        /// The directory.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The pin path is not on a BPF file system and none can be mounted.
    #[error("{path} is not on a BPF file system and mounting one failed; mount it: mount -t bpf bpf {mount_point}")]
    MountBpffs {
        /// The pin path.
        path: PathBuf,
        /// Where the mount was tried.
        mount_point: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The pin directory has other files in it, and mounting over it would hide them.
    #[error("{path} is not on a BPF file system and is not empty; choose another --pin-path")]
    PinPathInUse {
        /// The pin path.
        path: PathBuf,
    },
    /// A path cannot be inspected.
    #[error("cannot read {path}")]
    Read {
        /// The path.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The locks beside the pins cannot be taken.
    #[error("cannot lock the pins of {path}: it has to be a BPF file system that this process may write")]
    Lock {
        /// The pin path.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// Pins of another ABI version.
    #[error(
        "maps pinned under {path} have ABI version {found}, this agent has {ours}: run the agent that made them, or \
         remove {path} (its connections are lost) and start again"
    )]
    ForeignAbi {
        /// The pin path.
        path: PathBuf,
        /// Version found.
        found: u32,
        /// This agent's version.
        ours: u32,
    },
    /// Something else is pinned in the place of a map.
    #[error("{path} is no map, something else than Sluice has put it there: remove {path} and start again")]
    NoMap {
        /// The pin.
        path: PathBuf,
        /// Cause.
        source: aya::maps::MapError,
    },
    /// A pinned map with another layout.
    #[error(
        "pinned map {path} is {found}, this agent needs {needed}: it is not of this version; remove the pin \
         directory (its connections are lost) and start again"
    )]
    ForeignMap {
        /// The pin.
        path: PathBuf,
        /// Layout found.
        found: String,
        /// Layout needed.
        needed: String,
    },
    /// A step of an upgrade fails.
    #[error("upgrade of maps: {step}")]
    Upgrade {
        /// The step.
        step: &'static str,
        /// Cause.
        source: io::Error,
    },
    /// What is in a map cannot be carried over.
    #[error("what is in map {map} cannot be carried over to the new one")]
    Carry {
        /// The map.
        map: String,
        /// Cause.
        source: io::Error,
    },
    /// A map cannot be created, opened or pinned.
    #[error("map {name}")]
    Map {
        /// The map.
        name: String,
        /// Cause.
        source: aya::maps::MapError,
    },
    /// A map cannot be pinned.
    #[error("map {name} cannot be pinned")]
    PinMap {
        /// The map.
        name: String,
        /// Cause.
        source: aya::pin::PinError,
    },
    /// The object cannot be loaded.
    #[error("the BPF object cannot be loaded")]
    Object {
        /// Cause.
        source: Box<aya::EbpfError>,
    },
    /// The object lacks a map.
    #[error("the BPF object has no map {name}")]
    MissingMap {
        /// The map.
        name: &'static str,
    },
    /// A program is not there that has no fallback.
    #[error(transparent)]
    Program(#[from] super::ProgramFailure),
}
