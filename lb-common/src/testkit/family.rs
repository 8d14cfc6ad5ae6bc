//! The addresses of the little world in which vectors play, for each address family.

use core::fmt::Debug;
use core::hash::Hash;

use crate::abi::{Cidr, V4, V6};
use crate::wire::IpVersion;

/// The node's MAC address, as all packets of the vectors have it.
pub const HOST_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0xaa];
/// The sender's MAC address, as all packets of the vectors have it.
pub const PEER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0xbb];
/// The MAC address behind which everything lies that the node reaches by route.
pub const GATEWAY_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0xcc];

/// An address family with the addresses that vectors use.
pub trait Family: IpVersion + Hash + Debug + Ord + 'static {
    /// A Pod on this node, the client of most vectors.
    const POD: Self;
    /// A Pod on this node, the usual endpoint.
    const LOCAL: Self;
    /// Another Pod on this node.
    const LOCAL2: Self;
    /// A Pod on another node, reached through the uplink.
    const REMOTE: Self;
    /// A client outside of the cluster, reached through the uplink.
    const CLIENT: Self;
    /// Another client outside of the cluster.
    const STRANGER: Self;
    /// A router on the way to the clients.
    const ROUTER: Self;
    /// An address that no route leads to.
    const NOWHERE: Self;
    /// The node's own address, on the uplink.
    const NODE: Self;
    /// The node's address on its second uplink.
    const NODE2: Self;
    /// A client behind the second uplink.
    const CLIENT2: Self;
    /// A `ClusterIP`.
    const VIP: Self;
    /// An address of the Service range that no Service has.
    const UNALLOCATED: Self;
    /// A load balancer's address.
    const LB: Self;
    /// An external address.
    const EXTERNAL: Self;
    /// Prefix of Pods in the cluster.
    const CLUSTER: Cidr<Self>;
    /// Prefix of `ClusterIP`s.
    const SERVICES: Cidr<Self>;
    /// A prefix that matches nothing.
    const NO_PREFIX: Cidr<Self>;
    /// Networks and the device behind which they are.
    const ROUTES: &'static [(Cidr<Self>, u32)];
    /// Bits of an address.
    const BITS: u32;

    /// The address's bytes as written.
    fn bytes(self) -> Vec<u8>;

    /// The address of these bytes, of which there have to be as many as it has.
    fn read(bytes: &[u8]) -> Option<Self>;
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> V4 {
    V4::new([a, b, c, d])
}

/// `fd00:<net>::<host>`.
const fn v6(net: u16, host: u16) -> V6 {
    let ([n1, n2], [h1, h2]) = (net.to_be_bytes(), host.to_be_bytes());
    V6::new([0xfd, 0, n1, n2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, h1, h2])
}

const V6_NET: V6 = V6::new([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

impl Family for V4 {
    const POD: Self = v4(10, 244, 1, 10);
    const LOCAL: Self = v4(10, 244, 1, 20);
    const LOCAL2: Self = v4(10, 244, 1, 21);
    const REMOTE: Self = v4(10, 244, 2, 30);
    const CLIENT: Self = v4(192, 0, 2, 100);
    const STRANGER: Self = v4(192, 0, 2, 200);
    const ROUTER: Self = v4(192, 0, 2, 254);
    const NOWHERE: Self = v4(172, 31, 0, 1);
    const NODE: Self = v4(192, 0, 2, 1);
    const NODE2: Self = v4(198, 18, 3, 1);
    const CLIENT2: Self = v4(198, 18, 3, 100);
    const VIP: Self = v4(10, 96, 0, 10);
    const UNALLOCATED: Self = v4(10, 96, 77, 77);
    const LB: Self = v4(203, 0, 113, 10);
    const EXTERNAL: Self = v4(203, 0, 113, 20);
    const CLUSTER: Cidr<Self> = Cidr { net: v4(10, 244, 0, 0), mask: v4(255, 255, 0, 0) };
    const SERVICES: Cidr<Self> = Cidr { net: v4(10, 96, 0, 0), mask: v4(255, 255, 0, 0) };
    const NO_PREFIX: Cidr<Self> = Cidr { net: v4(255, 255, 255, 255), mask: v4(0, 0, 0, 0) };
    const ROUTES: &'static [(Cidr<Self>, u32)] = &[
        (Cidr { net: v4(10, 244, 1, 0), mask: v4(255, 255, 255, 0) }, super::POD),
        (Cidr { net: v4(10, 244, 2, 0), mask: v4(255, 255, 255, 0) }, super::UPLINK),
        (Cidr { net: v4(192, 0, 2, 0), mask: v4(255, 255, 255, 0) }, super::UPLINK),
        (Cidr { net: v4(198, 18, 3, 0), mask: v4(255, 255, 255, 0) }, super::UPLINK2),
    ];
    const BITS: u32 = 32;

    fn bytes(self) -> Vec<u8> {
        self.octets().to_vec()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::new)
    }
}

impl Family for V6 {
    const POD: Self = v6(0x2441, 0x10);
    const LOCAL: Self = v6(0x2441, 0x20);
    const LOCAL2: Self = v6(0x2441, 0x21);
    const REMOTE: Self = v6(0x2442, 0x30);
    const CLIENT: Self = v6(2, 0x100);
    const STRANGER: Self = v6(2, 0x200);
    const ROUTER: Self = v6(2, 0x254);
    const NOWHERE: Self = v6(0x31, 1);
    const NODE: Self = v6(2, 1);
    const NODE2: Self = v6(3, 1);
    const CLIENT2: Self = v6(3, 0x100);
    const VIP: Self = v6(0x96, 0x10);
    const UNALLOCATED: Self = v6(0x96, 0x7777);
    const LB: Self = v6(0x113, 0x10);
    const EXTERNAL: Self = v6(0x113, 0x20);
    // Pods' networks begin with fd00:244x.
    const CLUSTER: Cidr<Self> =
        Cidr { net: v6(0x2440, 0), mask: V6::new([0xff, 0xff, 0xff, 0xf0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) };
    const SERVICES: Cidr<Self> = Cidr { net: v6(0x96, 0), mask: V6_NET };
    const NO_PREFIX: Cidr<Self> = Cidr { net: V6([u32::MAX; 4]), mask: V6([0; 4]) };
    const ROUTES: &'static [(Cidr<Self>, u32)] = &[
        (Cidr { net: v6(0x2441, 0), mask: V6_NET }, super::POD),
        (Cidr { net: v6(0x2442, 0), mask: V6_NET }, super::UPLINK),
        (Cidr { net: v6(2, 0), mask: V6_NET }, super::UPLINK),
        (Cidr { net: v6(3, 0), mask: V6_NET }, super::UPLINK2),
    ];
    const BITS: u32 = 128;

    fn bytes(self) -> Vec<u8> {
        self.octets().to_vec()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::new)
    }
}
