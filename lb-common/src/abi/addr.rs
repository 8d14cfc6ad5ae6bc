//! Addresses and ports as they lie in a packet: network byte order, loaded as whole words.

/// A 16-bit number in network byte order, such as a port.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Be16(pub u16);

impl Be16 {
    /// From host byte order.
    #[inline(always)]
    pub const fn new(host: u16) -> Self {
        Self(host.to_be())
    }

    /// To host byte order.
    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }
}

/// An IPv4 address in network byte order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct V4(pub u32);

impl V4 {
    /// From the four octets as written.
    #[inline(always)]
    pub const fn new(octets: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(octets))
    }

    /// The four octets as written.
    #[inline(always)]
    pub const fn octets(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }
}

/// An IPv6 address in network byte order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct V6(pub [u32; 4]);

impl V6 {
    /// From the sixteen octets as written.
    pub const fn new(o: [u8; 16]) -> Self {
        Self([
            u32::from_ne_bytes([o[0], o[1], o[2], o[3]]),
            u32::from_ne_bytes([o[4], o[5], o[6], o[7]]),
            u32::from_ne_bytes([o[8], o[9], o[10], o[11]]),
            u32::from_ne_bytes([o[12], o[13], o[14], o[15]]),
        ])
    }

    /// The sixteen octets as written.
    pub const fn octets(self) -> [u8; 16] {
        let [a, b, c, d] = self.0;
        let (a, b, c, d) = (a.to_ne_bytes(), b.to_ne_bytes(), c.to_ne_bytes(), d.to_ne_bytes());
        [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
    }
}

/// An address of either family. The data path is generic over it.
pub trait Address: Copy + Default + Eq {
    /// True for IPv6.
    const IS_V6: bool;
    /// The all-zero address.
    const ZERO: Self;
    /// The address by which the node reaches itself.
    const LOOPBACK: Self;
    /// Number of 32-bit words.
    const WORDS: usize;

    /// Whether all bits are zero.
    #[inline(always)]
    fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// Whether the address is a loopback one (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3).
    fn is_loopback(self) -> bool;

    /// Bitwise and, for prefix comparison.
    #[must_use]
    fn and(self, mask: Self) -> Self;

    /// The sum of the address's 32-bit words in their memory order, each widened: the address's share of an Internet
    /// checksum before folding (RFC 1071; the sum is independent of byte order).
    fn sum(self) -> u64;

    /// The address as one number, for hashing: different IPv4 addresses have different ones.
    fn digest(self) -> u64;

    /// What stands for the client behind the address: in IPv6 the first 64 bits, of which a host has all addresses.
    #[must_use]
    fn client(self) -> Self;

    /// The bits in which two addresses differ, over each other: 0 where they are the same.
    fn difference(self, other: Self) -> u32;

    /// Whether `lo <= self <= hi`, compared as numbers.
    fn within(self, lo: Self, hi: Self) -> bool;
}

impl Address for V4 {
    const IS_V6: bool = false;
    const ZERO: Self = Self(0);
    const LOOPBACK: Self = Self::new([127, 0, 0, 1]);
    const WORDS: usize = 1;

    #[inline(always)]
    fn is_loopback(self) -> bool {
        u32::from_be(self.0) >> 24 == 127
    }

    #[inline(always)]
    fn and(self, mask: Self) -> Self {
        Self(self.0 & mask.0)
    }

    #[inline(always)]
    fn sum(self) -> u64 {
        u64::from(self.0)
    }

    #[inline(always)]
    fn digest(self) -> u64 {
        u64::from(self.0)
    }

    #[inline(always)]
    fn client(self) -> Self {
        self
    }

    #[inline(always)]
    fn difference(self, other: Self) -> u32 {
        self.0 ^ other.0
    }

    #[inline(always)]
    fn within(self, lo: Self, hi: Self) -> bool {
        let a = u32::from_be(self.0);
        a >= u32::from_be(lo.0) && a <= u32::from_be(hi.0)
    }
}

impl Address for V6 {
    const IS_V6: bool = true;
    const ZERO: Self = Self([0; 4]);
    const LOOPBACK: Self = Self([0, 0, 0, 1u32.to_be()]);
    const WORDS: usize = 4;

    #[inline(always)]
    fn is_loopback(self) -> bool {
        self == Self::LOOPBACK
    }

    #[inline(always)]
    fn and(self, mask: Self) -> Self {
        let ([a, b, c, d], [ma, mb, mc, md]) = (self.0, mask.0);
        Self([a & ma, b & mb, c & mc, d & md])
    }

    #[inline(always)]
    fn sum(self) -> u64 {
        let [a, b, c, d] = self.0;
        u64::from(a) + u64::from(b) + u64::from(c) + u64::from(d)
    }

    #[inline(always)]
    fn digest(self) -> u64 {
        let [a, b, c, d] = self.0;
        let upper = (u64::from(a) | u64::from(b) << 32).wrapping_mul(0x94d0_49bb_1331_11eb);
        (upper ^ upper >> 32).wrapping_add(u64::from(c) | u64::from(d) << 32)
    }

    #[inline(always)]
    fn client(self) -> Self {
        let [one, two, ..] = self.0;
        Self([one, two, 0, 0])
    }

    #[inline(always)]
    fn difference(self, other: Self) -> u32 {
        let ([a, b, c, d], [oa, ob, oc, od]) = (self.0, other.0);
        a ^ oa | b ^ ob | c ^ oc | d ^ od
    }

    #[inline(always)]
    fn within(self, lo: Self, hi: Self) -> bool {
        let wide = |x: Self| {
            let [a, b, c, d] = x.0;
            (
                u64::from(u32::from_be(a)) << 32 | u64::from(u32::from_be(b)),
                u64::from(u32::from_be(c)) << 32 | u64::from(u32::from_be(d)),
            )
        };
        let (a, l, h) = (wide(self), wide(lo), wide(hi));
        (a.0 > l.0 || (a.0 == l.0 && a.1 >= l.1)) && (a.0 < h.0 || (a.0 == h.0 && a.1 <= h.1))
    }
}

impl From<core::net::Ipv4Addr> for V4 {
    fn from(ip: core::net::Ipv4Addr) -> Self {
        Self::new(ip.octets())
    }
}

impl From<V4> for core::net::Ipv4Addr {
    fn from(ip: V4) -> Self {
        Self::from(ip.octets())
    }
}

impl From<core::net::Ipv6Addr> for V6 {
    fn from(ip: core::net::Ipv6Addr) -> Self {
        Self::new(ip.octets())
    }
}

impl From<V6> for core::net::Ipv6Addr {
    fn from(ip: V6) -> Self {
        Self::from(ip.octets())
    }
}
