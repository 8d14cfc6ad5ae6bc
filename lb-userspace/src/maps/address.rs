//! Addresses between the standard library's form and the one that lies in maps.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use lb_common::abi::{Address, Cidr, V4, V6};

use crate::model::desired::Family;

/// An address type that maps are keyed by.
pub(crate) trait MapAddress: Address + Ord {
    /// Its family.
    const FAMILY: Family;
    /// Address bits.
    const BITS: u8;
    /// The highest address.
    const MAX: Self;

    /// From the standard form; `None` when of the other family.
    fn from_ip(ip: IpAddr) -> Option<Self>;
    /// To the standard form.
    fn ip(self) -> IpAddr;
}

impl MapAddress for V4 {
    const FAMILY: Family = Family::V4;
    const BITS: u8 = 32;
    const MAX: Self = Self(u32::MAX);

    fn from_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(ip) => Some(ip.into()),
            IpAddr::V6(_) => None,
        }
    }

    fn ip(self) -> IpAddr {
        Ipv4Addr::from(self).into()
    }
}

impl MapAddress for V6 {
    const FAMILY: Family = Family::V6;
    const BITS: u8 = 128;
    const MAX: Self = Self([u32::MAX; 4]);

    fn from_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V6(ip) => Some(ip.into()),
            IpAddr::V4(_) => None,
        }
    }

    fn ip(self) -> IpAddr {
        Ipv6Addr::from(self).into()
    }
}

/// Prefixes of this family as the data path wants them; unused entries match nothing.
pub(crate) fn cidrs<A: MapAddress, const N: usize>(nets: &[IpNet]) -> [Cidr<A>; N] {
    let mut found =
        nets.iter().filter_map(|net| Some(Cidr { net: A::from_ip(net.network())?, mask: A::from_ip(net.netmask())? }));
    std::array::from_fn(|_| found.next().unwrap_or(Cidr { net: A::MAX, mask: A::ZERO }))
}
