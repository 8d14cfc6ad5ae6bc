//! Fuzzing of the pipeline: a world of Services and packets drawn from a fuzzer's bytes or from a seed, and what has to
//! hold for each packet.
//!
//! - [`pipeline`] plays one input on the host; it is the fuzz target, and what tests run over corpus and seeds.
//! - [`parse`] is the fuzz target of parsing, by itself.
//! - [`World`] and [`Tape`] play the same on several nodes at once: host and kernel have to agree.

mod check;
mod layout;
mod model;
mod packets;
mod pair;
mod segment;
mod tape;
mod world;

use std::collections::BTreeSet;

pub use self::tape::Tape;
pub use self::world::{Chance, Sent, World};
use super::bytes::Bytes;
use super::family::Family;
use super::host::HostNode;
use super::node::{Action, Node};
use super::packet::Pkt;
use crate::abi::{Counter, V4, V6};
use crate::datapath::{Headers, Parsed};
use crate::wire::Fragment;

/// Packets of one input at most.
const PACKETS: usize = 512;
/// TCP's numbers of a packet that is only parsed.
const NUMBERS: (u32, u32) = (0x0102_0304, 0x0102_0305);

/// What was seen of the pipeline: IPv6 or not, a hook, a fate and the counter that moved with it.
pub type Feature = (bool, &'static str, &'static str, Option<Counter>);

/// Plays one input: its first byte chooses the address family. Panics with the packet that shows a fault.
pub fn pipeline(data: &[u8]) -> BTreeSet<Feature> {
    run(Tape::new(data), PACKETS)
}

/// Plays so many packets from a seed.
pub fn seeded(seed: u64, packets: usize) -> BTreeSet<Feature> {
    run(Tape::endless(seed), packets)
}

/// Parses bytes as a packet of either family: what is taken for a flow is what another parser finds. Whether it was.
pub fn parse(data: &[u8]) -> bool {
    let v4 = parse_as::<V4>(data);
    parse_as::<V6>(data) || v4
}

fn parse_as<A: Family>(data: &[u8]) -> bool {
    let frame = Bytes([&Pkt::<A>::raw(A::ZERO, A::ZERO, 0, &[]).bytes()[..14], data].concat());
    let mut headers = Headers::<A>::empty();
    let parsed = headers.parse(&frame, 14);
    if parsed != Parsed::Flow || headers.fragment == Fragment::Later {
        return false;
    }
    let l4 = usize::from(headers.l4);
    let found = layout::layout(&frame.0).and_then(|layout| layout.transport);
    assert_eq!(found, Some((headers.key.proto, l4)), "{:02x?}", frame.0);
    let ports = [headers.key.sport.0, headers.key.dport.0].map(u16::to_ne_bytes).concat();
    assert_eq!(frame.0.get(l4..l4 + 4), Some(&ports[..]), "{:02x?}", frame.0);
    true
}

/// A packet by choice, as the pipeline meets them, without its Ethernet header.
pub fn packet(data: &[u8]) -> Vec<u8> {
    let mut tape = Tape::new(data);
    let protocol = tape.pick(&[6, 17]);
    let frame = if tape.byte().is_multiple_of(2) {
        packets::packet::<V4>(&mut tape, protocol, ((V4::POD, 1), (V4::VIP, 80)), NUMBERS)
    } else {
        packets::packet::<V6>(&mut tape, protocol, ((V6::POD, 1), (V6::VIP, 80)), NUMBERS)
    };
    frame.get(14..).unwrap_or_default().to_vec()
}

fn run(mut tape: Tape<'_>, packets: usize) -> BTreeSet<Feature> {
    let mut features = BTreeSet::new();
    if tape.byte().is_multiple_of(2) {
        play::<V4>(&mut tape, packets, &mut features);
    } else {
        play::<V6>(&mut tape, packets, &mut features);
    }
    features
}

fn play<A: Family>(tape: &mut Tape<'_>, packets: usize, features: &mut BTreeSet<Feature>) {
    let mut node = HostNode::<A>::default();
    let mut world = World::new(tape, Chance::Free, &mut [&mut node]);
    let mut model = model::Model::default();
    let mut before = counters(&mut node);
    let mut sent = 0;
    while sent < packets && !tape.is_over() {
        let Some(packet) = world.step(tape, &mut [&mut node]) else {
            model.evicted(&node.memory);
            continue;
        };
        sent += 1;
        let out = node.send(packet.hook, packet.ifindex, &packet.bytes);
        let after = counters(&mut node);
        let mut counted = check::Counted::default();
        let (mut moved, mut in_two) = (None, false);
        for (counter, (before, after)) in Counter::ALL.iter().zip(before.iter().zip(&after)) {
            let by = after - before;
            let name = counter.name();
            // A fragment that waits, and a first one that was put into the hook anew, are not lost; but they go no further.
            if name.starts_with("drop_") || matches!(counter, Counter::FragmentHeld | Counter::FragmentReleased) {
                counted.drops += by;
            } else if name.starts_with("reject_") {
                counted.rejects += by;
            }
            moved = moved.or((by > 0).then_some(*counter));
            in_two |= by > 0 && *counter == Counter::PacketFragmented;
        }
        before = after;
        let ahead = node.replayed();
        let whole = match ahead.last() {
            Some(first) if in_two => check::joined(&packet.bytes, first, &out),
            _ => Ok(out.clone()),
        };
        let fault = whole.map_or_else(Some, |whole| {
            check::fault(packet.hook, &packet.bytes, &whole, counted)
                .or_else(|| model.fault(&node.memory, packet.hook, packet.ifindex, &packet.bytes, &whole.bytes))
        });
        if let Some(fault) = fault {
            let (length, start) = (packet.bytes.len(), &packet.bytes[..packet.bytes.len().min(160)]);
            panic!(
                "packet {sent} at {:?} of {}: {fault}\nsent {length} bytes {start:02x?}",
                packet.hook, packet.ifindex
            );
        }
        features.insert((A::IS_V6, packet.hook.program(), fate(out.action), moved));
        world.saw(&packet, &out);
    }
}

const fn fate(action: Action) -> &'static str {
    match action {
        Action::Pass => "pass",
        Action::Drop => "drop",
        Action::Route => "route",
        Action::Back => "back",
    }
}

fn counters<A: Family>(node: &mut HostNode<A>) -> Vec<u64> {
    Counter::ALL.iter().map(|counter| node.counter(*counter)).collect()
}
