//! Random packets of all kinds through the programs and through the host's adapter, in the same order, while Services
//! change and time goes by: verdict, bytes, counters and tables have to stay the same.
//!
//! `SLUICE_FUZZ_KERNEL_PACKETS` makes it more than the bounded run, `SLUICE_FUZZ_SEED` begins at another seed.

use std::time::{Duration, Instant};

use lb_common::abi::{V4, V6};
use lb_common::testkit::fuzz::{Chance, Tape, World};
use lb_common::testkit::{Family, HostNode, Node, explain};

use crate::alike::{ended_alike, fared_alike};
use crate::node::KernelNode;
use crate::rig::{Mode, on_a_node};

/// Packets per family and mode.
const PACKETS: usize = 4_000;
/// Packets of one seed, after which tables are empty again.
const PER_SEED: usize = 200;
/// The host's clock stands still, the kernel's does not. What takes less than this, each sees in the same way.
const AN_INSTANT: Duration = Duration::from_millis(200);
/// How often a seed is played on a machine that is too slow for it.
const TRIES: usize = 20;

fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

/// What the kernel makes no test run of: frames without a whole IP header.
fn is_too_short(frame: &[u8]) -> bool {
    let header = if frame.get(12..14) == Some(&[0x86, 0xdd]) { 40 } else { 20 };
    frame.len() < 14 + header
}

/// Plays a seed on both; what differs, if anything does.
fn play<A: Family>(kernel: &mut KernelNode<'_>, seed: u64, fates: &mut [usize; 4]) -> Result<(), String>
where
    for<'a> KernelNode<'a>: Node<A>,
{
    let (mut tape, mut host) = (Tape::endless(seed), HostNode::<A>::default());
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
        if !fared_alike(&expected, &got) {
            return Err(format!(
                "packet {n} at {:?} of {}: host {:?}, kernel {:?}\n{}\nsent {} bytes {:02x?}",
                sent.hook,
                sent.ifindex,
                expected.action,
                got.action,
                explain(&expected.bytes, &got.bytes),
                sent.bytes.len(),
                &sent.bytes[..sent.bytes.len().min(160)],
            ));
        }
        fates[expected.action as usize] += 1;
        world.saw(&sent, &expected);
    }
    ended_alike(&mut host, kernel, 1..=4)
}

/// Plays a seed until it has taken no time.
fn play_in_time<A: Family>(kernel: &mut KernelNode<'_>, seed: u64, fates: &mut [usize; 4])
where
    for<'a> KernelNode<'a>: Node<A>,
{
    for _ in 0..TRIES {
        let begin = Instant::now();
        match play::<A>(kernel, seed, fates) {
            Ok(()) => return,
            Err(why) if begin.elapsed() < AN_INSTANT => panic!("SLUICE_FUZZ_SEED={seed}, {:?}: {why}", kernel.mode),
            Err(_) => {}
        }
    }
    panic!("SLUICE_FUZZ_SEED={seed}, {:?}: {PER_SEED} packets take more than {AN_INSTANT:?}", kernel.mode);
}

fn all(mode: Mode) {
    let (packets, first) = (number("SLUICE_FUZZ_KERNEL_PACKETS", PACKETS), number("SLUICE_FUZZ_SEED", 1) as u64);
    on_a_node(mode, |node| {
        let mut fates = [0; 4];
        for seed in first..first + packets.div_ceil(PER_SEED) as u64 {
            play_in_time::<V4>(node, seed, &mut fates);
            play_in_time::<V6>(node, seed, &mut fates);
        }
        assert!(fates.iter().all(|count| *count > packets / 200), "hardly any packet of some kind: {fates:?}");
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
