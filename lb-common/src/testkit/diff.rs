//! Says readably where two frames differ: by header and field.

use core::fmt::Write as _;

const ETHERNET: &[(usize, &str)] = &[(0, "eth.dst"), (6, "eth.src"), (12, "eth.type")];
const IPV4: &[(usize, &str)] = &[
    (0, "ipv4.version"),
    (1, "ipv4.tos"),
    (2, "ipv4.length"),
    (4, "ipv4.id"),
    (6, "ipv4.fragment"),
    (8, "ipv4.ttl"),
    (9, "ipv4.protocol"),
    (10, "ipv4.checksum"),
    (12, "ipv4.src"),
    (16, "ipv4.dst"),
    (20, "ipv4.options"),
];
const IPV6: &[(usize, &str)] = &[
    (0, "ipv6.version"),
    (4, "ipv6.length"),
    (6, "ipv6.next"),
    (7, "ipv6.hops"),
    (8, "ipv6.src"),
    (24, "ipv6.dst"),
    (40, "ipv6.extensions"),
];
const TCP: &[(usize, &str)] = &[
    (0, "tcp.sport"),
    (2, "tcp.dport"),
    (4, "tcp.seq"),
    (8, "tcp.ack"),
    (12, "tcp.offset"),
    (13, "tcp.flags"),
    (14, "tcp.window"),
    (16, "tcp.checksum"),
    (18, "tcp.urgent"),
    (20, "tcp.payload"),
];
const UDP: &[(usize, &str)] =
    &[(0, "udp.sport"), (2, "udp.dport"), (4, "udp.length"), (6, "udp.checksum"), (8, "udp.payload")];
const ICMP: &[(usize, &str)] =
    &[(0, "icmp.type"), (1, "icmp.code"), (2, "icmp.checksum"), (4, "icmp.rest"), (8, "icmp.quote")];
const REST: &[(usize, &str)] = &[(0, "payload")];

/// Start and name of each field of a frame, best effort.
fn fields(frame: &[u8]) -> Vec<(usize, &'static str)> {
    let mut out = ETHERNET.to_vec();
    let (ip, header, protocol) = match frame.get(14).map(|first| first >> 4) {
        Some(4) => (IPV4, usize::from(frame[14] & 15) * 4, frame.get(23)),
        Some(6) => (IPV6, 40, frame.get(20)),
        _ => return out,
    };
    out.extend(ip.iter().filter(|(at, _)| *at < header).map(|(at, name)| (14 + at, *name)));
    let l4 = match protocol {
        Some(6) => TCP,
        Some(17) => UDP,
        Some(1 | 58) => ICMP,
        _ => REST,
    };
    out.extend(l4.iter().map(|(at, name)| (14 + header + at, *name)));
    out
}

/// Lines that name each differing field of two frames.
pub fn explain(expected: &[u8], got: &[u8]) -> String {
    let mut out = format!("lengths: expected {}, got {}", expected.len(), got.len());
    let fields = fields(expected);
    let end = expected.len().max(got.len());
    for (i, (start, name)) in fields.iter().enumerate() {
        let stop = fields.get(i + 1).map_or(end, |(next, _)| *next);
        let part = |bytes: &[u8]| bytes[bytes.len().min(*start)..bytes.len().min(stop)].to_vec();
        let (want, have) = (part(expected), part(got));
        if want != have {
            write!(out, "\n  {name:<16} expected {want:02x?}\n  {:<16} got      {have:02x?}", "").unwrap();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::V4;
    use crate::testkit::{Family, Pkt};

    #[test]
    fn difference_is_named_by_its_field() {
        let a = Pkt::syn((V4::POD, 1), (V4::VIP, 80));
        let text = explain(&a.bytes(), &a.clone().to(V4::VIP, 81).bytes());
        assert!(text.contains("tcp.dport") && text.contains("tcp.checksum"), "{text}");
        assert!(!text.contains("ipv4"), "{text}");
    }
}
