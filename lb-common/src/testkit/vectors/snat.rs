//! Lent source ports: remote Pods, hairpin, off-cluster clients.

use super::refusal::complaint;
use super::{PROTOCOLS, frontends, full};
use crate::abi::{Be16, Counter, config_flag, frontend_flag, proto};
use crate::testkit::{Action, Endpoint, Family, Hook, MTU, Pkt, Scene};
use crate::wire::tcp::flag as tcp_flag;

const UP: Hook = Hook::UplinkIngress;

/// Opens a flow of an external client to a remote Pod; returns the allocated port.
#[track_caller]
pub(super) fn lend_remote<A: Family>(scene: &mut Scene<'_, A>, proto: u8, client: (A, u16), front: (A, u16)) -> u16 {
    let back = (A::REMOTE, 8080);
    let first = Pkt::first(proto, client, front);
    let allocated = scene.allocated(UP, &first, Action::Route, &Pkt::first(proto, (A::NODE, 0), back));
    // The reply to the client has to come from the frontend.
    let reply = Pkt::reply(proto, back, (A::NODE, allocated));
    scene.routes(UP, &reply, &Pkt::reply(proto, front, client));
    allocated
}

/// An endpoint that names this node and is reached by an uplink all the same. Policy Local keeps the client's address.
pub fn endpoint_that_is_not_where_it_says_is_source_translated<A: Family>(scene: &mut Scene<'_, A>) {
    for (proto, port) in PROTOCOLS.into_iter().zip([40_000, 40_001]) {
        scene.serve(&full(proto, &[Endpoint::local(1, A::REMOTE)]));
        let (client, front) = ((A::CLIENT, port), (A::LB, 443));
        lend_remote(scene, proto, client, front);
        let pod = (A::POD, port);
        scene.passes(Hook::PodIngress, &Pkt::first(proto, pod, front), &Pkt::first(proto, pod, (A::REMOTE, 8080)));
    }
    scene.serve(&full(proto::TCP, &[Endpoint::local(1, A::REMOTE)]).flags(frontend_flag::EXTERNAL_LOCAL));
    let client = (A::CLIENT, 40_002);
    scene.passes(UP, &Pkt::syn(client, (A::LB, 443)), &Pkt::syn(client, (A::REMOTE, 8080)));
}

/// The reply comes back to this node, and leaves it for the client.
pub fn external_client_reaches_a_remote_pod_under_the_nodes_address<A: Family>(scene: &mut Scene<'_, A>) {
    let mut port = 40_000;
    for proto in PROTOCOLS {
        scene.serve(&full(proto, &[Endpoint::remote(1, A::REMOTE)]));
        for (addr, front, _) in frontends::<A>() {
            let (client, front, back) = ((A::CLIENT, port), (addr, front), (A::REMOTE, 8080));
            let allocated = lend_remote(scene, proto, client, front);
            let request = Pkt::data(proto, client, front);
            scene.routes(UP, &request, &Pkt::data(proto, (A::NODE, allocated), back));
            let reply = Pkt::data(proto, back, (A::NODE, allocated));
            scene.routes(UP, &reply, &Pkt::data(proto, front, client));
            port += 1;
        }
    }
    scene.counted(Counter::NewFlow, 8);
    scene.flows(16, 0);
}

/// With detect-local a `ClusterIP`'s client from elsewhere gets the node's address, also towards a local Pod.
pub fn off_cluster_client_of_a_cluster_ip_is_source_translated<A: Family>(scene: &mut Scene<'_, A>) {
    // XDP may not redirect into the Pod's device.
    scene.node.expect_hand_over();
    for proto in PROTOCOLS {
        scene.serve(&full(proto, &[Endpoint::local(1, A::LOCAL)]));
        let (client, front, back) = ((A::CLIENT, 40_000), (A::VIP, 80), (A::LOCAL, 8080));
        let first = Pkt::first(proto, client, front);
        let allocated = scene.allocated(UP, &first, Action::Route, &Pkt::first(proto, (A::NODE, 0), back));
        let reply = Pkt::reply(proto, back, (A::NODE, allocated));
        scene.routes(Hook::PodIngress, &reply, &Pkt::reply(proto, front, client));
        scene.routes(UP, &Pkt::data(proto, client, front), &Pkt::data(proto, (A::NODE, allocated), back));
    }
    scene.counted(Counter::NewFlow, 2);
}

/// Hairpin: the Pod sees the node's address, and its answer to that turns into one from the frontend.
pub fn pod_reaches_itself_through_its_service<A: Family>(scene: &mut Scene<'_, A>) {
    for proto in PROTOCOLS {
        scene.serve(&full(proto, &[Endpoint::local(1, A::POD)]));
        let (client, front, back) = ((A::POD, 40_000), (A::VIP, 80), (A::POD, 8080));
        let first = Pkt::first(proto, client, front);
        let allocated = scene.allocated(Hook::PodIngress, &first, Action::Back, &Pkt::first(proto, (A::NODE, 0), back));
        let node = (A::NODE, allocated);
        let answer = Pkt::reply(proto, front, client).hop();
        scene.returns(Hook::PodIngress, &Pkt::reply(proto, back, node), &answer);
        scene.returns(Hook::PodIngress, &Pkt::data(proto, client, front), &Pkt::data(proto, node, back).hop());
        scene.returns(Hook::PodIngress, &Pkt::data(proto, back, node), &Pkt::data(proto, front, client).hop());
    }
    scene.flows(4, 0);
}

/// `masqueradeAll`, but for what policy Local promises: a client from outside keeps its address.
pub fn masquerade_all_translates_every_source<A: Family>(scene: &mut Scene<'_, A>) {
    let mut config = Scene::config();
    config.flags |= config_flag::MASQUERADE_ALL;
    scene.node.set_config(config);
    scene.serve(&full(proto::TCP, &[Endpoint::local(1, A::LOCAL)]));
    let syn = Pkt::syn((A::POD, 40_000), (A::VIP, 80));
    scene.allocated(Hook::PodIngress, &syn, Action::Route, &Pkt::syn((A::NODE, 0), (A::LOCAL, 8080)));
    // XDP does not send by the Pods' device.
    scene.node.expect_hand_over();
    let syn = Pkt::syn((A::CLIENT, 40_000), (A::LB, 443));
    scene.allocated(UP, &syn, Action::Route, &Pkt::syn((A::NODE, 0), (A::LOCAL, 8080)));
    scene.serve(&full(proto::TCP, &[Endpoint::local(1, A::LOCAL)]).flags(frontend_flag::EXTERNAL_LOCAL));
    let client = (A::CLIENT, 40_001);
    scene.passes(UP, &Pkt::syn(client, (A::LB, 443)), &Pkt::syn(client, (A::LOCAL, 8080)));
}

/// One port to allocate: the second flow is dropped by name, the first goes on.
pub fn exhausted_ports_drop_new_flows_only<A: Family>(scene: &mut Scene<'_, A>) {
    let mut config = Scene::config();
    config.snat_lo = Be16::new(61_000);
    config.snat_hi = Be16::new(61_000);
    scene.node.set_config(config);
    for proto in PROTOCOLS {
        scene.serve(&full(proto, &[Endpoint::remote(1, A::REMOTE)]));
        let (front, back) = ((A::LB, 443), (A::REMOTE, 8080));
        let allocated = lend_remote(scene, proto, (A::CLIENT, 40_000), front);
        scene.drops(UP, &Pkt::first(proto, (A::CLIENT, 40_001), front));
        scene.drops(UP, &Pkt::first(proto, (A::STRANGER, 40_000), front));
        let more = Pkt::data(proto, (A::CLIENT, 40_000), front);
        scene.routes(UP, &more, &Pkt::data(proto, (A::NODE, allocated), back));
    }
    scene.counted(Counter::DropSnatExhausted, 4);
    scene.blamed(7, Counter::DropSnatExhausted, 4);
}

/// A Pod of this node answers in the name of one on another node.
pub fn reply_by_a_pod_that_is_not_the_backend_is_dropped<A: Family>(scene: &mut Scene<'_, A>) {
    for (n, proto) in (1..).zip(PROTOCOLS) {
        scene.serve(&full(proto, &[Endpoint::remote(n, A::REMOTE)]));
        let port = lend_remote(scene, proto, (A::CLIENT, 40_000), (A::LB, 443));
        scene.drops(Hook::PodIngress, &Pkt::data(proto, (A::REMOTE, 8080), (A::NODE, port)));
    }
    scene.counted(Counter::DropForgedReply, 2);
}

/// A port is free again as soon as both sides have closed its connection.
pub fn lent_port_of_a_closed_flow_is_lent_again<A: Family>(scene: &mut Scene<'_, A>) {
    let mut config = Scene::config();
    config.snat_lo = Be16::new(61_000);
    config.snat_hi = Be16::new(61_000);
    scene.node.set_config(config);
    scene.serve(&full(proto::TCP, &[Endpoint::remote(1, A::REMOTE)]));
    let (front, back) = ((A::LB, 443), (A::REMOTE, 8080));
    lend_remote(scene, proto::TCP, (A::CLIENT, 40_000), front);
    let fin = Pkt::tcp((A::CLIENT, 40_000), front, tcp_flag::FIN | tcp_flag::ACK);
    scene.routes(UP, &fin, &fin.clone().from(A::NODE, 61_000).to(back.0, back.1));
    // Half closed it still carries the answer.
    scene.drops(UP, &Pkt::syn((A::CLIENT, 40_001), front));
    let fin = Pkt::tcp(back, (A::NODE, 61_000), tcp_flag::FIN | tcp_flag::ACK);
    scene.routes(UP, &fin, &fin.clone().from(front.0, front.1).to(A::CLIENT, 40_000));
    lend_remote(scene, proto::TCP, (A::CLIENT, 40_001), front);
    scene.counted(Counter::DropSnatExhausted, 1);
}

/// Also where XDP sees the RST first and leaves it to TC. The port is free for others then.
pub fn refusal_by_a_remote_pod_reaches_the_client<A: Family>(scene: &mut Scene<'_, A>) {
    let mut config = Scene::config();
    config.snat_lo = Be16::new(61_000);
    config.snat_hi = Be16::new(61_000);
    scene.node.set_config(config);
    scene.serve(&full(proto::TCP, &[Endpoint::remote(1, A::REMOTE)]));
    let (front, back, node) = ((A::LB, 443), (A::REMOTE, 8080), (A::NODE, 61_000));
    for port in 40_000..40_003 {
        let client = (A::CLIENT, port);
        scene.routes(UP, &Pkt::syn(client, front), &Pkt::syn(node, back));
        let flags = tcp_flag::RST | tcp_flag::ACK;
        scene.routes(UP, &Pkt::tcp(back, node, flags), &Pkt::tcp(front, client, flags));
    }
    scene.answers(1, 0, 3);
}

/// A packet that leaves by redirect is routed by Sluice, so its hop limit counts.
pub fn expired_packet_is_not_redirected<A: Family>(scene: &mut Scene<'_, A>) {
    for proto in PROTOCOLS {
        scene.serve(&full(proto, &[Endpoint::remote(1, A::REMOTE)]));
        let (client, front) = ((A::CLIENT, 40_000), (A::LB, 443));
        lend_remote(scene, proto, client, front);
        for ttl in [1, 0] {
            let request = Pkt::data(proto, client, front).ttl(ttl);
            scene.returns(UP, &request, &complaint(&request, if A::IS_V6 { (3, 0) } else { (11, 0) }, 0));
        }
    }
    scene.counted(Counter::DropTtl, 4);
}

/// Path MTU discovery (RFC 1191, RFC 8201): nobody else would tell the client of a packet that leaves by redirect.
pub fn packet_larger_than_the_way_takes_is_answered<A: Family>(scene: &mut Scene<'_, A>) {
    scene.node.expect_hand_over();
    for proto in PROTOCOLS {
        scene.serve(&full(proto, &[Endpoint::remote(1, A::REMOTE)]));
        let (client, front, back) = ((A::CLIENT, 40_000), (A::LB, 443), (A::REMOTE, 8080));
        let allocated = lend_remote(scene, proto, client, front);
        let headers = A::HEADER + if proto == proto::TCP { 20 } else { 8 };
        let payload = vec![7; usize::from(MTU) - headers + 1];
        let fits = |packet: Pkt<A>| packet.payload(&payload[1..]);
        let request = fits(Pkt::data(proto, client, front));
        scene.routes(UP, &request, &fits(Pkt::data(proto, (A::NODE, allocated), back)));
        let large = Pkt::data(proto, client, front).payload(&payload);
        scene.returns(UP, &large, &complaint(&large, if A::IS_V6 { (2, 0) } else { (3, 4) }, MTU.into()));
    }
    scene.counted(Counter::DropTooBig, 2);
}

/// Without "do not fragment" it is fragmented, as by a router (RFC 791 section 2.3); fragments that are too large as well.
pub fn packet_larger_than_the_way_takes_is_fragmented_where_that_may_be<A: Family>(scene: &mut Scene<'_, A>) {
    if A::IS_V6 {
        // Only its sender fragments it there.
        return;
    }
    scene.node.expect_hand_over();
    for proto in PROTOCOLS {
        scene.serve(&full(proto, &[Endpoint::remote(1, A::REMOTE)]));
        let (client, front, back) = ((A::CLIENT, 40_000), (A::LB, 443), (A::REMOTE, 8080));
        let own = (A::NODE, lend_remote(scene, proto, client, front));
        scene.node.replayed();
        let bytes: Vec<u8> = (0..=250).cycle().take(6_000).collect();
        let packet =
            |from, to, size: usize| Pkt { df: false, id: 7, ..Pkt::data(proto, from, to).payload(&bytes[..size]) };
        // What a way of 1,500 bytes takes behind the header, in units of eight.
        let room = (usize::from(MTU) - A::HEADER) / 8 * 8;
        let mut in_two = |sent: &[u8], expected: [Vec<u8>; 2]| {
            scene.bytes(UP, UP.device(), sent, Action::Route, &expected[1]);
            let ahead: Vec<Vec<u8>> =
                scene.node.replayed().into_iter().filter(|frame| frame[14..] != sent[14..]).collect();
            assert_eq!(ahead.len(), 1);
            assert_eq!(ahead[0][14..], expected[0][14..]);
        };
        for size in [1_500, 2_000] {
            let (sent, expected) = (packet(client, front, size), packet(own, back, size).hop());
            let length = expected.ip_packet().len() - A::HEADER;
            in_two(&sent.bytes(), [expected.piece(0..room), expected.piece(room..length)]);
        }
        if proto == proto::UDP {
            let (sent, expected) = (packet(client, front, 5_000), packet(own, back, 5_000).hop());
            for start in [0, 2_000] {
                let [middle, end] = [start + room, start + 2_000];
                in_two(&sent.piece(start..end), [expected.piece(start..middle), expected.piece(middle..end)]);
            }
        }
        // More than twice as much is for its sender to fragment.
        let large = packet(client, front, 3_200);
        scene.returns(UP, &large, &complaint(&large, (3, 4), MTU.into()));
    }
    scene.counted(Counter::PacketFragmented, 6);
}

/// And not a packet sent to the wrong place.
pub fn backend_without_a_route_is_a_counted_drop<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&full(proto::TCP, &[Endpoint::remote(1, A::NOWHERE)]));
    scene.drops(UP, &Pkt::syn((A::CLIENT, 40_000), (A::LB, 443)));
    scene.counted(Counter::DropNoRoute, 1);
    scene.blamed(7, Counter::DropNoRoute, 1);
}
