//! Connections of the node's own, from ports that Sluice may take for its own.

use super::snat::lend_remote;
use super::{AT_UPLINK, PROTOCOLS, Trip, full};
use crate::abi::{Be16, Counter, frontend_flag, frontend_kind, proto};
use crate::testkit::{Action, Endpoint, Family, Hook, Pkt, Scene, Service};
use crate::wire::tcp::flag as tcp_flag;

const IN: Hook = Hook::UplinkIngress;
const OUT: Hook = Hook::UplinkEgress;
const ACK: u8 = tcp_flag::ACK;
const RST: u8 = tcp_flag::RST;
const SYN: u8 = tcp_flag::SYN;

/// A load balancer's address that is also the node's.
fn on_the_node<A: Family>(proto: u8) -> Service<A> {
    Service::new(proto, A::NODE, 443, frontend_kind::LOAD_BALANCER)
        .endpoints(&[Endpoint::local(9, A::LOCAL2)])
        .flags(frontend_flag::NODE_ADDRESS)
}

/// What the node, or a Pod that it masquerades, has opened from a `NodePort` or a load balancer's port.
pub fn answers_to_the_nodes_own_connections_are_left_alone<A: Family>(scene: &mut Scene<'_, A>) {
    for proto in PROTOCOLS {
        let service = full(proto, &[Endpoint::local(1, A::LOCAL)]);
        scene.serve(&service);
        let mut other = on_the_node(proto);
        (other.id, other.slots) = (8, 300);
        scene.serve(&other);
        for port in [30080, 443] {
            let (own, far) = ((A::NODE, port), (A::STRANGER, 53));
            scene.untouched(OUT, &Pkt::first(proto, own, far));
            scene.untouched(IN, &Pkt::reply(proto, far, own));
            for _ in 0..2 {
                scene.untouched(OUT, &Pkt::data(proto, own, far));
                scene.untouched(IN, &Pkt::data(proto, far, own));
                scene.untouched(IN, &Pkt::data(proto, far, own).long_header());
            }
        }
        // Others are served meanwhile, and what they are answered is no connection of the node's.
        let (client, front, back) = ((A::CLIENT, 40_000), (A::NODE, 30080), (A::LOCAL, 8080));
        let trip = Trip { edge: AT_UPLINK, proto, client, front, back };
        trip.open(scene);
        scene.untouched(OUT, &Pkt::data(proto, front, client));
        trip.talk(scene);
    }
    scene.counted(Counter::OwnConnection, 4);
    scene.counted(Counter::NewFlow, 2);
}

/// One that was refused, or answered only by a SYN, does not keep a client from the Service.
pub fn client_takes_the_place_of_an_unanswered_connection<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&full(proto::TCP, &[Endpoint::local(1, A::LOCAL)]));
    let (own, far, back) = ((A::NODE, 30080), (A::CLIENT, 40_000), (A::LOCAL, 8080));
    let begins = |scene: &mut Scene<'_, A>| {
        scene.passes(IN, &Pkt::syn(far, own), &Pkt::syn(far, back));
        scene.passes(OUT, &Pkt::reply(proto::TCP, back, far), &Pkt::reply(proto::TCP, own, far));
        let reset = Pkt::tcp(far, own, RST);
        scene.passes(IN, &reset, &reset.clone().to(back.0, back.1));
        for port in [(far, own), (far, back)] {
            scene.node.forget(&crate::abi::FlowKey {
                src: port.0.0,
                dst: port.1.0,
                sport: Be16::new(port.0.1),
                dport: Be16::new(port.1.1),
                proto: proto::TCP,
                pad: [0; 3],
            });
        }
    };
    scene.untouched(OUT, &Pkt::syn(own, far));
    begins(scene);
    scene.untouched(OUT, &Pkt::syn(own, far));
    scene.untouched(IN, &Pkt::tcp(far, own, RST | ACK));
    begins(scene);
    // A live one is answered for by the stack.
    scene.untouched(OUT, &Pkt::syn(own, far));
    scene.untouched(IN, &Pkt::tcp(far, own, SYN | ACK));
    scene.untouched(IN, &Pkt::syn(far, own));
    scene.counted(Counter::OwnConnection, 3);
    scene.counted(Counter::NewFlow, 2);
}

/// The node's stack knows its connections, and refuses what belongs to none.
pub fn mid_stream_tcp_to_an_address_of_the_node_is_left_to_its_stack<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&full(proto::TCP, &[Endpoint::local(1, A::LOCAL)]));
    let mut other = on_the_node(proto::TCP);
    (other.id, other.slots) = (8, 300);
    scene.serve(&other);
    for port in [30080, 443] {
        for (hook, client) in [(IN, A::CLIENT), (Hook::PodIngress, A::POD)] {
            for flags in [ACK, SYN | ACK, RST, RST | ACK] {
                scene.untouched(hook, &Pkt::tcp((client, 40_000), (A::NODE, port), flags));
            }
        }
    }
    scene.counted(Counter::RejectNoFlow, 0);
    scene.counted(Counter::DropNoFlow, 0);
}

/// Two ports to allocate: the one that the node's own connection to the same backend has is not among them.
pub fn snat_port_of_the_nodes_own_connection_is_not_allocated<A: Family>(scene: &mut Scene<'_, A>) {
    let mut config = Scene::config();
    (config.snat_lo, config.snat_hi) = (Be16::new(61_000), Be16::new(61_001));
    scene.node.set_config(config);
    for proto in PROTOCOLS {
        let service = full(proto, &[Endpoint::remote(1, A::REMOTE)]);
        scene.serve(&service);
        let (own, back) = ((A::NODE, 61_000), (A::REMOTE, 8080));
        scene.untouched(OUT, &Pkt::first(proto, own, back));
        let client = (A::CLIENT, 40_000);
        let port = lend_remote(scene, proto, client, (A::LB, 443));
        assert_eq!(port, 61_001, "the port of the node's own connection is taken");
        scene.untouched(IN, &Pkt::reply(proto, back, own));
        scene.untouched(OUT, &Pkt::data(proto, own, back));
        scene.untouched(IN, &Pkt::data(proto, back, own));
        // What Sluice itself sends under the other port does not count.
        scene.untouched(OUT, &Pkt::data(proto, (A::NODE, port), back));
    }
    scene.counted(Counter::OwnConnection, 2);
}

/// A Pod cannot have its packets taken for the node's: IPv4's stack drops them by itself, IPv6's does not.
pub fn pod_that_uses_the_nodes_address_is_dropped_where_the_stack_would_not<A: Family>(scene: &mut Scene<'_, A>) {
    for proto in PROTOCOLS {
        scene.serve(&full(proto, &[Endpoint::remote(1, A::REMOTE)]));
        for (from, to) in [((A::NODE, 30080), (A::CLIENT, 53)), ((A::NODE, 61_000), (A::REMOTE, 8080))] {
            let forged = Pkt::first(proto, from, to);
            if A::IS_V6 {
                scene.drops(Hook::PodIngress, &forged);
            } else {
                scene.untouched(Hook::PodIngress, &forged);
            }
        }
        // Its own address is its own, whatever the port.
        scene.untouched(Hook::PodIngress, &Pkt::first(proto, (A::POD, 61_000), (A::REMOTE, 8080)));
        scene.untouched(Hook::PodIngress, &Pkt::first(proto, (A::POD, 30080), (A::CLIENT, 53)));
    }
    scene.counted(Counter::DropForgedSource, if A::IS_V6 { 4 } else { 0 });
    scene.flows(0, 0);
    let sent = scene.send(Hook::PodIngress, &Pkt::syn((A::POD, 40_000), (A::LB, 443)));
    assert_eq!(sent.action, Action::Pass);
}
