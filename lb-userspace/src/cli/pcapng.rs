//! Events as a capture (pcapng, draft-ietf-opsawg-pcapng) that Wireshark reads: each packet's headers, with what became of
//! it as a comment.

use lb_common::abi::proto;

use crate::maps::events::Event;

/// `LINKTYPE_RAW`: packets begin with the IP header.
const RAW: u16 = 101;

/// A block: type, length, body, length.
fn block(kind: u32, mut body: Vec<u8>) -> Vec<u8> {
    body.resize(body.len().next_multiple_of(4), 0);
    let length = u32::try_from(body.len() + 12).unwrap_or(u32::MAX).to_le_bytes();
    [&kind.to_le_bytes()[..], &length, &body, &length].concat()
}

/// What a capture begins with: a section, and one interface whose times are nanoseconds.
pub(super) fn header() -> Vec<u8> {
    let section = [&0x1a2b_3c4d_u32.to_le_bytes()[..], &1u16.to_le_bytes(), &0u16.to_le_bytes(), &[0xff; 8]].concat();
    let mut interface = [&RAW.to_le_bytes()[..], &[0; 2], &0u32.to_le_bytes()].concat();
    // if_tsresol: 10^-9; end of options.
    interface.extend([9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
    [block(0x0a0d_0d0a, section), block(1, interface)].concat()
}

/// One packet. `comment`: what became of it.
pub(super) fn packet(event: &Event, comment: &str) -> Vec<u8> {
    let bytes = headers(event);
    let (high, low) = (event.at_ns >> 32, event.at_ns & 0xffff_ffff);
    let mut body = 0u32.to_le_bytes().to_vec();
    for number in [high, low, bytes.len() as u64, u64::from(event.length).max(bytes.len() as u64)] {
        body.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    }
    body.extend(&bytes);
    body.resize(body.len().next_multiple_of(4), 0);
    body.extend(1u16.to_le_bytes());
    body.extend(u16::try_from(comment.len()).unwrap_or(0).to_le_bytes());
    body.extend(comment.as_bytes());
    body.resize(body.len().next_multiple_of(4), 0);
    body.extend([0; 4]);
    block(6, body)
}

/// The packet's headers, as far as an event has them. Checksums are 0.
fn headers(event: &Event) -> Vec<u8> {
    let mut transport = Vec::new();
    transport.extend(event.source.port().to_be_bytes());
    transport.extend(event.destination.port().to_be_bytes());
    if event.protocol == proto::TCP {
        transport.extend(event.seq.to_be_bytes());
        transport.extend(event.ack.to_be_bytes());
        transport.extend([0x50, event.flags, 0, 0, 0, 0, 0, 0]);
    } else {
        let own = if event.source.is_ipv4() { 20 } else { 40 };
        transport.extend(event.length.saturating_sub(own).to_be_bytes());
        transport.extend([0, 0]);
    }
    let mut bytes = Vec::new();
    match (event.source.ip(), event.destination.ip()) {
        (std::net::IpAddr::V4(src), std::net::IpAddr::V4(dst)) => {
            bytes.extend([0x45, 0]);
            bytes.extend(event.length.to_be_bytes());
            bytes.extend([0, 0, 0, 0, event.hop_limit, event.protocol, 0, 0]);
            bytes.extend(src.octets());
            bytes.extend(dst.octets());
        }
        (std::net::IpAddr::V6(src), std::net::IpAddr::V6(dst)) => {
            bytes.extend([0x60, 0, 0, 0]);
            bytes.extend(event.length.saturating_sub(40).to_be_bytes());
            bytes.extend([event.protocol, event.hop_limit]);
            bytes.extend(src.octets());
            bytes.extend(dst.octets());
        }
        _ => {}
    }
    bytes.extend(transport);
    bytes
}

#[cfg(test)]
mod tests {
    use lb_common::datapath::Reason;

    use super::*;

    /// The blocks of a capture: type and body.
    fn blocks(mut bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let number = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().unwrap());
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let length = number(&bytes[4..]) as usize;
            assert_eq!(number(&bytes[length - 4..]) as usize, length, "both lengths agree");
            assert_eq!(length % 4, 0);
            found.push((number(bytes), bytes[8..length - 4].to_vec()));
            bytes = &bytes[length..];
        }
        found
    }

    #[test]
    fn a_capture_has_headers_time_and_a_comment() {
        let event = Event {
            at_ns: 5 << 32 | 7,
            source: "192.0.2.9:40000".parse().unwrap(),
            destination: "10.96.0.10:80".parse().unwrap(),
            translated: None,
            protocol: proto::TCP,
            service: 0,
            backend: 0,
            device: 2,
            reason: Reason::NEW_FLOW,
            is_new: true,
            length: 60,
            flags: 2,
            hop_limit: 64,
            seq: 1,
            ack: 0,
        };
        let all = blocks(&[header(), packet(&event, "dropped: x")].concat());
        assert_eq!(all.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [0x0a0d_0d0a, 1, 6]);
        let body = &all[2].1;
        let numbers: Vec<u32> = body[..20].chunks(4).map(|four| u32::from_le_bytes(four.try_into().unwrap())).collect();
        assert_eq!(numbers, [0, 5, 7, 40, 60], "interface, time, bytes that are there, bytes of the packet");
        assert_eq!((&body[32..36], &body[36..40]), (&[192, 0, 2, 9][..], &[10, 96, 0, 10][..]));
        assert_eq!((body[42], body[43], body[53]), (0, 80, 2), "destination port and flags");
        assert!(body.windows(10).any(|text| text == b"dropped: x"));
    }
}
