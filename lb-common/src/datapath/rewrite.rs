//! Writes a decided rewrite into a packet whose checksums are complete (XDP and host; RFC 1624). TC has its own, since
//! an skb's checksum may be unfinished.

use super::checksum;
use super::packet::PacketMut;
use super::parse::{Fragment, Headers, IpVersion};
use crate::abi::{FlowValue, proto};

/// Rewrites addresses, ports and checksums. `None`: the packet is too short; nothing was written.
#[inline(always)]
pub fn rewrite<A: IpVersion, P: PacketMut>(
    pkt: &mut P,
    l3: usize,
    headers: &Headers<A>,
    value: &FlowValue<A>,
) -> Option<()> {
    let l4 = usize::from(headers.l4);
    if headers.fragment != Fragment::Later {
        if headers.key.proto == proto::TCP {
            let tcp = pkt.bytes_mut::<20>(l4)?;
            let [s0, s1] = value.sport.0.to_ne_bytes();
            let [d0, d1] = value.dport.0.to_ne_bytes();
            let sum = checksum::update(
                u16::from_ne_bytes([tcp[16], tcp[17]]),
                checksum::add(value.addr_delta, value.port_delta),
            );
            (tcp[0], tcp[1], tcp[2], tcp[3]) = (s0, s1, d0, d1);
            [tcp[16], tcp[17]] = sum.to_ne_bytes();
        } else {
            let udp = pkt.bytes_mut::<8>(l4)?;
            let [s0, s1] = value.sport.0.to_ne_bytes();
            let [d0, d1] = value.dport.0.to_ne_bytes();
            let old = u16::from_ne_bytes([udp[6], udp[7]]);
            (udp[0], udp[1], udp[2], udp[3]) = (s0, s1, d0, d1);
            // Zero means "no checksum" in IPv4 and stays so (RFC 768); a sum that becomes zero is sent as ones.
            if old != 0 || A::IS_V6 {
                let sum = checksum::update(old, checksum::add(value.addr_delta, value.port_delta));
                [udp[6], udp[7]] = if sum == 0 { [0xff, 0xff] } else { sum.to_ne_bytes() };
            }
        }
    }
    A::write_addresses(pkt, l3, value.src, value.dst, value.addr_delta)
}

/// Takes one off the TTL or hop limit. False: it was spent, nothing was written.
#[inline(always)]
pub fn decrement_ttl<A: IpVersion, P: PacketMut>(pkt: &mut P, l3: usize) -> bool {
    A::decrement_ttl(pkt, l3)
}

#[cfg(test)]
mod tests {
    // Covered by the packet vectors in `testkit`, which compare with a full recompute.
    use super::*;

    #[test]
    fn a_short_packet_is_not_written() {
        let mut short = crate::testkit::Bytes(std::vec![0u8; 10]);
        let headers = Headers::<crate::abi::V4> {
            key: crate::abi::FlowKey { proto: proto::TCP, ..Default::default() },
            fragment_id: 0,
            l4: 34,
            ttl: 64,
            tcp_flags: 0,
            fragment: Fragment::None,
        };
        assert_eq!(rewrite(&mut short, 14, &headers, &FlowValue::default()), None);
        assert_eq!(short.0, std::vec![0u8; 10]);
    }
}
