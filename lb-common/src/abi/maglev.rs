//! `MAGLEV4`/`MAGLEV6`: hash of the tables from which Maglev picks. A table has a place for each value of a hash; in the
//! place is a member of the set, by its number in the set's slots. It lies in blocks of bytes, so that memory is taken as
//! it is needed.

use super::plain::plain;

/// Bytes of a block. With the kernel's header (48 bytes), the key and the allocator's pointer an entry has 4,096.
pub const TABLE_BLOCK: usize = 4_032;
/// Sets of up to so many members take one byte a place, larger ones two, low byte first.
const NARROW: u32 = 256;
/// The largest set that can have a table.
pub const MOST_MEMBERS: u32 = 65_535;

plain! {
    /// A block of a table.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct TableKey {
        /// First slot of the set, which is another one after each change of it.
        pub set: u32,
        /// Number of the block.
        pub block: u32,
    }
}

plain! {
    /// What a block holds.
    #[derive(Clone, Copy, Debug)]
    pub struct TableBlock {
        /// Places of the table.
        pub bytes: [u8; TABLE_BLOCK],
    }
}

/// Bytes of each place in the table of a set with so many members.
#[inline(always)]
pub const fn place_width(members: u32) -> u32 {
    if members <= NARROW { 1 } else { 2 }
}

/// Where a byte of a table is: its block, and where in it.
#[inline(always)]
#[allow(clippy::as_conversions, clippy::cast_possible_truncation, reason = "the size of a block is small")]
pub const fn block_of(byte: u32) -> (u32, u32) {
    (byte / TABLE_BLOCK as u32, byte % TABLE_BLOCK as u32)
}

/// How many blocks a table of so many places has.
pub const fn blocks(places: u32, members: u32) -> u32 {
    if places == 0 {
        return 0;
    }
    let (last, _) = block_of(places.saturating_mul(place_width(members)) - 1);
    last + 1
}
