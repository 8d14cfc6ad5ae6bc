//! UDP (RFC 768).

/// Length of the header.
pub const HEADER: usize = 8;
/// Words of it.
pub const WORDS: usize = 2;
/// Offset of the checksum. 0 in this field: the sender made none.
pub const CHECKSUM: usize = 6;
