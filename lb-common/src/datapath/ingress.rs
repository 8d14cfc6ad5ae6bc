//! Packets on their way in from a client: VIP to Pod. Also replies to an address that Sluice lent (source NAT).

use super::create::{create, direct_collision, twin_key};
use super::egress::{closing, promote};
use super::env::Env;
use super::parse::{Headers, tcp_flag};
use super::select::select;
use super::verdict::{Fast, Verdict};
use crate::abi::{
    Address, Cidr, Counter, FamilyConfig, FlowValue, FrontendKey, FrontendValue, SourceRangeKey, config_flag,
    flow_kind, flow_state, frontend_flag, proto,
};

/// Which edge of the node a packet came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// From outside or from other nodes, rather than from a Pod of this node.
    pub uplink: bool,
    /// Device index.
    pub ifindex: u32,
}

/// First look-up for a packet that comes in. Established flows end here.
#[inline(always)]
pub fn ingress<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>) -> Fast<E::Flow> {
    let tcp = headers.key.proto == proto::TCP;
    // A SYN may reuse the tuple of a flow that is over: the slow path looks closer.
    if tcp && headers.tcp_flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN {
        return Fast::Slow;
    }
    let Some(flow) = env.flow(&headers.key) else { return Fast::Slow };
    if flow.kind == flow_kind::FORWARD {
        if tcp {
            if headers.tcp_flags & (tcp_flag::FIN | tcp_flag::RST) != 0 {
                env.note(flow, closing(headers.tcp_flags));
            }
        } else if env.generation(flow.backend) != flow.generation {
            // The backend is no longer an endpoint: datagrams move at once.
            return Fast::Slow;
        }
        env.touch(flow);
        return Fast::Hit(flow);
    }
    if flow.kind == flow_kind::REVERSE_SNAT {
        if headers.tcp_flags & (tcp_flag::FIN | tcp_flag::RST) != 0 {
            env.note(flow, closing(headers.tcp_flags));
        }
        env.touch(flow);
        return Fast::Hit(flow);
    }
    Fast::Slow
}

/// Everything that is not an established flow's ordinary packet.
#[inline(always)]
pub fn ingress_slow<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, edge: Edge) -> Verdict<A> {
    let key = &headers.key;
    let config = env.config();
    let frontend_key = FrontendKey { addr: key.dst, port: key.dport, proto: key.proto, pad: 0 };
    let Some(frontend) = env.frontend(&frontend_key) else {
        return not_a_frontend(env, headers, config);
    };
    let internal = !edge.uplink || in_cluster(config, key.src);
    if frontend.flags & frontend_flag::SOURCE_RANGES != 0
        && !env.in_source_range(&SourceRangeKey { service: frontend.service, addr: key.src })
    {
        env.count(Counter::DropSourceRange);
        return Verdict::Drop(Counter::DropSourceRange);
    }
    if let Some(verdict) = known_flow(env, headers) {
        return verdict;
    }
    if key.proto == proto::TCP && headers.tcp_flags & (tcp_flag::SYN | tcp_flag::ACK) != tcp_flag::SYN {
        return mid_stream(env, headers, config);
    }
    new_flow(env, headers, edge, &frontend, internal)
}

/// A frontend's packet that may belong to a flow after all: a SYN, a datagram whose backend went away, or a flow
/// without a reply yet.
#[inline(always)]
fn known_flow<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>) -> Option<Verdict<A>> {
    let key = &headers.key;
    if let Some(flow) = env.flow(key)
        && flow.kind == flow_kind::FORWARD
    {
        let twin = twin_key(&flow, key.proto);
        if !over(env, &flow, headers, env.flow(&twin).map_or(0, |t| t.state)) {
            env.touch(flow);
            return Some(Verdict::Forward(*flow));
        }
        env.remove_flow(&twin);
        env.remove_flow(key);
        return None;
    }
    if let Some(flow) = env.embryo(key)
        && flow.kind == flow_kind::FORWARD
    {
        let twin = twin_key(&flow, key.proto);
        if !over(env, &flow, headers, 0) {
            env.note(flow, closing(headers.tcp_flags));
            env.touch(flow);
            return Some(Verdict::Forward(*flow));
        }
        env.remove_embryo(&twin);
        env.remove_embryo(key);
    }
    None
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
    let syn = headers.tcp_flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN;
    syn && (gone || (flow.state | twin_state) & (flow_state::FIN | flow_state::RST) != 0)
}

/// TCP for a frontend that begins nothing and belongs to no flow: never passed on untranslated in silence.
#[inline(always)]
fn mid_stream<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, config: &FamilyConfig<A>) -> Verdict<A> {
    if config.flags & config_flag::TAKEOVER != 0 {
        return Verdict::Pass;
    }
    if headers.tcp_flags & tcp_flag::RST != 0 {
        env.count(Counter::DropNoFlow);
        return Verdict::Drop(Counter::DropNoFlow);
    }
    env.count(Counter::RejectNoFlow);
    Verdict::Reject
}

#[inline(always)]
fn new_flow<A: Address, E: Env<A>>(
    env: &E,
    headers: &Headers<A>,
    edge: Edge,
    frontend: &FrontendValue,
    internal: bool,
) -> Verdict<A> {
    let (set, drops, local) = if internal {
        (frontend.internal, frontend_flag::INTERNAL_EMPTY_DROPS, frontend_flag::INTERNAL_LOCAL)
    } else {
        (frontend.external, frontend_flag::EXTERNAL_EMPTY_DROPS, frontend_flag::EXTERNAL_LOCAL)
    };
    if set.count == 0 {
        if frontend.flags & drops != 0 {
            env.count(Counter::DropNoLocalEndpoints);
            return Verdict::Drop(Counter::DropNoLocalEndpoints);
        }
        env.count(Counter::RejectNoEndpoints);
        return Verdict::Reject;
    }
    let chosen = select(env, frontend, set, frontend.flags & local != 0, headers.key.src);
    match chosen.and_then(|(id, backend)| create(env, headers, edge, frontend, id, &backend)) {
        Ok(value) => {
            env.count(Counter::NewFlow);
            Verdict::Forward(value)
        }
        Err(counter) => {
            env.count(counter);
            Verdict::Drop(counter)
        }
    }
}

/// No frontend has this address, port and protocol.
#[inline(always)]
fn not_a_frontend<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, config: &FamilyConfig<A>) -> Verdict<A> {
    let key = &headers.key;
    let lent = key.dport.get() >= config.snat_lo.get() && key.dport.get() <= config.snat_hi.get();
    if lent
        && let Some(flow) = env.embryo(key)
        && flow.kind == flow_kind::REVERSE_SNAT
    {
        return Verdict::Forward(promote(env, key, &flow, headers.tcp_flags));
    }
    if key.dst.within(config.vip_lo, config.vip_hi)
        && env.frontend(&FrontendKey { addr: key.dst, port: crate::abi::Be16(0), proto: 0, pad: 0 }).is_some()
    {
        env.count(Counter::RejectUnknownPort);
        return if headers.tcp_flags & tcp_flag::RST != 0 {
            Verdict::Drop(Counter::RejectUnknownPort)
        } else {
            Verdict::Reject
        };
    }
    if contains(&config.services, key.dst) {
        env.count(Counter::DropUnallocatedVip);
        return Verdict::Drop(Counter::DropUnallocatedVip);
    }
    // Only now the rarest: a direct connection to a Pod with the tuple of a translated flow.
    if let Some(flow) = env.flow(key)
        && flow.kind == flow_kind::REVERSE
    {
        return direct_collision(env, headers, &flow);
    }
    Verdict::Pass
}

/// Whether a client is inside the cluster, as far as it is known.
#[inline(always)]
pub(super) fn in_cluster<A: Address>(config: &FamilyConfig<A>, client: A) -> bool {
    config.flags & config_flag::DETECT_LOCAL != 0 && contains(&config.cluster, client)
}

#[inline(always)]
fn contains<A: Address, const N: usize>(prefixes: &[Cidr<A>; N], address: A) -> bool {
    let mut found = false;
    for prefix in prefixes {
        found |= address.and(prefix.mask) == prefix.net;
    }
    found
}
