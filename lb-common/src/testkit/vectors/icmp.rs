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
