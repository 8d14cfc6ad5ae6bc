//! Access to a packet's bytes: the seam between the data path and XDP, TC or a byte slice.

/// Reads from a packet. Offsets count from the first byte (the Ethernet header where there is one).
pub trait Packet {
    /// `N` bytes from `offset`, or `None` where the packet is shorter. `N` is at least 2: the kernel's verifier does not
    /// take a comparison for the proof of a single byte.
    fn bytes<const N: usize>(&self, offset: usize) -> Option<&[u8; N]>;
}

/// Writes to a packet in place.
pub trait PacketMut: Packet {
    /// `N` bytes from `offset`, or `None` where the packet is shorter.
    fn bytes_mut<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]>;
}

/// 16 bits as they lie in memory.
#[inline(always)]
pub(super) const fn word(a: u8, b: u8) -> u16 {
    u16::from_ne_bytes([a, b])
}

/// Stores to a packet for which direct writes may be out of reach (an skb's shared header).
pub trait Store: Packet {
    /// Writes `bytes` at `offset`. `None`: the packet is shorter, nothing was written.
    fn store<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()>;

    /// Completes a transport checksum whose field holds 0xffff (negative zero), from the folded sums of the
    /// pseudo-header and of the rest. An skb may want only the former.
    fn complete_checksum(&mut self, offset: usize, pseudo: u16, rest: u16) -> Option<()> {
        self.store(offset, (!super::checksum::add(pseudo, rest)).to_ne_bytes())
    }
}
