//! What this part tells the rest of the agent and its user.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

/// The node's own addresses, as far as the rest of the agent needs them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodeNetwork {
    /// Every address of the node, without loopback and link-local ones; sorted.
    pub addresses: Vec<IpAddr>,
    /// Those on uplinks; sorted.
    pub uplink_addresses: Vec<IpAddr>,
    /// IPv4 address that the node uses towards its default route; else its first on an uplink, else its first.
    pub primary_v4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub primary_v6: Option<Ipv6Addr>,
}

/// What is attached where, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AttachReport {
    /// Devices of the network namespace, by index.
    pub devices: Vec<DeviceReport>,
    /// What the kernel offers and what is done because of it.
    pub features: Vec<Feature>,
    /// Maps whose pinned capacity differs from the wanted one.
    pub map_sizes: Vec<MapSizeNote>,
    /// Clients that are not served, and why.
    pub not_served: Vec<String>,
    /// What a person should look at.
    pub warnings: Vec<String>,
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceReport {
    /// Interface index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Kind as the kernel calls it (`veth`, `vxlan`, ...); `physical` for a device without one.
    pub kind: String,
    /// Role.
    pub role: super::devices::Role,
    /// Why it has this role.
    pub why: String,
    /// Programs attached.
    pub hooks: Vec<HookReport>,
    /// Choices made for this device, such as why XDP is not used.
    pub notes: Vec<String>,
    /// What failed, with its cause.
    pub errors: Vec<String>,
}

/// One attached program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookReport {
    /// `ingress`, `egress` or `xdp`.
    pub hook: &'static str,
    /// Program name.
    pub program: &'static str,
    /// `tcx`, `clsact` or `native`.
    pub how: &'static str,
}

/// One feature of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Feature {
    /// Name.
    pub name: &'static str,
    /// Whether it is there.
    pub found: bool,
    /// What is used because of it.
    pub used: String,
}

/// A pinned map keeps its capacity over restarts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MapSizeNote {
    /// The map.
    pub map: String,
    /// Capacity asked for.
    pub wanted: u32,
    /// Capacity of the pinned map.
    pub actual: u32,
}
