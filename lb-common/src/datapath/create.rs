//! New flows: which source address and port the backend sees, and the pair of entries.

use super::checksum;
use super::egress::forward_key;
use super::env::Env;
use super::ingress::{Edge, in_cluster};
use super::parse::{Headers, tcp_flag};
use super::verdict::Verdict;
use crate::abi::{
    Address, BackendValue, Be16, Counter, FamilyConfig, FlowKey, FlowValue, FrontendValue, backend_flag, config_flag,
    flow_action, flow_kind, flow_state, frontend_kind, proto,
};

/// Source ports tried before giving up.
const PROBES: u32 = 16;

/// The key of a forward or direct entry's twin.
#[inline(always)]
pub(super) fn twin_key<A: Address>(forward: &FlowValue<A>, protocol: u8) -> FlowKey<A> {
    let FlowValue { src, dst, sport, dport, .. } = *forward;
    if forward.action == flow_action::STACK {
        FlowKey { src, dst, sport, dport, proto: protocol, pad: [0; 3] }
    } else {
        FlowKey { src: dst, dst: src, sport: dport, dport: sport, proto: protocol, pad: [0; 3] }
    }
}

/// Writes the pair of entries of a new flow to the embryonic table and returns the forward one.
#[inline(always)]
pub(super) fn create<A: Address, E: Env<A>>(
    env: &E,
    headers: &Headers<A>,
    edge: Edge,
    frontend: &FrontendValue,
    id: u32,
    backend: &BackendValue<A>,
) -> Result<FlowValue<A>, Counter> {
    let key = &headers.key;
    let (action, src) = source(env, key, edge, frontend, backend)?;
    let mut forward = FlowValue {
        src,
        dst: backend.addr,
        sport: key.sport,
        dport: backend.port,
        kind: flow_kind::FORWARD,
        action,
        state: 0,
        backend: id,
        generation: backend.generation,
        service: frontend.service,
        seen: env.ticks(),
        ifindex: edge.ifindex,
        addr_delta: checksum::delta(key.src.sum() + key.dst.sum(), src.sum() + backend.addr.sum()),
        port_delta: 0,
    };
    let mut reverse = FlowValue {
        src: key.dst,
        dst: key.src,
        sport: key.dport,
        dport: key.sport,
        kind: if action == flow_action::STACK { flow_kind::REVERSE } else { flow_kind::REVERSE_SNAT },
        addr_delta: !forward.addr_delta,
        ..forward
    };
    lend(env, &mut forward, &mut reverse, key.proto, config_range(env.config()))?;
    if env.insert_embryo(key, &forward, false) { Ok(forward) } else { Err(Counter::DropFlowInsert) }
}

/// How the translated request leaves, and with which source address.
#[inline(always)]
fn source<A: Address, E: Env<A>>(
    env: &E,
    key: &FlowKey<A>,
    edge: Edge,
    frontend: &FrontendValue,
    backend: &BackendValue<A>,
) -> Result<(u8, A), Counter> {
    let config = env.config();
    if backend.addr == key.src {
        if config.node.is_zero() {
            return Err(Counter::DropSnatNoAddress);
        }
        let action = if edge.uplink { flow_action::ROUTE } else { flow_action::HAIRPIN };
        return Ok((action, config.node));
    }
    let off_cluster = edge.uplink
        && frontend.kind == frontend_kind::CLUSTER_IP
        && config.flags & config_flag::DETECT_LOCAL != 0
        && !in_cluster(config, key.src);
    let masquerade = config.flags & config_flag::MASQUERADE_ALL != 0;
    // The stack would take a packet from the node's own address to itself for a martian.
    let own = backend.flags & backend_flag::HOST_NETWORK != 0;
    let remote = edge.uplink && backend.flags & backend_flag::LOCAL == 0;
    if (off_cluster || masquerade || remote) && !own {
        let Some(route) = env.route(backend.addr) else { return Err(Counter::DropNoRoute) };
        let address = if route.source.is_zero() { config.node } else { route.source };
        if address.is_zero() {
            return Err(Counter::DropSnatNoAddress);
        }
        return Ok((flow_action::ROUTE, address));
    }
    Ok((flow_action::STACK, key.src))
}

#[inline(always)]
fn config_range<A: Address>(config: &FamilyConfig<A>) -> (u32, u32) {
    let lo = u32::from(config.snat_lo.get());
    (lo, u32::from(config.snat_hi.get()).saturating_sub(lo) + 1)
}

/// Finds a source port with which the reply is unambiguous, and claims it by writing the reverse entry. Without source
/// NAT the client's own port is tried first.
#[inline(always)]
#[allow(clippy::as_conversions, reason = "a port number within a range of 16-bit ports")]
#[allow(clippy::cast_possible_truncation, reason = "a port number within a range of 16-bit ports")]
fn lend<A: Address, E: Env<A>>(
    env: &E,
    forward: &mut FlowValue<A>,
    reverse: &mut FlowValue<A>,
    protocol: u8,
    range: (u32, u32),
) -> Result<(), Counter> {
    let keep = reverse.kind == flow_kind::REVERSE;
    let (lo, count) = range;
    let start = env.random();
    for probe in 0..PROBES {
        if !(keep && probe == 0) {
            forward.sport = Be16::new((lo + start.wrapping_add(probe) % count) as u16);
        }
        forward.port_delta = checksum::delta(
            u64::from(reverse.dport.0) + u64::from(reverse.sport.0),
            u64::from(forward.sport.0) + u64::from(forward.dport.0),
        );
        reverse.port_delta = !forward.port_delta;
        let key = twin_key(forward, protocol);
        if !taken(env, &key, reverse) && env.insert_embryo(&key, reverse, false) {
            return Ok(());
        }
    }
    Err(Counter::DropSnatExhausted)
}

/// Whether a reverse key serves another live flow. One that is over is removed.
#[inline(always)]
fn taken<A: Address, E: Env<A>>(env: &E, key: &FlowKey<A>, reverse: &FlowValue<A>) -> bool {
    if let Some(other) = env.flow(key) {
        let same = other.src == reverse.src
            && other.dst == reverse.dst
            && other.sport == reverse.sport
            && other.dport == reverse.dport;
        if !same && !ended(env, &other, key.proto) {
            return true;
        }
        env.remove_flow(key);
    }
    if let Some(other) = env.embryo(key) {
        let same = other.src == reverse.src
            && other.dst == reverse.dst
            && other.sport == reverse.sport
            && other.dport == reverse.dport;
        return !same;
    }
    false
}

/// Whether an established reverse entry's connection is over: closed from either side.
#[inline(always)]
fn ended<A: Address, E: Env<A>>(env: &E, reverse: &FlowValue<A>, protocol: u8) -> bool {
    if protocol != proto::TCP {
        return false;
    }
    let closed = flow_state::FIN | flow_state::RST;
    if reverse.state & closed != 0 {
        return true;
    }
    env.flow(&forward_key(reverse, protocol)).is_none_or(|forward| forward.state & closed != 0)
}

/// A packet that goes straight to a Pod and has the tuple of a translated flow: its replies would be taken for that
/// flow's. The direct connection gets another source port; if the translated flow is over, that is forgotten instead.
#[inline(always)]
pub(super) fn direct_collision<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, flow: &E::Flow) -> Verdict<A> {
    let key = &headers.key;
    let syn = headers.tcp_flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN;
    if let Some(direct) = env.embryo(key)
        && direct.kind == flow_kind::DIRECT
    {
        env.touch(direct);
        return Verdict::Forward(*direct);
    }
    if ended(env, flow, key.proto) {
        if syn {
            env.remove_flow(&forward_key(flow, key.proto));
            env.remove_flow(key);
        }
        return Verdict::Pass;
    }
    if key.proto == proto::TCP && !syn {
        // It began before the translated flow: too late to give it another port.
        return Verdict::Pass;
    }
    let mut forward = FlowValue {
        src: key.src,
        dst: key.dst,
        sport: key.sport,
        dport: key.dport,
        kind: flow_kind::DIRECT,
        action: flow_action::STACK,
        state: 0,
        backend: 0,
        generation: 0,
        service: 0,
        seen: env.ticks(),
        ifindex: flow.ifindex,
        addr_delta: 0,
        port_delta: 0,
    };
    let mut reverse = FlowValue {
        src: key.dst,
        dst: key.src,
        sport: key.dport,
        dport: key.sport,
        kind: flow_kind::REVERSE,
        ..forward
    };
    let (lo, count) = config_range(env.config());
    if lend(env, &mut forward, &mut reverse, key.proto, (lo, count)).is_err() {
        env.count(Counter::DropSnatExhausted);
        return Verdict::Drop(Counter::DropSnatExhausted);
    }
    if !env.insert_embryo(key, &forward, false) {
        env.count(Counter::DropFlowInsert);
        return Verdict::Drop(Counter::DropFlowInsert);
    }
    env.count(Counter::DirectRemapped);
    Verdict::Forward(forward)
}
