//! What holds for every packet: hostile ones do no harm, checksums stay as right or wrong as they were, the client sees
//! its own view of a flow, and look-ups stay few.

use lb_common::abi::{Be16, Counter, FrontendKey, V4, V6, frontend_kind, proto};
use lb_common::testkit::{
    Action, Endpoint, Family, Hook, HostNode, L4, Lookups, Node, Noise, Pkt, Scene, Service, checksums_hold,
};
use lb_common::wire::tcp::flag as tcp_flag;
use proptest::prelude::*;

const HOOKS: [Hook; 4] = [Hook::PodIngress, Hook::PodEgress, Hook::UplinkIngress, Hook::UplinkEgress];

/// One frontend on one endpoint, for both protocols.
fn serving<A: Family>(endpoint: Endpoint<A>) -> HostNode<A> {
    let mut node = HostNode::default();
    let mut scene = Scene::new("property", &mut node);
    for (id, proto) in [(7, proto::TCP), (8, proto::UDP)] {
        let mut service = Service::new(proto, A::LB, 443, frontend_kind::LOAD_BALANCER).endpoints(&[endpoint]);
        service.id = id;
        // Each protocol is a service port of its own, with its own backend and slots.
        service.endpoints[0].id = id;
        service.slots = 16 * id;
        scene.serve(&service);
    }
    node
}

fn local<A: Family>() -> HostNode<A> {
    serving(Endpoint::local(1, A::LOCAL))
}

fn garbage_is_untouched<A: Family>(seed: u64) {
    let (mut noise, mut node) = (Noise::new(seed), local::<A>());
    let packet = noise.garbage::<A>(160);
    for hook in HOOKS {
        let out = node.send(hook, hook.device(), &packet);
        assert_eq!((out.action, &out.bytes), (Action::Pass, &packet), "at {hook:?}");
    }
    for length in 0..15 {
        let out = node.send(HOOKS[0], HOOKS[0].device(), &packet[..length.min(packet.len())]);
        assert_eq!(out.action, Action::Pass);
    }
}

/// Packets counted as dropped (or, of fragments, as waiting or put into the hook anew) and as refused.
fn named<A: Family>(node: &mut HostNode<A>) -> (u64, u64) {
    let mut sum = |prefix| {
        let counters = Counter::ALL.iter().filter(|counter| counter.name().starts_with(prefix));
        counters.map(|counter| node.counter(*counter)).sum()
    };
    (sum("drop_") + sum("fragment_"), sum("reject_"))
}

/// A mixed lot of packets: each drop and refusal is counted by one name, none panics, and what goes on has its length and its payload, and right checksums if it came
/// with right ones.
fn hostile_packets_do_no_harm<A: Family>(seed: u64) {
    let (mut noise, mut node) = (Noise::new(seed), serving(Endpoint::remote(1, A::REMOTE)));
    for _ in 0..200 {
        let packet = noise.packet::<A>();
        let hook = HOOKS[noise.below(4)];
        let before = named(&mut node);
        let out = node.send(hook, hook.device(), &packet);
        let (drops, rejects) = named(&mut node);
        let (drops, rejects) = (drops - before.0, rejects - before.1);
        match out.action {
            // A refusal that cannot be answered is dropped under the refusal's name, and some drops are answered.
            Action::Drop | Action::Back => assert_eq!(drops + rejects, 1, "{packet:02x?}"),
            Action::Pass | Action::Route => assert_eq!((drops, rejects), (0, 0), "{packet:02x?}"),
        }
        match out.action {
            Action::Drop => {}
            Action::Pass | Action::Route => {
                assert_eq!(out.bytes.len(), packet.len(), "{packet:02x?}");
                assert_eq!(out.bytes[..14], packet[..14], "{packet:02x?}");
            }
            Action::Back => assert_eq!(out.bytes[..6], packet[6..12], "{packet:02x?}"),
        }
    }
}

/// A random flow's packet, there and back.
#[derive(Clone, Debug)]
struct Flow {
    tcp: bool,
    port: u16,
    payload: Vec<u8>,
    long: bool,
    ttl: u8,
    id: u16,
    tos: u8,
    remote: bool,
}

fn flows() -> impl Strategy<Value = Flow> {
    let payload = proptest::collection::vec(any::<u8>(), 0..64);
    (any::<bool>(), 1u16.., payload, any::<bool>(), 2u8.., any::<u16>(), any::<u8>(), any::<bool>()).prop_map(
        |(tcp, port, payload, long, ttl, id, tos, remote)| Flow { tcp, port, payload, long, ttl, id, tos, remote },
    )
}

impl Flow {
    fn dress<A: Family>(&self, mut packet: Pkt<A>) -> Pkt<A> {
        packet = packet.payload(&self.payload).ttl(self.ttl);
        (packet.id, packet.tos) = (self.id, self.tos);
        if self.long { packet.long_header() } else { packet }
    }
}

fn ports(bytes: &[u8], header: usize) -> (u16, u16) {
    let at = 14 + header;
    (u16::from_be_bytes([bytes[at], bytes[at + 1]]), u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]))
}

/// What the endpoint sees and answers comes back to the client as the answer to what it sent.
fn client_sees_its_own_view<A: Family>(flow: &Flow) {
    let endpoint = if flow.remote { Endpoint::remote(1, A::REMOTE) } else { Endpoint::local(1, A::LOCAL) };
    let mut node = serving(endpoint);
    let proto = if flow.tcp { proto::TCP } else { proto::UDP };
    let (client, front) = ((A::CLIENT, flow.port), (A::LB, 443));
    for (request, reply) in [
        (Pkt::first(proto, client, front), Pkt::reply(proto, front, client)),
        (Pkt::data(proto, client, front), Pkt::data(proto, front, client)),
    ] {
        let dress = |packet: Pkt<A>| {
            // A handshake without data, so that the numbers of what follows are right.
            let opening = matches!(packet.l4, L4::Tcp { flags, .. } if flags & tcp_flag::SYN != 0);
            let packet = flow.dress(packet);
            if opening { packet.payload(&[]) } else { packet }
        };
        let request = dress(request);
        let there = node.send(Hook::UplinkIngress, 20, &request.bytes());
        assert!(checksums_hold(&there.bytes), "{:02x?}", there.bytes);
        assert_eq!(there.action, if flow.remote { Action::Route } else { Action::Pass });
        let (sport, dport) = ports(&there.bytes, request.header_length());
        assert_eq!(dport, endpoint.port);
        // The endpoint answers to where the request came from.
        let peer = if flow.remote { A::NODE } else { A::CLIENT };
        let answer = dress(reply.clone().from(endpoint.addr, dport).to(peer, sport));
        let hook = if flow.remote { Hook::UplinkIngress } else { Hook::UplinkEgress };
        let back = node.send(hook, 20, &answer.bytes());
        let expected = dress(reply);
        let expected = if flow.remote { expected.hop() } else { expected };
        assert_eq!(back.bytes, expected.bytes());
    }
}

/// A damaged packet of a flow is forwarded as damaged as it came: the rewrite does not repair a wrong checksum.
fn wrong_checksum_stays_wrong<A: Family>(flow: &Flow, flip: u16) {
    let mut node = local::<A>();
    let packet = Pkt::udp((A::CLIENT, flow.port), (A::LB, 443)).payload(&flow.payload);
    let mut bytes = packet.bytes();
    let at = 14 + packet.header_length() + 6;
    let sum = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let wrong = sum ^ flip;
    // Zero says "no checksum"; zero and ones are the same sum.
    if wrong == 0 || (sum == 0xffff && flip == 0xffff) {
        return;
    }
    bytes[at..at + 2].copy_from_slice(&wrong.to_be_bytes());
    assert!(!checksums_hold(&bytes));
    let out = node.send(Hook::UplinkIngress, 20, &bytes);
    assert_eq!(out.action, Action::Pass);
    assert!(!checksums_hold(&out.bytes), "{:02x?}", out.bytes);
}

proptest! {
    #[test]
    fn random_bytes_are_untouched(seed: u64) {
        garbage_is_untouched::<V4>(seed);
        garbage_is_untouched::<V6>(seed);
    }

    #[test]
    fn damaged_packets_do_no_harm(seed: u64) {
        hostile_packets_do_no_harm::<V4>(seed);
        hostile_packets_do_no_harm::<V6>(seed);
    }

    #[test]
    fn reverse_rewrite_restores_the_clients_view(flow in flows()) {
        client_sees_its_own_view::<V4>(&flow);
        client_sees_its_own_view::<V6>(&flow);
    }

    #[test]
    fn rewrite_does_not_repair_a_wrong_checksum(flow in flows(), flip in 1u16..) {
        wrong_checksum_stays_wrong::<V4>(&flow, flip);
        wrong_checksum_stays_wrong::<V6>(&flow, flip);
    }
}

fn lookups<A: Family>(node: &mut HostNode<A>, hook: Hook, packet: &Pkt<A>) -> Lookups {
    node.memory.lookups.set(Lookups::default());
    node.send(hook, hook.device(), &packet.bytes());
    node.memory.lookups.get()
}

fn established_costs_one<A: Family>() {
    let mut node = local::<A>();
    let (client, front, back) = ((A::POD, 40_000), (A::LB, 443), (A::LOCAL, 8080));
    for (proto, generation) in [(proto::TCP, 0), (proto::UDP, 1)] {
        let first = Pkt::first(proto, client, front);
        node.send(Hook::PodIngress, 10, &first.bytes());
        node.send(Hook::PodEgress, 10, &Pkt::reply(proto, back, client).bytes());
        // The client's answer establishes it.
        node.send(Hook::PodIngress, 10, &Pkt::data(proto, client, front).bytes());
        let there = lookups(&mut node, Hook::PodIngress, &Pkt::data(proto, client, front));
        // A datagram also asks whether its backend is still the one it was.
        assert_eq!(there, Lookups { hashes: 1, arrays: generation });
        let back = lookups(&mut node, Hook::PodEgress, &Pkt::data(proto, back, client));
        assert_eq!(back, Lookups { hashes: 1, arrays: 0 });
    }
}

#[test]
fn established_packet_costs_one_look_up() {
    established_costs_one::<V4>();
    established_costs_one::<V6>();
}

fn direct_ones_cost_nothing<A: Family>() {
    let mut node = local::<A>();
    let (client, back) = ((A::POD, 40_000), (A::LOCAL, 8080));
    for proto in [proto::TCP, proto::UDP] {
        // Another flow with the same backend changes nothing.
        node.send(Hook::PodIngress, 10, &Pkt::first(proto, (A::POD, 41_000), (A::LB, 443)).bytes());
        let there = [Pkt::first(proto, client, back), Pkt::data(proto, client, back)];
        for packet in there {
            assert_eq!(lookups(&mut node, Hook::PodIngress, &packet), Lookups::default());
        }
        for packet in [Pkt::reply(proto, back, client), Pkt::data(proto, back, client)] {
            assert_eq!(lookups(&mut node, Hook::PodEgress, &packet), Lookups::default());
        }
    }
}

#[test]
fn direct_packets_of_a_backend_cost_no_look_up() {
    direct_ones_cost_nothing::<V4>();
    direct_ones_cost_nothing::<V6>();
}

fn others_cost_two<A: Family>() {
    let mut node = local::<A>();
    for hook in HOOKS {
        for proto in [proto::TCP, proto::UDP] {
            let (src, dst) = ((A::STRANGER, 40_000), (A::REMOTE, 22));
            for packet in [Pkt::first(proto, src, dst), Pkt::reply(proto, src, dst), Pkt::data(proto, src, dst)] {
                let Lookups { hashes, arrays } = lookups(&mut node, hook, &packet);
                assert!(hashes <= 2 && arrays == 0, "{hashes} look-ups at {hook:?} for {packet:?}");
            }
        }
        let error = Pkt::icmp_error(A::ROUTER, A::POD, (3, 3), 0, &Pkt::syn((A::POD, 1), (A::CLIENT, 2)), 8);
        assert!(matches!(error.l4, L4::Icmp { .. }));
        assert!(lookups(&mut node, hook, &error).hashes <= 2);
        assert_eq!(lookups(&mut node, hook, &Pkt::raw(A::POD, A::CLIENT, 47, &[0; 40])).hashes, 0);
    }
}

#[test]
fn packet_of_others_costs_two_look_ups_at_most() {
    others_cost_two::<V4>();
    others_cost_two::<V6>();
}

#[test]
fn full_flow_table_drops_new_flows_by_name() {
    let mut node = local::<V4>();
    node.memory.full.set(true);
    let syn = Pkt::syn((V4::POD, 40_000), (V4::LB, 443));
    assert_eq!(node.send(Hook::PodIngress, 10, &syn.bytes()).action, Action::Drop);
    assert_eq!(named(&mut node), (1, 0));
}

#[test]
fn removed_frontend_is_nobodys() {
    let mut node = local::<V4>();
    node.set_frontend(FrontendKey { addr: V4::LB, port: Be16::new(443), proto: proto::TCP, scope: 0 }, None);
    let syn = Pkt::syn((V4::POD, 40_000), (V4::LB, 443));
    assert_eq!(node.send(Hook::PodIngress, 10, &syn.bytes()).bytes, syn.bytes());
}
