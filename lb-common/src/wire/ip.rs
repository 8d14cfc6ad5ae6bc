//! What the two IP versions have in common (RFC 791, RFC 8200): the seam that everything behind it is generic over.

use super::bytes::{Read, Write};
use super::icmp::IcmpError;
use crate::abi::Address;

/// Whether a packet is a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// Whole datagram.
    None,
    /// First fragment: has the transport header.
    First,
    /// Later fragment: has no transport header.
    Later,
}

/// What a packet's IP header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpHeader<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Protocol number of what follows, behind extension headers.
    pub protocol: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Fragment or not.
    pub fragment: Fragment,
    /// Identification of the datagram, if it is a fragment.
    pub fragment_id: u32,
    /// Offset of what follows, counted from the packet's first byte.
    pub payload: usize,
    /// Length of what follows, as the header says.
    pub length: u16,
}

/// Flags and offset of an IPv4 fragment (RFC 791 section 3.1).
pub mod position {
    /// Do not fragment.
    pub const DONT_FRAGMENT: u16 = 0x4000;
    /// More fragments follow.
    pub const MORE: u16 = 0x2000;
    /// Offset, in units of eight bytes.
    pub const OFFSET: u16 = 0x1fff;
}

/// An address family's header format.
pub trait IpVersion: Address {
    /// Ethertype, as it lies in memory.
    const ETHERTYPE: u16;
    /// Length of the header without options or extension headers.
    const HEADER: usize;
    /// The same, as lengths in headers are.
    const HEADER_LENGTH: u16;
    /// Protocol number of the family's ICMP.
    const ICMP: u8;

    /// Reads a header without options that is not a fragment's, at fixed offsets. `None`: it is not of that kind.
    fn plain<P: Read>(pkt: &P, l3: usize) -> Option<IpHeader<Self>>;
    /// Reads any header. `None`: malformed, too short, or with more extension headers than are looked at.
    fn parse<P: Read>(pkt: &P, l3: usize) -> Option<IpHeader<Self>>;
    /// Whether an extension header has this number.
    fn is_extension(protocol: u8) -> bool;
    /// Writes both addresses, for IPv4 the header checksum (which `delta` changes), and takes `hops` off the hop limit.
    /// `ports`: the packet has no options, and these are to be written behind the header.
    fn rewrite<P: Write>(
        pkt: &mut P,
        l3: usize,
        addresses: (Self, Self),
        delta: u16,
        hops: u8,
        ports: Option<u32>,
    ) -> Option<()>;
    /// Length of the packet up to the end of the datagram, counted from the packet's first byte.
    fn datagram_length<P: Read>(pkt: &P, l3: usize) -> Option<u32>;
    /// Flags and offset of an IPv4 packet. `None`: another family's routers fragment nothing.
    fn position<P: Read>(pkt: &P, l3: usize) -> Option<u16>;
    /// Makes an IPv4 packet without options one with so many bytes behind the header, and these flags and offset.
    fn store_fragment<P: Write>(pkt: &mut P, l3: usize, payload: usize, position: u16) -> Option<()>;
    /// Turns the IP header around for an answer of `length` bytes, header included.
    fn turn_around<P: Write>(pkt: &mut P, l3: usize, addresses: (Self, Self), length: usize) -> Option<()>;
    /// Stores an IP and ICMP header in front of the quoted packet, of which there are a header and `quoted` bytes, with
    /// this sum. `addresses`: those of the quoted packet.
    fn store_error<P: Write>(
        pkt: &mut P,
        l3: usize,
        addresses: (Self, Self),
        error: IcmpError,
        quoted: usize,
        sum: u64,
    ) -> Option<()>;
    /// Stores both addresses of a quoted packet. Returns what the header checksum's own change adds to a sum over the
    /// header.
    fn rewrite_quoted<P: Write>(pkt: &mut P, l3: usize, src: Self, dst: Self, delta: u16) -> Option<u16>;
}
