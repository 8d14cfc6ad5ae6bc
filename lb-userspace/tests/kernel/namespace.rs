//! The network namespace in which test runs happen: devices, routes and neighbours as the vectors have them. It goes
//! away with the last thread in it and the handle.

use std::fs::File;
use std::io::Read as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd as _;
use std::process::Command;

use lb_common::abi::{V4, V6};
use lb_common::testkit::{Family, GATEWAY_MAC, HOST_MAC, POD, UPLINK, UPLINK2};
use nix::sched::{CloneFlags, setns, unshare};
use socket2::{Domain, Protocol, Socket, Type};

/// Devices by index.
pub(crate) const DEVICES: [(u32, &str); 3] = [(POD, "pod0"), (UPLINK, "up0"), (UPLINK2, "up1")];

/// A network namespace.
pub(crate) struct Namespace {
    handle: File,
    /// Sees what devices receive and send, in the order of [`DEVICES`]. What a test run only reads is not among it.
    taps: Vec<Socket>,
}

/// A socket that sees a device's packets of all kinds.
fn tap(ifindex: u32) -> Socket {
    let all = u16::try_from(libc::ETH_P_ALL).unwrap();
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(all.to_be())))).unwrap();
    let link = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).unwrap(),
        sll_protocol: all.to_be(),
        sll_ifindex: i32::try_from(ifindex).unwrap(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of_val(&link)).unwrap();
    // SAFETY: the address is initialized, and as long as is said.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const link).cast(), length) };
    assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
    socket.set_nonblocking(true).unwrap();
    socket
}

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
            // What the vectors' packets are addressed to.
            let own = mac(HOST_MAC);
            ip(&format!("link add {name} index {ifindex} address {own} type veth peer name {name}p"));
            ip(&format!("link set {name}p up"));
            ip(&format!("link set {name} up"));
        }
        family::<V4>(|addr| Ipv4Addr::from(addr).to_string(), "-4");
        family::<V6>(|addr| Ipv6Addr::from(addr).to_string(), "-6");
        let taps = DEVICES.into_iter().map(|(ifindex, _)| tap(ifindex)).collect();
        Self { handle: File::open("/proc/thread-self/ns/net").unwrap(), taps }
    }

    /// Brings the calling thread into the namespace.
    pub(crate) fn enter(&self) {
        setns(&self.handle, CloneFlags::CLONE_NEWNET).unwrap();
    }
    /// Fragments of a family (by its Ethertype) that devices have seen since the last call.
    pub(crate) fn replayed(&mut self, ethertype: &[u8]) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        for tap in &mut self.taps {
            let mut frame = [0; 8_192];
            while let Ok(length) = tap.read(&mut frame) {
                let frame = &frame[..length];
                let v6 = ethertype == [0x86, 0xdd];
                let fragment = if v6 { frame[20] == 44 } else { frame[20..22] != [0, 0] && frame[20..22] != [0x40, 0] };
                if frame[12..14] == *ethertype && fragment {
                    all.push(frame.to_vec());
                }
            }
        }
        all
    }
}
