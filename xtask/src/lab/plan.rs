//! Addresses and names of the standard lab, in one place.
//!
//! ```text
//!   client 10.90.0.100 ----+
//!                          |  fabric (bridge, 10.90.0.0/24, fd90::/64)
//!   node2 10.90.0.12 ------+
//!     remote1 10.244.2.11  |
//!                          |
//!   node1 10.90.0.11 ------+   the node under test
//!     br1 br2  10.244.1.11, .12    bridge CNI (cni0)
//!     rt1 rt2  10.244.128.11, .12  routed CNI
//! ```
//!
//! IPv6 mirrors it: `fd90::/64`, `fd44:1::/64`, `fd44:80::/64`, `fd44:2::/64`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Name of the node under test, as `--node-name`.
pub const NODE1: &str = "node1";
/// Name of the other node, which runs no agent.
pub const NODE2: &str = "node2";
/// The uplink's name on both nodes.
pub const UPLINK: &str = "eth0";

/// Port on which every Pod serves HTTP over TCP.
pub const HTTP_PORT: u16 = 8080;
/// Port on which every Pod answers DNS queries over UDP.
pub const DNS_PORT: u16 = 5353;

/// The range of `ClusterIP`s.
pub const SERVICE_CIDRS: [&str; 2] = ["10.96.0.0/16", "fd96::/112"];
/// The range of all Pods.
pub const CLUSTER_CIDRS: [&str; 2] = ["10.244.0.0/16", "fd44::/16"];
/// Pods on the bridge of `node1`.
pub const BRIDGED_PODS: [&str; 2] = ["10.244.1.0/24", "fd44:1::/64"];
/// Routed Pods of `node1`.
pub const ROUTED_PODS: [&str; 2] = ["10.244.128.0/24", "fd44:80::/64"];
/// Pods of `node2`.
pub const REMOTE_PODS: [&str; 2] = ["10.244.2.0/24", "fd44:2::/64"];
/// The range of load balancer addresses.
pub const LB_CIDRS: [&str; 2] = ["10.91.0.0/24", "fd91::/64"];
/// The range of external IPs.
pub const EXTERNAL_CIDRS: [&str; 2] = ["10.92.0.0/24", "fd92::/64"];

/// Address family of a test case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// For tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// An IPv4 and an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dual {
    /// IPv4.
    pub v4: Ipv4Addr,
    /// IPv6.
    pub v6: Ipv6Addr,
}

impl Dual {
    const fn new(v4: [u8; 4], v6_head: [u16; 2], v6_last: u16) -> Self {
        let [a, b, c, d] = v4;
        Self { v4: Ipv4Addr::new(a, b, c, d), v6: Ipv6Addr::new(v6_head[0], v6_head[1], 0, 0, 0, 0, 0, v6_last) }
    }

    /// The address of a family.
    pub const fn of(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(self.v4),
            Family::V6 => IpAddr::V6(self.v6),
        }
    }

    /// Whether `ip` is one of the two.
    pub fn contains(self, ip: IpAddr) -> bool {
        Family::ALL.iter().any(|family| self.of(*family) == ip)
    }
}

/// The fabric's own address: every node's default gateway. It swallows what it has no route for.
pub const GATEWAY: Dual = Dual::new([10, 90, 0, 1], [0xfd90, 0], 1);
/// `node1` on the fabric.
pub const NODE1_ADDR: Dual = Dual::new([10, 90, 0, 11], [0xfd90, 0], 0x11);
/// `node2` on the fabric.
pub const NODE2_ADDR: Dual = Dual::new([10, 90, 0, 12], [0xfd90, 0], 0x12);
/// The external client.
pub const CLIENT_ADDR: Dual = Dual::new([10, 90, 0, 100], [0xfd90, 0], 0x100);
/// `node1` on its Pod bridge.
pub const BRIDGE_ADDR: Dual = Dual::new([10, 244, 1, 1], [0xfd44, 1], 1);

/// The `n`th Pod address on the bridge of `node1`.
pub(super) const fn bridged(n: u8) -> Dual {
    Dual::new([10, 244, 1, 10 + n], [0xfd44, 1], as_digits(10 + n))
}

/// The `n`th routed Pod address of `node1`.
pub(super) const fn routed(n: u8) -> Dual {
    Dual::new([10, 244, 128, 10 + n], [0xfd44, 0x80], as_digits(10 + n))
}

/// The `n`th Pod address of `node2`.
pub(super) const fn remote(n: u8) -> Dual {
    Dual::new([10, 244, 2, 10 + n], [0xfd44, 2], as_digits(10 + n))
}

/// The `n`th address of Pods that sit on the fabric themselves (macvlan).
pub(super) const fn on_fabric(n: u8) -> Dual {
    Dual::new([10, 90, 0, 20 + n], [0xfd90, 0], as_digits(20 + n))
}

/// A `ClusterIP` of the lab by its last number: `10.96.0.n`, `fd96::n` (written in decimal digits, as in the examples).
pub const fn cluster_ip(n: u8) -> Dual {
    Dual::new([10, 96, 0, n], [0xfd96, 0], as_digits(n))
}

/// A load balancer address of the lab.
pub const fn lb_ip(n: u8) -> Dual {
    Dual::new([10, 91, 0, n], [0xfd91, 0], as_digits(n))
}

/// An external IP of the lab.
pub const fn external_ip(n: u8) -> Dual {
    Dual::new([10, 92, 0, n], [0xfd92, 0], as_digits(n))
}

/// The hexadecimal number that reads like the decimal `n`: 10 becomes 0x10.
const fn as_digits(n: u8) -> u16 {
    let n = n as u16;
    n / 100 * 0x100 + n / 10 % 10 * 0x10 + n % 10
}
