//! Connections whose destination the kernel's own connection tracking translates, such as those that kube-proxy began.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::netlink_ask::{Asker, attribute, be_number};

/// `NFNL_SUBSYS_CTNETLINK`, `IPCTNL_MSG_CT_GET`.
const GET: u16 = (1 << 8) + 1;
/// Bytes of `struct nfgenmsg`.
const HEADER: usize = 4;
/// `IPS_DST_NAT`.
const DESTINATION_IS_TRANSLATED: u32 = 1 << 5;

/// `TCP_CONNTRACK_TIME_WAIT`, behind which is `TCP_CONNTRACK_CLOSE`: connections that are over.
const OVER: [u8; 2] = [7, 8];

/// A connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translated {
    /// Protocol number.
    pub protocol: u8,
    /// Where its client sends to.
    pub destination: SocketAddr,
}

/// Calls `each` for every connection that goes on, of the current network namespace whose destination is translated.
pub fn each_translated(mut each: impl FnMut(Translated)) -> io::Result<()> {
    // To ask would load the module; without it there are no connections.
    if !Path::new("/proc/sys/net/netfilter/nf_conntrack_count").exists() {
        return Ok(());
    }
    Asker::netfilter()?.each(GET, &[0; HEADER], |body| {
        if let Some(found) = translated(body) {
            each(found);
        }
    })
}

/// `CTA_...`
fn translated(body: &[u8]) -> Option<Translated> {
    let attributes = body.get(HEADER..)?;
    let status = attribute(attributes, 3).and_then(be_number)?;
    if status & DESTINATION_IS_TRANSLATED == 0 {
        return None;
    }
    let tcp_state = attribute(attributes, 4).and_then(|info| attribute(info, 1)).and_then(|tcp| attribute(tcp, 1));
    if tcp_state.and_then(|state| state.first()).is_some_and(|state| OVER.contains(state)) {
        return None;
    }
    let original = attribute(attributes, 1)?;
    let (ip, proto) = (attribute(original, 1)?, attribute(original, 2)?);
    let v4 = || Some(IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(attribute(ip, 2)?).ok()?)));
    let v6 = || Some(IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(attribute(ip, 4)?).ok()?)));
    let port = attribute(proto, 3).and_then(|port| Some(u16::from_be_bytes(port.get(..2)?.try_into().ok()?)));
    Some(Translated {
        protocol: *attribute(proto, 1)?.first()?,
        destination: SocketAddr::new(v4().or_else(v6)?, port.unwrap_or(0)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::netlink_ask::put;

    fn message(status: u32, address: &[u8], kind: u16, tcp_state: u8) -> Vec<u8> {
        let (mut tcp, mut info) = (Vec::new(), Vec::new());
        put(&mut tcp, 1, &[tcp_state]);
        put(&mut info, 1 | 0x8000, &tcp);
        let (mut ip, mut proto, mut original, mut body) = (Vec::new(), Vec::new(), Vec::new(), vec![2, 0, 0, 0]);
        put(&mut ip, kind, address);
        put(&mut proto, 1, &[6]);
        put(&mut proto, 2, &40_000u16.to_be_bytes());
        put(&mut proto, 3, &80u16.to_be_bytes());
        // As the kernel sends them: nested.
        put(&mut original, 1 | 0x8000, &ip);
        put(&mut original, 2 | 0x8000, &proto);
        put(&mut body, 1 | 0x8000, &original);
        put(&mut body, 3, &status.to_be_bytes());
        put(&mut body, 4 | 0x8000, &info);
        body
    }

    #[test]
    fn a_connection_counts_whose_destination_is_translated() {
        let found = translated(&message(0x1a8, &[10, 96, 0, 10], 2, 3)).unwrap();
        assert_eq!(found, Translated { protocol: 6, destination: "10.96.0.10:80".parse().unwrap() });
        let v6: Ipv6Addr = "fd96::10".parse().unwrap();
        let found = translated(&message(0x20, &v6.octets(), 4, 5)).unwrap();
        assert_eq!(found.destination, "[fd96::10]:80".parse().unwrap());
        assert_eq!(translated(&message(0x188, &[10, 96, 0, 10], 2, 3)), None, "not translated");
        assert_eq!(translated(&message(0x1a8, &[10, 96, 0, 10], 2, 7)), None, "over");
        assert_eq!(translated(&[2, 0, 0]), None, "cut off");
    }
}
