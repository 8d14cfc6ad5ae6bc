//! An inventory's addresses: those of a device, and those of the node.

use crate::devices::inventory::{DefaultRoute, Device, DeviceAddress};

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
    inventory.routing.defaults =
        vec![DefaultRoute { metric: 0, device: 3, v6: false, source: None, gateway: None, main: true }];
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
    assert_eq!(inventory.device_value(2, &[]).v6, lb_common::abi::V6::default());
    assert_eq!(inventory.device_value(2, &[]).v4, Ipv4Addr::new(192, 0, 2, 2).into());
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

#[test]
fn addresses_of_services_are_not_the_nodes() {
    let mut inventory = Inventory::default();
    for (index, name, kind, up, address) in [
        (1, "kube-ipvs0", "dummy", false, "10.96.0.1"),
        (2, "nodelocaldns", "dummy", false, "10.96.0.10"),
        (3, "bgp0", "dummy", true, "203.0.113.7"),
        (4, "eth0", "", true, "192.0.2.2"),
    ] {
        let kind = (!kind.is_empty()).then(|| kind.to_owned());
        inventory.devices.insert(index, Device { index, name: name.into(), kind, up, ..Device::default() });
        let ip = address.parse().unwrap();
        inventory.upsert_address(index, DeviceAddress { ip, prefix: 32, global: true, preferred: true });
    }
    let network = inventory.node_network(|_| Role::Ignored);
    let ips = |texts: &[&str]| -> Vec<std::net::IpAddr> { texts.iter().map(|text| text.parse().unwrap()).collect() };
    assert_eq!(network.addresses, ips(&["192.0.2.2", "203.0.113.7"]));
    assert_eq!(network.held, ips(&["10.96.0.10"]));
    assert_eq!(network.primary_v4, Some("203.0.113.7".parse().unwrap()), "a device that is down is not asked");
}
