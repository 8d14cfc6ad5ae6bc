//! The devices, addresses and routes of a network namespace, as plain facts, and what follows from them alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::abi::DeviceValue;

use super::devices::Role;
use super::report::NodeNetwork;

/// One network device.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, as the kernel reports them")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Interface index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Kind as the kernel calls it; `None` for a physical (or paravirtual) device.
    pub kind: Option<String>,
    /// Its frames have an Ethernet header.
    pub ethernet: bool,
    /// It is a loopback device.
    pub loopback: bool,
    /// It is up.
    pub up: bool,
    /// The device that it is enslaved to.
    pub master: Option<u32>,
    /// The device it is tied to: the other end of a veth, the lower device of a VLAN.
    pub peer: Option<u32>,
    /// `peer` is an index of another network namespace.
    pub peer_elsewhere: bool,
}

impl Device {
    /// Kind, with a word for devices without one.
    pub fn kind_name(&self) -> &str {
        self.kind.as_deref().unwrap_or("physical")
    }

    /// Whether the device is of one of these kinds.
    pub fn is(&self, kinds: &[&str]) -> bool {
        self.kind.as_deref().is_some_and(|kind| kinds.contains(&kind))
    }
}

/// One address of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceAddress {
    /// The address.
    pub ip: IpAddr,
    /// Prefix length.
    pub prefix: u8,
    /// Of global scope: neither of the link nor of the host.
    pub global: bool,
    /// Fit to be the source of new connections: not secondary, temporary, tentative or deprecated.
    pub preferred: bool,
}

/// A default route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DefaultRoute {
    /// Metric; lower wins.
    pub metric: u32,
    /// Device.
    pub device: u32,
    /// Of IPv6.
    pub v6: bool,
    /// Source address that the route prescribes.
    pub source: Option<IpAddr>,
}

/// What the routing tables say about devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// Default routes of all tables, best first.
    pub defaults: Vec<DefaultRoute>,
    /// Devices with a route to a network (not a single host) behind a gateway.
    pub gatewayed: BTreeSet<u32>,
    /// Devices with any unicast route.
    pub routed: BTreeSet<u32>,
}

/// Everything known about the network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Devices by index.
    pub devices: BTreeMap<u32, Device>,
    /// Addresses by device index, in the kernel's order.
    pub addresses: BTreeMap<u32, Vec<DeviceAddress>>,
    /// Routes, condensed.
    pub routing: Routing,
}

impl Inventory {
    /// Records an address, or its new state.
    pub fn upsert_address(&mut self, device: u32, address: DeviceAddress) {
        let list = self.addresses.entry(device).or_default();
        match list.iter_mut().find(|a| a.ip == address.ip && a.prefix == address.prefix) {
            Some(known) => *known = address,
            None => list.push(address),
        }
    }

    /// Forgets an address.
    pub fn remove_address(&mut self, device: u32, ip: IpAddr, prefix: u8) {
        if let Some(list) = self.addresses.get_mut(&device) {
            list.retain(|a| a.ip != ip || a.prefix != prefix);
        }
    }

    /// Forgets a device with its addresses.
    pub fn remove_device(&mut self, index: u32) {
        self.devices.remove(&index);
        self.addresses.remove(&index);
        self.routing.defaults.retain(|route| route.device != index);
        self.routing.gatewayed.remove(&index);
        self.routing.routed.remove(&index);
    }

    /// Whether the device has a global address.
    pub fn has_global_address(&self, index: u32) -> bool {
        self.addresses.get(&index).is_some_and(|list| list.iter().any(|a| a.global))
    }

    /// Whether the device has a default route.
    pub fn has_default_route(&self, index: u32) -> bool {
        self.routing.defaults.iter().any(|route| route.device == index)
    }

    /// The address that the kernel would use as the source of traffic out of this device, per family.
    pub fn source_address(&self, index: u32, v6: bool) -> Option<IpAddr> {
        let list = self.addresses.get(&index)?;
        let mut fit = list.iter().filter(|a| a.global && a.ip.is_ipv6() == v6);
        fit.clone().find(|a| a.preferred).or_else(|| fit.next()).map(|a| a.ip)
    }

    /// The `DEVICES` entry of a device, without flags.
    pub fn device_value(&self, index: u32) -> DeviceValue {
        let mut value = DeviceValue::default();
        if let Some(IpAddr::V4(ip)) = self.source_address(index, false) {
            value.v4 = ip.into();
        }
        if let Some(IpAddr::V6(ip)) = self.source_address(index, true) {
            value.v6 = ip.into();
        }
        value
    }

    /// The node's addresses under a given assignment of roles.
    pub fn node_network(&self, role_of: impl Fn(u32) -> Role) -> NodeNetwork {
        let uplinks: Vec<u32> = self.devices.keys().copied().filter(|i| role_of(*i) == Role::Uplink).collect();
        let mut network = NodeNetwork::default();
        let addresses = self.addresses.values().flatten().map(|address| address.ip);
        network.addresses = addresses.filter(is_node_address).collect();
        network.addresses.sort();
        network.addresses.dedup();
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
        by_default_route
            .or_else(|| uplinks.iter().find_map(|index| self.source_address(*index, v6)))
            .or_else(|| self.devices.keys().find_map(|index| self.source_address(*index, v6)))
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
mod tests {
    use super::*;

    fn address(ip: &str, prefix: u8, preferred: bool) -> DeviceAddress {
        let ip: IpAddr = ip.parse().unwrap();
        let global = match ip {
            IpAddr::V4(ip) => !ip.is_loopback(),
            IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
        };
        DeviceAddress { ip, prefix, global, preferred }
    }

    fn device(index: u32, name: &str) -> Device {
        Device { index, name: name.into(), up: true, ethernet: true, ..Device::default() }
    }

    fn two_uplinks() -> Inventory {
        let mut inventory = Inventory::default();
        for (index, name) in [(1, "lo"), (2, "eth0"), (3, "eth1")] {
            inventory.devices.insert(index, device(index, name));
        }
        inventory.upsert_address(1, address("127.0.0.1", 8, true));
        inventory.upsert_address(2, address("192.0.2.9", 24, false));
        inventory.upsert_address(2, address("192.0.2.2", 24, true));
        inventory.upsert_address(2, address("fe80::2", 64, true));
        inventory.upsert_address(3, address("198.51.100.3", 24, true));
        inventory.upsert_address(3, address("2001:db8::3", 64, true));
        inventory.routing.defaults = vec![DefaultRoute { metric: 0, device: 3, v6: false, source: None }];
        inventory
    }

    fn uplinks(index: u32) -> Role {
        if index > 1 { Role::Uplink } else { Role::Ignored }
    }

    #[test]
    fn primary_address_is_that_of_the_default_route() {
        let network = two_uplinks().node_network(uplinks);
        assert_eq!(network.primary_v4, Some("198.51.100.3".parse().unwrap()));
        assert_eq!(network.primary_v6, Some("2001:db8::3".parse().unwrap()));
    }

    #[test]
    fn primary_address_obeys_the_source_of_the_route() {
        let mut inventory = two_uplinks();
        inventory.routing.defaults[0].source = Some("192.0.2.9".parse().unwrap());
        assert_eq!(inventory.node_network(uplinks).primary_v4, Some("192.0.2.9".parse().unwrap()));
    }

    #[test]
    fn loopback_and_link_local_addresses_are_not_the_nodes() {
        let network = two_uplinks().node_network(uplinks);
        let expected: Vec<IpAddr> =
            ["192.0.2.2", "192.0.2.9", "198.51.100.3", "2001:db8::3"].iter().map(|s| s.parse().unwrap()).collect();
        assert_eq!(network.addresses, expected);
    }

    #[test]
    fn source_address_prefers_primary_ones_and_a_device_without_any_has_zero() {
        let inventory = two_uplinks();
        assert_eq!(inventory.source_address(2, false), Some("192.0.2.2".parse().unwrap()));
        assert_eq!(inventory.device_value(2).v6, lb_common::abi::V6::default());
        assert_eq!(inventory.device_value(2).v4, Ipv4Addr::new(192, 0, 2, 2).into());
    }

    #[test]
    fn an_address_that_is_seen_again_is_updated_in_place() {
        let mut inventory = two_uplinks();
        inventory.upsert_address(2, address("192.0.2.9", 24, true));
        assert_eq!(inventory.addresses[&2].len(), 3);
        assert_eq!(inventory.source_address(2, false), Some("192.0.2.9".parse().unwrap()));
        inventory.remove_address(2, "192.0.2.9".parse().unwrap(), 24);
        assert_eq!(inventory.source_address(2, false), Some("192.0.2.2".parse().unwrap()));
    }
}
