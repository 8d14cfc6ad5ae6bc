//! New flows: which source address and port the backend sees, and the pair of entries.

use super::checksum;
use super::direct::{Closed, ended};
use super::env::Env;
use super::ingress::inside;
use super::parse::Headers;
use super::scratch::Scratch;
use crate::abi::{
    Address, Be16, Counter, FlowKey, FlowValue, Tally, backend_flag, config_flag, flow_action, flow_kind, flow_state,
    frontend_flag, frontend_kind,
};

/// Source ports tried before giving up.
const PROBES: u32 = 8;

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

/// Writes the pair of entries of a new flow to `scratch.choice` to the embryonic table. The forward one is left in
/// `scratch.forward`.
#[inline(never)]
pub(super) fn create<A: Address, E: Env<A>>(
    env: &E,
    headers: &Headers<A>,
    scratch: &mut Scratch<A>,
) -> Result<(), Counter> {
    let key = &headers.key;
    source(env, key, scratch)?;
    let forward = &mut scratch.forward;
    forward.dst = scratch.choice.backend.addr;
    forward.sport = key.sport;
    forward.dport = scratch.choice.backend.port;
    forward.kind = flow_kind::FORWARD;
    forward.state = 0;
    forward.backend = scratch.choice.id;
    forward.generation = scratch.choice.backend.generation;
    forward.service = scratch.choice.frontend.service;
    forward.seen = env.ticks();
    forward.ifindex = scratch.ifindex;
    forward.out = 0;
    forward.reserved = 0;
    forward.tally = Tally::default();
    forward.addr_delta = checksum::delta(key.src.sum() + key.dst.sum(), forward.src.sum() + forward.dst.sum());
    let reverse = &mut scratch.reverse;
    *reverse = *forward;
    reverse.src = key.dst;
    reverse.dst = key.src;
    reverse.sport = key.dport;
    reverse.dport = key.sport;
    reverse.kind = if forward.action == flow_action::STACK { flow_kind::REVERSE } else { flow_kind::REVERSE_SNAT };
    if reverse.kind == flow_kind::REVERSE_SNAT && scratch.uplink == 0 {
        // The way to a Pod is the routing table's: its device may be a bridge's port, on which there are no neighbours.
        reverse.ifindex = 0;
    }
    reverse.addr_delta = !forward.addr_delta;
    lend(env, scratch, key.proto)?;
    if env.insert_embryo(key, &scratch.forward, false) { Ok(()) } else { Err(Counter::DropFlowInsert) }
}

/// How the translated request leaves, and with which source address: into `scratch.forward`.
#[inline(never)]
fn source<A: Address, E: Env<A>>(env: &E, key: &FlowKey<A>, scratch: &mut Scratch<A>) -> Result<(), Counter> {
    let config = env.config();
    let backend = &scratch.choice.backend;
    let uplink = scratch.uplink != 0;
    let forward = &mut scratch.forward;
    if backend.addr == key.src {
        forward.action = if uplink { flow_action::ROUTE } else { flow_action::HAIRPIN };
        forward.src = config.node;
        return if config.node.is_zero() { Err(Counter::DropSnatNoAddress) } else { Ok(()) };
    }
    let frontend = &scratch.choice.frontend;
    let cluster_ip = frontend.kind == frontend_kind::CLUSTER_IP;
    // To keep the client's address is what policy Local is for.
    let keeps = !cluster_ip && frontend.flags & frontend_flag::EXTERNAL_LOCAL != 0;
    let off_cluster = cluster_ip
        && config.flags & (config_flag::DETECT_LOCAL | config_flag::LOCAL_DEVICES) != 0
        && !inside(config, key.src, scratch.uplink, scratch.local);
    let masquerade = config.flags & config_flag::MASQUERADE_ALL != 0 && !keeps;
    // The stack would take a packet from the node's own address to itself for a martian.
    let own = backend.flags & backend_flag::HOST_NETWORK != 0;
    let remote = uplink && backend.flags & backend_flag::LOCAL == 0;
    let lent = off_cluster || masquerade || remote;
    // An endpoint that is said to be on this node may be elsewhere, or behind a device that is no business of the host
    // (macvlan, SR-IOV): then its answer would not come by here. Policy Local keeps the client's address at that price.
    let doubtful = uplink && !keeps;
    if (lent || doubtful) && !own {
        match env.route(backend.addr) {
            Some(route) if lent || route.uplink => {
                forward.action = flow_action::ROUTE;
                forward.src = if route.source.is_zero() { config.node } else { route.source };
                return if forward.src.is_zero() { Err(Counter::DropSnatNoAddress) } else { Ok(()) };
            }
            None if lent => return Err(Counter::DropNoRoute),
            _ => {}
        }
    }
    forward.action = flow_action::STACK;
    forward.src = key.src;
    Ok(())
}

/// Finds a source port with which the reply is unambiguous, and claims it by writing the reverse entry. Without source
/// NAT the client's own port is tried first.
#[inline(never)]
#[allow(clippy::as_conversions, reason = "a port number within a range of 16-bit ports")]
#[allow(clippy::cast_possible_truncation, reason = "a port number within a range of 16-bit ports")]
pub(super) fn lend<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>, protocol: u8) -> Result<(), Counter> {
    let keep = scratch.reverse.kind == flow_kind::REVERSE;
    let config = env.config();
    let lo = u32::from(config.snat_lo.get());
    let count = u32::from(config.snat_hi.get()).saturating_sub(lo) + 1;
    let start = env.random();
    // A step of its own for each flow: neighbours of a taken port tend to be taken as well.
    let step = start >> 16 | 1;
    for probe in 0..PROBES {
        if !(keep && probe == 0) {
            scratch.forward.sport = Be16::new((lo + start.wrapping_add(probe.wrapping_mul(step)) % count) as u16);
        }
        scratch.forward.port_delta = checksum::delta(
            u64::from(scratch.reverse.dport.0) + u64::from(scratch.reverse.sport.0),
            u64::from(scratch.forward.sport.0) + u64::from(scratch.forward.dport.0),
        );
        scratch.reverse.port_delta = !scratch.forward.port_delta;
        scratch.twin = twin_key(&scratch.forward, protocol);
        if !taken(env, &scratch.twin, &scratch.reverse) && env.insert_embryo(&scratch.twin, &scratch.reverse, false) {
            return Ok(());
        }
    }
    Err(Counter::DropSnatExhausted)
}

/// Whether a reverse key serves another live flow. One that is over is removed.
#[inline(never)]
fn taken<A: Address, E: Env<A>>(env: &E, key: &FlowKey<A>, reverse: &FlowValue<A>) -> bool {
    if let Some(other) = env.flow(key) {
        let closed = if reverse.kind == flow_kind::REVERSE_SNAT { Closed::Either } else { Closed::Both };
        if !same(&other, reverse) && !ended(env, &other, key.proto, closed) {
            return true;
        }
        env.remove_flow(key);
    }
    match env.embryo(key) {
        Some(other) => !same(&other, reverse) && other.state & flow_state::RST == 0,
        None => false,
    }
}

/// Whether two reverse entries lead to the same client and frontend.
#[inline(always)]
fn same<A: Address>(a: &FlowValue<A>, b: &FlowValue<A>) -> bool {
    a.sport == b.sport && a.dport == b.dport && a.src == b.src && a.dst == b.dst
}
