//! What is counted for a backend: packets, bytes and connections.

use super::refusal::complaint;
use super::snat::lend_remote;
use super::{AT_POD, AT_UPLINK, PROTOCOLS, balanced, full, opened};
use crate::abi::proto;
use crate::testkit::{Action, Endpoint, Family, Hook, Pkt, Scene};
use crate::wire::tcp;

/// Number and bytes of packets, the Ethernet header not counted.
fn amount<A: Family>(packets: &[Pkt<A>]) -> (u64, u64) {
    let bytes = packets.iter().map(|packet| packet.bytes().len() as u64 - 14);
    (packets.len() as u64, bytes.sum())
}

/// From a Pod and from outside.
pub fn packets_are_counted_each_way_for_their_backend<A: Family>(scene: &mut Scene<'_, A>) {
    let (mut there, mut here, mut connections) = (Vec::new(), Vec::new(), 0);
    for (proto, edge) in PROTOCOLS.into_iter().flat_map(|proto| [(proto, AT_POD), (proto, AT_UPLINK)]) {
        let trip = opened(scene, edge, proto);
        trip.talk(scene);
        trip.talk(scene);
        let (client, front, back) = (trip.client, trip.front, trip.back);
        let data = Pkt::data(proto, client, front);
        there.extend([Pkt::first(proto, client, front), Pkt::answer(proto, client, front), data.clone(), data]);
        let data = Pkt::data(proto, back, client);
        here.extend([Pkt::reply(proto, back, client), data.clone(), data]);
        connections += 1;
        scene.traffic(1, amount(&there), amount(&here), connections);
    }
}

/// A busy flow's packets are counted in lots, and all of them when it closes.
pub fn packets_of_a_busy_connection_are_all_counted_in_the_end<A: Family>(scene: &mut Scene<'_, A>) {
    let trip = opened(scene, AT_UPLINK, proto::TCP);
    let (client, front, back) = (trip.client, trip.front, trip.back);
    let mut there = vec![Pkt::first(proto::TCP, client, front), Pkt::answer(proto::TCP, client, front)];
    let mut here = vec![Pkt::reply(proto::TCP, back, client)];
    for _ in 0..100 {
        trip.talk(scene);
        there.push(Pkt::data(proto::TCP, client, front));
        here.push(Pkt::data(proto::TCP, back, client));
    }
    let fin = |from, to| Pkt::tcp(from, to, 0x11);
    for _ in 0..2 {
        scene.passes(trip.edge.0, &fin(client, front), &fin(client, back));
        scene.passes(trip.edge.1, &fin(back, client), &fin(front, client));
        there.push(fin(client, front));
        here.push(fin(back, client));
        scene.traffic(1, amount(&there), amount(&here), 1);
    }
}

/// Until the backend's first reply; what it refuses is answered, too.
pub fn backends_that_do_not_answer_or_refuse_are_counted<A: Family>(scene: &mut Scene<'_, A>) {
    for (edge, proto) in PROTOCOLS.into_iter().flat_map(|proto| [(AT_POD, proto), (AT_UPLINK, proto)]) {
        let trip = opened(scene, edge, proto);
        scene.answers(1, 0, 0);
        trip.talk(scene);
        scene.answers(1, 0, 0);
    }
    scene.serve(&balanced(proto::TCP));
    let (front, back) = ((A::LB, 443), (A::LOCAL, 8080));
    for client in [(A::POD, 41_000), (A::POD, 41_001)] {
        // The second of them is sent once more, which is no other connection.
        for _ in 0..2 {
            scene.passes(Hook::PodIngress, &Pkt::syn(client, front), &Pkt::syn(client, back));
        }
    }
    scene.answers(1, 2, 0);
    let client = (A::POD, 41_000);
    let reset = |from, to| Pkt::tcp(from, to, tcp::flag::RST | tcp::flag::ACK);
    scene.passes(Hook::PodEgress, &reset(back, client), &reset(front, client));
    scene.answers(1, 1, 1);
    // A backend that does not listen on a port of UDP.
    scene.serve(&balanced(proto::UDP));
    let sent = Pkt::udp(client, back);
    scene.passes(Hook::PodIngress, &Pkt::udp(client, front), &sent);
    scene.answers(1, 2, 1);
    let complaint_of = |of: &Pkt<A>| complaint(of, if A::IS_V6 { (1, 4) } else { (3, 3) }, 0);
    scene.passes(Hook::PodEgress, &complaint_of(&sent), &complaint_of(&Pkt::udp(client, front)));
    scene.answers(1, 2, 2);
}

/// They leave by redirect, not through the stack.
pub fn packets_of_source_translated_flows_are_counted<A: Family>(scene: &mut Scene<'_, A>) {
    for (n, proto) in (1..).zip(PROTOCOLS) {
        scene.serve(&full(proto, &[Endpoint::remote(n, A::REMOTE)]));
        let (client, front, back) = ((A::CLIENT, 40_000), (A::LB, 443), (A::REMOTE, 8080));
        let allocated = lend_remote(scene, proto, client, front);
        let request = Pkt::data(proto, client, front);
        scene.routes(Hook::UplinkIngress, &request, &Pkt::data(proto, (A::NODE, allocated), back));
        let there = amount(&[Pkt::first(proto, client, front), request]);
        scene.traffic(n, there, amount(&[Pkt::reply(proto, back, client)]), 1);
    }
}

/// Hairpin: both ways by the same hook.
pub fn packets_of_a_pod_to_itself_are_counted<A: Family>(scene: &mut Scene<'_, A>) {
    for (n, proto) in (1..).zip(PROTOCOLS) {
        scene.serve(&full(proto, &[Endpoint::local(n, A::POD)]));
        let (client, front, back) = ((A::POD, 40_000), (A::VIP, 80), (A::POD, 8080));
        let first = Pkt::first(proto, client, front);
        let allocated = scene.allocated(Hook::PodIngress, &first, Action::Back, &Pkt::first(proto, (A::NODE, 0), back));
        let reply = Pkt::reply(proto, back, (A::NODE, allocated));
        scene.returns(Hook::PodIngress, &reply, &Pkt::reply(proto, front, client).hop());
        scene.traffic(n, amount(&[first]), amount(&[reply]), 1);
    }
}

/// Only what goes on its way is.
pub fn a_packet_that_is_dropped_is_not_counted<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&full(proto::TCP, &[Endpoint::remote(1, A::REMOTE)]));
    let (client, front) = ((A::CLIENT, 40_000), (A::LB, 443));
    lend_remote(scene, proto::TCP, client, front);
    let before =
        (amount(&[Pkt::first(proto::TCP, client, front)]), (1, Pkt::syn(client, front).bytes().len() as u64 - 14));
    scene.traffic(1, before.0, before.1, 1);
    let expired = Pkt::data(proto::TCP, client, front).ttl(1);
    scene.returns(Hook::UplinkIngress, &expired, &complaint(&expired, if A::IS_V6 { (3, 0) } else { (11, 0) }, 0));
    scene.traffic(1, before.0, before.1, 1);
}

/// A retransmitted SYN begins no second connection.
pub fn a_connection_is_counted_once<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&balanced(proto::TCP));
    let (client, front, back) = ((A::POD, 40_000), (A::LB, 443), (A::LOCAL, 8080));
    let syn = Pkt::syn(client, front);
    for _ in 0..3 {
        scene.passes(Hook::PodIngress, &syn, &Pkt::syn(client, back));
    }
    scene.traffic(1, amount(&[syn.clone(), syn.clone(), syn]), (0, 0), 1);
}

/// A backend's id may be another's later on; what is left of its connections goes on the new one's account never.
pub fn connections_of_a_former_backend_are_not_counted_for_the_next<A: Family>(scene: &mut Scene<'_, A>) {
    let trip = opened(scene, AT_POD, proto::TCP);
    let mut service = balanced::<A>(proto::TCP).endpoints(&[Endpoint::local(1, A::LOCAL2)]);
    service.endpoints[0].generation = 2;
    scene.serve(&service);
    trip.talk(scene);
    scene.traffic(1, (0, 0), (0, 0), 0);
}
