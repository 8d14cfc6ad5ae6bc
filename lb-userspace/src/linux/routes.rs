//! Where a packet would go on from this node: route, neighbour, device, as the kernel has them now.

use std::io;
use std::net::IpAddr;

use super::netlink_ask::{Asker, attribute, attributes, number, put, text};

const RTM_GETLINK: u16 = 18;
const RTM_GETROUTE: u16 = 26;
const RTM_GETNEIGH: u16 = 30;
const RTM_NEWROUTE_LENGTH: usize = 12;
const NDMSG_LENGTH: usize = 12;
const IFINFOMSG_LENGTH: usize = 16;

/// Attributes of `linux/rtnetlink.h`, `linux/neighbour.h`, `linux/if_link.h`.
mod attr {
    pub(super) const DST: u16 = 1;
    pub(super) const SRC: u16 = 2;
    pub(super) const OIF: u16 = 4;
    pub(super) const GATEWAY: u16 = 5;
    pub(super) const PREFSRC: u16 = 7;
    pub(super) const METRICS: u16 = 8;
    pub(super) const VIA: u16 = 18;
    pub(super) const METRIC_MTU: u16 = 2;
    pub(super) const NEIGHBOUR: u16 = 1;
    pub(super) const NAME: u16 = 3;
    pub(super) const MTU: u16 = 4;
    pub(super) const MASTER: u16 = 10;
}

/// Kind of a route that leads to the node itself (`RTN_LOCAL`).
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;

/// A route to an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteTo {
    /// The address is one of the node's own.
    pub local: bool,
    /// Egress device.
    pub device: u32,
    /// Next router, where there is one.
    pub gateway: Option<IpAddr>,
    /// Source that the kernel would take.
    pub source: Option<IpAddr>,
    /// Largest packet that the route says.
    pub mtu: Option<u32>,
}

/// State of a neighbour's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// Its hardware address is known.
    Known,
    /// The kernel has asked in vain, or is asking.
    Unanswered,
    /// Nobody has asked.
    Absent,
}

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Largest packet.
    pub mtu: u32,
    /// Up, and with a carrier.
    pub running: bool,
    /// Set up by the administrator.
    pub up: bool,
    /// Packets need the neighbour's hardware address.
    pub resolves: bool,
    /// The bridge or other switch that it is a port of; 0: none.
    pub master: u32,
}

const fn family(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => 2,
        IpAddr::V6(_) => 10,
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(<[u8; 4]>::try_from(bytes).ok()?.into()),
        16 => Some(<[u8; 16]>::try_from(bytes).ok()?.into()),
        _ => None,
    }
}

/// Asks for routes, neighbours and devices.
pub struct Routes(Asker);

impl Routes {
    /// Of the current network namespace.
    pub fn open() -> io::Result<Self> {
        Asker::route().map(Self)
    }

    /// The route of a packet to `dst`, from `src`, out of the device `by` where that is prescribed. The error is the kernel's: no route, or one
    /// that forbids it.
    pub fn to(&mut self, dst: IpAddr, src: Option<IpAddr>, by: Option<u32>) -> io::Result<RouteTo> {
        let bits = if dst.is_ipv4() { 32 } else { 128 };
        let from = if src.is_some() { bits } else { 0 };
        let mut body = vec![family(dst), bits, from, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        put(&mut body, attr::DST, &octets(dst));
        if let Some(src) = src {
            put(&mut body, attr::SRC, &octets(src));
        }
        if let Some(by) = by {
            put(&mut body, attr::OIF, &by.to_ne_bytes());
        }
        let answers = self.0.ask(RTM_GETROUTE, &body)?;
        let answer = answers.first().ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        read_route(answer)
    }

    /// The entry of a neighbour.
    pub fn neighbour(&mut self, device: u32, ip: IpAddr) -> io::Result<Neighbour> {
        let mut body = vec![family(ip), 0, 0, 0];
        body.extend(device.to_ne_bytes());
        body.extend([0; 4]);
        put(&mut body, attr::NEIGHBOUR, &octets(ip));
        match self.0.ask(RTM_GETNEIGH, &body) {
            Ok(answers) => Ok(answers.first().map_or(Neighbour::Absent, |answer| read_neighbour(answer))),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Neighbour::Absent),
            Err(error) => Err(error),
        }
    }

    /// Neighbours of a device whose hardware address is known.
    pub fn neighbours_of(&mut self, device: u32, v6: bool) -> io::Result<Vec<IpAddr>> {
        let mut body = vec![if v6 { 10 } else { 2 }];
        body.resize(NDMSG_LENGTH, 0);
        let answers = self.0.list(RTM_GETNEIGH, &body)?;
        let of_device = answers.iter().filter(|answer| {
            answer.get(4..8).and_then(number) == Some(device) && read_neighbour(answer) == Neighbour::Known
        });
        Ok(of_device.filter_map(|answer| address(attribute(answer.get(NDMSG_LENGTH..)?, attr::NEIGHBOUR)?)).collect())
    }

    /// A device.
    pub fn link(&mut self, index: u32) -> io::Result<Link> {
        let mut body = vec![0; 4];
        body.extend(index.to_ne_bytes());
        body.extend([0; 8]);
        let answers = self.0.ask(RTM_GETLINK, &body)?;
        answers.first().and_then(|answer| read_link(answer)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The ports of a switch.
    pub fn ports_of(&mut self, master: u32) -> io::Result<Vec<Link>> {
        let answers = self.0.list(RTM_GETLINK, &[0; IFINFOMSG_LENGTH])?;
        Ok(answers.iter().filter_map(|answer| read_link(answer)).filter(|link| link.master == master).collect())
    }
}

fn read_route(answer: &[u8]) -> io::Result<RouteTo> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let kind = *answer.get(7).ok_or_else(malformed)?;
    // Routes that forbid it are an error for IPv4, and a kind for IPv6.
    match kind {
        RTN_UNICAST | RTN_LOCAL => {}
        6 => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
        8 => return Err(io::Error::from_raw_os_error(libc::EACCES)),
        _ => return Err(io::Error::from_raw_os_error(libc::EHOSTUNREACH)),
    }
    let mut route = RouteTo { local: kind == RTN_LOCAL, ..RouteTo::default() };
    for (kind, value) in attributes(answer.get(RTM_NEWROUTE_LENGTH..).unwrap_or_default()) {
        match kind {
            attr::OIF => route.device = number(value).unwrap_or(0),
            attr::GATEWAY => route.gateway = address(value),
            attr::VIA => route.gateway = value.get(2..).and_then(address),
            attr::PREFSRC => route.source = address(value),
            attr::METRICS => route.mtu = attribute(value, attr::METRIC_MTU).and_then(number).filter(|mtu| *mtu != 0),
            _ => {}
        }
    }
    Ok(route)
}

/// `struct ndmsg`: the state is a set of bits, `NUD_...`.
fn read_neighbour(answer: &[u8]) -> Neighbour {
    let state = answer.get(8..10).map_or(0, |state| u16::from_ne_bytes([state[0], state[1]]));
    match state {
        0 => Neighbour::Absent,
        // Incomplete, failed.
        state if state & (0x01 | 0x20) != 0 => Neighbour::Unanswered,
        _ => Neighbour::Known,
    }
}

fn read_link(answer: &[u8]) -> Option<Link> {
    const UP: u32 = 1;
    const LOOPBACK: u32 = 8;
    const RUNNING: u32 = 0x40;
    const NO_ARP: u32 = 0x80;
    let [index, flags] = [answer.get(4..8)?, answer.get(8..12)?].map(|field| number(field).unwrap_or(0));
    let mut link = Link {
        index,
        up: flags & UP != 0,
        running: flags & (UP | RUNNING) == UP | RUNNING,
        resolves: flags & (NO_ARP | LOOPBACK) == 0,
        ..Link::default()
    };
    for (kind, value) in attributes(answer.get(IFINFOMSG_LENGTH..)?) {
        match kind {
            attr::NAME => link.name = text(value),
            attr::MTU => link.mtu = number(value).unwrap_or(0),
            attr::MASTER => link.master = number(value).unwrap_or(0),
            _ => {}
        }
    }
    Some(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_the_way_to_the_node_itself() {
        let mut routes = Routes::open().unwrap();
        let route = routes.to("127.0.0.1".parse().unwrap(), None, None).unwrap();
        assert!(route.local, "{route:?}");
        let link = routes.link(route.device).unwrap();
        assert!(link.name == "lo" && !link.resolves && link.mtu > 0, "{link:?}");
        assert!(routes.link(u32::MAX >> 1).is_err());
        assert_eq!(routes.neighbour(route.device, "192.0.2.77".parse().unwrap()).unwrap(), Neighbour::Absent);
    }

    #[test]
    fn a_route_that_forbids_the_way_is_an_error() {
        let message = |kind: u8| {
            let mut bytes = vec![10, 128, 0, 0, 254, 2, 0, kind, 0, 0, 0, 0];
            put(&mut bytes, attr::OIF, &7u32.to_ne_bytes());
            put(&mut bytes, attr::GATEWAY, &[192, 0, 2, 1]);
            let mut metrics = Vec::new();
            put(&mut metrics, attr::METRIC_MTU, &1280u32.to_ne_bytes());
            put(&mut bytes, attr::METRICS, &metrics);
            bytes
        };
        let route = read_route(&message(RTN_UNICAST)).unwrap();
        assert_eq!((route.device, route.gateway, route.mtu), (7, "192.0.2.1".parse().ok(), Some(1280)));
        let errors = [7, 8, 6].map(|kind| read_route(&message(kind)).unwrap_err().raw_os_error());
        assert_eq!(errors, [libc::EHOSTUNREACH, libc::EACCES, libc::EINVAL].map(Some));
    }
}
