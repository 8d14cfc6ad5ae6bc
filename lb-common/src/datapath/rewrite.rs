//! Writes a decided rewrite into a packet whose checksums are complete (XDP and host; RFC 1624). TC has its own, since
//! an skb's checksum may be unfinished.

use super::checksum;
use super::ip::IpVersion;
use super::packet::{Store, join};
use super::parse::{Fragment, Headers};
use crate::abi::{FlowValue, proto};

/// Rewrites addresses, ports and checksums, and takes `hops` off the hop limit. `None`: the packet is too short.
#[inline(always)]
pub fn rewrite<A: IpVersion, P: Store>(
    pkt: &mut P,
    l3: usize,
    headers: &Headers<A>,
    value: &FlowValue<A>,
    hops: u8,
) -> Option<()> {
    let l4 = usize::from(headers.l4);
    if headers.fragment != Fragment::Later {
        let tcp = headers.key.proto == proto::TCP;
        let field = if tcp { l4 + 16 } else { l4 + 6 };
        let old = pkt.half(field)?;
        // Zero means "no checksum" in IPv4 and stays so (RFC 768); a sum that becomes zero is sent as ones.
        if tcp || A::IS_V6 || old != 0 {
            let sum = checksum::update(old, checksum::add(value.addr_delta, value.port_delta));
            pkt.store_half(field, if sum == 0 && !tcp { 0xffff } else { sum })?;
        }
        pkt.store(l4, [join(value.sport.0, value.dport.0)])?;
    }
    A::rewrite(pkt, l3, value.src, value.dst, value.addr_delta, hops)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::V4;

    #[test]
    fn a_short_packet_is_not_written() {
        let mut short = crate::testkit::Bytes(std::vec![0u8; 10]);
        let mut headers = Headers::<V4>::empty();
        headers.key.proto = proto::TCP;
        headers.l4 = 34;
        assert_eq!(rewrite(&mut short, 14, &headers, &FlowValue::default(), 0), None);
        assert_eq!(short.0, std::vec![0u8; 10]);
    }
}
