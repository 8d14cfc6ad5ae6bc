//! Family-specific bytes of answers: IP headers turned around, ICMP and ICMPv6 port unreachable.

use super::checksum;
use super::packet::{Packet, Store, word};
use super::parse::Headers;
use super::reject::HOPS;
use crate::abi::{V4, V6, proto};

/// Sum of `4 * words` bytes from `offset`.
#[inline(always)]
fn sum<P: Packet>(pkt: &P, offset: usize, words: usize) -> Option<u64> {
    let mut total = 0;
    let mut at = offset;
    for _ in 0..words {
        total += u64::from(u32::from_ne_bytes(*pkt.bytes::<4>(at)?));
        at += 4;
    }
    Some(total)
}

#[inline(always)]
pub(super) fn turn_around_v4<P: Store>(pkt: &mut P, l3: usize, headers: &Headers<V4>, length: usize) -> Option<()> {
    let &[l0, l1, id0, id1, f0, f1, ttl, protocol, c0, c1] = pkt.bytes::<10>(l3 + 2)?;
    let [n0, n1] = u16::try_from(length).ok()?.to_be_bytes();
    let old = u64::from(word(l0, l1)) + u64::from(word(f0, f1)) + u64::from(word(ttl, protocol));
    let new = u64::from(word(n0, n1)) + u64::from(word(0x40, 0)) + u64::from(word(HOPS, protocol));
    let check = checksum::update(word(c0, c1), checksum::delta(old, new)).to_ne_bytes();
    let (src, dst) = (headers.key.dst.octets(), headers.key.src.octets());
    pkt.store(
        l3 + 2,
        [
            n0, n1, id0, id1, 0x40, 0, HOPS, protocol, check[0], check[1], src[0], src[1], src[2], src[3], dst[0],
            dst[1], dst[2], dst[3],
        ],
    )
}

#[inline(always)]
pub(super) fn turn_around_v6<P: Store>(pkt: &mut P, l3: usize, headers: &Headers<V6>, length: usize) -> Option<()> {
    let &[next, _] = pkt.bytes::<2>(l3 + 6)?;
    let [n0, n1] = u16::try_from(length.checked_sub(40)?).ok()?.to_be_bytes();
    pkt.store(l3 + 4, [n0, n1, next, HOPS])?;
    pkt.store(l3 + 8, headers.key.dst.octets())?;
    pkt.store(l3 + 24, headers.key.src.octets())
}

#[inline(always)]
pub(super) fn store_unreachable_v4<P: Store>(pkt: &mut P, l3: usize, headers: &Headers<V4>) -> Option<()> {
    // ICMP type 3 code 3, quoting the IP header and 8 bytes.
    let quote = sum(pkt, l3 + 28, 7)?;
    let icmp = u64::from(word(3, 3));
    let check = (!checksum::fold(icmp + quote)).to_ne_bytes();
    let (src, dst) = (headers.key.dst.octets(), headers.key.src.octets());
    let length = 20 + 8 + 28;
    let ip = u64::from(word(0x45, 0xc0))
        + u64::from(word(0, length))
        + u64::from(word(0x40, 0))
        + u64::from(word(HOPS, proto::ICMP))
        + u64::from(headers.key.src.0)
        + u64::from(headers.key.dst.0);
    let ip = (!checksum::fold(ip)).to_ne_bytes();
    pkt.store(
        l3,
        [
            0x45,
            0xc0,
            0,
            length,
            0,
            0,
            0x40,
            0,
            HOPS,
            proto::ICMP,
            ip[0],
            ip[1],
            src[0],
            src[1],
            src[2],
            src[3],
            dst[0],
            dst[1],
            dst[2],
            dst[3],
            3,
            3,
            check[0],
            check[1],
            0,
            0,
            0,
            0,
        ],
    )
}

#[inline(always)]
pub(super) fn store_unreachable_v6<P: Store>(pkt: &mut P, l3: usize, headers: &Headers<V6>) -> Option<()> {
    use crate::abi::Address;
    // ICMPv6 type 1 code 4, quoting the IP header and 8 bytes.
    let quote = sum(pkt, l3 + 48, 12)?;
    let length = 8 + 48;
    let pseudo = headers.key.src.sum()
        + headers.key.dst.sum()
        + u64::from(word(0, length))
        + u64::from(word(0, proto::ICMPV6))
        + u64::from(word(1, 4));
    let check = (!checksum::fold(pseudo + quote)).to_ne_bytes();
    pkt.store(l3, [0x60, 0, 0, 0, 0, length, proto::ICMPV6, HOPS])?;
    pkt.store(l3 + 8, headers.key.dst.octets())?;
    pkt.store(l3 + 24, headers.key.src.octets())?;
    pkt.store(l3 + 40, [1, 4, check[0], check[1], 0, 0, 0, 0])
}
