//! Flows that end, backends that go away.

use super::refusal::{reset, unreachable};
use super::{AT_POD, AT_UPLINK, Edge, PROTOCOLS, Trip, balanced, full, opened};
use crate::abi::{Be16, Counter, FlowKey, config_flag, proto};
use crate::testkit::{Action, Endpoint, Family, Hook, Pkt, Scene, Service};
use crate::wire::tcp::flag as tcp_flag;

const ACK: u8 = tcp_flag::ACK;
const FIN: u8 = tcp_flag::FIN;
const RST: u8 = tcp_flag::RST;
const SYN: u8 = tcp_flag::SYN;

const EDGES: [Edge; 2] = [AT_POD, AT_UPLINK];

/// The balanced Service after its Pod was replaced by another.
fn replaced<A: Family>(proto: u8) -> Service<A> {
    let mut service = balanced::<A>(proto);
    service.endpoints[0].generation = 0;
    service.endpoints.push(Endpoint::local(2, A::LOCAL2));
    service.slots += 128;
    service
}

/// SYNs fill the table of half-open flows only, also where they are answered: anyone can send those.
pub fn flow_is_established_when_the_client_answers_its_backend<A: Family>(scene: &mut Scene<'_, A>) {
    for proto in PROTOCOLS {
        scene.serve(&balanced(proto));
        let (client, front, back) = ((A::POD, 40_000), (A::LB, 443), (A::LOCAL, 8080));
        let first = Pkt::first(proto, client, front);
        let established = if proto == proto::TCP { 0 } else { 2 };
        for _ in 0..3 {
            scene.passes(Hook::PodIngress, &first, &first.clone().to(back.0, back.1));
            scene.flows(established, 2);
        }
        let reply = Pkt::reply(proto, back, client);
        for _ in 0..2 {
            scene.passes(Hook::PodEgress, &reply, &reply.clone().from(front.0, front.1));
            scene.flows(established, 2);
        }
        let answer = Pkt::answer(proto, client, front);
        scene.passes(Hook::PodIngress, &answer, &answer.clone().to(back.0, back.1));
        scene.flows(established + 2, 0);
    }
    scene.counted(Counter::NewFlow, 2);
    scene.counted(Counter::FlowEstablished, 2);
}

/// TCP Fast Open (RFC 7413): the backend may answer data in a SYN before the client says anything more, and even close.
pub fn backends_data_before_the_clients_first_ack_is_translated<A: Family>(scene: &mut Scene<'_, A>) {
    for (edge, client) in EDGES.into_iter().zip([A::POD, A::CLIENT]) {
        scene.serve(&balanced(proto::TCP));
        let (client, front, back) = ((client, 40_000), (A::LB, 443), (A::LOCAL, 8080));
        let syn = Pkt::syn(client, front).payload(b"GET / HTTP/1.1");
        scene.passes(edge.0, &syn, &syn.clone().to(back.0, back.1));
        // Not before the backend has taken the SYN: the connection may be a direct one, and the SYN an outsider's.
        let early = Pkt::data(proto::TCP, back, client).sequence(0x0102_0305);
        scene.untouched(edge.1, &early);
        let reply = Pkt::reply(proto::TCP, back, client);
        scene.passes(edge.1, &reply, &reply.clone().from(front.0, front.1));
        let closing = Pkt::tcp(back, client, FIN | ACK).sequence(0x0102_0313);
        for packet in [&early, &closing] {
            scene.passes(edge.1, packet, &packet.clone().from(front.0, front.1));
        }
        scene.untouched(edge.1, &early.clone().sequence(0x7102_0305));
        // The client answers what has come so far, and closes: a SYN begins anew.
        scene.passes(edge.0, &Pkt::tcp(client, front, ACK), &Pkt::tcp(client, back, ACK));
        scene.passes(edge.1, &early, &early.clone().from(front.0, front.1));
        scene.passes(edge.0, &Pkt::tcp(client, front, FIN | ACK), &Pkt::tcp(client, back, FIN | ACK));
        scene.serve(&balanced(proto::TCP).endpoints(&[Endpoint::local(2, A::LOCAL2)]));
        Trip { edge, proto: proto::TCP, client, front, back: (A::LOCAL2, 8080) }.open(scene);
    }
    scene.counted(Counter::FlowEstablished, 4);
}

/// Never passed on untranslated without an answer.
pub fn mid_stream_tcp_without_a_flow_is_reset<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&balanced(proto::TCP));
    for (edge, client) in EDGES.into_iter().zip([A::POD, A::CLIENT]) {
        let data = Pkt::data(proto::TCP, (client, 40_000), (A::LB, 443));
        scene.returns(edge.0, &data, &reset(&data, 0x0102_0305, 0, RST));
        let syn_ack = Pkt::tcp((client, 40_000), (A::LB, 443), SYN | ACK);
        scene.returns(edge.0, &syn_ack, &reset(&syn_ack, 0x0102_0305, 0, RST));
        scene.drops(edge.0, &Pkt::tcp((client, 40_000), (A::LB, 443), RST));
    }
    scene.counted(Counter::RejectNoFlow, 4);
    scene.counted(Counter::DropNoFlow, 2);
    scene.flows(0, 0);
}

/// netfilter still translates connections that it began.
pub fn takeover_leaves_mid_stream_tcp_to_the_stack<A: Family>(scene: &mut Scene<'_, A>) {
    let mut config = Scene::config();
    config.flags |= config_flag::TAKEOVER;
    scene.node.set_config(config);
    scene.serve(&balanced(proto::TCP));
    for (edge, client) in EDGES.into_iter().zip([A::POD, A::CLIENT]) {
        scene.untouched(edge.0, &Pkt::data(proto::TCP, (client, 40_000), (A::LB, 443)));
        scene.untouched(edge.0, &Pkt::tcp((client, 40_000), (A::LB, 443), RST));
        let (client, front, back) = ((client, 40_001), (A::LB, 443), (A::LOCAL, 8080));
        Trip { edge, proto: proto::TCP, client, front, back }.open(scene);
    }
}

/// A client that reuses its port gets a fresh choice, however the flow ended.
pub fn syn_after_a_close_begins_a_new_flow<A: Family>(scene: &mut Scene<'_, A>) {
    let (close, abort) = (FIN | ACK, RST | ACK);
    let mut created = 0;
    for edge in EDGES {
        for flags in [[Some(close), Some(close)], [Some(abort), None], [None, Some(abort)]] {
            let trip = opened(scene, edge, proto::TCP);
            created += 1;
            let Trip { client, front, back, .. } = trip;
            let end = |scene: &mut Scene<'_, A>, back, [from_client, from_backend]: [Option<u8>; 2]| {
                if let Some(flags) = from_client {
                    scene.passes(edge.0, &Pkt::tcp(client, front, flags), &Pkt::tcp(client, back, flags));
                }
                if let Some(flags) = from_backend {
                    scene.passes(edge.1, &Pkt::tcp(back, client, flags), &Pkt::tcp(front, client, flags));
                }
            };
            end(scene, back, flags);
            // The rest of the close still goes through.
            trip.talk(scene);
            scene.serve(&replaced(proto::TCP));
            let again = Trip { back: (A::LOCAL2, 8080), ..trip };
            again.open(scene);
            created += 1;
            again.talk(scene);
            scene.counted(Counter::NewFlow, created);
            end(scene, again.back, [Some(close); 2]);
        }
    }
}

/// A dead node costs its clients one retransmission: the SYN that comes again, unanswered, goes to another Pod.
pub fn syn_that_is_sent_again_without_an_answer_is_offered_another_backend<A: Family>(scene: &mut Scene<'_, A>) {
    let pods = [Endpoint::local(1, A::LOCAL), Endpoint::local(2, A::LOCAL2)];
    for (established, (edge, client)) in [0, 2].into_iter().zip(EDGES.into_iter().zip([A::POD, A::CLIENT])) {
        let (client, front) = ((client, 40_000), (A::LB, 443));
        let syn = Pkt::syn(client, front);
        scene.serve(&balanced(proto::TCP));
        scene.passes(edge.0, &syn, &syn.clone().to(A::LOCAL, 8080));
        // A Service with one endpoint has no other.
        scene.node.pass_seconds(1);
        scene.passes(edge.0, &syn, &syn.clone().to(A::LOCAL, 8080));
        scene.serve(&balanced(proto::TCP).endpoints(&pods));
        // Each try goes to the other one. The one that answers has it.
        for to in [A::LOCAL2, A::LOCAL, A::LOCAL2] {
            scene.node.pass_seconds(1);
            scene.passes(edge.0, &syn, &syn.clone().to(to, 8080));
            scene.flows(established, 2);
        }
        let late = Pkt::reply(proto::TCP, (A::LOCAL, 8080), client);
        scene.untouched(edge.1, &late);
        let trip = Trip { edge, proto: proto::TCP, client, front, back: (A::LOCAL2, 8080) };
        trip.begin(scene);
        scene.node.pass_seconds(1);
        trip.open(scene);
        trip.talk(scene);
        scene.node.pass_seconds(1);
        scene.passes(edge.0, &syn, &syn.clone().to(A::LOCAL2, 8080));
        scene.serve(&balanced(proto::TCP));
    }
    scene.counted(Counter::SynRetried, 6);
}

/// `--no-syn-retry`.
pub fn silent_backend_keeps_its_clients_where_that_is_asked<A: Family>(scene: &mut Scene<'_, A>) {
    let mut config = Scene::config();
    config.flags |= config_flag::NO_RETRY;
    scene.node.set_config(config);
    let (client, front) = ((A::POD, 40_000), (A::LB, 443));
    let syn = Pkt::syn(client, front);
    scene.serve(&balanced(proto::TCP));
    scene.passes(Hook::PodIngress, &syn, &syn.clone().to(A::LOCAL, 8080));
    scene.serve(&balanced(proto::TCP).endpoints(&[Endpoint::local(1, A::LOCAL), Endpoint::local(2, A::LOCAL2)]));
    for _ in 0..8 {
        scene.node.pass_seconds(1);
        scene.passes(Hook::PodIngress, &syn, &syn.clone().to(A::LOCAL, 8080));
    }
    scene.counted(Counter::SynRetried, 0);
}

/// Its SYN-ACK was lost on the way: the established flow stays.
pub fn retransmitted_syn_keeps_its_backend<A: Family>(scene: &mut Scene<'_, A>) {
    for edge in EDGES {
        let trip = opened(scene, edge, proto::TCP);
        // Another Pod joins: a fresh choice could go there.
        let endpoints = [Endpoint::local(1, A::LOCAL), Endpoint::local(2, A::LOCAL2)];
        scene.serve(&balanced(proto::TCP).endpoints(&endpoints));
        for _ in 0..16 {
            trip.open(scene);
        }
    }
    scene.counted(Counter::NewFlow, 2);
    scene.flows(4, 0);
}

/// Nobody who cannot see a connection's packets ends it (RFC 5961). The packet itself is the receiver's to judge.
pub fn reset_and_fin_that_cannot_be_true_end_nothing<A: Family>(scene: &mut Scene<'_, A>) {
    for edge in EDGES {
        let Trip { client, front, back, .. } = opened(scene, edge, proto::TCP);
        // Far from the newest byte, and near: a RST must have exactly its number.
        let far = [RST, RST | ACK, FIN | ACK].map(|flags| (flags, 0x7102_0304));
        let near = [RST, RST | ACK].map(|flags| (flags, 0x0102_0704));
        for (flags, number) in far.into_iter().chain(near) {
            let there = Pkt::tcp(client, front, flags).sequence(number);
            scene.passes(edge.0, &there, &there.clone().to(back.0, back.1));
            let here = Pkt::tcp(back, client, flags).sequence(number);
            scene.passes(edge.1, &here, &here.clone().from(front.0, front.1));
        }
        // Another Pod joins: a fresh choice could go there.
        let endpoints = [Endpoint::local(1, A::LOCAL), Endpoint::local(2, A::LOCAL2)];
        scene.serve(&balanced(proto::TCP).endpoints(&endpoints));
        for _ in 0..16 {
            scene.passes(edge.0, &Pkt::syn(client, front), &Pkt::syn(client, back));
        }
    }
    scene.counted(Counter::NewFlow, 2);
}

/// Else whoever sees nothing of a connection could say which number a RST needs.
pub fn syn_ack_that_answers_no_syn_moves_no_number<A: Family>(scene: &mut Scene<'_, A>) {
    for edge in EDGES {
        let Trip { client, front, back, .. } = opened(scene, edge, proto::TCP);
        let forged = Pkt::reply(proto::TCP, back, client).sequence(0x6000_0000);
        scene.passes(edge.1, &forged, &forged.clone().from(front.0, front.1));
        let reset = Pkt::tcp(back, client, RST).sequence(0x6000_0001);
        scene.passes(edge.1, &reset, &reset.clone().from(front.0, front.1));
        let endpoints = [Endpoint::local(1, A::LOCAL), Endpoint::local(2, A::LOCAL2)];
        scene.serve(&balanced(proto::TCP).endpoints(&endpoints));
        for _ in 0..16 {
            scene.passes(edge.0, &Pkt::syn(client, front), &Pkt::syn(client, back));
        }
    }
    scene.counted(Counter::NewFlow, 2);
}

/// A client's connection that is over, and a live one of the same port to another address of the Service, with the same
/// backend: what comes for the first is not taken for the second's.
pub fn flow_that_is_over_takes_no_other_with_it<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&full(proto::TCP, &[Endpoint::local(1, A::LOCAL)]));
    let (edge, client, back) = (AT_POD, (A::POD, 40_000), (A::LOCAL, 8080));
    let [over, live] = [(A::LB, 443), (A::VIP, 80)].map(|front| Trip { edge, proto: proto::TCP, client, front, back });
    over.open(scene);
    scene.passes(edge.0, &Pkt::tcp(client, over.front, FIN | ACK), &Pkt::tcp(client, back, FIN | ACK));
    scene.passes(edge.1, &Pkt::tcp(back, client, FIN | ACK), &Pkt::tcp(over.front, client, FIN | ACK));
    live.open(scene);
    scene.flows(2, 0);
    scene.allocated(edge.0, &Pkt::syn(client, over.front), Action::Pass, &Pkt::syn(client, back));
    live.talk(scene);
    scene.flows(2, 2);
}

/// Neither from what is behind an uplink nor under the node's own address.
pub fn pod_under_an_address_that_is_elsewhere_is_dropped<A: Family>(scene: &mut Scene<'_, A>) {
    for proto in PROTOCOLS {
        scene.serve(&balanced(proto));
        for source in [A::CLIENT, A::REMOTE] {
            scene.drops(Hook::PodIngress, &Pkt::first(proto, (source, 40_000), (A::LB, 443)));
        }
    }
    scene.counted(Counter::DropForeignSource, 4);
    scene.flows(0, 0);
}

/// A backend that answers with RST: the client's next try may go elsewhere, and a repeated RST still reaches it.
pub fn refused_connection_begins_anew<A: Family>(scene: &mut Scene<'_, A>) {
    for (edge, client) in EDGES.into_iter().zip([A::POD, A::CLIENT]) {
        scene.serve(&balanced(proto::TCP));
        let (client, front, back) = ((client, 40_000), (A::LB, 443), (A::LOCAL, 8080));
        scene.passes(edge.0, &Pkt::syn(client, front), &Pkt::syn(client, back));
        for _ in 0..2 {
            scene.passes(edge.1, &Pkt::tcp(back, client, RST | ACK), &Pkt::tcp(front, client, RST | ACK));
        }
        scene.serve(&replaced(proto::TCP));
        Trip { edge, proto: proto::TCP, client, front, back: (A::LOCAL2, 8080) }.open(scene);
    }
    scene.counted(Counter::FlowEstablished, 2);
}

/// With the very next datagram, though the client keeps its port.
pub fn udp_moves_when_its_backend_goes<A: Family>(scene: &mut Scene<'_, A>) {
    for edge in EDGES {
        let trip = opened(scene, edge, proto::UDP);
        scene.serve(&replaced(proto::UDP));
        let moved = Trip { back: (A::LOCAL2, 8080), ..trip };
        moved.open(scene);
        moved.talk(scene);
    }
    scene.counted(Counter::FlowMoved, 2);
    scene.flows(4, 0);
}

/// Also when the old backend never answered.
pub fn udp_without_a_reply_moves_when_its_backend_goes<A: Family>(scene: &mut Scene<'_, A>) {
    for (edge, client) in EDGES.into_iter().zip([A::POD, A::CLIENT]) {
        scene.serve(&balanced(proto::UDP));
        let datagram = Pkt::udp((client, 40_000), (A::LB, 443));
        scene.passes(edge.0, &datagram, &datagram.clone().to(A::LOCAL, 8080));
        scene.serve(&replaced(proto::UDP));
        scene.passes(edge.0, &datagram, &datagram.clone().to(A::LOCAL2, 8080));
    }
    scene.counted(Counter::FlowMoved, 2);
    scene.flows(0, 4);
}

/// The kernel evicts what is not used, and nobody uses the reverse entry of what is not answered. The next datagram after a
/// while makes it again, towards the same backend.
pub fn evicted_half_of_an_unanswered_flow_is_made_again<A: Family>(scene: &mut Scene<'_, A>) {
    for (edge, client) in EDGES.into_iter().zip([A::POD, A::CLIENT]) {
        for answered in [false, true] {
            let client = (client, if answered { 40_001 } else { 40_000 });
            let (front, back) = ((A::LB, 443), (A::LOCAL, 8080));
            scene.serve(&balanced(proto::UDP));
            let (datagram, reply) = (Pkt::udp(client, front), Pkt::udp(back, client));
            scene.passes(edge.0, &datagram, &datagram.clone().to(back.0, back.1));
            if answered {
                scene.passes(edge.1, &reply, &reply.clone().from(front.0, front.1));
            }
            scene.node.forget(&tuple(proto::UDP, client, back));
            scene.untouched(edge.1, &reply);
            // Another Pod joins: a fresh choice could go there.
            let endpoints = [Endpoint::local(1, A::LOCAL), Endpoint::local(2, A::LOCAL2)];
            scene.serve(&balanced(proto::UDP).endpoints(&endpoints));
            scene.node.pass_seconds(2);
            scene.passes(edge.0, &datagram, &datagram.clone().to(back.0, back.1));
            scene.passes(edge.1, &reply, &reply.clone().from(front.0, front.1));
            scene.passes(edge.0, &datagram, &datagram.clone().to(back.0, back.1));
            scene.passes(edge.1, &reply, &reply.clone().from(front.0, front.1));
        }
    }
    scene.counted(Counter::NewFlow, 4);
    scene.flows(8, 0);
}

/// A SYN-ACK's numbers go with the entry: the client's next SYN begins anew, and is answered under the frontend's address.
pub fn syn_of_a_flow_whose_half_was_evicted_begins_anew<A: Family>(scene: &mut Scene<'_, A>) {
    for (edge, client) in EDGES.into_iter().zip([A::POD, A::CLIENT]) {
        scene.serve(&balanced(proto::TCP));
        let (client, front, back) = ((client, 40_000), (A::LB, 443), (A::LOCAL, 8080));
        scene.passes(edge.0, &Pkt::syn(client, front), &Pkt::syn(client, back));
        scene.node.forget(&tuple(proto::TCP, client, back));
        Trip { edge, proto: proto::TCP, client, front, back }.open(scene);
    }
    scene.counted(Counter::NewFlow, 4);
    scene.flows(4, 0);
}

fn tuple<A: Family>(proto: u8, src: (A, u16), dst: (A, u16)) -> FlowKey<A> {
    FlowKey { src: src.0, dst: dst.0, sport: Be16::new(src.1), dport: Be16::new(dst.1), proto, pad: [0; 3] }
}

/// Port unreachable instead of a dead Pod.
pub fn udp_is_refused_when_the_last_backend_goes<A: Family>(scene: &mut Scene<'_, A>) {
    for edge in EDGES {
        let trip = opened(scene, edge, proto::UDP);
        let mut empty = balanced::<A>(proto::UDP);
        empty.endpoints[0].generation = 0;
        scene.serve(&empty);
        let datagram = Pkt::udp(trip.client, trip.front);
        scene.returns(edge.0, &datagram, &unreachable(&datagram));
        scene.flows(0, 0);
    }
}

/// Terminating, and even gone: TCP drains by itself.
pub fn removed_backend_keeps_its_tcp_connections<A: Family>(scene: &mut Scene<'_, A>) {
    for edge in EDGES {
        let trip = opened(scene, edge, proto::TCP);
        scene.serve(&replaced(proto::TCP));
        trip.talk(scene);
        let mut empty = balanced::<A>(proto::TCP);
        empty.endpoints[0].generation = 0;
        scene.serve(&empty);
        trip.talk(scene);
        // New ones do not go there.
        let syn = Pkt::syn((trip.client.0, 40_001), trip.front);
        scene.returns(edge.0, &syn, &reset(&syn, 0, 0x0102_0305, RST | ACK));
    }
}

/// Nobody listens there any more, so the old flow is over whatever its state says.
pub fn syn_to_a_removed_backend_goes_elsewhere<A: Family>(scene: &mut Scene<'_, A>) {
    for edge in EDGES {
        let trip = opened(scene, edge, proto::TCP);
        scene.serve(&replaced(proto::TCP));
        Trip { back: (A::LOCAL2, 8080), ..trip }.open(scene);
        // Without a reply so far.
        scene.serve(&balanced(proto::TCP));
        let syn = Pkt::syn((trip.client.0, 40_002), trip.front);
        scene.passes(edge.0, &syn, &syn.clone().to(A::LOCAL, 8080));
        scene.serve(&replaced(proto::TCP));
        scene.passes(edge.0, &syn, &syn.clone().to(A::LOCAL2, 8080));
    }
}
