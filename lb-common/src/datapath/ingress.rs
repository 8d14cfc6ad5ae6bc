//! Packets on their way in from a client: VIP to Pod. Also replies to an address that Sluice lent (source NAT).

use super::create::{create, twin_key};
use super::direct::collision;
use super::egress::{closing, hit, promote};
use super::env::Env;
use super::parse::{Headers, tcp_flag};
use super::scratch::Scratch;
use super::select::{member, select};
use super::verdict::{Fast, Verdict};
use crate::abi::{
    Address, AffinityKey, Be16, Cidr, Counter, FamilyConfig, FlowValue, FrontendKey, SourceRangeKey, Tally,
    config_flag, flow_kind, flow_state, frontend_flag, frontend_scope, proto,
};

/// First look-up for a packet that comes in. Established flows end here.
#[inline(always)]
pub fn ingress<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>) -> Fast<E::Flow> {
    let tcp = headers.key.proto == proto::TCP;
    // A SYN may reuse the tuple of a flow that is over: the slow path looks closer.
    if tcp && headers.opens() {
        return Fast::Slow;
    }
    let Some(flow) = env.flow(&headers.key) else { return Fast::Miss };
    if flow.kind == flow_kind::FORWARD {
        if !tcp && env.generation(flow.backend) != flow.generation {
            // The backend is no longer an endpoint: datagrams move at once.
            return Fast::Slow;
        }
    } else if flow.kind != flow_kind::REVERSE_SNAT {
        return Fast::Slow;
    }
    hit(env, headers, flow)
}

/// Everything that is not an established flow's ordinary packet. The caller has filled in `scratch.ifindex`,
/// `scratch.uplink`, `scratch.local` and `scratch.missed`.
#[inline(always)]
pub fn ingress_slow<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, scratch: &mut Scratch<A>) -> Verdict {
    let key = &headers.key;
    let frontend_key = FrontendKey { addr: key.dst, port: key.dport, proto: key.proto, scope: frontend_scope::ALL };
    let Some(frontend) = env.frontend(&frontend_key) else {
        return match not_a_frontend(env, headers, scratch) {
            // A SYN has not looked in the flow table yet; of other packets only those that hit an entry of another kind
            // come here with one.
            Verdict::Pass if scratch.missed == 0 => collision(env, headers, scratch),
            verdict => verdict,
        };
    };
    if frontend.flags & frontend_flag::SOURCE_RANGES != 0
        && !env.in_source_range(&SourceRangeKey { service: frontend.service, addr: key.src })
    {
        env.count(Counter::DropSourceRange);
        return Verdict::Drop;
    }
    scratch.choice.frontend = frontend;
    if known_flow(env, headers, scratch) {
        return Verdict::Forward;
    }
    if key.proto == proto::TCP && !headers.opens() {
        return mid_stream(env, headers);
    }
    new_flow(env, headers, scratch)
}

/// A frontend's packet that may belong to a flow after all: a SYN, a datagram whose backend went away, or a flow
/// without a reply yet.
#[inline(never)]
fn known_flow<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, scratch: &mut Scratch<A>) -> bool {
    let key = &headers.key;
    if let Some(flow) = env.flow(key)
        && flow.kind == flow_kind::FORWARD
    {
        scratch.twin = twin_key(&flow, key.proto);
        let twin_state = env.flow(&scratch.twin).map_or(0, |twin| twin.state);
        if !over(env, &flow, headers, twin_state) {
            env.touch(flow);
            scratch.forward = *flow;
            // It stays in the entry.
            scratch.forward.tally = Tally::default();
            return true;
        }
        env.remove_flow(&scratch.twin);
        env.remove_flow(key);
        return false;
    }
    if let Some(flow) = env.embryo(key)
        && flow.kind == flow_kind::FORWARD
    {
        if !over(env, &flow, headers, 0) {
            env.note(flow, closing(headers.tcp_flags));
            env.touch(flow);
            scratch.forward = *flow;
            return true;
        }
        scratch.twin = twin_key(&flow, key.proto);
        env.remove_embryo(&scratch.twin);
        env.remove_embryo(key);
    }
    false
}

/// Whether a flow that this packet matches has ended, so that the packet begins another.
#[inline(always)]
fn over<A: Address, E: Env<A>>(env: &E, flow: &FlowValue<A>, headers: &Headers<A>, twin_state: u16) -> bool {
    let gone = env.generation(flow.backend) != flow.generation;
    if headers.key.proto != proto::TCP {
        if gone {
            env.count(Counter::FlowMoved);
        }
        return gone;
    }
    headers.opens() && (gone || (flow.state | twin_state) & (flow_state::FIN | flow_state::RST) != 0)
}

/// TCP for a frontend that begins nothing and belongs to no flow: never passed on untranslated in silence.
#[inline(always)]
fn mid_stream<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>) -> Verdict {
    if env.config().flags & config_flag::TAKEOVER != 0 {
        return Verdict::Pass;
    }
    if headers.tcp_flags & tcp_flag::RST != 0 {
        env.count(Counter::DropNoFlow);
        return Verdict::Drop;
    }
    env.count(Counter::RejectNoFlow);
    Verdict::Reject
}

#[inline(always)]
fn new_flow<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, scratch: &mut Scratch<A>) -> Verdict {
    let internal = inside(env.config(), headers.key.src, scratch.uplink, scratch.local);
    let flags = scratch.choice.frontend.flags;
    let (set, drops, local) = if internal {
        (scratch.choice.frontend.internal, frontend_flag::INTERNAL_EMPTY_DROPS, frontend_flag::INTERNAL_LOCAL)
    } else {
        (scratch.choice.frontend.external, frontend_flag::EXTERNAL_EMPTY_DROPS, frontend_flag::EXTERNAL_LOCAL)
    };
    if set.count == 0 {
        if flags & drops != 0 {
            env.count(Counter::DropNoLocalEndpoints);
            return Verdict::Drop;
        }
        env.count(Counter::RejectNoEndpoints);
        return Verdict::Reject;
    }
    let client = AffinityKey { client: headers.key.src, service: scratch.choice.frontend.service, netns: [0; 2] };
    let chosen = select(env, &mut scratch.choice, &client, set, member(flags & local != 0));
    match chosen.and_then(|()| create(env, headers, scratch)) {
        Ok(()) => {
            env.count(Counter::NewFlow);
            env.connected(scratch.forward.backend, scratch.forward.generation);
            Verdict::Forward
        }
        Err(counter) => {
            env.count(counter);
            Verdict::Drop
        }
    }
}

/// No frontend has this address, port and protocol.
#[inline(never)]
fn not_a_frontend<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, scratch: &mut Scratch<A>) -> Verdict {
    let key = &headers.key;
    let config = env.config();
    let lent = key.dport.get() >= config.snat_lo.get() && key.dport.get() <= config.snat_hi.get();
    // A SYN begins a connection, it is no reply: here as for an established flow it is none of ours.
    if lent
        && !headers.opens()
        && let Some(flow) = env.embryo(key)
        && flow.kind == flow_kind::REVERSE_SNAT
    {
        scratch.reverse = *flow;
        scratch.twin = *key;
        promote(env, headers.tcp_flags, scratch);
        return Verdict::Forward;
    }
    if known_vip(env, key.dst) {
        if headers.tcp_flags & tcp_flag::RST != 0 {
            env.count(Counter::DropNoFlow);
            return Verdict::Drop;
        }
        env.count(Counter::RejectUnknownPort);
        return Verdict::Reject;
    }
    if in_service_range(config, key.dst) {
        env.count(Counter::DropUnallocatedVip);
        return Verdict::Drop;
    }
    Verdict::Pass
}

/// Whether an address is a `ClusterIP`.
#[inline(always)]
pub(super) fn known_vip<A: Address, E: Env<A>>(env: &E, addr: A) -> bool {
    let config = env.config();
    addr.within(config.vip_lo, config.vip_hi)
        && env.frontend(&FrontendKey { addr, port: Be16(0), proto: 0, scope: frontend_scope::ALL }).is_some()
}

/// Whether `ClusterIP`s are allocated from where an address is. Settings that nobody has written yet are all zeroes, and
/// a zero prefix would hold every address.
#[inline(always)]
pub(super) fn in_service_range<A: Address>(config: &FamilyConfig<A>, addr: A) -> bool {
    config.abi != 0 && contains(&config.services, addr)
}

/// Whether a client is inside the cluster: by the device it came in by where that is how it is told, else by its address
/// where the cluster's prefixes are known, else by the device's role.
#[inline(always)]
pub(super) fn inside<A: Address>(config: &FamilyConfig<A>, client: A, uplink: u32, local: u32) -> bool {
    if config.flags & config_flag::LOCAL_DEVICES != 0 {
        return local != 0;
    }
    if config.flags & config_flag::DETECT_LOCAL != 0 {
        return contains(&config.cluster, client);
    }
    uplink == 0
}

#[inline(always)]
fn contains<A: Address, const N: usize>(prefixes: &[Cidr<A>; N], address: A) -> bool {
    let mut found = false;
    for prefix in prefixes {
        found |= address.and(prefix.mask) == prefix.net;
    }
    found
}
