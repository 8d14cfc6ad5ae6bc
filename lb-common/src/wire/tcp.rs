//! TCP (RFC 9293).

/// Length of the header without options.
pub const HEADER: usize = 20;
/// Words of it.
pub const WORDS: usize = 5;
/// Offset of the checksum.
pub const CHECKSUM: usize = 16;

/// Bits of the flags byte.
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 1;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 2;
    /// Reset.
    pub const RST: u8 = 4;
    /// Acknowledgement field is significant.
    pub const ACK: u8 = 16;
}
