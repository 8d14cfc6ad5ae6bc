//! The network namespace in which test runs happen: devices, routes and neighbours as the vectors have them. It goes
//! away with the last thread in it and the handle.

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;

use lb_common::abi::{V4, V6};
use lb_common::testkit::{Family, GATEWAY_MAC, POD, UPLINK, UPLINK2};
use nix::sched::{CloneFlags, setns, unshare};

/// Devices by index.
pub(crate) const DEVICES: [(u32, &str); 3] = [(POD, "pod0"), (UPLINK, "up0"), (UPLINK2, "up1")];

/// A network namespace.
pub(crate) struct Namespace(File);

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

fn device_name(ifindex: u32) -> &'static str {
    DEVICES.iter().find(|(index, _)| *index == ifindex).unwrap().1
}

/// Gives each network of a family its route, and each address that vectors send to a neighbour entry.
fn family<A: Family>(text: impl Fn(A) -> String, version: &str) {
    for (net, ifindex) in A::ROUTES {
        let bits = net.mask.bytes().iter().map(|byte| byte.count_ones()).sum::<u32>();
        ip(&format!("{version} route add {}/{bits} dev {}", text(net.net), device_name(*ifindex)));
    }
    let far = [A::REMOTE, A::CLIENT, A::STRANGER, A::ROUTER].map(|addr| (addr, UPLINK));
    let near = [(A::POD, POD), (A::LOCAL, POD), (A::LOCAL2, POD), (A::CLIENT2, UPLINK2)];
    for (addr, ifindex) in far.into_iter().chain(near) {
        let (addr, lladdr, device) = (text(addr), mac(GATEWAY_MAC), device_name(ifindex));
        ip(&format!("{version} neigh replace {addr} lladdr {lladdr} dev {device} nud permanent"));
    }
}

impl Namespace {
    /// Makes the namespace; the calling thread is in it afterwards.
    pub(crate) fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
        for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{setting}"), "1").unwrap();
        }
        for (ifindex, name) in DEVICES {
            let own = mac([0x02, 0, 0, 1, 0, u8::try_from(ifindex).unwrap()]);
            ip(&format!("link add {name} index {ifindex} address {own} type veth peer name {name}p"));
            ip(&format!("link set {name}p up"));
            ip(&format!("link set {name} up"));
        }
        family::<V4>(|addr| Ipv4Addr::from(addr).to_string(), "-4");
        family::<V6>(|addr| Ipv6Addr::from(addr).to_string(), "-6");
        Self(File::open("/proc/thread-self/ns/net").unwrap())
    }

    /// Brings the calling thread into the namespace.
    pub(crate) fn enter(&self) {
        setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
    }
}
