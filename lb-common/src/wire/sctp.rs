//! SCTP (RFC 9260): common header and the first chunk.

/// Length of the common header.
pub const HEADER: usize = 12;
/// Offset of the checksum, a `CRC32c` over the whole packet with this field zero (RFC 9260 section 6.8).
pub const CHECKSUM: usize = 8;

/// Types of chunks.
pub mod chunk {
    /// Opens an association.
    pub const INIT: u8 = 1;
    /// The answer to it.
    pub const INIT_ACK: u8 = 2;
    /// Ends an association at once.
    pub const ABORT: u8 = 6;
    /// Begins an orderly end.
    pub const SHUTDOWN: u8 = 7;
    /// The last packet of an orderly end.
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}
