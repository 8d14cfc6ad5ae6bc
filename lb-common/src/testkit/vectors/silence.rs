//! Backends that leave connections unanswered: whom they are passed over for, and until when.

use super::affinity::pair;
use super::full;
use crate::abi::{Counter, algorithm, config_flag, proto};
use crate::testkit::{Endpoint, Family, Hook, Pkt, Scene};
use crate::wire::tcp::flag;

const FRONT: u16 = 443;

/// Four, on two addresses.
pub(super) fn four<A: Family>() -> [Endpoint<A>; 4] {
    let [one, two] = pair::<A>();
    [one, two, Endpoint { id: 3, port: 8081, ..one }, Endpoint { id: 4, port: 8081, ..two }]
}

/// Sends the SYN of a port: the place of the endpoint that it goes to.
#[track_caller]
fn asks<A: Family>(scene: &mut Scene<'_, A>, of: &[Endpoint<A>], port: u16) -> usize {
    let syn = Pkt::syn((A::POD, port), (A::LB, FRONT));
    let got = scene.send(Hook::PodIngress, &syn).bytes;
    let goes = |endpoint: &Endpoint<A>| syn.clone().to(endpoint.addr, endpoint.port).bytes() == got;
    of.iter().position(goes).unwrap_or_else(|| panic!("port {port} goes to none of them"))
}

/// How often each is chosen by so many new connections.
#[track_caller]
pub(super) fn choices<A: Family>(
    scene: &mut Scene<'_, A>,
    of: &[Endpoint<A>],
    ports: std::ops::Range<u16>,
) -> Vec<usize> {
    let mut choices = vec![0; of.len()];
    for port in ports {
        choices[asks(scene, of, port)] += 1;
    }
    choices
}

/// An endpoint answers the SYN of a port.
#[track_caller]
fn answers<A: Family>(scene: &mut Scene<'_, A>, endpoint: &Endpoint<A>, port: u16) {
    let (client, back) = ((A::POD, port), (endpoint.addr, endpoint.port));
    let reply = Pkt::reply(proto::TCP, back, client);
    scene.passes(Hook::PodEgress, &reply, &reply.clone().from(A::LB, FRONT));
}

/// These endpoints leave a connection unanswered for a second, and its SYN is sent again. Ports from 50,000 on.
#[track_caller]
pub(super) fn fall_silent<A: Family>(scene: &mut Scene<'_, A>, of: &[Endpoint<A>], silent: &[usize]) {
    let mut asked = vec![None; of.len()];
    for port in 50_000..50_400 {
        asked[asks(scene, of, port)].get_or_insert(port);
    }
    scene.node.pass_seconds(1);
    for at in silent {
        assert_ne!(asks(scene, of, asked[*at].unwrap_or_default()), *at);
    }
}

/// A dead node costs one client a second. A machine that is slow may try it in between.
pub fn silent_backend_is_passed_over_until_it_answers<A: Family>(scene: &mut Scene<'_, A>) {
    let of = pair();
    scene.serve(&full(proto::TCP, &of));
    fall_silent(scene, &of, &[0]);
    scene.counted(Counter::BackendSilent, 1);
    let while_silent = choices(scene, &of, 40_000..40_032);
    assert!(while_silent[0] <= 1, "{while_silent:?}");
    // One connection tries it, whose SYN is answered.
    scene.node.pass_seconds(3);
    let tries: Vec<u16> = (41_000..41_064).filter(|port| asks(scene, &of, *port) == 0).collect();
    assert!((1..=2).contains(&tries.len()), "{tries:?}");
    answers(scene, &of[0], tries[0]);
    scene.counted(Counter::BackendBack, 1);
    let then = choices(scene, &of, 42_000..42_064);
    assert!(then[0] > 0 && then[1] > 0, "{then:?}");
}

/// One SYN that is lost among others that are answered says nothing, nor does an answer that comes late.
pub fn backend_that_has_answered_since_is_not_silent<A: Family>(scene: &mut Scene<'_, A>) {
    let of = pair();
    scene.serve(&full(proto::TCP, &of));
    let lost: Vec<u16> = (40_000..40_064).filter(|port| asks(scene, &of, *port) == 0).collect();
    scene.node.pass_seconds(1);
    answers(scene, &of[0], lost[1]);
    asks(scene, &of, lost[0]);
    scene.counted(Counter::SynRetried, 1);
    scene.counted(Counter::BackendSilent, 0);
}

/// It is there, and refuses.
pub fn refusal_is_an_answer<A: Family>(scene: &mut Scene<'_, A>) {
    let of = pair();
    scene.serve(&full(proto::TCP, &of));
    let asked: Vec<u16> = (40_000..40_064).filter(|port| asks(scene, &of, *port) == 0).collect();
    scene.node.pass_seconds(1);
    asks(scene, &of, asked[0]);
    scene.counted(Counter::BackendSilent, 1);
    let refusal = Pkt::tcp((of[0].addr, of[0].port), (A::POD, asked[1]), flag::RST | flag::ACK);
    scene.passes(Hook::PodEgress, &refusal, &refusal.clone().from(A::LB, FRONT));
    scene.counted(Counter::BackendBack, 1);
}

/// There is nobody to take its place.
pub fn single_endpoint_is_never_silent<A: Family>(scene: &mut Scene<'_, A>) {
    let of = [pair()[0]];
    scene.serve(&full(proto::TCP, &of));
    asks(scene, &of, 40_000);
    scene.node.pass_seconds(1);
    asks(scene, &of, 40_000);
    scene.counted(Counter::BackendSilent, 0);
}

/// Of four of which three are silent two are passed over; of those that are all silent, none.
pub fn half_of_a_set_at_most_is_passed_over<A: Family>(scene: &mut Scene<'_, A>) {
    let of = four();
    scene.serve(&full(proto::TCP, &of));
    fall_silent(scene, &of, &[0, 1, 3]);
    scene.counted(Counter::BackendSilent, 3);
    let got = choices(scene, &of, 40_000..40_128);
    assert!(got[0] <= 1 && got[1] <= 1 && got[2] > 20 && got[3] > 5, "{got:?}");
    let two = pair();
    scene.serve(&full(proto::TCP, &two));
    let got = choices(scene, &two, 41_000..41_064);
    assert!(got[0] > 5 && got[1] > 5, "{got:?}");
    scene.counted(Counter::BackendSilent, 3);
}

/// Whatever the algorithm; where the client decides it always goes to the same one.
pub fn silent_backend_is_passed_over_by_each_algorithm<A: Family>(scene: &mut Scene<'_, A>) {
    let of = four();
    scene.serve(&full(proto::TCP, &of));
    fall_silent(scene, &of, &[1]);
    for (n, algorithm) in (0..).zip([algorithm::ROUND_ROBIN, algorithm::SOURCE_HASH, algorithm::MAGLEV]) {
        let service = full(proto::TCP, &of).algorithm(algorithm);
        scene.serve(&service);
        let ports = 40_000 + 100 * n;
        let got = choices(scene, &of, ports..ports + 48);
        assert!(got[1] <= 1, "{algorithm}: {got:?}");
        if algorithm == algorithm::SOURCE_HASH {
            assert!(got.iter().any(|count| *count >= 47), "{got:?}");
        } else {
            assert!(got.iter().filter(|count| **count > 4).count() == 3, "{algorithm}: {got:?}");
        }
    }
}

/// It stays where it has moved to.
pub fn client_with_affinity_leaves_a_silent_backend_and_stays_away<A: Family>(scene: &mut Scene<'_, A>) {
    let of = pair();
    scene.serve(&full(proto::TCP, &of).affinity(600));
    let first = asks(scene, &of, 40_000);
    let other = 1 - first;
    let ack = |port| Pkt::answer(proto::TCP, (A::POD, port), (A::LB, FRONT));
    answers(scene, &of[first], 40_000);
    scene.send(Hook::PodIngress, &ack(40_000));
    assert_eq!(asks(scene, &of, 40_001), first);
    scene.node.pass_seconds(1);
    assert_eq!(asks(scene, &of, 40_001), other);
    scene.counted(Counter::BackendSilent, 1);
    // Another one moves at once, and is answered.
    assert_eq!(asks(scene, &of, 40_002), other);
    answers(scene, &of[other], 40_002);
    scene.send(Hook::PodIngress, &ack(40_002));
    scene.node.pass_seconds(5);
    let later = choices(scene, &of, 41_000..41_032);
    assert_eq!(later[first], 0, "{later:?}");
}

/// `--no-silence-detection`.
pub fn silent_backend_keeps_its_share_where_that_is_asked<A: Family>(scene: &mut Scene<'_, A>) {
    let mut config = Scene::config();
    config.flags |= config_flag::NO_SILENCE;
    scene.node.set_config(config);
    let of = pair();
    scene.serve(&full(proto::TCP, &of));
    fall_silent(scene, &of, &[0]);
    let got = choices(scene, &of, 40_000..40_064);
    assert!(got[0] > 5 && got[1] > 5, "{got:?}");
    scene.counted(Counter::BackendSilent, 0);
}

/// `--no-syn-retry`: the connection stays, new ones go elsewhere.
pub fn silence_is_found_out_without_syn_retry<A: Family>(scene: &mut Scene<'_, A>) {
    let mut config = Scene::config();
    config.flags |= config_flag::NO_RETRY;
    scene.node.set_config(config);
    let of = pair();
    scene.serve(&full(proto::TCP, &of));
    let silent = asks(scene, &of, 40_000);
    scene.node.pass_seconds(1);
    assert_eq!(asks(scene, &of, 40_000), silent);
    scene.counted(Counter::SynRetried, 0);
    let got = choices(scene, &of, 41_000..41_032);
    assert!(got[silent] <= 1, "{got:?}");
}
