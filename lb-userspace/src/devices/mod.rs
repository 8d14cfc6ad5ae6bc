//! Puts the programs on the node's devices and keeps them there.
//!
//! The order of things: [`inventory`] has the facts, listed and followed by [`watcher`]. [`role_decider`] gives each device
//! a role, [`plan`] decides from that which program goes where, without touching anything, and `apply` carries it out.
//! [`device_task`] does so again whenever something changes. Everything stays attached when the agent ends; the next agent
//! takes the pinned links over by updating them in place.

mod apply;
mod attach;
pub mod clsact;
pub mod device_report;
pub mod device_task;
pub mod forwarding;
pub mod hook;
pub mod inventory;
mod link_target;
mod links;
mod messages;
pub mod node_network;
mod pin_names;
pub mod plan;
pub mod role;
pub mod role_decider;
mod sources;
pub mod upkeep;
mod warnings;
pub mod watcher;
pub mod xdp_mode;

pub use device_report::{AttachReport, DeviceReport};
pub use device_task::{DeviceSettings, DeviceTask, DeviceTaskError};
pub use hook::TcMethod;
pub use node_network::NodeNetwork;
pub use role::Role;
pub use role_decider::{LocalDevices, RoleRules};
pub use upkeep::{Told, Upkeep};
pub use xdp_mode::XdpMode;
