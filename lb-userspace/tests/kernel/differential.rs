//! Random packets of all kinds through the programs and through the host's adapter, in the same order, while flows are
//! evicted and Services change: verdict, bytes, counters and tables have to stay the same.
//!
//! `SLUICE_FUZZ_KERNEL_PACKETS` makes it more than the bounded run, `SLUICE_FUZZ_SEED` begins at another seed.

use lb_common::abi::{Counter, V4, V6};
use lb_common::testkit::fuzz::{Chance, Sent, Tape, World};
use lb_common::testkit::{Action, Family, HostNode, Node, Outcome, explain};

use crate::node::KernelNode;
use crate::rig::{Mode, on_a_node};

/// Packets per family and mode.
const PACKETS: usize = 6_000;
/// Packets of one seed, after which tables are empty again.
const PER_SEED: usize = 500;

fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

/// What the kernel makes no test run of: frames without a whole IP header.
fn is_too_short(frame: &[u8]) -> bool {
    let header = if frame.get(12..14) == Some(&[0x86, 0xdd]) { 40 } else { 20 };
    frame.len() < 14 + header
}

fn assert_same(seed: u64, n: usize, mode: Mode, sent: &Sent, host: &Outcome, kernel: &Outcome) {
    // The next hop's Ethernet addresses are the adapter's business.
    let skip = if host.action == Action::Route { 14 } else { 0 };
    let start = &sent.bytes[..sent.bytes.len().min(160)];
    assert!(
        host.action == kernel.action && host.bytes.get(skip..) == kernel.bytes.get(skip..),
        "SLUICE_FUZZ_SEED={seed}: packet {n} at {:?} of {}, {mode:?}: host {:?}, kernel {:?}\n{}\nsent {} bytes {start:02x?}",
        sent.hook,
        sent.ifindex,
        host.action,
        kernel.action,
        explain(&host.bytes, &kernel.bytes),
        sent.bytes.len(),
    );
}

fn play<A: Family>(kernel: &mut KernelNode<'_>, seed: u64, fates: &mut [usize; 4])
where
    for<'a> KernelNode<'a>: Node<A>,
{
    let (mut tape, mut host, mode) = (Tape::endless(seed), HostNode::<A>::default(), kernel.mode);
    let mut world = World::<A>::new(&mut tape, Chance::Fixed, &mut [&mut host, kernel]);
    // Some leave by the Pods' device.
    Node::<A>::expect_hand_over(kernel);
    for n in 0..PER_SEED {
        let Some(sent) = world.step(&mut tape, &mut [&mut host, kernel]) else { continue };
        if is_too_short(&sent.bytes) {
            continue;
        }
        let expected = host.send(sent.hook, sent.ifindex, &sent.bytes);
        let got = Node::<A>::send(kernel, sent.hook, sent.ifindex, &sent.bytes);
        assert_same(seed, n, mode, &sent, &expected, &got);
        fates[expected.action as usize] += 1;
        world.saw(&sent, &expected);
    }
    assert_eq!(host.flows(), Node::<A>::flows(kernel), "SLUICE_FUZZ_SEED={seed}: flows");
    for backend in 1..=4 {
        // When a flow counts what it has gathered is a matter of time.
        let host = host.stats(backend).plus(&host.gathered(backend));
        let kernel = Node::<A>::stats(kernel, backend).plus(&Node::<A>::gathered(kernel, backend));
        assert!(
            world.has_evicted() || host == kernel,
            "SLUICE_FUZZ_SEED={seed}: backend {backend}: {host:?}, {kernel:?}"
        );
    }
    for counter in Counter::ALL {
        let (host, kernel) = (host.counter(*counter), Node::<A>::counter(kernel, *counter));
        assert_eq!(host, kernel, "SLUICE_FUZZ_SEED={seed}: {}", counter.name());
    }
}

fn all(mode: Mode) {
    let (packets, first) = (number("SLUICE_FUZZ_KERNEL_PACKETS", PACKETS), number("SLUICE_FUZZ_SEED", 1) as u64);
    on_a_node(mode, |node| {
        let mut fates = [0; 4];
        for seed in first..first + packets.div_ceil(PER_SEED) as u64 {
            play::<V4>(node, seed, &mut fates);
            play::<V6>(node, seed, &mut fates);
        }
        assert!(fates.iter().all(|count| *count > packets / 100), "hardly any packet of some kind: {fates:?}");
    });
}

#[test]
fn random_packets_fare_alike_on_the_host_and_in_tc() {
    all(Mode::Tc);
}

#[test]
fn random_packets_fare_alike_on_the_host_and_in_xdp() {
    all(Mode::Xdp);
}

#[test]
fn random_packets_fare_alike_on_the_host_and_where_xdp_hands_over() {
    all(Mode::XdpNoSend);
}
