//! Fuzzing of the pipeline: a world of Services and packets drawn from a fuzzer's bytes or from a seed, and what has to
//! hold for each packet.
//!
//! - [`pipeline`] plays one input on the host; it is the fuzz target, and what tests run over corpus and seeds.
//! - [`World`] and [`Tape`] play the same on several nodes at once: host and kernel have to agree.

mod check;
mod layout;
mod packets;
mod tape;
mod world;

use std::collections::BTreeSet;

pub use self::tape::Tape;
pub use self::world::{Chance, Sent, World};
use super::family::Family;
use super::host::HostNode;
use super::node::{Action, Node};
use crate::abi::{Counter, V4, V6};

/// Packets of one input at most.
const PACKETS: usize = 512;

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
    let mut before = counters(&mut node);
    let mut sent = 0;
    while sent < packets && !tape.is_over() {
        let Some(packet) = world.step(tape, &mut [&mut node]) else { continue };
        sent += 1;
        let out = node.send(packet.hook, packet.ifindex, &packet.bytes);
        let after = counters(&mut node);
        let mut counted = check::Counted::default();
        let mut moved = None;
        for (counter, (before, after)) in Counter::ALL.iter().zip(before.iter().zip(&after)) {
            let by = after - before;
            let name = counter.name();
            if name.starts_with("drop_") {
                counted.drops += by;
            } else if name.starts_with("reject_") {
                counted.rejects += by;
            }
            moved = moved.or((by > 0).then_some(*counter));
        }
        before = after;
        if let Some(fault) = check::fault(packet.hook, &packet.bytes, &out, counted) {
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
