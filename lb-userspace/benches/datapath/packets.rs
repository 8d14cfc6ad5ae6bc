//! Frames of one size per family, so that every case can be restored alike: a bare TCP segment, or a datagram as long.

use lb_common::abi::proto;
use lb_common::wire::checksum::fold;

/// A frame as the kernel side keeps it: the Ethernet header alone in the first 16 bytes, the rest behind it.
pub(crate) type Template = [u64; 10];

/// TCP flags of a SYN.
pub(crate) const SYN: u8 = 0x02;
/// TCP flags of an ordinary segment.
pub(crate) const ACK: u8 = 0x10;

/// Addresses as octets (4 or 16), ports, protocol and TCP flags of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tuple {
    /// Source and destination address.
    pub(crate) addresses: [Vec<u8>; 2],
    /// Source and destination port.
    pub(crate) ports: [u16; 2],
    /// IP protocol number.
    pub(crate) protocol: u8,
    /// TCP flags; of no meaning for UDP.
    pub(crate) flags: u8,
}

/// The frame of a tuple, with right checksums.
pub(crate) fn frame(tuple: &Tuple) -> Vec<u8> {
    let v6 = tuple.addresses[0].len() == 16;
    let [source, destination] = &tuple.addresses;
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    if v6 {
        bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, tuple.protocol, 64]);
    } else {
        bytes.extend([0x08, 0x00, 0x45, 0, 0, 40, 0x12, 0x34, 0x40, 0, 64, tuple.protocol, 0, 0]);
    }
    bytes.extend(source);
    bytes.extend(destination);
    if !v6 {
        let check = !fold(sum(&bytes[14..]));
        bytes[24..26].copy_from_slice(&check.to_ne_bytes());
    }
    let l4 = bytes.len();
    bytes.extend(tuple.ports[0].to_be_bytes());
    bytes.extend(tuple.ports[1].to_be_bytes());
    let field = if tuple.protocol == proto::TCP {
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, tuple.flags, 0x20, 0, 0, 0, 0, 0]);
        l4 + 16
    } else {
        bytes.extend([0, 20, 0, 0]);
        bytes.extend([0x61; 12]);
        l4 + 6
    };
    let pseudo = sum(source) + sum(destination) + sum(&[0, tuple.protocol, 0, 20]);
    let check = !fold(pseudo + sum(&bytes[l4..]));
    bytes[field..field + 2].copy_from_slice(&check.to_ne_bytes());
    bytes
}

/// Sum of 16-bit words in memory order.
fn sum(bytes: &[u8]) -> u64 {
    bytes.chunks(2).map(|pair| u64::from(u16::from_ne_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))).sum()
}

/// A frame as the kernel side keeps it.
pub(crate) fn template(frame: &[u8]) -> Template {
    let mut bytes = [0u8; 80];
    bytes[..14].copy_from_slice(&frame[..14]);
    bytes[16..16 + frame.len() - 14].copy_from_slice(&frame[14..]);
    let mut words = [0u64; 10];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut eight = [0u8; 8];
        eight.copy_from_slice(chunk);
        *word = u64::from_ne_bytes(eight);
    }
    words
}

/// Reads back the tuple of a frame made by [`frame`], whatever became of it.
pub(crate) fn read(frame: &[u8], v6: bool) -> Option<Tuple> {
    let (at, size, l4) = if v6 { (22, 16, 54) } else { (26, 4, 34) };
    let port = |offset: usize| Some(u16::from_be_bytes([*frame.get(offset)?, *frame.get(offset + 1)?]));
    Some(Tuple {
        addresses: [frame.get(at..at + size)?.to_vec(), frame.get(at + size..at + 2 * size)?.to_vec()],
        ports: [port(l4)?, port(l4 + 2)?],
        protocol: *frame.get(if v6 { 20 } else { 23 })?,
        flags: *frame.get(l4 + 13)?,
    })
}
