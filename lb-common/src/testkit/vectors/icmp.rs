//! ICMP errors about translated flows, both ways: outer addresses, quoted packet, all checksums.

use super::{AT_POD, AT_UPLINK, PROTOCOLS, Trip, full, opened, snat::lend_remote};
use crate::abi::{Counter, proto};
use crate::testkit::{Endpoint, Family, Hook, L4, Pkt, Scene};

/// Type, code and the word after the checksum.
type Kind = ((u8, u8), u32);

/// What errors there are to translate: port unreachable, packet too big, time exceeded.
fn kinds<A: Family>() -> [Kind; 3] {
    if A::IS_V6 { [((1, 4), 0), ((2, 0), 1_280), ((3, 0), 0)] } else { [((3, 3), 0), ((3, 4), 1_400), ((11, 0), 0)] }
}

/// How much is quoted after the IP header: the least there may be, and a whole transport header with some payload.
const QUOTES: [usize; 2] = [8, 26];

/// For each kind and length of quote, calls `check` with a function that makes the error.
fn each<A: Family>(mut check: impl FnMut(&dyn Fn(A, A, &Pkt<A>) -> Pkt<A>)) {
    for ((kind, rest), quote) in kinds::<A>().into_iter().flat_map(|kind| QUOTES.map(|quote| (kind, quote))) {
        check(&|src, dst, quoted| Pkt::icmp_error(src, dst, kind, rest, quoted, quote));
    }
}

/// The endpoint itself complains: the client hears it from the frontend.
pub fn error_about_a_request_comes_from_the_frontend<A: Family>(scene: &mut Scene<'_, A>) {
    for edge in [AT_POD, AT_UPLINK] {
        for proto in PROTOCOLS {
            let Trip { client, front, back, .. } = opened(scene, edge, proto);
            let (seen, sent) = (Pkt::data(proto, client, back).ttl(61), Pkt::data(proto, client, front).ttl(61));
            each(|error| {
                scene.passes(edge.1, &error(back.0, client.0, &seen), &error(front.0, client.0, &sent));
            });
        }
    }
    scene.counted(Counter::IcmpTranslated, 24);
}

/// A router in between complains: it stays who it is.
pub fn error_of_a_router_keeps_the_routers_address<A: Family>(scene: &mut Scene<'_, A>) {
    for edge in [AT_POD, AT_UPLINK] {
        for proto in PROTOCOLS {
            let Trip { client, front, back, .. } = opened(scene, edge, proto);
            let (seen, sent) = (Pkt::data(proto, client, back), Pkt::data(proto, client, front));
            each(|error| {
                scene.passes(edge.1, &error(A::ROUTER, client.0, &seen), &error(A::ROUTER, client.0, &sent));
            });
        }
    }
}

/// The client, or a router on the way to it, complains about what the frontend sent: path MTU discovery of the Pod.
pub fn error_about_a_reply_reaches_the_pod<A: Family>(scene: &mut Scene<'_, A>) {
    for edge in [AT_POD, AT_UPLINK] {
        for proto in PROTOCOLS {
            let Trip { client, front, back, .. } = opened(scene, edge, proto);
            let (seen, sent) = (Pkt::data(proto, front, client), Pkt::data(proto, back, client));
            each(|error| {
                for from in [client.0, A::ROUTER] {
                    scene.passes(edge.0, &error(from, front.0, &seen), &error(from, back.0, &sent));
                }
            });
        }
    }
}

/// Calls `check` with the hook that hears of it, and an error about each of a flow's directions by a router: as it comes,
/// and as it goes on. `quote`: what is quoted of a packet.
fn of_a_router<A: Family>(
    trip: Trip<A>,
    make: impl Fn((A, u16), (A, u16)) -> Pkt<A>,
    quote: impl Fn(&Pkt<A>) -> Vec<u8>,
    rest: u32,
    mut check: impl FnMut(Hook, &Pkt<A>, &Pkt<A>),
) {
    let Trip { edge, client, front, back, .. } = trip;
    let kind = if A::IS_V6 { (2, 0) } else { (3, 4) };
    let error = |dst, of: &Pkt<A>| Pkt::icmp_error(A::ROUTER, dst, kind, rest, of, 0).payload(&quote(of));
    check(edge.0, &error(front.0, &make(front, client)), &error(back.0, &make(back, client)));
    check(edge.1, &error(client.0, &make(client, back)), &error(client.0, &make(client, front)));
}

/// The path MTU of large datagrams (RFC 8201, RFC 1191): the first fragment has the ports.
pub fn error_that_quotes_a_fragment_is_about_its_datagram<A: Family>(scene: &mut Scene<'_, A>) {
    let large = |from, to| Pkt { df: false, ..Pkt::udp(from, to).payload(&[0x5a; 1_600]) };
    for edge in [AT_POD, AT_UPLINK] {
        let trip = opened(scene, edge, proto::UDP);
        for quote in [8, 200] {
            let length = A::HEADER + if A::IS_V6 { 8 } else { 0 } + quote;
            let first = |of: &Pkt<A>| of.fragments(1_200)[0][14..14 + length].to_vec();
            of_a_router(trip, large, first, 1_280, |hook, sent, expected| scene.passes(hook, sent, expected));
            // What a later one begins with are no ports.
            let later = |of: &Pkt<A>| of.fragments(1_200)[1][14..14 + length].to_vec();
            of_a_router(trip, large, later, 1_280, |hook, sent, _| scene.untouched(hook, sent));
        }
    }
    scene.counted(Counter::IcmpTranslated, 8);
}

/// RFC 8200 section 4, RFC 791 section 3.1.
pub fn error_may_quote_extension_headers_and_options<A: Family>(scene: &mut Scene<'_, A>) {
    for edge in [AT_POD, AT_UPLINK] {
        for proto in PROTOCOLS {
            let trip = opened(scene, edge, proto);
            for quote in QUOTES {
                let make = |from, to| Pkt::data(proto, from, to).long_header();
                let part = |of: &Pkt<A>| of.ip_packet().into_iter().take(of.header_length() + quote).collect();
                of_a_router(trip, make, part, 1_280, |hook, sent, expected| scene.passes(hook, sent, expected));
            }
        }
    }
}

/// RFC 4884: the quoted packet is padded to 128 bytes, its length is in the header, and behind it are objects under a
/// separate checksum (here one of RFC 4950).
pub fn error_with_extensions_keeps_them<A: Family>(scene: &mut Scene<'_, A>) {
    let objects = [0x20, 0, 0x9d, 0x5b, 0, 8, 1, 1, 0, 0x64, 0x21, 0xff];
    let rest = if A::IS_V6 { 16 << 24 } else { 32 << 16 };
    for edge in [AT_POD, AT_UPLINK] {
        for proto in PROTOCOLS {
            let trip = opened(scene, edge, proto);
            for quote in QUOTES {
                let extended = |of: &Pkt<A>| {
                    let mut body = of.ip_packet();
                    body.truncate(of.header_length() + quote);
                    body.resize(128, 0);
                    body.extend(objects);
                    body
                };
                let make = |from, to| Pkt::data(proto, from, to);
                of_a_router(trip, make, extended, rest, |hook, sent, expected| scene.passes(hook, sent, expected));
            }
        }
    }
}

/// A quoted sum that the translation back makes zero is the one that was sent: ones (RFC 768, RFC 8200 section 8.1).
pub fn quoted_udp_checksum_is_never_zero<A: Family>(scene: &mut Scene<'_, A>) {
    for edge in [AT_POD, AT_UPLINK] {
        let trip = opened(scene, edge, proto::UDP);
        // The payload is the sum of the packet without it, so that the whole sums to zero.
        let bare = Pkt::udp(trip.client, trip.front).payload(&[0, 0]);
        let at = bare.header_length() + 6;
        let sum = bare.ip_packet()[at..at + 2].to_vec();
        assert_eq!(bare.payload(&sum).ip_packet()[at..at + 2], [0xff, 0xff]);
        let make = |from, to| Pkt::udp(from, to).payload(&sum);
        let part = |of: &Pkt<A>| of.ip_packet();
        of_a_router(trip, make, part, 1_280, |hook, sent, expected| scene.passes(hook, sent, expected));
    }
}

/// Errors about a source-translated request come to the node and go on to the client.
pub fn error_about_a_lent_port_reaches_the_client<A: Family>(scene: &mut Scene<'_, A>) {
    for proto in PROTOCOLS {
        scene.serve(&full(proto, &[Endpoint::remote(1, A::REMOTE)]));
        let (client, front, back) = ((A::CLIENT, 40_000), (A::LB, 443), (A::REMOTE, 8080));
        let allocated = lend_remote(scene, proto, client, front);
        let (seen, sent) = (Pkt::data(proto, (A::NODE, allocated), back), Pkt::data(proto, client, front));
        each(|error| {
            let hook = Hook::UplinkIngress;
            scene.routes(hook, &error(back.0, A::NODE, &seen), &error(front.0, client.0, &sent));
            scene.routes(hook, &error(A::ROUTER, A::NODE, &seen), &error(A::ROUTER, client.0, &sent));
            scene.drops(hook, &error(back.0, A::NODE, &seen).ttl(1));
        });
    }
}

/// And the other way round: under the node's address, as the remote Pod knows no other.
pub fn error_about_a_reply_to_a_lent_port_reaches_the_remote_pod<A: Family>(scene: &mut Scene<'_, A>) {
    for proto in PROTOCOLS {
        scene.serve(&full(proto, &[Endpoint::remote(1, A::REMOTE)]));
        let (client, front, back) = ((A::CLIENT, 40_000), (A::LB, 443), (A::REMOTE, 8080));
        let allocated = lend_remote(scene, proto, client, front);
        let (seen, sent) = (Pkt::data(proto, front, client), Pkt::data(proto, back, (A::NODE, allocated)));
        each(|error| {
            for from in [client.0, A::ROUTER] {
                scene.routes(Hook::UplinkIngress, &error(from, front.0, &seen), &error(A::NODE, back.0, &sent));
            }
        });
    }
}

/// Including errors that quote garbage, or nothing.
pub fn error_about_nothing_of_ours_is_untouched<A: Family>(scene: &mut Scene<'_, A>) {
    opened(scene, AT_POD, proto::TCP);
    let other = Pkt::data(proto::TCP, (A::POD, 40_999), (A::LB, 443));
    let garbage = Pkt::raw(A::POD, A::LB, proto::TCP, &[0xff; 8]);
    for hook in [Hook::PodIngress, Hook::PodEgress, Hook::UplinkIngress, Hook::UplinkEgress] {
        each(|error| {
            scene.untouched(hook, &error(A::POD, A::LB, &other));
            scene.untouched(hook, &error(A::POD, A::LB, &garbage));
            let mut short = error(A::POD, A::LB, &other);
            if let L4::Icmp { body, .. } = &mut short.l4 {
                body.truncate(body.len() - 20);
            }
            scene.untouched(hook, &short);
            scene.untouched(hook, &short.clone().payload(&[]));
            scene.untouched(hook, &short.payload(&[0xff; 60]));
        });
    }
    scene.counted(Counter::IcmpTranslated, 0);
}

/// Requests and replies of ping are no errors, also when they carry what looks like a quoted packet.
pub fn echo_is_untouched<A: Family>(scene: &mut Scene<'_, A>) {
    let Trip { client, front, .. } = opened(scene, AT_POD, proto::UDP);
    let seen = Pkt::data(proto::UDP, front, client);
    for kind in if A::IS_V6 { [128, 129, 135] } else { [8, 0, 5] } {
        let echo = Pkt::icmp_error(client.0, front.0, (kind, 0), 0x0001_0002, &seen, 16);
        for hook in [Hook::PodIngress, Hook::PodEgress, Hook::UplinkIngress, Hook::UplinkEgress] {
            scene.untouched(hook, &echo);
        }
    }
}
