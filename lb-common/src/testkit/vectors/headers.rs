//! Fragments, IP options, extension headers, missing checksums, packets that end too early.

use super::{AT_POD, AT_UPLINK, PROTOCOLS, Trip, opened};
use crate::abi::proto;
use crate::testkit::{Action, Family, Hook, L4, Pkt, Scene};

fn large<A: Family>(from: (A, u16), to: (A, u16)) -> Pkt<A> {
    let payload: Vec<u8> = (0..=250).cycle().take(1_600).collect();
    let mut out = Pkt::udp(from, to).payload(&payload);
    out.df = false;
    out
}

/// Both ways; the later fragment has no ports itself.
pub fn fragments_follow_their_first<A: Family>(scene: &mut Scene<'_, A>) {
    for edge in [AT_POD, AT_UPLINK] {
        let Trip { client, front, back, .. } = opened(scene, edge, proto::UDP);
        let ways =
            [(edge.0, large(client, front), large(client, back)), (edge.1, large(back, client), large(front, client))];
        for (hook, sent, expected) in ways {
            for (sent, expected) in sent.fragments(1_200).iter().zip(expected.fragments(1_200)) {
                scene.bytes(hook, hook.device(), sent, Action::Pass, &expected);
            }
        }
    }
}

/// Nobody takes it for a packet, so it is not to be changed.
pub fn fragment_with_a_header_longer_than_itself_is_untouched<A: Family>(scene: &mut Scene<'_, A>) {
    if A::IS_V6 {
        // Each extension header is looked at.
        return;
    }
    let Trip { client, front, .. } = opened(scene, AT_POD, proto::UDP);
    let [first, mut later] = large(client, front).fragments(1_200);
    scene.node.send(AT_POD.0, AT_POD.0.device(), &first);
    later.truncate(14 + 40);
    later[14] = 0x4d;
    scene.bytes(AT_POD.0, AT_POD.0.device(), &later, Action::Pass, &later);
}

/// First packets, later ones and replies alike.
pub fn ip_options_and_extension_headers_are_kept<A: Family>(scene: &mut Scene<'_, A>) {
    for edge in [AT_POD, AT_UPLINK] {
        for proto in PROTOCOLS {
            let trip = opened(scene, edge, proto);
            let (front, back) = (trip.front, trip.back);
            let client = (trip.client.0, 40_001);
            for (sent, expected) in [
                (Pkt::first(proto, client, front), Pkt::first(proto, client, back)),
                (Pkt::data(proto, trip.client, front), Pkt::data(proto, trip.client, back)),
            ] {
                scene.passes(edge.0, &sent.long_header(), &expected.long_header());
            }
            let (sent, expected) = (Pkt::reply(proto, back, client), Pkt::reply(proto, front, client));
            scene.passes(edge.1, &sent.long_header(), &expected.long_header());
        }
    }
}

/// RFC 768; in IPv6 tunnels may do without one (RFC 6935).
pub fn datagram_without_a_checksum_stays_without<A: Family>(scene: &mut Scene<'_, A>) {
    let too_big = if A::IS_V6 { (2, 0) } else { (3, 4) };
    for edge in [AT_POD, AT_UPLINK] {
        let Trip { client, front, back, .. } = opened(scene, edge, proto::UDP);
        scene.passes(edge.0, &Pkt::udp(client, front).unsummed(), &Pkt::udp(client, back).unsummed());
        scene.passes(edge.1, &Pkt::udp(back, client).unsummed(), &Pkt::udp(front, client).unsummed());
        let error = |src, dst, quoted: Pkt<A>| Pkt::icmp_error(src, dst, too_big, 1_400, &quoted.unsummed(), 8);
        let (seen, sent) = (Pkt::udp(client, back), Pkt::udp(client, front));
        scene.passes(edge.1, &error(back.0, client.0, seen), &error(front.0, client.0, sent));
    }
}

/// A sum that turns to zero by the rewrite is sent as ones, or it would say "no checksum".
pub fn udp_checksum_is_never_zero<A: Family>(scene: &mut Scene<'_, A>) {
    for edge in [AT_POD, AT_UPLINK] {
        let Trip { client, front, back, .. } = opened(scene, edge, proto::UDP);
        // The payload that brings the expected packet's sum to zero: its checksum without it.
        let expected = Pkt::udp(client, back).payload(&[0, 0]);
        let at = 14 + expected.header_length() + 6;
        let sum = [expected.bytes()[at], expected.bytes()[at + 1]];
        let expected = expected.payload(&sum);
        assert_eq!(expected.bytes()[at..at + 2], [0xff, 0xff]);
        scene.passes(edge.0, &Pkt::udp(client, front).payload(&sum), &expected);
    }
}

/// As GRO hands it up.
pub fn jumbo_payload_is_translated<A: Family>(scene: &mut Scene<'_, A>) {
    for edge in [AT_POD, AT_UPLINK] {
        let Trip { client, front, back, .. } = opened(scene, edge, proto::TCP);
        let bulk = |from, to| Pkt::data(proto::TCP, from, to).payload(&[0x5a; 3_001]);
        scene.passes(edge.0, &bulk(client, front), &bulk(client, back));
        scene.passes(edge.1, &bulk(back, client), &bulk(front, client));
    }
}

/// Cut anywhere in the headers, and with lengths in them that lie.
pub fn truncated_packets_are_untouched<A: Family>(scene: &mut Scene<'_, A>) {
    for proto in PROTOCOLS {
        let Trip { client, front, .. } = opened(scene, AT_POD, proto);
        let whole = Pkt::data(proto, client, front).payload(&[]);
        let bytes = whole.bytes();
        for hook in [Hook::PodIngress, Hook::PodEgress, Hook::UplinkIngress, Hook::UplinkEgress] {
            // Below a whole IP header the kernel makes no test run through TC: the properties have those lengths.
            for length in 14 + A::HEADER..bytes.len() {
                let cut = &bytes[..length];
                scene.bytes(hook, hook.device(), cut, Action::Pass, cut);
            }
            // An IPv4 header length of 16, a version of neither.
            for first in [0x44, 0x50, 0x4f, 0x00] {
                let mut wrong = bytes.clone();
                wrong[14] = first;
                scene.bytes(hook, hook.device(), &wrong, Action::Pass, &wrong);
            }
        }
        // A chain of extension headers longer than is followed.
        if A::IS_V6 {
            let mut long = whole.clone().long_header();
            long.extensions = [long.extensions.clone(), long.extensions].concat();
            scene.untouched(Hook::PodIngress, &long);
        }
    }
    let short = Pkt::raw(A::POD, A::LB, proto::TCP, &[0x9c, 0x40, 0x01, 0xbb, 0, 0, 0, 0, 0, 0]);
    assert!(matches!(short.l4, L4::Raw { .. }));
    scene.untouched(Hook::UplinkIngress, &short);
}
