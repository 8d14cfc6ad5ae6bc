//! Whole nodes in network namespaces, with real sockets: for the demo and for tests.
//!
//! A [`Lab`] is the topology of [`plan`]. Every Pod serves HTTP and DNS; [`probe`] has the clients; [`Agent`] runs
//! `sluice` on the node under test; [`Manifests`] writes Services and their endpoints for it.

mod agent;
pub mod cgroup;
#[cfg(target_arch = "x86_64")]
pub mod confinement;
pub mod dns;
pub mod expect;
mod http;
mod manifest;
mod netns;
pub mod ping;
pub mod plan;
mod pod_server;
pub mod probe;
pub mod raw;
mod rundir;
mod topology;

pub use agent::{Agent, AgentOptions, sluice_binary};
pub use cgroup::Cgroup;
pub use manifest::{EndpointState, Manifests, SERVICE_DNS, SERVICE_HTTP, ServiceSpec, slice_object};
pub use netns::Netns;
pub use plan::{Dual, Family};
pub use rundir::{RunDir, clean_up_on_signals};
pub use topology::{Cni, Lab, LabOptions, Pod, RpFilter};
