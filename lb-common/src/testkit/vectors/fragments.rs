//! Fragments in any order.

use super::{AT_POD, AT_UPLINK, Edge, Trip, balanced, opened};
use crate::abi::{Counter, proto};
use crate::testkit::{Action, Family, Hook, Pkt, Scene};

fn large<A: Family>(from: (A, u16), to: (A, u16)) -> Pkt<A> {
    let payload: Vec<u8> = (0..=250).cycle().take(3_600).collect();
    let mut out = Pkt::udp(from, to).payload(&payload);
    out.df = false;
    out
}

/// Plays the fragments of a datagram in another order: those that come before the first wait, and when it comes all are
/// put into the hook anew, it before them; then each of them is translated.
#[track_caller]
fn reordered<A: Family>(scene: &mut Scene<'_, A>, hook: Hook, sent: &Pkt<A>, expected: &Pkt<A>, order: &[usize]) {
    let (sent, expected) = (sent.pieces(1_200), expected.pieces(1_200));
    scene.node.expect_hand_over();
    let device = hook.device();
    let mut waiting = Vec::new();
    for &piece in order {
        if piece == 0 || !waiting.contains(&0) {
            scene.bytes(hook, device, &sent[piece], Action::Drop, &[]);
            waiting.push(piece);
            continue;
        }
        scene.bytes(hook, device, &sent[piece], Action::Pass, &expected[piece]);
    }
    let replayed = scene.node.replayed();
    waiting.retain(|piece| *piece != 0);
    let again: Vec<usize> = [0].into_iter().chain(waiting).collect();
    assert_eq!(replayed, again.iter().map(|piece| sent[*piece].clone()).collect::<Vec<_>>());
    for piece in again {
        scene.bytes(hook, device, &sent[piece], Action::Pass, &expected[piece]);
    }
}

/// The ways of a flow: what a client sends and gets, and what it looks like behind Sluice.
fn ways<A: Family>(trip: Trip<A>) -> [(Hook, Pkt<A>, Pkt<A>); 2] {
    let Trip { edge: Edge(to, from), client, front, back, .. } = trip;
    [(to, large(client, front), large(client, back)), (from, large(back, client), large(front, client))]
}

/// Whatever comes first, both ways.
pub fn fragments_that_come_before_their_first_wait_for_it<A: Family>(scene: &mut Scene<'_, A>) {
    for edge in [AT_POD, AT_UPLINK] {
        for (hook, sent, expected) in ways(opened(scene, edge, proto::UDP)) {
            for (number, order) in [[1, 0, 2, 3], [3, 2, 1, 0], [2, 3, 0, 1]].into_iter().enumerate() {
                let id = 7 + number as u16;
                let numbered = |packet: &Pkt<A>| Pkt { id, ..packet.clone() };
                reordered(scene, hook, &numbered(&sent), &numbered(&expected), &order);
            }
        }
    }
    scene.counted(Counter::FragmentReleased, 12);
}

/// More pieces than are let go at a time, and fragments that take more than one cell.
pub fn datagram_may_wait_in_many_cells<A: Family>(scene: &mut Scene<'_, A>) {
    let Trip { client, front, back, .. } = opened(scene, AT_UPLINK, proto::UDP);
    let (hook, device) = (Hook::UplinkIngress, Hook::UplinkIngress.device());
    scene.node.expect_hand_over();
    for (id, size) in [(1, 160), (2, 3_200)] {
        let pieces = |packet: Pkt<A>| Pkt { id, ..packet }.pieces(size);
        let (sent, expected) = (pieces(large(client, front)), pieces(large(client, back)));
        for piece in sent[1..].iter().rev() {
            scene.bytes(hook, device, piece, Action::Drop, &[]);
        }
        let mut replayed = Vec::new();
        while replayed.len() < sent.len() {
            // What the first lets go, it goes before.
            scene.bytes(hook, device, &sent[0], Action::Drop, &[]);
            let mut now = scene.node.replayed();
            assert_eq!(now.remove(0), sent[0]);
            assert!((1..=16).contains(&now.len()), "{} at a time", now.len());
            replayed.append(&mut now);
            if replayed.len() + 1 == sent.len() {
                break;
            }
        }
        replayed.reverse();
        assert_eq!(replayed, sent[1..]);
        for (sent, expected) in sent.iter().zip(&expected) {
            scene.bytes(hook, device, sent, Action::Pass, expected);
        }
    }
}

/// A datagram that begins a flow.
pub fn flow_may_begin_with_a_later_fragment<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&balanced(proto::UDP));
    let (client, front, back) = ((A::CLIENT, 40_000), (A::LB, 443), (A::LOCAL, 8080));
    reordered(scene, Hook::UplinkIngress, &large(client, front), &large(client, back), &[3, 2, 1, 0]);
}

/// To an address that no frontend has, and from one that no backend has.
pub fn later_fragment_of_others_is_untouched<A: Family>(scene: &mut Scene<'_, A>) {
    let Trip { client, .. } = opened(scene, AT_POD, proto::UDP);
    for hook in [Hook::PodIngress, Hook::PodEgress, Hook::UplinkIngress, Hook::UplinkEgress] {
        let later = &large(client, (A::STRANGER, 53)).pieces(1_200)[1];
        scene.bytes(hook, hook.device(), later, Action::Pass, later);
    }
    scene.counted(Counter::FragmentHeld, 0);
}

/// Nobody takes all the room, and whoever tries keeps that of others free.
pub fn sender_of_fragments_without_a_first_has_a_share<A: Family>(scene: &mut Scene<'_, A>) {
    let Trip { client, front, back, .. } = opened(scene, AT_UPLINK, proto::UDP);
    let hook = Hook::UplinkIngress;
    scene.node.expect_hand_over();
    for id in 0..200 {
        let later = &Pkt { id, ..large(client, front) }.pieces(1_200)[1];
        let out = scene.node.send(hook, hook.device(), later);
        assert_eq!(out.action, if id < 128 { Action::Drop } else { Action::Pass }, "fragment {id}");
    }
    scene.counted(Counter::FragmentHeld, 128);
    let other = (A::STRANGER, 40_000);
    reordered(scene, hook, &large(other, front), &large(other, back), &[3, 2, 1, 0]);
}

/// Fragments of one datagram have one identification: the first says what it is.
pub fn first_fragment_of_another_datagram_is_not_waited_for<A: Family>(scene: &mut Scene<'_, A>) {
    let Trip { client, front, back, .. } = opened(scene, AT_UPLINK, proto::UDP);
    let hook = Hook::UplinkIngress;
    scene.node.expect_hand_over();
    let (sent, expected) = (large(client, front).pieces(1_200), large(client, back).pieces(1_200));
    scene.bytes(hook, hook.device(), &sent[1], Action::Drop, &[]);
    let other = |packet: Pkt<A>| Pkt { id: 99, ..packet }.pieces(1_200);
    let (sent_other, expected_other) = (other(large(client, front)), other(large(client, back)));
    scene.bytes(hook, hook.device(), &sent_other[0], Action::Pass, &expected_other[0]);
    scene.bytes(hook, hook.device(), &sent_other[1], Action::Pass, &expected_other[1]);
    scene.bytes(hook, hook.device(), &sent[0], Action::Drop, &[]);
    scene.bytes(hook, hook.device(), &sent[0], Action::Pass, &expected[0]);
    scene.node.replayed();
}

/// To and from addresses that are Sluice's, with ports that are not, in any order: the address alone says that they may be.
pub fn fragments_of_another_port_are_as_they_came<A: Family>(scene: &mut Scene<'_, A>) {
    let Trip { client, front, back, .. } = opened(scene, AT_UPLINK, proto::UDP);
    let ways = [(Hook::UplinkIngress, large(client, (front.0, 53))), (Hook::UplinkEgress, large((back.0, 53), client))];
    for (hook, packet) in ways {
        for piece in (Pkt { id: 1, ..packet.clone() }).pieces(1_200) {
            scene.bytes(hook, hook.device(), &piece, Action::Pass, &piece);
        }
        let other = Pkt { id: 2, ..packet };
        reordered(scene, hook, &other, &other, &[3, 2, 1, 0]);
    }
}

/// Of protocols that Services do not have. In IPv4 each fragment says so; in IPv6 the first one does.
pub fn fragments_of_other_protocols_are_as_they_came<A: Family>(scene: &mut Scene<'_, A>) {
    let Trip { client, front, .. } = opened(scene, AT_UPLINK, proto::UDP);
    let (hook, kind) = (Hook::UplinkIngress, if A::IS_V6 { 128 } else { 8 });
    let ping = |id| {
        let empty = Pkt::icmp_error(client.0, front.0, (kind, 0), 0x0001_0002, &Pkt::udp(client, front), 8);
        Pkt { id, df: false, ..empty.payload(&[0x5a; 3_600]) }
    };
    for piece in ping(1).pieces(1_200) {
        scene.bytes(hook, hook.device(), &piece, Action::Pass, &piece);
    }
    if A::IS_V6 {
        reordered(scene, hook, &ping(2), &ping(2), &[3, 2, 1, 0]);
        return;
    }
    for piece in ping(2).pieces(1_200).iter().rev() {
        scene.bytes(hook, hook.device(), piece, Action::Pass, piece);
    }
}

/// RFC 8200 section 4.5: only the first fragment's Next Header says what the datagram is.
pub fn next_header_of_later_fragments_does_not_count<A: Family>(scene: &mut Scene<'_, A>) {
    if !A::IS_V6 {
        // There the protocol is part of what tells datagrams apart (RFC 791 section 3.2).
        return;
    }
    let Trip { client, front, back, .. } = opened(scene, AT_UPLINK, proto::UDP);
    let (hook, device) = (Hook::UplinkIngress, Hook::UplinkIngress.device());
    scene.node.expect_hand_over();
    for (id, next) in [(1, 59), (2, proto::ICMPV6), (3, proto::TCP), (4, 0)] {
        let pieces = |packet: Pkt<A>| {
            let mut pieces = Pkt { id, ..packet }.pieces(1_200);
            pieces.iter_mut().skip(1).for_each(|piece| piece[14 + A::HEADER] = next);
            pieces
        };
        let (sent, expected) = (pieces(large(client, front)), pieces(large(client, back)));
        let both = || sent.iter().zip(&expected);
        if id % 2 == 0 {
            sent.iter().rev().for_each(|piece| scene.bytes(hook, device, piece, Action::Drop, &[]));
            let mut again = scene.node.replayed();
            again[1..].reverse();
            assert_eq!(again, sent);
        }
        both().for_each(|(sent, expected)| scene.bytes(hook, device, sent, Action::Pass, expected));
    }
}

/// A first fragment that ends within its TCP header (RFC 1858 section 3, RFC 7112 section 5).
pub fn tiny_first_fragment_of_a_service_is_dropped<A: Family>(scene: &mut Scene<'_, A>) {
    for edge in [AT_POD, AT_UPLINK] {
        let Trip { client, front, back, .. } = opened(scene, edge, proto::TCP);
        for size in [8, 16] {
            let tiny = |from, to| Pkt { df: false, ..Pkt::data(proto::TCP, from, to) }.fragments(size)[0].clone();
            scene.bytes(edge.0, edge.0.device(), &tiny(client, front), Action::Drop, &[]);
            scene.bytes(edge.1, edge.1.device(), &tiny(back, client), Action::Drop, &[]);
            for (hook, other) in [
                (edge.0, tiny(client, (front.0, 444))),
                (edge.0, tiny(client, (A::LOCAL2, 8080))),
                (edge.1, tiny(client, back)),
                (edge.1, tiny(back, (A::STRANGER, 40_000))),
            ] {
                scene.bytes(hook, hook.device(), &other, Action::Pass, &other);
            }
        }
    }
    scene.counted(Counter::DropTinyFragment, 8);
}
