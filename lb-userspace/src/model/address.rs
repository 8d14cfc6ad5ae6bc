//! Addresses as Kubernetes writes them.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// Reads an address as the API server does: leading zeros are decimal (old objects have them), and an IPv4-mapped IPv6
/// address is IPv4.
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    match text.parse::<IpAddr>() {
        Ok(ip) => Some(ip.to_canonical()),
        Err(_) => parse_zero_padded(text).map(IpAddr::V4),
    }
}

fn parse_zero_padded(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *octet = part.parse().ok()?;
    }
    parts.next().is_none().then(|| octets.into())
}

/// Reads an address range, white space around it and host bits in it allowed.
pub fn parse_net(text: &str) -> Option<IpNet> {
    let (ip, length) = text.trim().split_once('/')?;
    if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    IpNet::new(parse_ip(ip)?, length.parse().ok()?).ok().map(|net| net.trunc())
}

/// Why an address cannot be a VIP, if so.
pub fn unfit_as_vip(ip: &IpAddr) -> Option<&'static str> {
    unfit(ip)
}

/// Why an address cannot be an endpoint's, if so (the API server's own rule).
pub fn unfit_as_endpoint(ip: &IpAddr) -> Option<&'static str> {
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if link_local { Some("link-local") } else { unfit(ip) }
}

fn unfit(ip: &IpAddr) -> Option<&'static str> {
    if ip.is_unspecified() {
        Some("unspecified")
    } else if ip.is_loopback() {
        Some("a loopback address")
    } else if ip.is_multicast() {
        Some("a multicast address")
    } else if *ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        Some("the broadcast address")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_padded_octets_are_decimal() {
        assert_eq!(parse_ip("010.001.000.09"), Some("10.1.0.9".parse().unwrap()));
        assert_eq!(parse_ip("1.2.3"), None);
        assert_eq!(parse_ip("1.2.3.4.5"), None);
        assert_eq!(parse_ip("1.2.3.+4"), None);
        assert_eq!(parse_ip("1.2.3.256"), None);
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        assert_eq!(parse_ip("::ffff:10.0.0.1"), Some("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn ranges_lose_white_space_and_host_bits() {
        assert_eq!(parse_net(" 10.1.2.3/8 "), Some("10.0.0.0/8".parse().unwrap()));
        assert_eq!(parse_net("10.0.0.0/33"), None);
        assert_eq!(parse_net("10.0.0.0"), None);
        assert_eq!(parse_net("fd00::/129"), None);
    }
}
