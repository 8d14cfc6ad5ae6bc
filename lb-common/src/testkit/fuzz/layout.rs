//! Where the fields of a frame are that a translation may change, found by a parser that is not ours.

use etherparse::checksum::Sum16BitWords;
use etherparse::{IpNumber, LaxNetSlice, LaxSlicedPacket, ether_type, ip_number};

/// A checksum and what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sum {
    /// Where it is.
    at: usize,
    /// First byte that it covers, and the first that it does not cover.
    covers: (usize, usize),
    /// Addresses that it covers as well, with a length and a protocol: the pseudo header.
    pseudo: Option<((usize, usize), IpNumber)>,
    /// Zero says that there is none.
    optional: bool,
}

impl Sum {
    /// Whether it is that of an IPv4 header.
    pub(super) fn is_of_header(&self) -> bool {
        self.covers.0 == 14
    }

    /// What a frame's bytes add up to with their checksum: 0 where it is right. None: there is no checksum.
    pub(super) fn residue(&self, frame: &[u8]) -> Option<u16> {
        if self.optional && frame[self.at..self.at + 2] == [0, 0] {
            return None;
        }
        let covered = &frame[self.covers.0..self.covers.1];
        let mut sum = Sum16BitWords::new().add_slice(covered);
        if let Some(((from, to), protocol)) = self.pseudo {
            let length = u32::try_from(covered.len()).unwrap();
            sum = sum.add_slice(&frame[from..to]).add_4bytes(length.to_be_bytes()).add_2bytes([0, protocol.0]);
        }
        // Zero has two forms.
        Some(if sum.ones_complement() == 0xffff { 0 } else { sum.ones_complement() })
    }
}

/// Fields of a frame.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    /// Byte ranges that a translation may change.
    pub(super) mutable: Vec<(usize, usize)>,
    /// Where the hop limit is.
    pub(super) hops: usize,
    /// Checksums of the packet.
    pub(super) sums: Vec<Sum>,
    /// Checksums of the packet that it quotes.
    pub(super) quoted_sums: Vec<Sum>,
    /// Protocol and start of the transport header; none in a later fragment.
    pub(super) transport: Option<(u8, usize)>,
    /// Where an ICMP message may quote a packet, and whether that is an IPv6 one.
    quote: Option<(usize, bool)>,
}

/// Position of a part in the whole that it is a part of.
fn at(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr() - whole.as_ptr().addr()
}

/// The layout of a frame; none where there is no IP packet.
pub(super) fn layout(frame: &[u8]) -> Option<Layout> {
    let parsed = LaxSlicedPacket::from_ethernet(frame).ok()?;
    let mut layout = Layout::default();
    packet(frame, &parsed, &mut layout)?;
    if let Some((start, v6)) = layout.quote {
        let kind = if v6 { ether_type::IPV6 } else { ether_type::IPV4 };
        let quoted = LaxSlicedPacket::from_ether_type(kind, &frame[start..]);
        let mut within = Layout::default();
        if packet(frame, &quoted, &mut within).is_some() {
            layout.mutable.extend(within.mutable);
            // What is quoted has been on its way already: zero is taken for none, whatever the protocol.
            let optional = |sum: Sum| Sum { optional: sum.pseudo.is_some(), ..sum };
            layout.quoted_sums = within.sums.into_iter().map(optional).collect();
        }
    }
    Some(layout)
}

/// Adds one packet's fields.
fn packet(frame: &[u8], parsed: &LaxSlicedPacket<'_>, layout: &mut Layout) -> Option<()> {
    let (protocol, l4, addresses, v6) = match parsed.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header().slice();
            let start = at(frame, header);
            layout.mutable.push((start + 10, start + 20));
            layout.hops = start + 8;
            let covers = (start, start + header.len());
            layout.sums.push(Sum { at: start + 10, covers, pseudo: None, optional: false });
            let end = start + usize::from(ip.header().total_len());
            // A later fragment has no transport header.
            let later = ip.header().fragments_offset().value() != 0;
            let protocol = if later { ip_number::IPV6_NO_NEXT_HEADER } else { ip.header().protocol() };
            (protocol, (start + header.len(), end), (start + 12, start + 20), false)
        }
        LaxNetSlice::Ipv6(ip) => {
            let start = at(frame, ip.header().slice());
            layout.mutable.push((start + 8, start + 40));
            layout.hops = start + 7;
            let (protocol, l4) = behind_extensions(frame, start + 40, ip.header().next_header());
            let end = start + 40 + usize::from(ip.header().payload_length());
            (protocol, (l4, end), (start + 8, start + 40), true)
        }
        LaxNetSlice::Arp(_) => return None,
    };
    // A length of 0 is that of a large unsegmented packet (BIG TCP); one that leaves no room for a header is as good.
    let (l4, end) = (l4.0, if l4.1 < l4.0 + 20 { frame.len() } else { l4.1.min(frame.len()) });
    layout.transport = (protocol != ip_number::IPV6_NO_NEXT_HEADER).then_some((protocol.0, l4));
    // What an error quotes is followed to the end of the frame, whatever length its header says.
    let error = [ip_number::ICMP, ip_number::IPV6_ICMP].contains(&protocol);
    let end = if error { frame.len() } else { end };
    let pseudo = Some((addresses, protocol));
    let mut sum = |field: usize, pseudo, optional| {
        if field + 2 <= end {
            layout.mutable.push((field, field + 2));
            layout.sums.push(Sum { at: field, covers: (l4, end), pseudo, optional });
        }
    };
    match protocol {
        ip_number::TCP => sum(l4 + 16, pseudo, false),
        ip_number::UDP => sum(l4 + 6, pseudo, true),
        ip_number::ICMP if !v6 => sum(l4 + 2, None, false),
        ip_number::IPV6_ICMP if v6 => sum(l4 + 2, pseudo, false),
        _ => return Some(()),
    }
    if error {
        layout.quote = (l4 + 8 <= end).then_some((l4 + 8, v6));
    } else {
        layout.mutable.push((l4, l4 + 4));
    }
    Some(())
}

/// What follows the extension headers, in whatever order they come; the other parser takes them in RFC 8200's order only.
fn behind_extensions(frame: &[u8], mut start: usize, mut next: IpNumber) -> (IpNumber, usize) {
    while let Some(&[following, length]) = frame.get(start..start + 2).and_then(|two| two.first_chunk()) {
        start += match next {
            ip_number::IPV6_HEADER_HOP_BY_HOP | ip_number::IPV6_ROUTE_HEADER | ip_number::IPV6_DESTINATION_OPTIONS => {
                8 * (usize::from(length) + 1)
            }
            ip_number::IPV6_FRAGMENTATION_HEADER => {
                let offset = frame.get(start + 2..start + 4).map_or(0, |two| u16::from_be_bytes([two[0], two[1]]) >> 3);
                if offset != 0 {
                    return (ip_number::IPV6_NO_NEXT_HEADER, start);
                }
                8
            }
            _ => break,
        };
        next = IpNumber(following);
    }
    (next, start)
}
