//! The kernel's interfaces that the rest of the agent builds on. Knows nothing of Services, devices or maps.

pub mod bpf_link;
pub mod bpf_map;
pub mod clock;
pub mod conntrack;
pub mod firewall;
pub mod kernel_version;
pub mod limits;
pub mod mounts;
pub mod netlink;
pub mod netlink_ask;
pub mod netns;
pub mod port_mapper;
pub mod processes;
pub mod routes;
