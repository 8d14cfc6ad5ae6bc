//! The programs as such: they load, within a bound on what the verifier has to look at.

use aya::programs::{ProgramInfo, SchedClassifier, Xdp};

use lb_common::abi::{V4, V6};
use lb_common::testkit::{Family, Pkt, UPLINK};

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
