//! Which device plays which role, and why: a pure function of the facts and the user's rules.

use std::collections::BTreeMap;

use glob::Pattern;

use super::inventory::{Device, Inventory};
use super::role::{Decision, Role};

/// What the user said about devices.
#[derive(Clone, Debug, Default)]
pub struct RoleRules {
    /// Uplinks. Not empty: ordinary devices are uplinks only when they match; tunnels are still found by kind.
    pub uplinks: Vec<Pattern>,
    /// Pod devices. Not empty: only matching devices are.
    pub pods: Vec<Pattern>,
    /// Devices to leave alone.
    pub ignored: Vec<Pattern>,
    /// Devices that count as local; `None`: no client is local by its device.
    pub local: Option<LocalDevices>,
    /// Devices whose packets may have any source: gateway Pods are behind them.
    pub any_source: Vec<Pattern>,
    /// The node's addresses, where they were given: preferred as sources out of an uplink.
    pub node_ips: Vec<std::net::IpAddr>,
}

/// Behind which devices the Pods of this node are, where that decides which clients are local (KEP-2450).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalDevices {
    /// Behind this bridge.
    Bridge(String),
    /// Behind devices whose name begins like this.
    Prefix(String),
}

/// Pairs of devices of which one end can be in a Pod.
const PAIRS: &[&str] = &["veth", "netkit"];
/// Devices that carry Pod traffic to other nodes inside of other packets.
const TUNNELS: &[&str] = &[
    "vxlan",
    "geneve",
    "ipip",
    "sit",
    "gre",
    "gretap",
    "ip6tnl",
    "ip6gre",
    "ip6gretap",
    "wireguard",
    "xfrm",
    "bareudp",
    // A tun device of a user-space tunnel; its tap form is taken for a virtual machine before.
    "tun",
];
/// Devices that join others and speak for them.
const BUNDLES: &[&str] = &["bond", "team"];
/// Devices that can hold the node's address towards the outside, besides physical ones.
const OUTWARD: &[&str] = &["bond", "team", "vlan", "macvlan", "ipvlan", "ipoib", "hsr", "dsa"];

/// Gives each device its role.
pub fn decide(inventory: &Inventory, rules: &RoleRules) -> BTreeMap<u32, Decision> {
    let decider = RoleDecider { inventory, rules };
    inventory
        .devices
        .values()
        .map(|device| {
            let (role, why) = decider.role(device);
            (device.index, Decision { role, why })
        })
        .collect()
}

struct RoleDecider<'a> {
    inventory: &'a Inventory,
    rules: &'a RoleRules,
}

impl RoleDecider<'_> {
    fn role(&self, device: &Device) -> (Role, String) {
        if device.loopback {
            return (Role::Ignored, "loopback".into());
        }
        let named = self.named(device);
        if let Some(decision) = named {
            return decision;
        }
        let guess_uplinks = self.rules.uplinks.is_empty();
        let default_route = self.inventory.has_default_route(device.index);
        if default_route && guess_uplinks && !leads_elsewhere(device) {
            return (Role::Uplink, "default route".into());
        }
        if let Some(master) = self.inventory.switch_of(device) {
            return self.enslaved(device, master);
        }
        if leads_elsewhere(device)
            && let Some(decision) = self.way_out(device)
        {
            return decision;
        }
        if is_pair(device) {
            return self.pair_end(device);
        }
        if is_tap(device) {
            return self.pod_candidate(format!("{} of a virtual machine", device.kind_name()));
        }
        if device.is(TUNNELS) {
            return self.tunnel(device);
        }
        if device.is(&["bridge"]) {
            return self.bridge(device);
        }
        self.ordinary(device)
    }

    fn named(&self, device: &Device) -> Option<(Role, String)> {
        let find = |patterns: &[Pattern]| patterns.iter().find(|p| p.matches(&device.name)).cloned();
        if let Some(pattern) = find(&self.rules.ignored) {
            return Some((Role::Ignored, format!("matches the ignored devices' {pattern}")));
        }
        if let Some(pattern) = find(&self.rules.uplinks) {
            return Some((Role::Uplink, format!("matches --uplink {pattern}")));
        }
        find(&self.rules.pods).map(|pattern| (Role::Pod, format!("matches --pod-device {pattern}")))
    }

    fn pod_candidate(&self, why: String) -> (Role, String) {
        if self.rules.pods.is_empty() {
            (Role::Pod, why)
        } else {
            (Role::Ignored, format!("{why}, but --pod-device names others"))
        }
    }

    fn uplink_candidate(&self, why: String) -> (Role, String) {
        if self.rules.uplinks.is_empty() {
            (Role::Uplink, why)
        } else {
            (Role::Ignored, format!("{why}, but --uplink names others"))
        }
    }

    fn enslaved(&self, device: &Device, master: &Device) -> (Role, String) {
        let port = format!("port of {} {}", master.kind_name(), master.name);
        if master.is(BUNDLES) {
            return (Role::Ignored, port);
        }
        if is_pair(device) || is_tap(device) {
            return self.pod_candidate(port);
        }
        if device.is(TUNNELS) {
            return (Role::Uplink, format!("{} tunnel as {port}", device.kind_name()));
        }
        let (master_role, _) = self.role(master);
        if master_role == Role::Uplink {
            return (Role::Ignored, format!("{port}, which is the uplink"));
        }
        self.uplink_candidate(format!("{} {port}: leads out of the node", device.kind_name()))
    }

    /// A veth, netkit or tap, with a Pod behind it as a rule, is an uplink if it is the node's port in a network and
    /// routes lead out by it, or if nothing else has the default route. Routes alone say nothing: a Pod that is a VPN's or
    /// a subnet's gateway has them, too, and stays a Pod. Its device has no address, or a single one.
    fn way_out(&self, device: &Device) -> Option<(Role, String)> {
        let index = device.index;
        let routing = &self.inventory.routing;
        if !self.is_numbered_pair(device) {
            let is_uplink = self.rules.uplinks.is_empty() && self.only_way_out(index);
            return is_uplink.then(|| (Role::Uplink, "the only default route".into()));
        }
        if self.inventory.has_default_route(index) {
            return Some(self.uplink_candidate("default route".into()));
        }
        (self.rules.uplinks.is_empty() && routing.gatewayed.contains(&index))
            .then(|| (Role::Uplink, "routes to networks behind a gateway".into()))
    }

    /// Whether it has a default route in the main table, and only devices of its kind have one.
    fn only_way_out(&self, index: u32) -> bool {
        let routes = || self.inventory.routing.defaults.iter().filter(|route| route.main);
        let device = |index: u32| self.inventory.devices.get(&index);
        let alike = |index| device(index).is_some_and(|other| leads_elsewhere(other) && !self.is_numbered_pair(other));
        routes().any(|route| route.device == index) && routes().all(|route| alike(route.device))
    }

    /// Hosts give their ends of virtual machines' taps addresses of networks; those of pairs have them in nested nodes.
    fn is_numbered_pair(&self, device: &Device) -> bool {
        is_pair(device) && self.inventory.is_in_a_network(device.index)
    }

    fn pair_end(&self, device: &Device) -> (Role, String) {
        let kind = device.kind_name();
        if device.peer_elsewhere {
            self.pod_candidate(format!("{kind} with its other end in another network namespace"))
        } else {
            (Role::Ignored, format!("{kind} with its other end in this network namespace"))
        }
    }

    fn tunnel(&self, device: &Device) -> (Role, String) {
        let kind = device.kind_name();
        let index = device.index;
        if !device.up {
            return (Role::Ignored, format!("{kind} tunnel that is down"));
        }
        if self.inventory.has_global_address(index) || self.inventory.routing.routed.contains(&index) {
            return (Role::Uplink, format!("{kind} tunnel to other nodes"));
        }
        (Role::Ignored, format!("{kind} tunnel without address and routes"))
    }

    fn bridge(&self, device: &Device) -> (Role, String) {
        let outward_port = self
            .inventory
            .devices
            .values()
            .any(|port| port.master == Some(device.index) && (port.kind.is_none() || port.is(OUTWARD)));
        if outward_port && self.inventory.has_global_address(device.index) {
            return self.uplink_candidate("bridge with the node's address over a port that leads out".into());
        }
        (Role::Ignored, "bridge: its ports are looked at instead".into())
    }

    fn ordinary(&self, device: &Device) -> (Role, String) {
        let kind = device.kind_name();
        if device.kind.is_some() && !device.is(OUTWARD) {
            return (Role::Ignored, format!("{kind} without default route"));
        }
        if !self.inventory.has_global_address(device.index) {
            return (Role::Ignored, format!("{kind} without address"));
        }
        if !device.up {
            return (Role::Ignored, format!("{kind} that is down"));
        }
        self.uplink_candidate(format!("{kind} device with a global address"))
    }
}

/// Whether what comes in by a device counts as local. What counts is the device that netfilter would name as the input:
/// of a bridge's port the bridge, else the device itself.
pub fn is_local(inventory: &Inventory, device: &Device, rules: &RoleRules) -> bool {
    let bridge = device.master.and_then(|index| inventory.devices.get(&index)).filter(|master| master.is(&["bridge"]));
    let input = &bridge.unwrap_or(device).name;
    match &rules.local {
        Some(LocalDevices::Bridge(name)) => input == name,
        Some(LocalDevices::Prefix(prefix)) => input.starts_with(prefix),
        None => false,
    }
}

/// One end of a pair, of which the other can be in a Pod.
pub fn is_pair(device: &Device) -> bool {
    device.is(PAIRS)
}

/// A device that may have a Pod or a virtual machine behind it.
fn leads_elsewhere(device: &Device) -> bool {
    is_pair(device) || is_tap(device)
}

/// A tap (Ethernet) device, made for a virtual machine; a tun device has no Ethernet header.
pub fn is_tap(device: &Device) -> bool {
    device.is(&["tun"]) && device.ethernet
}

#[cfg(test)]
#[path = "role_decider_tests.rs"]
mod tests;
