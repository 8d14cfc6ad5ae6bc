//! The choice of the backend with the fewest open connections, and what counts as open.

use super::affinity::{asked, edges, pair};
use super::{AT_POD, AT_UPLINK, Trip, full};
use crate::abi::{BackendValue, Be16, Counter, FrontendKey, FrontendValue, SetRef, algorithm, proto};
use crate::testkit::{Action, Endpoint, Family, Hook, Pkt, Scene, Service};
use crate::wire::tcp::flag;

const FRONT: u16 = 443;
const FIN_ACK: u8 = flag::FIN | flag::ACK;

fn least<A: Family>(endpoints: &[Endpoint<A>]) -> Service<A> {
    full(proto::TCP, endpoints).algorithm(algorithm::LEAST_CONNECTIONS)
}

/// How many connections the pair has.
#[track_caller]
fn open<A: Family>(scene: &mut Scene<'_, A>) -> [u32; 2] {
    [1, 2].map(|id| scene.node.stats(id).open)
}

/// Writes the weight of one of the pair.
fn weigh<A: Family>(scene: &mut Scene<'_, A>, endpoint: &Endpoint<A>, weight: u16) {
    let &Endpoint { id, addr, port, generation, flags } = endpoint;
    let port = Be16::new(port);
    let value = BackendValue { addr, port, flags, generation, service: 7, weight, ..BackendValue::default() };
    scene.node.set_backend(id, value);
}

/// A connection of this port, to whichever of the pair it is given.
#[track_caller]
fn connect<A: Family>(scene: &mut Scene<'_, A>, port: u16) -> Trip<A> {
    let at_pod = port.is_multiple_of(2);
    let (edge, client) = if at_pod { (AT_POD, A::POD) } else { (AT_UPLINK, A::CLIENT) };
    let (client, front) = ((client, port), (A::LB, FRONT));
    let back = (if asked(scene, edge.0, client, front) { A::LOCAL } else { A::LOCAL2 }, 8080);
    scene.passes(edge.1, &Pkt::reply(proto::TCP, back, client), &Pkt::reply(proto::TCP, front, client));
    scene.passes(edge.0, &Pkt::answer(proto::TCP, client, front), &Pkt::answer(proto::TCP, client, back));
    Trip { edge, proto: proto::TCP, client, front, back }
}

/// The client sends this.
#[track_caller]
fn asks<A: Family>(scene: &mut Scene<'_, A>, trip: &Trip<A>, flags: u8, number: u32) {
    let packet = Pkt::tcp(trip.client, trip.front, flags).sequence(number);
    scene.passes(trip.edge.0, &packet, &packet.clone().to(trip.back.0, trip.back.1));
}

/// The backend sends this.
#[track_caller]
fn answers<A: Family>(scene: &mut Scene<'_, A>, trip: &Trip<A>, flags: u8, number: u32) {
    let packet = Pkt::tcp(trip.back, trip.client, flags).sequence(number);
    scene.passes(trip.edge.1, &packet, &packet.clone().from(trip.front.0, trip.front.1));
}

/// None is ahead of the other by more than one, also where nobody has answered yet.
pub fn fewest_connections_get_the_next_one<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&least(&pair()));
    for port in 40_000..40_064 {
        for (hook, client) in edges() {
            asked(scene, hook, (client, port), (A::LB, FRONT));
            let [one, other] = open(scene);
            assert!(one.abs_diff(other) <= 1, "{one} and {other}");
        }
    }
    assert_eq!(open(scene), [64, 64]);
}

/// As many for each unit of weight.
pub fn weights_are_a_share_of_open_connections<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&least(&pair()));
    weigh(scene, &pair()[0], 3);
    for port in 40_000..40_080 {
        asked(scene, Hook::PodIngress, (A::POD, port), (A::LB, FRONT));
    }
    assert_eq!(open(scene), [60, 20]);
}

/// Both sides have closed, either has reset, or the backend has refused: each is counted once, however often it is said.
pub fn connection_that_is_over_counts_no_more<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&least(&pair()));
    // The client's next number is 0x0102_0305, and so is the backend's.
    let next = 0x0102_0305;
    for (round, from_client) in (0..4).map(|n| (n, n % 2 == 0)) {
        let trip = connect(scene, 40_000 + round);
        assert_eq!(open(scene).iter().sum::<u32>(), 1);
        for _ in 0..2 {
            if from_client {
                asks(scene, &trip, FIN_ACK, next);
            } else {
                answers(scene, &trip, FIN_ACK, next);
            }
            trip.talk(scene);
            assert_eq!(open(scene).iter().sum::<u32>(), 1, "half-closed");
        }
        for _ in 0..2 {
            if from_client {
                answers(scene, &trip, FIN_ACK, next + 14);
            } else {
                asks(scene, &trip, FIN_ACK, next + 14);
            }
            assert_eq!(open(scene), [0, 0], "closed");
        }
    }
    for (round, from_client) in (4..8).map(|n| (n, n % 2 == 0)) {
        let trip = connect(scene, 40_000 + round);
        // One that cannot be true ends nothing.
        asks(scene, &trip, flag::RST, next + 1_000);
        assert_eq!(open(scene).iter().sum::<u32>(), 1);
        for _ in 0..2 {
            if from_client {
                asks(scene, &trip, flag::RST, next);
            } else {
                answers(scene, &trip, flag::RST, next);
            }
            assert_eq!(open(scene), [0, 0], "reset");
        }
    }
    let (client, front) = ((A::POD, 41_000), (A::LB, FRONT));
    let back = (if asked(scene, Hook::PodIngress, client, front) { A::LOCAL } else { A::LOCAL2 }, 8080);
    for _ in 0..2 {
        let refusal = Pkt::tcp(back, client, flag::RST | flag::ACK);
        scene.passes(Hook::PodEgress, &refusal, &refusal.clone().from(front.0, front.1));
        assert_eq!(open(scene), [0, 0], "refused");
    }
}

/// A client that begins anew on the tuple of a connection that is over.
pub fn connection_that_another_replaces_counts_no_more<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&least(&pair()));
    let trip = connect(scene, 40_000);
    asks(scene, &trip, FIN_ACK, 0x0102_0305);
    assert_eq!(open(scene).iter().sum::<u32>(), 1, "half closed");
    answers(scene, &trip, FIN_ACK, 0x0102_0305);
    assert_eq!(open(scene), [0, 0]);
    asked(scene, Hook::PodIngress, trip.client, trip.front);
    assert_eq!(open(scene).iter().sum::<u32>(), 1);
    // The SYN that is sent again goes to the other one.
    let before = open(scene);
    scene.node.pass_seconds(1);
    asked(scene, Hook::PodIngress, trip.client, trip.front);
    scene.counted(Counter::SynRetried, 1);
    assert_eq!(open(scene), [before[1], before[0]]);
}

/// Of a set that is not looked at as a whole.
pub fn large_sets_are_kept_even<A: Family>(scene: &mut Scene<'_, A>) {
    let service = least(&pair());
    scene.serve(&service);
    let set = SetRef { base: 100, count: 100 };
    for slot in 0..set.count {
        scene.node.set_slot(set.base + slot, 1 + u32::from(slot >= 80));
    }
    for (addr, port, kind) in service.frontends.clone() {
        let key = FrontendKey { addr, port: Be16::new(port), proto: proto::TCP, scope: 0 };
        let algorithm = algorithm::LEAST_CONNECTIONS;
        let value =
            FrontendValue { internal: set, external: set, service: 7, kind, algorithm, ..FrontendValue::default() };
        scene.node.set_frontend(key, Some(value));
    }
    for port in 40_000..40_400 {
        asked(scene, Hook::PodIngress, (A::POD, port), (A::LB, FRONT));
    }
    // By slots alone the second would have 80 of them. Four looks in ten meet none of its slots: what it lacks then it
    // gets by the others.
    let [one, other] = open(scene);
    assert!(one + other == 400 && one.abs_diff(other) <= 20, "{one} and {other}");
}

/// Silence first, and affinity before either.
pub fn silent_backend_gets_none_though_it_has_the_fewest<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&least(&pair()));
    let syn = |port| Pkt::syn((A::POD, port), (A::LB, FRONT));
    let first = asked(scene, Hook::PodIngress, (A::POD, 40_000), (A::LB, FRONT));
    scene.node.pass_seconds(1);
    assert_ne!(asked(scene, Hook::PodIngress, (A::POD, 40_000), (A::LB, FRONT)), first);
    scene.counted(Counter::BackendSilent, 1);
    let other = if first { A::LOCAL2 } else { A::LOCAL };
    let mut tried = 0;
    for port in 41_000..41_032 {
        let got = scene.send(Hook::PodIngress, &syn(port));
        assert_eq!(got.action, Action::Pass);
        tried += usize::from(got.bytes != syn(port).to(other, 8080).bytes());
    }
    // On a slow machine one connection tries it.
    assert!(tried <= 1, "{tried}");
}

/// However many the client has there.
pub fn affinity_comes_before_the_count<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&least(&pair()).affinity(10));
    let trip = connect(scene, 40_000);
    for port in (40_002..40_040).step_by(2) {
        assert_eq!(connect(scene, port).back, trip.back);
    }
}

/// Which has no connections that are counted.
pub fn other_algorithms_count_no_open_connections<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&full(proto::TCP, &pair()));
    for port in 40_000..40_008 {
        connect(scene, port);
    }
    assert_eq!(open(scene), [0, 0]);
}
