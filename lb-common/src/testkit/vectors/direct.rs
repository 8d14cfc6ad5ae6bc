//! Connections that go straight to a Pod, and packets that are none of ours.

use super::{AT_POD, AT_UPLINK, PROTOCOLS, Trip, balanced, full, opened};
use crate::abi::{Counter, proto};
use crate::testkit::{Action, Endpoint, Family, Hook, Pkt, Scene};
use crate::wire::tcp::flag as tcp_flag;

const HOOKS: [Hook; 4] = [Hook::PodIngress, Hook::PodEgress, Hook::UplinkIngress, Hook::UplinkEgress];

/// Its replies would otherwise be taken for the Service flow's.
pub fn direct_connection_reusing_a_tuple_gets_another_port<A: Family>(scene: &mut Scene<'_, A>) {
    for edge in [AT_POD, AT_UPLINK] {
        for proto in PROTOCOLS {
            let trip = opened(scene, edge, proto);
            let Trip { client, front, back, .. } = trip;
            let first = Pkt::first(proto, client, back);
            let allocated = scene.allocated(edge.0, &first, Action::Pass, &first);
            assert_ne!(allocated, client.1);
            let new = (client.0, allocated);
            scene.passes(edge.1, &Pkt::reply(proto, back, new), &Pkt::reply(proto, back, client));
            for _ in 0..3 {
                scene.passes(edge.0, &Pkt::data(proto, client, back), &Pkt::data(proto, new, back));
                scene.passes(edge.1, &Pkt::data(proto, back, new), &Pkt::data(proto, back, client));
                // The Service flow beside it goes on.
                trip.talk(scene);
            }
            assert_ne!(front, back);
        }
    }
    scene.counted(Counter::DirectRemapped, 4);
}

/// The same where the Service flow is one question and one answer so far.
pub fn direct_datagram_beside_a_half_open_flow_gets_another_port<A: Family>(scene: &mut Scene<'_, A>) {
    for edge in [AT_POD, AT_UPLINK] {
        scene.serve(&balanced(proto::UDP));
        let client = if edge.0 == Hook::PodIngress { A::POD } else { A::CLIENT };
        let (client, front, back) = ((client, 40_000), (A::LB, 443), (A::LOCAL, 8080));
        let trip = Trip { edge, proto: proto::UDP, client, front, back };
        trip.begin(scene);
        let first = Pkt::udp(client, back);
        let allocated = scene.allocated(edge.0, &first, Action::Pass, &first);
        assert_ne!(allocated, client.1);
        let new = (client.0, allocated);
        scene.passes(edge.1, &Pkt::reply(proto::UDP, back, new), &Pkt::reply(proto::UDP, back, client));
        trip.talk(scene);
    }
    scene.counted(Counter::DirectRemapped, 2);
}

/// The Service flow is forgotten, its tuple is free.
pub fn direct_connection_after_the_close_is_untouched<A: Family>(scene: &mut Scene<'_, A>) {
    for edge in [AT_POD, AT_UPLINK] {
        let Trip { client, front, back, .. } = opened(scene, edge, proto::TCP);
        let fin = tcp_flag::FIN | tcp_flag::ACK;
        scene.passes(edge.0, &Pkt::tcp(client, front, fin), &Pkt::tcp(client, back, fin));
        scene.passes(edge.1, &Pkt::tcp(back, client, fin), &Pkt::tcp(front, client, fin));
        scene.untouched(edge.0, &Pkt::syn(client, back));
        scene.untouched(edge.1, &Pkt::reply(proto::TCP, back, client));
        scene.untouched(edge.0, &Pkt::data(proto::TCP, client, back));
        scene.untouched(edge.1, &Pkt::data(proto::TCP, back, client));
        scene.flows(0, 0);
    }
}

/// The same where another proxy has translated the SYN behind Sluice: its answer shows it.
pub fn connection_of_another_proxy_after_the_close_is_untouched<A: Family>(scene: &mut Scene<'_, A>) {
    for edge in [AT_POD, AT_UPLINK] {
        let Trip { client, front, back, .. } = opened(scene, edge, proto::TCP);
        let fin = tcp_flag::FIN | tcp_flag::ACK;
        scene.passes(edge.0, &Pkt::tcp(client, front, fin), &Pkt::tcp(client, back, fin));
        scene.passes(edge.1, &Pkt::tcp(back, client, fin), &Pkt::tcp(front, client, fin));
        scene.untouched(edge.1, &Pkt::reply(proto::TCP, back, client));
        scene.untouched(edge.1, &Pkt::data(proto::TCP, back, client));
        scene.flows(0, 0);
    }
}

/// The other side may still send, and has to answer the FIN: the Service flow goes on, the newcomer gets another port.
pub fn direct_connection_beside_a_half_closed_flow_gets_another_port<A: Family>(scene: &mut Scene<'_, A>) {
    for edge in [AT_POD, AT_UPLINK] {
        let Trip { client, front, back, .. } = opened(scene, edge, proto::TCP);
        let fin = tcp_flag::FIN | tcp_flag::ACK;
        scene.passes(edge.0, &Pkt::tcp(client, front, fin), &Pkt::tcp(client, back, fin));
        let first = Pkt::syn(client, back);
        let allocated = scene.allocated(edge.0, &first, Action::Pass, &first);
        assert_ne!(allocated, client.1);
        scene.passes(edge.1, &Pkt::data(proto::TCP, back, client), &Pkt::data(proto::TCP, front, client));
        scene.passes(edge.1, &Pkt::tcp(back, client, fin), &Pkt::tcp(front, client, fin));
    }
    scene.counted(Counter::DirectRemapped, 2);
}

/// The direct connection goes on by its other port when the Service's is over, and its place is free.
pub fn direct_connection_outlives_the_flow_beside_it<A: Family>(scene: &mut Scene<'_, A>) {
    for (edge, client) in [(AT_POD, A::POD), (AT_UPLINK, A::CLIENT)] {
        scene.serve(&full(proto::TCP, &[Endpoint::local(1, A::LOCAL)]));
        let (client, front, back) = ((client, 40_000), (A::LB, 443), (A::LOCAL, 8080));
        Trip { edge, proto: proto::TCP, client, front, back }.open(scene);
        let allocated = scene.allocated(edge.0, &Pkt::syn(client, back), Action::Pass, &Pkt::syn(client, back));
        let new = (client.0, allocated);
        scene.passes(edge.1, &Pkt::reply(proto::TCP, back, new), &Pkt::reply(proto::TCP, back, client));
        let fin = tcp_flag::FIN | tcp_flag::ACK;
        scene.passes(edge.0, &Pkt::tcp(client, front, fin), &Pkt::tcp(client, back, fin));
        scene.passes(edge.1, &Pkt::tcp(back, client, fin), &Pkt::tcp(front, client, fin));
        // The client's next connection, to another address of the Service, finds the port of the direct one taken.
        let next = Pkt::syn(client, (A::EXTERNAL, 8000));
        assert_ne!(scene.allocated(edge.0, &next, Action::Pass, &Pkt::syn(client, back)), client.1);
        scene.passes(edge.0, &Pkt::data(proto::TCP, client, back), &Pkt::data(proto::TCP, new, back));
        scene.passes(edge.1, &Pkt::data(proto::TCP, back, new), &Pkt::data(proto::TCP, back, client));
    }
}

/// A direct connection that was reset before it was established leaves nothing behind when a flow takes its place.
pub fn direct_connection_that_was_reset_gives_up_its_place<A: Family>(scene: &mut Scene<'_, A>) {
    for (edge, client, entries) in [(AT_POD, A::POD, 2), (AT_UPLINK, A::CLIENT, 4)] {
        scene.serve(&full(proto::TCP, &[Endpoint::local(1, A::LOCAL)]));
        let (client, front, back) = ((client, 40_000), (A::LB, 443), (A::LOCAL, 8080));
        Trip { edge, proto: proto::TCP, client, front, back }.open(scene);
        let allocated = scene.allocated(edge.0, &Pkt::syn(client, back), Action::Pass, &Pkt::syn(client, back));
        let new = (client.0, allocated);
        let abort = |from| Pkt::tcp(from, back, tcp_flag::RST).sequence(0x0102_0305);
        scene.passes(edge.0, &abort(client), &abort(new));
        let fin = tcp_flag::FIN | tcp_flag::ACK;
        scene.passes(edge.0, &Pkt::tcp(client, front, fin), &Pkt::tcp(client, back, fin));
        scene.passes(edge.1, &Pkt::tcp(back, client, fin), &Pkt::tcp(front, client, fin));
        scene.passes(edge.0, &Pkt::syn(client, (A::EXTERNAL, 8000)), &Pkt::syn(client, back));
        scene.flows(0, entries);
    }
}

/// Without a Service flow of the same tuple nothing is looked for.
pub fn reply_of_a_direct_connection_is_untouched<A: Family>(scene: &mut Scene<'_, A>) {
    for edge in [AT_POD, AT_UPLINK] {
        for proto in PROTOCOLS {
            let Trip { client, back, .. } = opened(scene, edge, proto);
            let other = (client.0, client.1 + 1);
            scene.untouched(edge.0, &Pkt::first(proto, other, back));
            scene.untouched(edge.1, &Pkt::reply(proto, back, other));
            scene.untouched(edge.0, &Pkt::data(proto, other, back));
            scene.untouched(edge.1, &Pkt::data(proto, back, other));
        }
    }
}

/// At every hook.
pub fn packets_of_others_are_untouched<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&full(proto::TCP, &[Endpoint::local(1, A::LOCAL)]));
    for hook in HOOKS {
        for proto in PROTOCOLS {
            for (src, dst) in [(A::POD, A::CLIENT), (A::CLIENT, A::NODE), (A::LOCAL, A::REMOTE), (A::POD, A::LOCAL)] {
                scene.untouched(hook, &Pkt::first(proto, (src, 40_000), (dst, 22)));
                scene.untouched(hook, &Pkt::reply(proto, (src, 40_000), (dst, 22)));
                scene.untouched(hook, &Pkt::data(proto, (src, 40_000), (dst, 22)));
                // A port out of the allocated range.
                scene.untouched(hook, &Pkt::data(proto, (src, 40_000), (dst, 61_010)));
            }
        }
        // ARP, and a frame of nothing.
        for ethertype in [[0x08, 0x06], [0, 0]] {
            let mut frame = Pkt::syn((A::POD, 1), (A::VIP, 80)).bytes();
            frame[12..14].copy_from_slice(&ethertype);
            scene.bytes(hook, hook.device(), &frame, Action::Pass, &frame);
        }
    }
    scene.flows(0, 0);
    for counter in Counter::ALL {
        scene.counted(*counter, 0);
    }
}

/// SCTP, GRE, ESP and numbers that nobody has.
pub fn other_protocols_to_a_vip_are_untouched<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&full(proto::TCP, &[Endpoint::local(1, A::LOCAL)]));
    for hook in HOOKS {
        for number in [proto::SCTP, 47, 50, 253] {
            scene.untouched(hook, &Pkt::raw(A::POD, A::VIP, number, &[0; 40]));
        }
    }
}

/// A switch floods: what is addressed to another host, or to several, is neither translated nor answered, be it a flow's,
/// a new connection or one that another node has.
pub fn frames_for_other_hosts_are_untouched<A: Family>(scene: &mut Scene<'_, A>) {
    let Trip { client, front, back, .. } = opened(scene, AT_UPLINK, proto::TCP);
    let other = (A::CLIENT, 40_001);
    let mid_stream = Pkt::data(proto::TCP, other, front);
    for mac in [[0x02, 0, 0, 0, 0, 0xcc], [0x02, 0, 0, 0, 1, 0xaa], [0xff; 6], [0x03, 0xbf, 0, 0, 0, 0xaa]] {
        let to_others = |packet: &Pkt<A>| Pkt { macs: [mac, packet.macs[1]], ..packet.clone() };
        let known = Pkt::data(proto::TCP, client, front);
        for packet in [&known, &mid_stream, &Pkt::syn(other, front), &Pkt::udp(client, (A::VIP, 99))] {
            scene.untouched(Hook::UplinkIngress, &to_others(packet));
        }
    }
    scene.passes(Hook::UplinkIngress, &Pkt::data(proto::TCP, client, front), &Pkt::data(proto::TCP, client, back));
    scene.counted(Counter::RejectNoFlow, 0);
}
