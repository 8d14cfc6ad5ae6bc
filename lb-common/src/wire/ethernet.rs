//! Ethernet (IEEE 802.3).

use super::bytes::{Write, half, hi, join, lo};

/// Length of the header without a VLAN tag.
pub const HEADER: usize = 14;
/// Offset of the ethertype.
pub const ETHERTYPE: usize = 12;
/// Words of both addresses.
pub const ADDRESS_WORDS: usize = 3;

/// Swaps destination and source address.
#[inline(always)]
pub fn swap_addresses<P: Write>(pkt: &mut P) -> Option<()> {
    let [d01, d2s0, s12] = pkt.u32s_at::<ADDRESS_WORDS>(0)?;
    // Six bytes each: destination is d01 and half of the middle word.
    pkt.put_u32s(0, [join(lo(d2s0), hi(s12)), join(lo(s12), hi(d01)), join(lo(d01), hi(d2s0))])
}

/// An address as its words lie in a frame.
#[inline(always)]
pub fn mac_words(mac: [u8; 6]) -> (u32, u16) {
    let [first @ .., x, y] = mac;
    (u32::from_ne_bytes(first), half(x, y))
}
