//! The programs as such: they load, within a bound on what the verifier has to look at.

use aya::programs::{ProgramInfo, SchedClassifier, Xdp};

use lb_common::abi::{V4, V6, frontend_kind, proto};
use lb_common::testkit::{Endpoint, Family, Hook, L4, Node, Pkt, Scene, Service, UPLINK};
use lb_common::wire::tcp::flag;

use crate::node::KernelNode;
use crate::rig::{CLASSIFIERS, FromXdp, Mode, Rig, on_a_node};

/// The kernel's own limit is a million; much less leaves room for older verifiers, which see more states.
const BOUND: u32 = 300_000;

#[test]
fn each_program_is_verified_within_bounds() {
    on_a_node(Mode::Tc, |node| verified_within_bounds(node.rig));
}

fn verified_within_bounds(rig: &Rig) {
    let mut infos: Vec<(&str, ProgramInfo)> = Vec::new();
    for name in CLASSIFIERS {
        let program: &SchedClassifier = rig.object.program(name).unwrap().try_into().unwrap();
        infos.push((name, program.info().unwrap()));
    }
    let xdp: &Xdp = rig.object.program(rig.xdp_program).unwrap().try_into().unwrap();
    infos.push((rig.xdp_program, xdp.info().unwrap()));
    for (name, info) in infos {
        let verified = info.verified_instruction_count().unwrap();
        assert!(verified < BOUND, "{name}: the verifier looked at {verified} instructions");
    }
}

fn cuts<A: Family>(rig: &Rig) {
    let frame = Pkt::syn((A::CLIENT, 40_000), (A::LB, 443)).bytes();
    for length in 14..=14 + A::HEADER {
        match rig.xdp(UPLINK, &frame[..length]) {
            FromXdp::Unmarked(out) => assert_eq!(out, frame[..length]),
            FromXdp::Marked(_) | FromXdp::Done(_) => panic!("{length} bytes are no packet"),
        }
    }
}

/// Shorter than what the kernel makes a TC test run of.
#[test]
fn frames_without_a_whole_ip_header_pass_xdp_as_they_are() {
    on_a_node(Mode::Xdp, |node| {
        cuts::<V4>(node.rig);
        cuts::<V6>(node.rig);
    });
}

/// A jumbo frame, whose first buffer is a page at most. A test run of TC takes no such packets.
fn jumbo<A: Family>(node: &mut KernelNode<'_>)
where
    for<'a> KernelNode<'a>: Node<A>,
{
    let (client, front, back) = ((A::CLIENT, 40_000), (A::LB, 443), (A::LOCAL, 8080));
    let large = |to| Pkt::data(proto::TCP, client, to).payload(&[0x5a; 8_000]);
    let mut scene = Scene::<A>::new("jumbo", node);
    let service = Service::new(proto::TCP, front.0, front.1, frontend_kind::LOAD_BALANCER);
    scene.serve(&service.endpoints(&[Endpoint::local(1, back.0)]));
    // Mid-stream, without a flow: answered by what it acknowledges.
    let mut answer = Pkt::tcp(front, client, flag::RST).sequence(0x0102_0305);
    let L4::Tcp { window, .. } = &mut answer.l4 else { panic!("made as TCP") };
    *window = 0;
    scene.returns(Hook::UplinkIngress, &large(front), &answer);
    scene.passes(Hook::UplinkIngress, &Pkt::syn(client, front), &Pkt::syn(client, back));
    scene.passes(Hook::UplinkIngress, &large(front), &large(back));
    let ip_bytes = |packet: Pkt<A>| packet.ip_packet().len() as u64;
    scene.traffic(1, (2, ip_bytes(Pkt::syn(client, front)) + ip_bytes(large(front))), (0, 0), 1);
}

#[test]
fn frames_of_several_buffers_are_answered_and_counted_whole() {
    on_a_node(Mode::Xdp, |node| {
        jumbo::<V4>(node);
        jumbo::<V6>(node);
    });
}
