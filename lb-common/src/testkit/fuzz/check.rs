//! What holds for every packet, whatever it is: looked at from outside, with a parser and a checksum that are not ours.

use super::super::diff::explain;
use super::super::node::{Action, Hook, Outcome};
use super::layout::{Sum, layout};

/// Room that an ICMP error takes at most: an IPv6 and an ICMP header.
const ERROR: usize = 48;

/// What was counted for one packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// Under names of drops.
    pub(super) drops: u64,
    /// Under names of refusals.
    pub(super) rejects: u64,
}

/// What is wrong with a packet's fate, if anything.
pub(super) fn fault(hook: Hook, sent: &[u8], out: &Outcome, counted: Counted) -> Option<String> {
    // What leaves the node has been routed by the stack already.
    let hops = u8::from(hook.is_ingress());
    let reasons = counted.drops + counted.rejects;
    let found = match out.action {
        Action::Drop if reasons != 1 => Err(format!("a drop has {reasons} reasons")),
        Action::Drop => Ok(()),
        Action::Pass | Action::Route if reasons != 0 => Err(format!("{reasons} reasons for what goes on")),
        Action::Pass => translated(sent, &out.bytes, 0),
        Action::Route => translated(sent, &out.bytes, hops),
        Action::Back if reasons == 0 => swapped(sent, &out.bytes).and_then(|bytes| translated(sent, &bytes, 1)),
        Action::Back if reasons == 1 => swapped(sent, &out.bytes).and_then(|bytes| answer(sent, &bytes)),
        Action::Back => Err(format!("an answer has {reasons} reasons")),
    };
    found.err().map(|why| format!("{:?}: {why}\n{}", out.action, explain(sent, &out.bytes)))
}

/// A packet that left in two fragments, put together again: with the length, flags and offset that it was sent with.
pub(super) fn joined(sent: &[u8], first: &[u8], second: &Outcome) -> Result<Outcome, String> {
    let half = |frame: &[u8], at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let (at, behind) = (half(sent, 20), first.len() - 34);
    let expected = (at | 0x2000, at + u16::try_from(behind / 8).unwrap());
    if (half(first, 20), half(&second.bytes, 20)) != expected || !behind.is_multiple_of(8) {
        return Err(format!("fragments at {:04x} and {:04x} of {at:04x}", half(first, 20), half(&second.bytes, 20)));
    }
    let mut bytes = [first, &second.bytes[34..]].concat();
    for frame in [first, &second.bytes[..]] {
        if usize::from(half(frame, 16)) != frame.len() - 14 {
            return Err(format!("length {} of {} bytes", half(frame, 16), frame.len() - 14));
        }
    }
    // The header's sum stays as right or wrong as it is.
    let mut sum = u32::from(!half(&bytes, 24));
    for field in [16, 20] {
        sum += u32::from(half(sent, field)) + u32::from(!half(&bytes, field));
        bytes[field..field + 2].copy_from_slice(&sent[field..field + 2]);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    bytes[24..26].copy_from_slice(&(!sum as u16).to_be_bytes());
    bytes[..12].copy_from_slice(&sent[..12]);
    Ok(Outcome { action: second.action, bytes })
}

/// The bytes with their Ethernet addresses as they were sent.
fn swapped(sent: &[u8], bytes: &[u8]) -> Result<Vec<u8>, String> {
    if bytes.len() < 14 || bytes[..6] != sent[6..12] || bytes[6..12] != sent[..6] {
        return Err("Ethernet addresses are not swapped".into());
    }
    Ok([&sent[..12], &bytes[12..]].concat())
}

/// A packet that goes on is as it was, but for addresses, ports and checksums, which stay as right or wrong as they were.
fn translated(sent: &[u8], bytes: &[u8], hops: u8) -> Result<(), String> {
    if sent == bytes && hops == 0 {
        return Ok(());
    }
    if sent.len() != bytes.len() {
        return Err(format!("length {} became {}", sent.len(), bytes.len()));
    }
    let layout = layout(sent).ok_or("what is no IP packet was changed")?;
    if bytes[layout.hops] != sent[layout.hops].wrapping_sub(hops) {
        return Err(format!("hop limit {} became {}", sent[layout.hops], bytes[layout.hops]));
    }
    let free = |at: usize| at == layout.hops || layout.mutable.iter().any(|(from, to)| (*from..*to).contains(&at));
    if let Some(at) = (0..sent.len()).find(|at| sent[*at] != bytes[*at] && !free(*at)) {
        return Err(format!("byte {at} is no address, port or checksum, and was changed"));
    }
    sums(&layout.sums, sent, bytes)?;
    // The outer checksum of an error covers the quoted packet: they are right together or not at all.
    sums(&layout.quoted_sums, sent, bytes)
}

fn sums(sums: &[Sum], sent: &[u8], bytes: &[u8]) -> Result<(), String> {
    for sum in sums {
        if sum.residue(sent) != sum.residue(bytes) {
            return Err(format!("{sum:?} leaves {:?} and left {:?}", sum.residue(bytes), sum.residue(sent)));
        }
    }
    Ok(())
}

/// An answer is a sound, separate packet, back to who sent the packet.
fn answer(sent: &[u8], bytes: &[u8]) -> Result<(), String> {
    if bytes.len() > sent.len() + ERROR {
        return Err(format!("{} bytes answer {}", bytes.len(), sent.len()));
    }
    let layout = layout(bytes).ok_or("the answer is no IP packet")?;
    if layout.sums.is_empty() {
        return Err("the answer has no checksum".into());
    }
    for sum in &layout.sums {
        // A RST keeps the IP header but for what changes, so that a wrong checksum stays as wrong.
        let kept = sum.is_of_header() && sum.residue(bytes) == sum.residue(sent);
        if sum.residue(bytes) != Some(0) && !kept {
            return Err(format!("{sum:?} of the answer leaves {:?}", sum.residue(bytes)));
        }
    }
    let v6 = sent[12..14] == [0x86, 0xdd];
    let (src, dst) = if v6 { (22..38, 38..54) } else { (26..30, 30..34) };
    if bytes[dst.clone()] != sent[src.clone()] || bytes[src] != sent[dst] {
        return Err("the answer does not go back".into());
    }
    Ok(())
}
