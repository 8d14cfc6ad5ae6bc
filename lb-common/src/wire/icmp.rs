//! ICMP (RFC 792) and `ICMPv6` (RFC 4443): errors, and the answers that Sluice makes.

/// Length of the header in front of a quoted packet.
pub const HEADER: usize = 8;
/// Offset of the checksum.
pub const CHECKSUM: usize = 2;
/// Hop limit of answers.
pub const HOPS: u8 = 64;

/// Whether an ICMP message of this type quotes the packet that it is about.
#[inline(always)]
pub const fn is_error<const V6: bool>(kind: u8) -> bool {
    if V6 { matches!(kind, 1..=4) } else { matches!(kind, 3 | 11 | 12) }
}

/// Types of an echo request and of its reply.
#[inline(always)]
pub const fn echo<const V6: bool>() -> (u8, u8) {
    if V6 { (128, 129) } else { (8, 0) }
}

/// Whether an ICMP message of this type may be Sluice's: an error, or an echo request.
#[inline(always)]
pub const fn may_be_served<const V6: bool>(kind: u8) -> bool {
    is_error::<V6>(kind) || kind == echo::<V6>().0
}

/// An ICMP error to answer with. No enum with a payload: one that has none is an unwritten register, which the
/// verifier does not let a program pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// ICMP type and code.
    pub(super) v4: (u8, u8),
    /// `ICMPv6` type and code.
    pub(super) v6: (u8, u8),
    /// Bytes that the way takes, or 0.
    pub(super) mtu: u16,
}

impl IcmpError {
    /// Port unreachable.
    pub const NO_PORT: Self = Self { v4: (3, 3), v6: (1, 4), mtu: 0 };
    /// The hop limit has run out.
    pub const EXPIRED: Self = Self { v4: (11, 0), v6: (3, 0), mtu: 0 };

    /// Whether such errors are sent at a limited rate (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4).
    #[inline(always)]
    pub const fn is_limited(&self) -> bool {
        self.mtu == 0
    }

    /// Larger than the way to the backend takes: fragmentation needed, packet too big.
    #[inline(always)]
    pub const fn too_big(mtu: u16) -> Self {
        Self { v4: (3, 4), v6: (2, 0), mtu }
    }
}
