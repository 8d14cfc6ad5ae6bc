//! Which of the node's addresses source NAT takes out of a device: the node's own, and none that may move away.

use std::net::IpAddr;

use lb_common::abi::DeviceValue;

use super::inventory::{DeviceAddress, Inventory};

impl Inventory {
    /// The address for traffic out of this device, per family, as far as the device's own addresses say: one that new
    /// connections may have; one of a network rather than a single one, which is what keepalived and kube-vip give a node;
    /// one beside the gateway, as the kernel has it; the first.
    pub fn source_address(&self, index: u32, v6: bool) -> Option<IpAddr> {
        let list = self.addresses.get(&index)?;
        let gateway = self.routing.defaults.iter().find(|route| route.device == index && route.v6 == v6);
        let gateway = gateway.and_then(|route| route.gateway);
        let fit = list.iter().filter(|a| a.global && a.ip.is_ipv6() == v6);
        let rank = |address: &&DeviceAddress| {
            let single = address.prefix == if v6 { 128 } else { 32 };
            let beside = gateway.is_some_and(|gateway| address.holds(&gateway));
            (!address.preferred, single, !beside)
        };
        fit.min_by_key(rank).map(|address| address.ip)
    }

    /// The source of source NAT out of this device: the one that its routes prescribe; else the node's address as it was
    /// given, if the device or a loopback device has it; else the device's own.
    fn nat_source(&self, index: u32, v6: bool, node_ips: &[IpAddr]) -> Option<IpAddr> {
        let prescribed = self.routing.sources.get(&(index, v6)).filter(|ip| self.is_on_node(ip));
        let given =
            || node_ips.iter().find(|ip| ip.is_ipv6() == v6 && (self.has(index, ip) || self.is_on_loopback(ip)));
        prescribed.or_else(given).copied().or_else(|| self.source_address(index, v6))
    }

    fn has(&self, index: u32, ip: &IpAddr) -> bool {
        self.addresses.get(&index).is_some_and(|list| list.iter().any(|address| address.ip == *ip))
    }

    fn is_on_node(&self, ip: &IpAddr) -> bool {
        self.addresses.values().flatten().any(|address| address.ip == *ip)
    }

    /// Whether a device that leads nowhere holds the address, as on nodes that announce it by BGP.
    fn is_on_loopback(&self, ip: &IpAddr) -> bool {
        let devices = self.devices.values().filter(|device| device.loopback || device.is(&["dummy"]));
        devices.into_iter().any(|device| self.has(device.index, ip))
    }

    /// The `DEVICES` entry of a device, without flags. `node_ips`: the node's addresses, where they were given.
    pub fn device_value(&self, index: u32, node_ips: &[IpAddr]) -> DeviceValue {
        let mut value = DeviceValue::default();
        if let Some(IpAddr::V4(ip)) = self.nat_source(index, false, node_ips) {
            value.v4 = ip.into();
        }
        if let Some(IpAddr::V6(ip)) = self.nat_source(index, true, node_ips) {
            value.v6 = ip.into();
        }
        value.mac = self.devices.get(&index).and_then(|device| device.mac).unwrap_or_default();
        value
    }
}

impl DeviceAddress {
    /// Whether the address's network holds another address.
    fn holds(&self, other: &IpAddr) -> bool {
        ipnet::IpNet::new(self.ip, self.prefix).is_ok_and(|net| net.contains(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::inventory::{DefaultRoute, Device};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// `lo`, and `eth0` (2) with these addresses.
    fn node(addresses: &[(&str, bool)]) -> Inventory {
        let mut inventory = Inventory::default();
        let device = |index, loopback| Device { index, loopback, ..Device::default() };
        inventory.devices = [(1, device(1, true)), (2, device(2, false))].into();
        for (text, preferred) in addresses {
            let net: ipnet::IpNet = text.parse().unwrap();
            let address =
                DeviceAddress { ip: net.addr(), prefix: net.prefix_len(), global: true, preferred: *preferred };
            inventory.upsert_address(2, address);
        }
        inventory
    }

    fn default_by(inventory: &mut Inventory, gateway: &str) {
        let gateway = Some(ip(gateway));
        inventory.routing.defaults =
            vec![DefaultRoute { metric: 0, device: 2, v6: false, source: None, gateway, main: true }];
    }

    #[test]
    fn a_floating_address_that_is_listed_first_is_not_the_source() {
        let mut single = node(&[("192.0.2.200/32", true), ("192.0.2.11/24", true)]);
        assert_eq!(single.device_value(2, &[]).v4, std::net::Ipv4Addr::new(192, 0, 2, 11).into());
        default_by(&mut single, "192.0.2.1");
        assert_eq!(single.source_address(2, false), Some(ip("192.0.2.11")));
        // Its network is listed first: the kernel calls the node's own address secondary.
        let network = node(&[("192.0.2.200/24", true), ("192.0.2.11/24", false)]);
        assert_eq!(network.nat_source(2, false, &[]), Some(ip("192.0.2.200")), "nothing tells them apart");
        assert_eq!(network.nat_source(2, false, &[ip("192.0.2.11")]), Some(ip("192.0.2.11")));
        let alone = node(&[("192.0.2.200/32", true)]);
        assert_eq!(alone.source_address(2, false), Some(ip("192.0.2.200")));
    }

    #[test]
    fn of_two_networks_on_a_device_the_gateways_counts() {
        let mut inventory = node(&[("198.51.100.3/24", true), ("192.0.2.11/24", true)]);
        assert_eq!(inventory.source_address(2, false), Some(ip("198.51.100.3")));
        default_by(&mut inventory, "192.0.2.1");
        assert_eq!(inventory.source_address(2, false), Some(ip("192.0.2.11")));
    }

    #[test]
    fn the_routes_source_comes_before_the_nodes_address_if_the_node_has_it() {
        let mut inventory = node(&[("192.0.2.11/24", true), ("192.0.2.12/24", false)]);
        let given = [ip("192.0.2.12")];
        inventory.routing.sources.insert((2, false), ip("203.0.113.7"));
        assert_eq!(inventory.nat_source(2, false, &given), Some(ip("192.0.2.12")));
        inventory.routing.sources.insert((2, false), ip("192.0.2.11"));
        assert_eq!(inventory.nat_source(2, false, &given), Some(ip("192.0.2.11")));
    }

    #[test]
    fn a_nodes_address_on_loopback_is_the_source_out_of_transfer_links() {
        let mut inventory = node(&[("10.0.0.1/31", true)]);
        let own = DeviceAddress { ip: ip("203.0.113.7"), prefix: 32, global: true, preferred: true };
        inventory.upsert_address(1, own);
        assert_eq!(inventory.nat_source(2, false, &[ip("203.0.113.7")]), Some(ip("203.0.113.7")));
        assert_eq!(inventory.nat_source(2, false, &[]), Some(ip("10.0.0.1")));
        inventory.routing.sources.insert((2, false), ip("203.0.113.7"));
        assert_eq!(inventory.nat_source(2, false, &[]), Some(ip("203.0.113.7")));
    }
}
