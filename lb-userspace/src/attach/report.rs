//! What this part tells the rest of the agent and its user.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::cgroup::SocketReport;

/// The node's own addresses, as far as the rest of the agent needs them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodeNetwork {
    /// Every address of the node, without loopback and link-local ones; sorted.
    pub addresses: Vec<IpAddr>,
    /// IPv4 address that the node uses towards its default route; else its first on an uplink, else its first.
    pub primary_v4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub primary_v6: Option<Ipv6Addr>,
}

/// What is attached where, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttachReport {
    /// Devices of the network namespace, by index.
    pub devices: Vec<DeviceReport>,
    /// Devices that did not fit into the report.
    pub devices_left_out: usize,
    /// What the kernel offers and what is done because of it.
    pub features: Vec<Feature>,
    /// Maps whose pinned capacity differs from the wanted one.
    pub map_sizes: Vec<MapSizeNote>,
    /// Socket hooks; the agent's report has them apart.
    #[serde(skip)]
    pub sockets: SocketReport,
    /// Clients that are not served, and why.
    pub not_served: Vec<String>,
    /// What a person should look at.
    pub warnings: Vec<String>,
}

impl AttachReport {
    /// Leaves out ignored devices; whether there were any.
    pub fn leave_out_ignored(&mut self) -> bool {
        let before = self.devices.len();
        self.devices.retain(|device| device.role != super::devices::Role::Ignored);
        self.left_out(before)
    }

    /// Leaves out half of the devices, from the end; whether there were any.
    pub fn leave_out_half(&mut self) -> bool {
        let before = self.devices.len();
        self.devices.truncate(before / 2);
        self.left_out(before)
    }

    const fn left_out(&mut self, before: usize) -> bool {
        let left_out = before - self.devices.len();
        self.devices_left_out += left_out;
        left_out > 0
    }
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookReport {
    /// `ingress`, `egress` or `xdp`.
    pub hook: Cow<'static, str>,
    /// Program name.
    pub program: Cow<'static, str>,
    /// `tcx`, `clsact` or `native`.
    pub how: Cow<'static, str>,
}

/// One feature of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feature {
    /// Name.
    pub name: Cow<'static, str>,
    /// Whether it is there.
    pub found: bool,
    /// What is used because of it.
    pub used: String,
}

/// A pinned map keeps its capacity over restarts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapSizeNote {
    /// The map.
    pub map: String,
    /// Capacity asked for.
    pub wanted: u32,
    /// Capacity of the pinned map.
    pub actual: u32,
}
