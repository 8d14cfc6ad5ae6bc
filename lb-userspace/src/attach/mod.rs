//! Puts the programs where the packets are: loads the BPF object, finds the node's devices, attaches and follows.
//!
//! The order of things: [`Datapath::load`] probes the kernel, makes sure of a BPF file system, creates or reuses the
//! pinned maps and loads the programs. [`Datapath::run`] then lists the devices of the current network namespace, gives
//! each a role ([`devices`]), attaches by role ([`links`]) and goes on as devices come and go ([`netlink`]). Everything
//! stays attached when the agent ends; the next agent takes the pinned links over by updating them in place.

pub mod bpffs;
pub mod cgroup;
pub mod devices;
mod error;
mod follow;
pub mod inventory;
mod layouts;
mod link_info;
pub mod links;
pub mod loader;
pub mod netlink;
mod pin_names;
pub mod probe;
pub mod report;
pub mod sizes;
pub mod ticks;

use std::path::PathBuf;

use glob::Pattern;

pub use cgroup::{SocketMode, SocketReport, SocketSettings};
pub use devices::LocalDevices;
pub use error::AttachError;
pub use loader::Datapath;
pub use report::{AttachReport, MapSizeNote, NodeNetwork};
pub use sizes::MapSizes;

/// Where native XDP is used on uplinks. Generic XDP never is: it is slower than TC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// Where the driver has it, but not on virtual devices whose packets may carry partial checksums (veth, tap).
    #[default]
    Auto,
    /// On every uplink; where it does not attach, the report says why.
    Native,
    /// Nowhere.
    Off,
}

impl std::str::FromStr for XdpMode {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "auto" => Ok(Self::Auto),
            "native" => Ok(Self::Native),
            "off" => Ok(Self::Off),
            other => Err(format!("\"{other}\" is not one of auto, native, off")),
        }
    }
}

/// Settings of this part, from the command line.
#[derive(Clone, Debug, Default)]
pub struct AttachSettings {
    /// Directory of the pins; `maps` and `links` are made below it.
    pub pin_path: PathBuf,
    /// `--uplink`: names or patterns of the node's uplinks; empty: found by routes and addresses.
    pub uplinks: Vec<Pattern>,
    /// `--pod-device`: patterns of Pod devices; empty: found by their kind.
    pub pod_devices: Vec<Pattern>,
    /// Devices to leave alone, whatever they look like.
    pub ignored: Vec<Pattern>,
    /// Devices that count as local, where clients are told apart by device.
    pub local: Option<LocalDevices>,
    /// Where to use XDP.
    pub xdp: XdpMode,
    /// How to attach TC programs; `None`: tcx where the kernel has it.
    pub tc: Option<links::TcMethod>,
    /// What to do about sockets.
    pub sockets: cgroup::SocketSettings,
    /// Capacity of the maps, for those that are not pinned yet.
    pub sizes: MapSizes,
}
