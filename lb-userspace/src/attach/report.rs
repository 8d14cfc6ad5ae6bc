//! What this part tells the rest of the agent and its user.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
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
    /// As JSON of at most `limit` bytes: ignored devices are left out first, then others from the end.
    pub fn to_json_within(&self, limit: usize) -> Result<Vec<u8>, serde_json::Error> {
        let mut report = self.clone();
        let mut json = serde_json::to_vec(&report)?;
        if json.len() > limit {
            report.devices.retain(|device| device.role != super::devices::Role::Ignored);
            report.devices_left_out = self.devices.len() - report.devices.len();
            json = serde_json::to_vec(&report)?;
        }
        while json.len() > limit && !report.devices.is_empty() {
            let average = json.len() / report.devices.len();
            let surplus = (json.len() - limit) / average.max(1) + 1;
            report.devices.truncate(report.devices.len().saturating_sub(surplus));
            report.devices_left_out = self.devices.len() - report.devices.len();
            json = serde_json::to_vec(&report)?;
        }
        Ok(json)
    }
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

#[cfg(test)]
mod tests {
    use super::super::devices::Role;
    use super::*;

    #[test]
    fn a_report_that_is_too_large_loses_ignored_devices_first() {
        let device = |index, role| DeviceReport {
            index,
            name: format!("veth{index}"),
            kind: "veth".into(),
            role,
            why: "because".into(),
            hooks: Vec::new(),
            notes: Vec::new(),
            errors: Vec::new(),
        };
        let devices = (0..100).map(|i| device(i, if i % 2 == 0 { Role::Pod } else { Role::Ignored })).collect();
        let report = AttachReport { devices, ..AttachReport::default() };
        let parsed = |limit| -> serde_json::Value {
            let json = report.to_json_within(limit).unwrap();
            assert!(json.len() <= limit);
            serde_json::from_slice(&json).unwrap()
        };
        assert_eq!(parsed(1 << 20)["devices_left_out"], 0);
        let half = parsed(7_500);
        assert_eq!(half["devices_left_out"], 50);
        assert!(half["devices"].as_array().unwrap().iter().all(|d| d["role"] == "pod"));
        assert!(parsed(1_000)["devices"].as_array().unwrap().len() > 2);
    }
}
