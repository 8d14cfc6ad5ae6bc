//! Ethernet (IEEE 802.3).

use super::bytes::{Write, hi, join, lo};

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
