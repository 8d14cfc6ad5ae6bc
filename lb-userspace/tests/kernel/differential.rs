//! Hostile packets through the programs and through the host's adapter, in the same order: verdict, bytes and counters
//! have to stay the same, whatever the packets do to the tables.

use lb_common::abi::{Be16, V4, V6, frontend_kind, proto};
use lb_common::testkit::{Endpoint, Family, Hook, HostNode, Node, Noise, Scene, Service, explain};

use crate::alike::{ended_alike, fared_alike};
use crate::node::KernelNode;
use crate::rig::{Mode, on_a_node};

/// Packets per family and mode.
const PACKETS: usize = 4_000;

/// One local and one remote endpoint, each alone in its Service, and one port to lend: nothing is left to chance.
fn set_up<A: Family>(node: &mut dyn Node<A>) {
    let mut scene = Scene::new("differential", node);
    let mut config = Scene::<A>::config();
    (config.snat_lo, config.snat_hi) = (Be16::new(61_000), Be16::new(61_000));
    scene.node.set_config(config);
    let ports = [
        (1, proto::TCP, A::LB, 443, frontend_kind::LOAD_BALANCER, Endpoint::remote(1, A::REMOTE)),
        (2, proto::UDP, A::LB, 443, frontend_kind::LOAD_BALANCER, Endpoint::local(2, A::LOCAL)),
        (3, proto::UDP, A::VIP, 80, frontend_kind::CLUSTER_IP, Endpoint::remote(3, A::REMOTE)),
    ];
    for (id, proto, addr, port, kind, endpoint) in ports {
        let mut service = Service::new(proto, addr, port, kind).endpoints(&[endpoint]);
        (service.id, service.slots) = (id, 128 * (id - 1));
        scene.serve(&service);
    }
}

fn compare<A: Family>(kernel: &mut KernelNode<'_>, seed: u64)
where
    for<'a> KernelNode<'a>: Node<A>,
{
    let (mut noise, mut host) = (Noise::new(seed), HostNode::<A>::default());
    set_up::<A>(&mut host);
    set_up::<A>(kernel);
    // Some leave by the Pods' device.
    Node::<A>::expect_hand_over(kernel);
    let mut fates = [0; 4];
    for n in 0..PACKETS {
        let packet = noise.packet::<A>();
        let hook = [Hook::PodIngress, Hook::PodEgress, Hook::UplinkIngress, Hook::UplinkEgress][noise.below(4)];
        if packet.len() < 14 + A::HEADER {
            // The kernel makes no test run through TC of less.
            continue;
        }
        let expected = host.send(hook, hook.device(), &packet);
        let got = Node::<A>::send(kernel, hook, hook.device(), &packet);
        assert!(
            fared_alike(&expected, &got),
            "packet {n} at {hook:?}, {:?}: host {:?}, kernel {:?}\n{}\nsent {packet:02x?}",
            kernel.mode,
            expected.action,
            got.action,
            explain(&expected.bytes, &got.bytes),
        );
        fates[expected.action as usize] += 1;
    }
    assert!(fates.iter().all(|count| *count > PACKETS / 200), "hardly any packet of some kind: {fates:?}");
    ended_alike(&mut host, kernel, 1..=3).unwrap();
}

fn all(mode: Mode) {
    on_a_node(mode, |node| {
        compare::<V4>(node, 4);
        compare::<V6>(node, 6);
    });
}

#[test]
fn hostile_packets_fare_alike_on_the_host_and_in_tc() {
    all(Mode::Tc);
}

#[test]
fn hostile_packets_fare_alike_on_the_host_and_in_xdp() {
    all(Mode::Xdp);
}

#[test]
fn hostile_packets_fare_alike_on_the_host_and_where_xdp_hands_over() {
    all(Mode::XdpNoSend);
}
