//! The node's own addresses: what the rest of the agent must know of its network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use super::inventory::Inventory;
use super::role::Role;

/// The device on which kube-proxy in IPVS mode has had all `ClusterIP`s: they are served all the same.
const IPVS: &str = "kube-ipvs0";

/// The node's own addresses, as far as the rest of the agent needs them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodeNetwork {
    /// Every address of the node, without loopback and link-local ones; sorted.
    pub addresses: Vec<IpAddr>,
    /// Addresses on dummy devices that are down, such as `NodeLocal DNSCache`'s: Services' that the node answers itself. They
    /// are not the node's, but its stack takes them. Sorted.
    pub held: Vec<IpAddr>,
    /// IPv4 address that the node uses towards its default route; else its first on an uplink, else its first.
    pub primary_v4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub primary_v6: Option<Ipv6Addr>,
}

impl Inventory {
    /// The node's addresses under a given assignment of roles.
    pub fn node_network(&self, role_of: impl Fn(u32) -> Role) -> NodeNetwork {
        let uplinks: Vec<u32> = self.devices.keys().copied().filter(|i| role_of(*i) == Role::Uplink).collect();
        let mut network = NodeNetwork::default();
        for (index, addresses) in &self.addresses {
            let device = self.devices.get(index);
            let list = match device {
                Some(device) if device.name == IPVS => continue,
                Some(device) if device.is(&["dummy"]) && !device.up => &mut network.held,
                _ => &mut network.addresses,
            };
            list.extend(addresses.iter().map(|address| address.ip).filter(is_node_address));
        }
        for list in [&mut network.addresses, &mut network.held] {
            list.sort();
            list.dedup();
        }
        network.primary_v4 = self.primary(&uplinks, false).and_then(v4);
        network.primary_v6 = self.primary(&uplinks, true).and_then(v6);
        network
    }

    fn primary(&self, uplinks: &[u32], v6: bool) -> Option<IpAddr> {
        let by_default_route = self
            .routing
            .defaults
            .iter()
            .filter(|route| route.v6 == v6 && uplinks.contains(&route.device))
            .find_map(|route| route.source.or_else(|| self.source_address(route.device, v6)));
        // A default route over an unnumbered device takes the address of another one, as the kernel does.
        by_default_route.or_else(|| uplinks.iter().find_map(|index| self.source_address(*index, v6))).or_else(|| {
            let others = self.devices.values().filter(|device| !device.is(&["dummy"]) || device.up);
            others.into_iter().find_map(|device| self.source_address(device.index, v6))
        })
    }
}

fn is_node_address(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local() && !ip.is_unspecified(),
    }
}

fn v4(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

fn v6(ip: IpAddr) -> Option<Ipv6Addr> {
    match ip {
        IpAddr::V6(ip) => Some(ip),
        IpAddr::V4(_) => None,
    }
}

#[cfg(test)]
#[path = "node_network_tests.rs"]
mod tests;
