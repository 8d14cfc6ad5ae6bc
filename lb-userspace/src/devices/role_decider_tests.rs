//! Role decision by tables: a namespace described in lines, and the role expected of each device.

use super::*;
use crate::devices::inventory::{DefaultRoute, DeviceAddress};

/// `NAME KIND [flag...]`; flags: `default` (`default=TABLE`), `addr` (`addr/32`: a single one), `gw`, `route`, `in=MASTER`, `elsewhere`, `down`, `raw`.
fn namespace(lines: &[&str]) -> Inventory {
    let mut inventory = Inventory::default();
    let names: Vec<&str> = lines.iter().map(|l| l.split(' ').next().unwrap()).collect();
    for (at, line) in lines.iter().enumerate() {
        let index = u32::try_from(at + 1).unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let has = |flag: &str| words.contains(&flag);
        let master = words
            .iter()
            .find_map(|w| w.strip_prefix("in="))
            .map(|name| u32::try_from(names.iter().position(|n| *n == name).unwrap() + 1).unwrap());
        inventory.devices.insert(
            index,
            Device {
                index,
                name: words[0].into(),
                kind: (words[1] != "-" && words[1] != "lo").then(|| words[1].into()),
                ethernet: !has("raw"),
                loopback: words[1] == "lo",
                up: !has("down"),
                master,
                peer: None,
                mac: None,
                peer_elsewhere: has("elsewhere"),
            },
        );
        if has("addr") || has("addr/32") {
            let ip = "192.0.2.1".parse().unwrap();
            let prefix = if has("addr") { 24 } else { 32 };
            inventory.upsert_address(index, DeviceAddress { ip, prefix, global: true, preferred: true });
        }
        if has("default") || has("default=77") {
            inventory.routing.defaults.push(DefaultRoute {
                metric: 0,
                device: index,
                v6: false,
                source: None,
                gateway: None,
                main: has("default"),
            });
        }
        if has("gw") {
            inventory.routing.gatewayed.insert(index);
        }
        if has("route") || has("gw") || has("default") {
            inventory.routing.routed.insert(index);
        }
    }
    inventory
}

fn rules(uplinks: &[&str], pods: &[&str], ignored: &[&str]) -> RoleRules {
    let patterns = |list: &[&str]| list.iter().map(|p| Pattern::new(p).unwrap()).collect();
    RoleRules {
        uplinks: patterns(uplinks),
        pods: patterns(pods),
        ignored: patterns(ignored),
        local: None,
        any_source: Vec::new(),
        node_ips: Vec::new(),
    }
}

/// Expected roles as one letter per device: `U`plink, `P`od, `-` ignored.
fn roles(inventory: &Inventory, rules: &RoleRules) -> String {
    decide(inventory, rules)
        .values()
        .map(|decision| match decision.role {
            Role::Uplink => 'U',
            Role::Pod => 'P',
            Role::Ignored => '-',
        })
        .collect()
}

#[test]
fn devices_get_their_role_by_what_they_are() {
    let none = rules(&[], &[], &[]);
    let cases: &[(&str, &[&str], &str)] = &[
        ("one physical uplink", &["lo lo addr", "eth0 - addr default"], "-U"),
        ("a second network without default route", &["eth0 - addr default", "eth1 - addr"], "UU"),
        ("a spare physical device", &["eth0 - addr default", "eth1 -"], "U-"),
        ("a device that is down", &["eth0 - addr default", "eth1 - addr down"], "U-"),
        ("routed Pods", &["eth0 - addr default", "cali1 veth elsewhere route"], "UP"),
        (
            "bridged Pods",
            &["eth0 - addr default", "cni0 bridge addr", "veth1 veth elsewhere in=cni0", "vnet0 tun in=cni0"],
            "U-PP",
        ),
        (
            "a bridge that is the uplink",
            &["br0 bridge addr default", "eth0 - in=br0", "veth1 veth elsewhere in=br0"],
            "U-P",
        ),
        (
            "a bridge with the node's second address",
            &["eth0 - addr default", "br0 bridge addr", "eth1 - in=br0"],
            "UU-",
        ),
        (
            "Pods bridged to the LAN",
            &["eth0 - addr default", "br0 bridge", "eth1 - in=br0", "v veth elsewhere in=br0"],
            "U-UP",
        ),
        ("a bond", &["bond0 bond addr default", "eth0 - in=bond0", "eth1 - in=bond0"], "U--"),
        ("a VLAN on an unnumbered device", &["eth0 -", "eth0.5 vlan addr default"], "-U"),
        ("a VRF keeps its ports' roles", &["vrf0 vrf", "eth0 - addr in=vrf0"], "-U"),
        ("overlays", &["eth0 - addr default", "flannel.1 vxlan addr", "wg0 wireguard route raw"], "UUU"),
        ("an overlay as a bridge's port", &["eth0 - addr default", "br0 bridge addr", "vx vxlan in=br0"], "U-U"),
        ("the fallback tunnel devices of the kernel", &["tunl0 ipip down raw", "sit0 sit raw"], "--"),
        ("a node that is itself a namespace", &["eth0 veth elsewhere addr default", "p1 veth elsewhere"], "UP"),
        (
            "a namespaced node with a second uplink",
            &["eth0 veth elsewhere addr default", "eth1 veth elsewhere addr gw"],
            "UU",
        ),
        ("a Pod with a network behind it", &["eth0 veth elsewhere addr default", "p1 veth elsewhere gw"], "UP"),
        ("the same, with the address of its gateway", &["eth0 - addr default", "p1 veth elsewhere addr/32 gw"], "UP"),
        ("a Pod that is others' default route", &["eth0 - addr default", "p1 veth elsewhere default=77"], "UP"),
        ("a Pod that is the node's default route, too", &["eth0 - addr default", "p1 veth elsewhere default"], "UP"),
        ("a virtual machine that is others' default route", &["eth0 - addr default", "t0 tun default=77"], "UP"),
        ("a virtual machine with a network behind it", &["eth0 - addr default", "t0 tun addr gw default=77"], "UP"),
        ("a bridged Pod beside that", &["eth0 - addr default", "b0 bridge addr", "p1 veth elsewhere in=b0 gw"], "U-P"),
        ("a namespaced node without a transfer network", &["eth0 veth elsewhere default", "p1 veth elsewhere"], "UP"),
        (
            "the same over two devices",
            &["lo lo addr/32", "a veth elsewhere default", "b veth elsewhere default"],
            "-UU",
        ),
        ("a namespaced node behind a tap", &["tap0 tun addr default"], "U"),
        ("a default route by a pair within the node", &["a veth addr default", "b veth addr"], "U-"),
        ("both ends here", &["a veth", "b veth"], "--"),
        ("a dummy with Service addresses", &["kube-ipvs0 dummy addr"], "-"),
        ("a virtual machine's tap", &["eth0 - addr default", "tap0 tun addr"], "UP"),
        ("a VPN", &["eth0 - addr default", "tun0 tun addr raw"], "UU"),
        ("a VPN that is the way out", &["eth0 - addr", "tun0 tun addr raw default"], "UU"),
        ("macvlan beside its parent", &["eth0 - addr default", "mac0 macvlan addr"], "UU"),
        ("netkit Pods", &["eth0 - addr default", "nk0 netkit elsewhere"], "UP"),
    ];
    for (what, lines, expected) in cases {
        assert_eq!(roles(&namespace(lines), &none), *expected, "{what}");
    }
}

#[test]
fn the_user_has_the_last_word() {
    let node = namespace(&[
        "eth0 veth elsewhere addr default",
        "eth1 veth elsewhere addr",
        "pod1 veth elsewhere",
        "other1 veth elsewhere",
        "flannel.1 vxlan addr",
    ]);
    let cases: &[(&str, RoleRules, &str)] = &[
        ("nothing said", rules(&[], &[], &[]), "UPPPU"),
        ("one uplink named", rules(&["eth1"], &[], &[]), "-UPPU"),
        ("uplinks by pattern", rules(&["eth*"], &[], &[]), "UUPPU"),
        ("Pod devices named", rules(&["eth*"], &["pod*"], &[]), "UUP-U"),
        ("a physical name as Pod device", rules(&["eth0"], &["eth1"], &[]), "UP--U"),
        ("ignored wins", rules(&["eth*"], &[], &["other*", "flannel*", "eth1"]), "U-P--"),
    ];
    for (what, rules, expected) in cases {
        assert_eq!(roles(&node, rules), *expected, "{what}");
    }
}

#[test]
fn a_decision_names_its_reason() {
    let node = namespace(&["eth0 - addr default", "eth1 - addr", "br0 bridge", "v veth elsewhere in=br0"]);
    let why = |rules: &RoleRules, index: u32| decide(&node, rules)[&index].why.clone();
    assert_eq!(why(&rules(&[], &[], &[]), 1), "default route");
    assert_eq!(why(&rules(&["eth0"], &[], &[]), 1), "matches --uplink eth0");
    assert_eq!(why(&rules(&["eth0"], &[], &[]), 2), "physical device with a global address, but --uplink names others");
    assert_eq!(why(&rules(&[], &[], &[]), 4), "port of bridge br0");
    assert_eq!(why(&rules(&[], &["x*"], &[]), 4), "port of bridge br0, but --pod-device names others");
}

#[test]
fn a_device_is_local_by_the_name_of_what_netfilter_sees() {
    let node = namespace(&[
        "eth0 - addr default",
        "cni0 bridge addr",
        "veth1 veth elsewhere in=cni0",
        "cni7 veth elsewhere",
        "vrf0 vrf",
        "veth2 veth elsewhere in=vrf0",
        "br-lan bridge addr",
        "veth3 veth elsewhere in=br-lan",
    ]);
    let local = |how: Option<LocalDevices>| -> String {
        let rules = RoleRules { local: how, ..RoleRules::default() };
        node.devices.values().map(|device| if is_local(&node, device, &rules) { 'L' } else { '-' }).collect()
    };
    let bridge = |name: &str| Some(LocalDevices::Bridge(name.into()));
    let prefix = |text: &str| Some(LocalDevices::Prefix(text.into()));
    assert_eq!(local(None), "--------");
    assert_eq!(local(bridge("cni0")), "-LL-----");
    assert_eq!(local(bridge("cni")), "--------", "a bridge's name is no prefix");
    assert_eq!(local(bridge("br-lan")), "------LL");
    assert_eq!(local(prefix("cni")), "-LLL----");
    assert_eq!(local(prefix("veth")), "-----L--", "a bridge's port has the bridge's name, a VRF's its own");
    assert_eq!(local(prefix("eth0")), "L-------");
}
