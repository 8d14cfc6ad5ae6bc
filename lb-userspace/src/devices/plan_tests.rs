//! Which program goes where, device by device.

use glob::Pattern;

use super::*;
use crate::devices::inventory::DeviceAddress;
use crate::devices::role_decider::LocalDevices;

fn device(index: u32, name: &str, kind: Option<&str>) -> Device {
    let mac = [2, 0, 0, 0, 0, u8::try_from(index).unwrap()];
    Device {
        index,
        name: name.into(),
        kind: kind.map(Into::into),
        ethernet: true,
        up: true,
        mac: Some(mac),
        ..Device::default()
    }
}

/// A physical uplink, a Pod's device, a tunnel without a link header, a bridge, a tap as Pod device, and loopback.
fn node() -> Inventory {
    let mut inventory = Inventory::default();
    let devices = [
        device(2, "eth0", None),
        Device { peer_elsewhere: true, ..device(3, "veth1", Some("veth")) },
        Device { ethernet: false, mac: None, ..device(4, "wg0", Some("wireguard")) },
        device(5, "br0", Some("bridge")),
        device(6, "tap0", Some("tun")),
        Device { loopback: true, ..device(1, "lo", None) },
    ];
    inventory.devices.extend(devices.map(|device| (device.index, device)));
    for (index, ip) in [(1, "127.0.0.1"), (2, "192.0.2.2"), (4, "198.51.100.4")] {
        let address = DeviceAddress { ip: ip.parse().unwrap(), prefix: 24, global: index > 1, preferred: true };
        inventory.upsert_address(index, address);
    }
    inventory
}

fn planned(xdp: XdpMode) -> Plan {
    plan(&node(), &RoleRules::default(), xdp)
}

#[test]
fn each_role_has_its_programs_and_egress_comes_first() {
    let plan = planned(XdpMode::Auto);
    let sets: Vec<_> = plan.values().map(|device| device.tc).collect();
    assert_eq!(sets, [None, Some(&UPLINK), Some(&POD), Some(&TUNNEL), None, Some(&POD)]);
    assert!(TC_PROGRAMS.iter().all(|set| set.hooks.map(|(hook, _)| hook) == [Hook::Egress, Hook::Ingress]));
}

#[test]
fn tunnels_and_xdp_are_loaded_only_where_there_is_a_device_for_them() {
    assert_eq!(programs_at_start(), ["pod_egress", "pod_ingress", "uplink_egress", "uplink_ingress"]);
    assert!(tc_programs(&planned(XdpMode::Auto)).contains(&"tunnel_ingress"));
    let mut without = node();
    without.remove_device(4);
    let plan = plan(&without, &RoleRules::default(), XdpMode::Off);
    assert!(tc_programs(&plan).iter().all(|program| !program.starts_with("tunnel")));
    assert!(plan.values().all(|device| !matches!(device.xdp, XdpPlan::Attach { .. })));
}

#[test]
fn xdp_goes_on_uplinks_alone_and_its_absence_has_a_reason() {
    let auto = planned(XdpMode::Auto);
    assert_eq!(auto[&2].xdp, XdpPlan::Attach { forced: false });
    assert_eq!(auto[&3].xdp, XdpPlan::No);
    assert!(matches!(&auto[&4].xdp, XdpPlan::LeaveToTc(why) if why.contains("wireguard")), "{:?}", auto[&4]);
    assert_eq!(auto[&4].notes.len(), 2, "no XDP, and no Ethernet header: {:?}", auto[&4].notes);
    assert_eq!(planned(XdpMode::Native)[&4].xdp, XdpPlan::Attach { forced: true });
    assert!(matches!(planned(XdpMode::Off)[&2].xdp, XdpPlan::LeaveToTc(_)));
}

#[test]
fn an_entry_tells_role_addresses_and_what_may_be_redirected_where() {
    let plan = planned(XdpMode::Auto);
    assert_eq!(plan[&2].entry.flags, device_flag::UPLINK);
    assert_eq!(plan[&2].entry.v4, std::net::Ipv4Addr::new(192, 0, 2, 2).into());
    assert_eq!(plan[&3].entry.flags, device_flag::POD | device_flag::PEER, "a packet may go to the other end");
    assert_eq!(plan[&3].entry.mac, [2, 0, 0, 0, 0, 3]);
    assert_eq!(plan[&6].entry.flags, device_flag::POD, "a tap has no other end");
    assert_eq!(plan[&4].entry.mac, [0; 6], "no frame, no hardware address");
    assert!(plan[&2].xdp_target && !plan[&3].xdp_target);
}

#[test]
fn packets_of_a_named_device_may_have_any_source() {
    let rules = RoleRules { any_source: vec![Pattern::new("v*").unwrap()], ..RoleRules::default() };
    let plan = plan(&node(), &rules, XdpMode::Auto);
    assert_eq!(plan[&3].entry.flags & device_flag::ANY_SOURCE, device_flag::ANY_SOURCE);
    assert_eq!(plan[&2].entry.flags & device_flag::ANY_SOURCE, 0);
}

#[test]
fn a_pair_with_both_ends_here_is_no_peer_even_as_a_named_pod_device() {
    let mut inventory = Inventory::default();
    inventory.devices.insert(7, device(7, "v0", Some("veth")));
    let rules = RoleRules { pods: vec![Pattern::new("v0").unwrap()], ..RoleRules::default() };
    assert_eq!(plan(&inventory, &rules, XdpMode::Auto)[&7].entry.flags, device_flag::POD);
}

#[test]
fn devices_that_count_as_local_say_so() {
    let rules = RoleRules { local: Some(LocalDevices::Prefix("veth".into())), ..RoleRules::default() };
    let plan = plan(&node(), &rules, XdpMode::Auto);
    let local: Vec<u32> = plan
        .iter()
        .filter(|(_, device)| device.entry.flags & device_flag::LOCAL != 0)
        .map(|(index, _)| *index)
        .collect();
    assert_eq!(local, [3]);
    assert!(plan[&3].notes[0].contains("--detect-local"));
}
