//! Access to a packet's bytes: the seam between the data path and XDP, TC or a byte slice.
//!
//! Numbers are as they lie in memory: a `u32` holds four consecutive bytes of the packet. Kernel programs read whole
//! words where single bytes would cost an instruction each.

/// Reads from a packet. Offsets count from the first byte (the Ethernet header where there is one).
pub trait Read {
    /// `W` words from `offset`, or `None` where the packet is shorter.
    fn u32s_at<const W: usize>(&self, offset: usize) -> Option<[u32; W]>;

    /// Two bytes from `offset`, or `None` where the packet is shorter.
    fn u16_at(&self, offset: usize) -> Option<u16>;
}

/// Writes to a packet.
pub trait Write: Read {
    /// Writes `words` at `offset`. `None`: the packet is shorter, nothing was written.
    fn put_u32s<const W: usize>(&mut self, offset: usize, words: [u32; W]) -> Option<()>;

    /// Writes two bytes at `offset`. `None`: the packet is shorter, nothing was written.
    fn put_u16(&mut self, offset: usize, value: u16) -> Option<()>;
}

/// The word with these bytes.
#[inline(always)]
pub(crate) const fn word(a: u8, b: u8, c: u8, d: u8) -> u32 {
    u32::from_ne_bytes([a, b, c, d])
}

/// The half word with these bytes.
#[inline(always)]
pub(crate) const fn half(a: u8, b: u8) -> u16 {
    u16::from_ne_bytes([a, b])
}

/// A word's first two bytes on the wire.
#[inline(always)]
pub(crate) const fn hi(word: u32) -> u16 {
    let [a, b, _, _] = word.to_ne_bytes();
    half(a, b)
}

/// A word's last two bytes on the wire.
#[inline(always)]
pub(crate) const fn lo(word: u32) -> u16 {
    let [_, _, c, d] = word.to_ne_bytes();
    half(c, d)
}

/// The word of two halves.
#[inline(always)]
pub(crate) const fn join(hi: u16, lo: u16) -> u32 {
    let ([a, b], [c, d]) = (hi.to_ne_bytes(), lo.to_ne_bytes());
    word(a, b, c, d)
}

/// The one's-complement sum of `words` words from `offset`, not folded.
#[inline(always)]
pub(crate) fn sum<P: Read>(pkt: &P, offset: usize, words: usize) -> Option<u64> {
    let mut total = 0;
    let mut at = offset;
    for _ in 0..words {
        let [word] = pkt.u32s_at::<1>(at)?;
        total += u64::from(word);
        at += 4;
    }
    Some(total)
}
