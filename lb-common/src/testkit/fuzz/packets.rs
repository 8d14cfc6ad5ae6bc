//! Packets by choice: structured ones of all kinds, and then damaged, cut or made up.

use super::super::family::Family;
use super::super::packet::{Extension, L4, Pkt};
use super::tape::Tape;
use crate::abi::proto;

/// Flags of segments; at times any byte.
const FLAGS: [u8; 8] = [0x02, 0x12, 0x10, 0x18, 0x04, 0x14, 0x11, 0x01];
/// Protocols that are not translated: SCTP, ESP, GRE, IPv6 without a next header, AH, and one that nobody has.
const OTHERS: [u8; 6] = [132, 50, 47, 59, 51, 253];

/// Two ends of a conversation.
pub(super) type Ends<A> = ((A, u16), (A, u16));

/// A packet between two ends; `numbers`: TCP's, of the sender's bytes and of the other side's.
pub(super) fn packet<A: Family>(
    tape: &mut Tape<'_>,
    protocol: u8,
    (src, dst): Ends<A>,
    numbers: (u32, u32),
) -> Vec<u8> {
    let mut packet = match tape.below(16) {
        0..=11 => transport(tape, protocol, src, dst),
        12 | 13 => icmp(tape, protocol, src, dst),
        14 => Pkt::raw(src.0, dst.0, tape.pick(&OTHERS), &noise(tape, 48)),
        _ => truncated_transport(tape, protocol, src, dst),
    };
    if let L4::Tcp { seq, ack, flags, .. } = &mut packet.l4 {
        *seq = numbers.0;
        *ack = if *flags & 0x10 == 0 { 0 } else { numbers.1 };
    }
    packet.ttl = tape.pick(&[64, 64, 64, 64, 2, 1, 0, 255]);
    packet.tos = if tape.one_in(8) { tape.byte() } else { 0 };
    packet.df = !tape.one_in(4);
    dress(tape, &mut packet);
    let mut bytes = if tape.one_in(10) { fragment(tape, &packet) } else { packet.bytes() };
    match tape.below(32) {
        24..=28 => damage(tape, &mut bytes),
        29 => bytes.truncate(tape.below(256).min(bytes.len())),
        30 => tagged(tape, &mut bytes),
        31 => garbage(tape, &mut bytes),
        _ => {}
    }
    bytes
}

fn noise(tape: &mut Tape<'_>, most: usize) -> Vec<u8> {
    let length = tape.below(most + 1);
    (0..length).map(|_| tape.byte()).collect()
}

fn payload(tape: &mut Tape<'_>) -> Vec<u8> {
    match tape.below(16) {
        // Larger than the way takes, and about as large.
        14 => vec![tape.byte(); 1_500],
        15 => vec![tape.byte(); 1_400 + tape.below(80)],
        0 => Vec::new(),
        _ => noise(tape, 24),
    }
}

fn transport<A: Family>(tape: &mut Tape<'_>, protocol: u8, src: (A, u16), dst: (A, u16)) -> Pkt<A> {
    if protocol != proto::TCP {
        let packet = Pkt::udp(src, dst).payload(&payload(tape));
        return if tape.one_in(6) { packet.unsummed() } else { packet };
    }
    let flags = if tape.one_in(16) { tape.byte() } else { tape.pick(&FLAGS) };
    let mut packet = Pkt::tcp(src, dst, flags);
    if flags & 2 == 0 {
        packet = packet.payload(&payload(tape));
    }
    packet
}

/// A header that ends too early, or that says so.
fn truncated_transport<A: Family>(tape: &mut Tape<'_>, protocol: u8, src: (A, u16), dst: (A, u16)) -> Pkt<A> {
    let whole = transport(tape, protocol, src, dst);
    let header = whole.header_length();
    let mut bytes = whole.bytes().split_off(14 + header);
    if protocol == proto::TCP && tape.one_in(2) && bytes.len() > 12 {
        bytes[12] = tape.byte();
    } else {
        bytes.truncate(tape.below(20));
    }
    Pkt::raw(src.0, dst.0, protocol, &bytes)
}

/// An error about a packet of the conversation, by its other end or by a router, or another message.
fn icmp<A: Family>(tape: &mut Tape<'_>, protocol: u8, src: (A, u16), dst: (A, u16)) -> Pkt<A> {
    let quoted = if tape.one_in(2) { (src, dst) } else { (dst, src) };
    let mut about = transport(tape, protocol, quoted.0, quoted.1);
    if tape.one_in(6) {
        dress(tape, &mut about);
    }
    let kind = match (A::IS_V6, tape.below(8)) {
        (false, 0..=3) => (3, tape.pick(&[3, 4, 1, 13])),
        (false, 4) => (11, 0),
        (false, 5) => (12, 0),
        (true, 0..=3) => (tape.pick(&[1, 2, 3, 4]), tape.pick(&[0, 4])),
        (true, 4 | 5) => (tape.pick(&[135, 136, 143]), 0),
        _ => (tape.byte(), tape.byte()),
    };
    let from = tape.pick(&[src.0, A::ROUTER, quoted.1.0]);
    let towards = tape.pick(&[quoted.0.0, dst.0]);
    let quote = tape.pick(&[8, 20, 28, 64, 4, 0]);
    Pkt::icmp_error(from, towards, kind, u32::from(tape.wide()), &about, quote)
}

/// Options, or extension headers.
fn dress<A: Family>(tape: &mut Tape<'_>, packet: &mut Pkt<A>) {
    if !tape.one_in(8) {
        return;
    }
    if A::IS_V6 {
        let kinds = [Extension::Destination, Extension::HopByHop, Extension::Routing];
        packet.extensions = (0..=tape.below(5)).map(|_| tape.pick(&kinds)).collect();
    } else {
        packet.options = vec![1; 4 * (1 + tape.below(10))];
    }
}

fn fragment<A: Family>(tape: &mut Tape<'_>, whole: &Pkt<A>) -> Vec<u8> {
    // Cut behind a whole header, or in the middle of it.
    let cut = if tape.one_in(4) || !matches!(whole.l4, L4::Tcp { .. }) { 8 } else { 24 };
    let length = whole.bytes().len() - 14 - whole.header_length();
    if length <= cut {
        return whole.bytes();
    }
    let [first, later] = whole.fragments(cut);
    if tape.one_in(2) { first } else { later }
}

/// Changes some bytes of the headers.
fn damage(tape: &mut Tape<'_>, bytes: &mut [u8]) {
    for _ in 0..=tape.below(3) {
        let reach = bytes.len().min(14 + 96);
        if reach <= 14 {
            return;
        }
        let at = 14 + tape.below(reach - 14);
        bytes[at] = match tape.below(4) {
            0 => 0,
            1 => 0xff,
            2 => bytes[at] ^ 1 << tape.below(8),
            _ => tape.byte(),
        };
    }
}

/// With a VLAN tag, or another type.
fn tagged(tape: &mut Tape<'_>, bytes: &mut Vec<u8>) {
    if bytes.len() < 14 {
        return;
    }
    if tape.one_in(2) {
        bytes.splice(12..12, [0x81, 0, 0, 7]);
    } else {
        let other = tape.pick(&[[8, 6], [0x88, 0xcc], [8, 0], [0x86, 0xdd], [0, 46]]);
        bytes[12..14].copy_from_slice(&other);
    }
}

fn garbage(tape: &mut Tape<'_>, bytes: &mut Vec<u8>) {
    bytes.truncate(14);
    bytes.extend(noise(tape, 120));
}
