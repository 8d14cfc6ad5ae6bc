//! Addresses between the standard library's form and the one that lies in maps.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use lb_common::abi::{Address, Cidr, V4, V6};

use crate::model::desired::Family;

/// An address type that maps are keyed by.
pub trait MapAddress: Address + Ord {
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

/// The prefixes of which [`cidrs`] were made.
pub(crate) fn prefixes<A: MapAddress>(cidrs: &[Cidr<A>]) -> impl Iterator<Item = IpNet> + '_ {
    // An entry that was never written is all zeroes: as a prefix it would be everything.
    let used = cidrs.iter().filter(|cidr| cidr.net != A::MAX && (cidr.net, cidr.mask) != (A::ZERO, A::ZERO));
    used.filter_map(|cidr| IpNet::with_netmask(cidr.net.ip(), cidr.mask.ip()).ok())
}

/// Prefixes of this family as the data path wants them; unused entries match nothing.
pub(crate) fn cidrs<A: MapAddress, const N: usize>(nets: &[IpNet]) -> [Cidr<A>; N] {
    let mut found =
        nets.iter().filter_map(|net| Some(Cidr { net: A::from_ip(net.network())?, mask: A::from_ip(net.netmask())? }));
    std::array::from_fn(|_| found.next().unwrap_or(Cidr { net: A::MAX, mask: A::ZERO }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_come_back_as_they_were_given() {
        let v4: Vec<IpNet> = ["10.244.0.0/16", "192.0.2.1/32"].map(|net| net.parse().unwrap()).to_vec();
        assert_eq!(prefixes(&cidrs::<V4, 4>(&v4)).collect::<Vec<_>>(), v4);
        let v6: Vec<IpNet> = ["fd00:1::/64", "8000::/1"].map(|net| net.parse().unwrap()).to_vec();
        assert_eq!(prefixes(&cidrs::<V6, 2>(&v6)).collect::<Vec<_>>(), v6);
        assert_eq!(prefixes(&[Cidr::<V4>::default(); 4]).count() + prefixes(&cidrs::<V6, 4>(&[])).count(), 0);
    }
}
