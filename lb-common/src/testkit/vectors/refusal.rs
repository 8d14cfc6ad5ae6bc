//! No endpoints, unknown ports, unallocated addresses, source ranges.

use super::{AT_POD, AT_UPLINK, PROTOCOLS, Trip, balanced, frontends, full};
use crate::abi::{
    BackendValue, Counter, FamilyConfig, SERVICE_RANGES, backend_flag, config_flag, frontend_flag, frontend_kind, proto,
};
use crate::testkit::{Action, Endpoint, Family, Hook, L4, Pkt, Scene, Service};
use crate::wire::tcp::flag as tcp_flag;

const ACK: u8 = tcp_flag::ACK;
const RST: u8 = tcp_flag::RST;

/// The RST that answers a segment.
pub(super) fn reset<A: Family>(of: &Pkt<A>, seq: u32, ack: u32, flags: u8) -> Pkt<A> {
    let L4::Tcp { sport, dport, .. } = of.l4 else { panic!("only TCP is reset") };
    let mut out = of.clone();
    (out.src, out.dst, out.ttl, out.df) = (of.dst, of.src, 64, true);
    out.l4 = L4::Tcp { sport: dport, dport: sport, seq, ack, flags, window: 0, payload: vec![] };
    out
}

/// The ICMP error that answers a datagram.
pub(super) fn unreachable<A: Family>(of: &Pkt<A>) -> Pkt<A> {
    complaint(of, if A::IS_V6 { (1, 4) } else { (3, 3) }, 0)
}

/// An ICMP error that answers a packet.
pub(super) fn complaint<A: Family>(of: &Pkt<A>, kind: (u8, u8), rest: u32) -> Pkt<A> {
    let quote = if matches!(of.l4, L4::Tcp { .. }) { 20 } else { 8 };
    let mut out = Pkt::icmp_error(of.dst, of.src, kind, rest, of, quote);
    if !A::IS_V6 {
        (out.tos, out.id) = (0xc0, 0);
    }
    out
}

/// A first packet of either protocol is refused by the frontend it went to.
#[track_caller]
fn refuses<A: Family>(scene: &mut Scene<'_, A>, hook: Hook, packet: &Pkt<A>) {
    let answer = match packet.l4 {
        L4::Tcp { seq, .. } => reset(packet, 0, seq + 1, RST | ACK),
        _ => unreachable(packet),
    };
    scene.returns(hook, packet, &answer);
}

/// Both protocols, all frontends, both edges.
pub fn no_endpoints_is_refused<A: Family>(scene: &mut Scene<'_, A>) {
    for proto in PROTOCOLS {
        scene.serve(&full(proto, &[]));
        for (addr, port, _) in frontends::<A>() {
            refuses(scene, Hook::PodIngress, &Pkt::first(proto, (A::POD, 40_000), (addr, port)));
            refuses(scene, Hook::UplinkIngress, &Pkt::first(proto, (A::CLIENT, 40_000), (addr, port)));
            refuses(scene, Hook::UplinkIngress, &Pkt::first(proto, (A::CLIENT, 40_000), (addr, port)).ttl(1));
        }
    }
    scene.counted(Counter::RejectNoEndpoints, 24);
    scene.blamed(7, Counter::RejectNoEndpoints, 24);
    scene.flows(0, 0);
}

/// What no socket hook has translated does not leave the node: `ClusterIP`s are nobody's outside.
pub fn own_packet_for_a_cluster_ip_does_not_leave<A: Family>(scene: &mut Scene<'_, A>) {
    for proto in PROTOCOLS {
        scene.serve(&full(proto, &[]));
        for (addr, port) in [(A::VIP, 80), (A::VIP, 81), (A::UNALLOCATED, 80)] {
            scene.drops(Hook::UplinkEgress, &Pkt::first(proto, (A::NODE, 40_000), (addr, port)));
        }
        scene.untouched(Hook::UplinkEgress, &Pkt::first(proto, (A::NODE, 40_000), (A::CLIENT, 80)));
        scene.untouched(Hook::PodEgress, &Pkt::first(proto, (A::NODE, 40_000), (A::VIP, 80)));
    }
    scene.counted(Counter::DropUntranslated, 4);
    scene.counted(Counter::DropUnallocatedVip, 2);
}

/// RFC 9293, section 3.10.7.1.
pub fn refused_segment_is_answered_by_its_sequence_numbers<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&full(proto::TCP, &[]));
    let (client, front) = ((A::POD, 40_000), (A::VIP, 80));
    // A SYN with data (TCP Fast Open) counts the data.
    let fast_open = Pkt::syn(client, front).payload(b"GET /");
    scene.returns(Hook::PodIngress, &fast_open, &reset(&fast_open, 0, 0x0102_0304 + 1 + 5, RST | ACK));
    // A sequence number that wraps.
    let mut wraps = Pkt::syn(client, front);
    if let L4::Tcp { seq, .. } = &mut wraps.l4 {
        *seq = u32::MAX;
    }
    scene.returns(Hook::PodIngress, &wraps, &reset(&wraps, 0, 0, RST | ACK));
    // What has an acknowledgement is answered by it.
    let mid_stream = Pkt::tcp(client, front, ACK).payload(b"hello");
    scene.returns(Hook::PodIngress, &mid_stream, &reset(&mid_stream, 0x0102_0305, 0, RST));
    // A FIN alone takes one number.
    let fin = Pkt::tcp(client, front, tcp_flag::FIN);
    scene.returns(Hook::PodIngress, &fin, &reset(&fin, 0, 0x0102_0305, RST | ACK));
    // Never a RST for a RST.
    scene.drops(Hook::PodIngress, &Pkt::tcp(client, front, RST));
    scene.drops(Hook::UplinkIngress, &Pkt::tcp((A::CLIENT, 40_000), front, RST | ACK));
}

/// An ICMP error would have to quote more than the fixed part.
pub fn udp_with_ip_options_is_not_answered<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&full(proto::UDP, &[]));
    for (hook, client) in [(Hook::PodIngress, A::POD), (Hook::UplinkIngress, A::CLIENT)] {
        scene.drops(hook, &Pkt::udp((client, 40_000), (A::VIP, 80)).long_header());
    }
}

/// The options are kept as they are.
pub fn tcp_with_ip_options_is_refused<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&full(proto::TCP, &[]));
    for (hook, client) in [(Hook::PodIngress, A::POD), (Hook::UplinkIngress, A::CLIENT)] {
        refuses(scene, hook, &Pkt::syn((client, 40_000), (A::VIP, 80)).long_header());
    }
}

/// Endpoints elsewhere, `Local` policy: silence, so that load balancers notice and not clients.
pub fn no_local_endpoints_drops<A: Family>(scene: &mut Scene<'_, A>) {
    let flags = frontend_flag::EXTERNAL_LOCAL | frontend_flag::EXTERNAL_EMPTY_DROPS;
    for proto in PROTOCOLS {
        scene.serve(&full(proto, &[Endpoint::remote(1, A::REMOTE)]).flags(flags));
        for (addr, port, _) in frontends::<A>() {
            scene.drops(Hook::UplinkIngress, &Pkt::first(proto, (A::CLIENT, 40_000), (addr, port)));
        }
        // From a Pod the same address takes the short cut.
        let (client, front, back) = ((A::POD, 40_000), (A::LB, 443), (A::REMOTE, 8080));
        Trip { edge: AT_POD, proto, client, front, back }.open(scene);
    }
    scene.counted(Counter::DropNoLocalEndpoints, 8);
    let flags = frontend_flag::INTERNAL_LOCAL | frontend_flag::INTERNAL_EMPTY_DROPS;
    scene.serve(&full(proto::TCP, &[Endpoint::remote(1, A::REMOTE)]).flags(flags));
    scene.drops(Hook::PodIngress, &Pkt::syn((A::POD, 40_100), (A::VIP, 80)));
    scene.counted(Counter::DropNoLocalEndpoints, 9);
    scene.blamed(7, Counter::DropNoLocalEndpoints, 9);
}

/// Refused on `ClusterIP`s; other addresses may have listeners of their own.
pub fn unknown_port_of_a_cluster_ip_is_refused<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&full(proto::TCP, &[Endpoint::local(1, A::LOCAL)]));
    for proto in PROTOCOLS {
        refuses(scene, Hook::PodIngress, &Pkt::first(proto, (A::POD, 40_000), (A::VIP, 81)));
        refuses(scene, Hook::UplinkIngress, &Pkt::first(proto, (A::CLIENT, 40_000), (A::VIP, 81)));
        scene.untouched(Hook::PodIngress, &Pkt::first(proto, (A::POD, 40_000), (A::LB, 444)));
        scene.untouched(Hook::UplinkIngress, &Pkt::first(proto, (A::CLIENT, 40_000), (A::NODE, 22)));
    }
    // The port exists, the protocol does not.
    refuses(scene, Hook::PodIngress, &Pkt::udp((A::POD, 40_000), (A::VIP, 80)));
    scene.drops(Hook::PodIngress, &Pkt::tcp((A::POD, 40_000), (A::VIP, 81), RST));
    scene.counted(Counter::RejectUnknownPort, 5);
    scene.counted(Counter::DropNoFlow, 1);
}

/// By name, from every side.
pub fn unallocated_vip_is_dropped<A: Family>(scene: &mut Scene<'_, A>) {
    for proto in PROTOCOLS {
        scene.drops(Hook::PodIngress, &Pkt::first(proto, (A::POD, 40_000), (A::UNALLOCATED, 80)));
        scene.drops(Hook::UplinkIngress, &Pkt::data(proto, (A::CLIENT, 40_000), (A::UNALLOCATED, 80)));
    }
    scene.counted(Counter::DropUnallocatedVip, 4);
}

/// The settings have room for two ranges of `ClusterIP`s. Where there are more, those two hold also what belongs to nobody.
pub fn ranges_of_cluster_ips_may_be_many<A: Family>(scene: &mut Scene<'_, A>) {
    let config = Scene::<A>::config();
    scene.node.set_config(FamilyConfig { flags: config.flags | config_flag::SERVICE_RANGES, ..config });
    let from = |proto| Pkt::first(proto, (A::POD, 40_000), (A::UNALLOCATED, 80));
    for proto in PROTOCOLS {
        scene.untouched(Hook::PodIngress, &from(proto));
        scene.untouched(Hook::UplinkIngress, &Pkt::data(proto, (A::CLIENT, 40_000), (A::UNALLOCATED, 80)));
    }
    scene.node.allow_range(7, A::UNALLOCATED, A::BITS);
    scene.untouched(Hook::PodIngress, &from(PROTOCOLS[0]));
    scene.node.allow_range(SERVICE_RANGES, A::UNALLOCATED, A::BITS);
    for proto in PROTOCOLS {
        scene.drops(Hook::PodIngress, &from(proto));
    }
    scene.counted(Counter::DropUnallocatedVip, 2);
}

/// Pods included: the ranges look at the source, whatever it is.
pub fn client_outside_of_source_ranges_is_dropped<A: Family>(scene: &mut Scene<'_, A>) {
    for proto in PROTOCOLS {
        let service = balanced::<A>(proto).flags(frontend_flag::SOURCE_RANGES);
        scene.serve(&service);
        scene.node.allow_range(service.id, A::CLIENT, A::BITS);
        let (front, back) = ((A::LB, 443), (A::LOCAL, 8080));
        let trip = Trip { edge: AT_UPLINK, proto, client: (A::CLIENT, 40_000), front, back };
        trip.open(scene);
        scene.drops(Hook::UplinkIngress, &Pkt::first(proto, (A::STRANGER, 40_000), front));
        scene.drops(Hook::PodIngress, &Pkt::first(proto, (A::POD, 40_000), front));
    }
    scene.counted(Counter::DropSourceRange, 4);
    scene.blamed(7, Counter::DropSourceRange, 4);
    // A range of another Service does not count.
    let mut other = balanced::<A>(proto::TCP).flags(frontend_flag::SOURCE_RANGES);
    other.id = 8;
    scene.serve(&other);
    scene.drops(Hook::UplinkIngress, &Pkt::syn((A::CLIENT, 40_001), (A::LB, 443)));
    // A whole network.
    scene.node.allow_range(8, A::CLIENT, A::BITS - 16);
    let syn = Pkt::syn((A::STRANGER, 40_001), (A::LB, 443));
    scene.passes(Hook::UplinkIngress, &syn, &syn.clone().to(A::LOCAL, 8080));
}

/// A slot that points at a free id is a mistake of the agent: no packet goes to address zero.
pub fn stale_slot_is_a_counted_drop<A: Family>(scene: &mut Scene<'_, A>) {
    let service = full::<A>(proto::TCP, &[Endpoint::local(1, A::LOCAL)]);
    scene.serve(&service);
    let free = BackendValue { flags: backend_flag::IN_CLUSTER, ..BackendValue::default() };
    scene.node.set_backend(1, free);
    scene.drops(Hook::PodIngress, &Pkt::syn((A::POD, 40_000), (A::VIP, 80)));
    scene.node.set_slot(service.slots, 0);
    scene.drops(Hook::PodIngress, &Pkt::syn((A::POD, 40_000), (A::VIP, 80)));
    scene.counted(Counter::DropStaleSlot, 2);
}

/// As two writers of the maps once left it: both ids are in use, the slot leads to another Service's Pod.
pub fn slot_of_another_service_is_a_counted_drop<A: Family>(scene: &mut Scene<'_, A>) {
    let mut other = Service::new(proto::TCP, A::LB, 8443, frontend_kind::LOAD_BALANCER);
    (other.id, other.slots) = (8, 256);
    scene.serve(&other.endpoints(&[Endpoint::local(2, A::LOCAL2)]));
    for proto in PROTOCOLS {
        let service = full::<A>(proto, &[Endpoint::local(1, A::LOCAL)]);
        scene.serve(&service);
        for set in [service.slots, service.slots + 64] {
            scene.node.set_slot(set, 2);
        }
        scene.drops(Hook::PodIngress, &Pkt::first(proto, (A::POD, 40_000), (A::VIP, 80)));
        scene.drops(Hook::UplinkIngress, &Pkt::first(proto, (A::CLIENT, 40_000), (A::LB, 443)));
    }
    scene.counted(Counter::DropStaleSlot, 4);
    scene.flows(0, 0);
}

/// Whoever sends more than anybody needs is not answered all, and takes no answer from others.
pub fn refusals_have_a_limit_for_each_client<A: Family>(scene: &mut Scene<'_, A>) {
    let [pod, uplink] = [(Hook::PodIngress, A::POD, A::LOCAL2), (Hook::UplinkIngress, A::CLIENT, A::STRANGER)];
    for (proto, (hook, client, other)) in [(proto::TCP, uplink), (proto::UDP, pod)] {
        scene.serve(&full(proto, &[]));
        let packet = Pkt::first(proto, (client, 40_000), (A::VIP, 80)).bytes();
        // Each processor has a limit, and the kernel's clock goes on.
        let limited = (0..200_000).position(|_| scene.node.send(hook, hook.device(), &packet).action == Action::Drop);
        assert!(limited.is_some_and(|answered| answered >= 1_000), "{limited:?}");
        for _ in 0..100 {
            refuses(scene, hook, &Pkt::first(proto, (other, 40_000), (A::VIP, 80)));
        }
    }
    scene.counted(Counter::DropRefusalLimited, 2);
}
