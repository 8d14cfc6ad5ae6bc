//! The devices, addresses and routes of a network namespace, as plain facts, and what follows from them alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

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
    /// Hardware address, of a device with an Ethernet header.
    pub mac: Option<[u8; 6]>,
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
    /// Next router, where there is one.
    pub gateway: Option<IpAddr>,
    /// In the main table, not in one that rules of policy routing lead to.
    pub main: bool,
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
    /// Source address that routes out of a device prescribe, by device and whether they are IPv6's: a default route's,
    /// else one's behind a gateway.
    pub sources: BTreeMap<(u32, bool), IpAddr>,
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

    /// Whether anything but the link-local addresses of IPv6 is in use.
    pub fn has_ipv6(&self) -> bool {
        let mut addresses = self.addresses.values().flatten();
        addresses.any(|address| address.global && address.ip.is_ipv6())
            || self.routing.defaults.iter().any(|route| route.v6)
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
        self.routing.sources.retain(|(device, _), _| *device != index);
    }

    /// Whether the device has a global address.
    pub fn has_global_address(&self, index: u32) -> bool {
        self.addresses.get(&index).is_some_and(|list| list.iter().any(|a| a.global))
    }

    /// Whether the device has an address of a network, rather than none or single ones: it is a port of the node in that
    /// network. A Pod's device has none, or the single address that is the Pod's gateway.
    pub fn is_in_a_network(&self, index: u32) -> bool {
        let in_network = |a: &DeviceAddress| a.global && a.prefix < if a.ip.is_ipv6() { 128 } else { 32 };
        self.addresses.get(&index).is_some_and(|list| list.iter().any(in_network))
    }

    /// Whether the device has a default route.
    pub fn has_default_route(&self, index: u32) -> bool {
        self.routing.defaults.iter().any(|route| route.device == index)
    }

    /// The bridge, bond or other switch that a device is a port of. A VRF does not count: its devices keep their packets.
    pub fn switch_of(&self, device: &Device) -> Option<&Device> {
        let master = device.master.and_then(|index| self.devices.get(&index));
        master.filter(|master| master.kind.as_deref() != Some("vrf"))
    }
}
