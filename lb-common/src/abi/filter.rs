//! `FRONT_FILTER4`/`6`, `BACK_FILTER4`/`6` and `ADDR_FILTER4`/`6`: Bloom filters that tell most packets apart from Sluice's without a look-up
//! in a hash table. A filter is an array of blocks of one cache line; a member sets two bits of one word in it. It may
//! say yes of what is not a member, never no of what is: it holds an address before its frontend is written, and
//! after that is removed.
//!
//! Agent and kernel share the arithmetic here.

use super::{Address, Be16, FlowKey, FrontendKey, flow_kind, frontend_scope};

/// Words of a block.
pub const WORDS: usize = 8;
/// One block: a cache line.
pub type Block = [u64; WORDS];
/// Blocks of a frontend filter. 64 KiB: ten thousand addresses leave one in a thousand others in doubt.
pub const FRONT_BLOCKS: u32 = 1 << 10;
/// Blocks of a backend filter. 256 KiB: a hundred thousand endpoints leave three in a hundred others in doubt.
pub const BACK_BLOCKS: u32 = 1 << 12;

/// Blocks of an address filter. Only fragments that come before their first are looked for.
pub const ADDRESS_BLOCKS: u32 = 1 << 10;

/// Cells of a flow filter's block, which is a cache line as well. A cell is a byte: any number of processors may set some
/// at the same time without an atomic operation, which old kernels lack.
pub const CELLS: usize = 64;
/// A block of a flow filter.
pub type Cells = [u8; CELLS];
/// Blocks of one half of a flow filter. 256 KiB: ten thousand flows leave four in a hundred others in doubt.
pub const FLOW_BLOCKS: u32 = 1 << 12;

/// A client and a backend that talk, as a flow's reply shows them and a direct connection does.
#[inline(always)]
pub fn flow_hash<A: Address>(key: &FlowKey<A>) -> u64 {
    endpoint_hash(key.dst, key.dport) ^ endpoint_hash(key.src, key.sport).rotate_left(32)
}

/// Whether an entry of this kind is in the flow filter: its key is a client and a backend.
#[inline(always)]
pub const fn is_noted(kind: u8) -> bool {
    matches!(kind, flow_kind::REVERSE | flow_kind::DIRECT)
}

/// Block and cell of a flow.
#[inline(always)]
#[allow(clippy::as_conversions, clippy::cast_possible_truncation, reason = "masked below 32 bits")]
pub const fn cell(hash: u64) -> (u32, u32) {
    ((hash >> 20) as u32 & (FLOW_BLOCKS - 1), (hash >> 40) as u32 & (CELLS as u32 - 1))
}

/// Where a member's bits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Index of the block.
    pub block: u32,
    /// Word in it, below [`WORDS`].
    pub word: u32,
    /// The bits.
    pub bits: u64,
}

/// Odd numbers without structure: the golden ratio's fraction, and one from `SplitMix64`.
const MIX: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9];

/// Spreads the bits of a value over a word; the high ones are the better ones.
#[inline(always)]
pub(crate) const fn mix(value: u64) -> u64 {
    let value = value.wrapping_mul(MIX[0]);
    (value ^ value >> 32).wrapping_mul(MIX[1])
}

/// An address alone: all ports of it are claimed, as a `ClusterIP`'s are.
#[inline(always)]
pub fn address_hash<A: Address>(addr: A) -> u64 {
    mix(addr.digest())
}

/// An address with a port.
#[inline(always)]
pub fn endpoint_hash<A: Address>(addr: A, port: Be16) -> u64 {
    // A port is never 0 here, so no endpoint has an address's hash.
    mix(addr.digest() ^ (u64::from(port.0) << 32 | u64::from(port.0) << 48))
}

/// A frontend's address in the filter of addresses.
#[inline(always)]
pub fn frontend_address_hash<A: Address>(addr: A) -> u64 {
    mix(addr.digest() ^ MIX[0])
}

/// A backend's address in the filter of addresses.
#[inline(always)]
pub fn backend_address_hash<A: Address>(addr: A) -> u64 {
    mix(addr.digest() ^ MIX[1])
}

/// What a frontend adds: a `ClusterIP` by its address alone, since its other ports are refused; any other
/// with its port. Packets never look for those of loopback addresses.
pub fn frontend_hash<A: Address>(key: &FrontendKey<A>) -> Option<u64> {
    if key.scope == frontend_scope::HOST {
        return None;
    }
    let known_vip = key.port == Be16(0) && key.proto == 0;
    Some(if known_vip { address_hash(key.addr) } else { endpoint_hash(key.addr, key.port) })
}

/// Where the bits of a hash are in a filter of so many blocks (a power of two).
#[inline(always)]
#[allow(clippy::as_conversions, clippy::cast_possible_truncation, reason = "masked below 32 bits")]
pub const fn position(hash: u64, blocks: u32) -> Position {
    let bits = 1 << (hash >> 58) | 1 << (hash >> 52 & 63);
    Position { block: (hash >> 20) as u32 & (blocks - 1), word: (hash >> 48) as u32 & 7, bits }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::abi::{V4, V6};

    /// Non-members in a thousand that a filter with these members takes for members.
    fn doubt(members: &[u64], others: &[u64], blocks: u32) -> usize {
        let mut filter = vec![[0u64; WORDS]; blocks as usize];
        for at in members.iter().map(|hash| position(*hash, blocks)) {
            filter[at.block as usize][at.word as usize] |= at.bits;
        }
        let holds = |hash: &u64| {
            let at = position(*hash, blocks);
            filter[at.block as usize][at.word as usize] & at.bits == at.bits
        };
        assert!(members.iter().all(holds));
        others.iter().filter(|hash| holds(hash)).count() * 1_000 / others.len()
    }

    fn v4(n: u32) -> V4 {
        V4::new(n.to_be_bytes())
    }

    #[test]
    fn dense_ranges_of_addresses_leave_few_others_in_doubt() {
        let vips: Vec<u64> = (0..10_000).map(|n| address_hash(v4(0x0a60_0000 + n))).collect();
        let pods: Vec<u64> = (0..50_000).map(|n| address_hash(v4(0x0af4_0000 + n))).collect();
        assert!(doubt(&vips, &pods, FRONT_BLOCKS) < 5);
        let backends: Vec<u64> = (0..100_000).map(|n| endpoint_hash(v4(0x0af4_0000 + n), Be16::new(8080))).collect();
        let clients: Vec<u64> =
            (0..50_000).map(|n| endpoint_hash(v4(0x0af4_0000 + n), Be16::new(32_768 + (n % 28_000) as u16))).collect();
        assert!(doubt(&backends, &clients, BACK_BLOCKS) < 50);
    }

    #[test]
    fn ten_thousand_flows_leave_few_others_in_doubt() {
        let key = |n: u16, port: u16| FlowKey {
            src: v4(0x0af4_0000 + u32::from(n % 50)),
            dst: v4(0x0af4_1000 + u32::from(n % 10)),
            sport: Be16::new(port + n / 50),
            dport: Be16::new(8080),
            proto: 6,
            pad: [0; 3],
        };
        let flows: HashSet<_> = (0..10_000).map(|n| cell(flow_hash(&key(n, 30_000)))).collect();
        let doubtful = (0..10_000).filter(|n| flows.contains(&cell(flow_hash(&key(*n, 40_000))))).count();
        assert!(doubtful < 500, "{doubtful}");
    }

    #[test]
    fn addresses_and_endpoints_of_both_families_differ() {
        let mut seen = HashSet::new();
        for n in 0..1_000u32 {
            let mut octets = [0; 16];
            octets[..2].copy_from_slice(&[0xfd, 0]);
            octets[12..].copy_from_slice(&n.to_be_bytes());
            let v6 = V6::new(octets);
            for hash in [
                address_hash(v4(n)),
                address_hash(v6),
                endpoint_hash(v4(n), Be16::new(80)),
                endpoint_hash(v6, Be16::new(80)),
                frontend_address_hash(v4(n)),
                frontend_address_hash(v6),
                backend_address_hash(v4(n)),
                backend_address_hash(v6),
            ] {
                assert!(seen.insert(hash));
            }
        }
    }
}
