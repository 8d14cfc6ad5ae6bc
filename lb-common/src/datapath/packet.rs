//! Access to a packet's bytes: the seam between the data path and XDP, TC or a byte slice.
//!
//! Words and halves are as they lie in memory: a word holds four consecutive bytes of the packet. Kernel programs read
//! whole words where single bytes would cost an instruction each.

/// Reads from a packet. Offsets count from the first byte (the Ethernet header where there is one).
pub trait Packet {
    /// `W` words from `offset`, or `None` where the packet is shorter.
    fn words<const W: usize>(&self, offset: usize) -> Option<[u32; W]>;

    /// Two bytes from `offset`, or `None` where the packet is shorter.
    fn half(&self, offset: usize) -> Option<u16>;
}

/// Writes to a packet.
pub trait Store: Packet {
    /// Writes `words` at `offset`. `None`: the packet is shorter, nothing was written.
    fn store<const W: usize>(&mut self, offset: usize, words: [u32; W]) -> Option<()>;

    /// Writes two bytes at `offset`. `None`: the packet is shorter, nothing was written.
    fn store_half(&mut self, offset: usize, half: u16) -> Option<()>;

    /// Completes a transport checksum whose field holds 0xffff (negative zero), from the folded sums of the
    /// pseudo-header and of the rest. An skb may want only the former.
    fn complete_checksum(&mut self, offset: usize, pseudo: u16, rest: u16) -> Option<()> {
        self.store_half(offset, !super::checksum::add(pseudo, rest))
    }
}

/// The word with these bytes.
#[inline(always)]
pub(super) const fn word(a: u8, b: u8, c: u8, d: u8) -> u32 {
    u32::from_ne_bytes([a, b, c, d])
}

/// The half with these bytes.
#[inline(always)]
pub(super) const fn half(a: u8, b: u8) -> u16 {
    u16::from_ne_bytes([a, b])
}

/// A word's first two bytes.
#[inline(always)]
pub(super) const fn first(word: u32) -> u16 {
    let [a, b, _, _] = word.to_ne_bytes();
    half(a, b)
}

/// A word's last two bytes.
#[inline(always)]
pub(super) const fn second(word: u32) -> u16 {
    let [_, _, c, d] = word.to_ne_bytes();
    half(c, d)
}

/// The word of two halves.
#[inline(always)]
pub(super) const fn join(a: u16, b: u16) -> u32 {
    let ([a, b], [c, d]) = (a.to_ne_bytes(), b.to_ne_bytes());
    word(a, b, c, d)
}
