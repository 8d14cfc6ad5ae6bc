//! ICMP echo requests for Services: who answers, where and when.

use crate::abi::{Counter, FrontendKey, FrontendValue, config_flag, frontend_flag, frontend_kind, proto};
use crate::testkit::{Action, Endpoint, Family, Hook, L4, Pkt, Scene};

use super::full;

/// Where clients meet the node: a Pod, one outside, and the node itself where its requests would leave.
fn sides<A: Family>() -> [(Hook, A); 3] {
    [(Hook::PodIngress, A::POD), (Hook::UplinkIngress, A::CLIENT), (Hook::UplinkEgress, A::NODE)]
}

/// A request.
fn ping<A: Family>(src: A, dst: A) -> Pkt<A> {
    let kind = if A::IS_V6 { (128, 0) } else { (8, 0) };
    let data = Pkt::raw(src, dst, proto::UDP, &[]);
    Pkt::icmp_error(src, dst, kind, 0x0001_0002, &data, 0).payload(b"how long does it take?")
}

/// Its reply, by the address that was asked.
fn pong<A: Family>(of: &Pkt<A>) -> Pkt<A> {
    let mut out = of.clone();
    (out.src, out.dst, out.ttl) = (of.dst, of.src, 64);
    if let L4::Icmp { kind, .. } = &mut out.l4 {
        *kind = if A::IS_V6 { 129 } else { 0 };
    }
    out
}

/// Writes an address's own entry.
fn address<A: Family>(scene: &mut Scene<'_, A>, addr: A, kind: u8, flags: u16) {
    let value = FrontendValue { kind, flags, service: 7, ..FrontendValue::default() };
    scene.node.set_frontend(FrontendKey::of_address(addr), Some(value));
}

/// Of either kind; each client.
pub fn echo_is_answered_where_a_service_has_endpoints<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&full(proto::TCP, &[Endpoint::local(1, A::LOCAL)]));
    for (addr, kind) in [(A::VIP, frontend_kind::KNOWN_VIP), (A::LB, frontend_kind::ADDRESS)] {
        address(scene, addr, kind, frontend_flag::ANSWERS_ECHO);
        for (hook, client) in sides::<A>() {
            scene.returns(hook, &ping(client, addr), &pong(&ping(client, addr)));
            scene.untouched(hook, &pong(&ping(addr, client)));
        }
        scene.untouched(Hook::PodEgress, &ping(A::NODE, addr));
        address(scene, addr, kind, 0);
        for (hook, client) in sides::<A>() {
            scene.untouched(hook, &ping(client, addr));
        }
    }
    for (hook, client) in sides::<A>() {
        for addr in [A::UNALLOCATED, A::LOCAL, A::EXTERNAL] {
            scene.untouched(hook, &ping(client, addr));
        }
    }
    scene.counted(Counter::EchoAnswered, 6);
}

/// The reply carries what the request did.
pub fn echo_request_with_options_or_without_data_is_answered<A: Family>(scene: &mut Scene<'_, A>) {
    address(scene, A::VIP, frontend_kind::KNOWN_VIP, frontend_flag::ANSWERS_ECHO);
    for (hook, client) in sides::<A>() {
        let plain = ping(client, A::VIP);
        let long = plain.clone().payload(&[0xa5; 1_400]);
        for asked in [plain.clone().payload(&[]), plain.clone().ttl(1), plain.long_header(), long] {
            scene.returns(hook, &asked, &pong(&asked));
        }
    }
}

/// `loadBalancerSourceRanges`.
pub fn echo_is_not_answered_outside_of_source_ranges<A: Family>(scene: &mut Scene<'_, A>) {
    address(scene, A::LB, frontend_kind::ADDRESS, frontend_flag::ANSWERS_ECHO | frontend_flag::SOURCE_RANGES);
    scene.node.allow_range(7, A::POD, A::BITS);
    let asked = ping(A::POD, A::LB);
    scene.returns(Hook::PodIngress, &asked, &pong(&asked));
    scene.untouched(Hook::UplinkIngress, &ping(A::CLIENT, A::LB));
}

/// Its length says more than there is.
pub fn echo_request_that_is_cut_off_is_dropped<A: Family>(scene: &mut Scene<'_, A>) {
    address(scene, A::VIP, frontend_kind::KNOWN_VIP, frontend_flag::ANSWERS_ECHO);
    for (hook, client) in sides::<A>() {
        let mut short = ping(client, A::VIP).bytes();
        short.truncate(short.len() - 8);
        scene.bytes(hook, hook.device(), &short, Action::Drop, &[]);
    }
    scene.counted(Counter::DropRewrite, 3);
}

/// The same as refusals.
pub fn echo_replies_have_a_limit_for_each_client<A: Family>(scene: &mut Scene<'_, A>) {
    address(scene, A::VIP, frontend_kind::KNOWN_VIP, frontend_flag::ANSWERS_ECHO);
    let (hook, packet) = (Hook::UplinkIngress, ping(A::CLIENT, A::VIP).bytes());
    // Each processor has a limit, and the kernel's clock goes on.
    let limited = (0..200_000).position(|_| scene.node.send(hook, hook.device(), &packet).action == Action::Drop);
    assert!(limited.is_some_and(|answered| answered >= 1_000), "{limited:?}");
    let other = ping(A::STRANGER, A::VIP);
    scene.returns(hook, &other, &pong(&other));
    scene.counted(Counter::DropRefusalLimited, 1);
}

/// `--no-echo`.
pub fn echo_is_left_alone_where_that_is_asked<A: Family>(scene: &mut Scene<'_, A>) {
    address(scene, A::VIP, frontend_kind::KNOWN_VIP, frontend_flag::ANSWERS_ECHO);
    let mut config = Scene::<A>::config();
    config.flags |= config_flag::NO_ECHO;
    scene.node.set_config(config);
    for (hook, client) in sides::<A>() {
        scene.untouched(hook, &ping(client, A::VIP));
    }
}
