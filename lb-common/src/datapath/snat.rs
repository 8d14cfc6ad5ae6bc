//! Source NAT: whether a flow's source is translated, to which address, and by which port.

use super::arrival::Arrival;
use super::env::Env;
use super::flow::{Closed, is_finished, reverse_key};
use super::scope::inside;
use super::scratch::Scratch;
use crate::abi::{
    Address, Be16, Counter, FlowKey, FlowValue, backend_flag, config_flag, device_flag, flow_action, flow_kind,
    flow_state, forward_mode, frontend_flag, frontend_kind,
};
use crate::wire::checksum;

/// Source ports tried before giving up.
const PROBES: u32 = 8;

/// How the translated request leaves, and with which source address: into `scratch.forward`.
#[inline(never)]
pub(super) fn plan_source_nat<A: Address, E: Env<A>>(
    env: &E,
    key: &FlowKey<A>,
    arrival: Arrival,
    scratch: &mut Scratch<A>,
) -> Result<(), Counter> {
    let config = env.config();
    let uplink = arrival.hook.is_uplink();
    let forward = &mut scratch.forward;
    let backend = &scratch.choice.backend;
    forward.out = 0;
    if backend.addr == key.src {
        forward.action = if uplink { flow_action::ROUTE } else { flow_action::HAIRPIN };
        forward.src = config.node;
        return if config.node.is_zero() { Err(Counter::DropSnatNoAddress) } else { Ok(()) };
    }
    let (keeps, masquerade) = wishes(env, key.src, arrival, &scratch.choice.frontend);
    // The stack would take a packet from the node's own address to itself for a martian.
    let own = backend.flags & backend_flag::HOST_NETWORK != 0;
    let masquerade = masquerade || (uplink && backend.flags & backend_flag::LOCAL == 0);
    // An endpoint that is said to be on this node may be elsewhere, or behind a device that is no business of the host
    // (macvlan, SR-IOV): then its answer would not come by here. Policy Local keeps the client's address at that price.
    let doubtful = uplink && !keeps;
    let redirect = config.forward == forward_mode::REDIRECT;
    forward.action = flow_action::STACK;
    forward.src = key.src;
    if own || !(masquerade || doubtful || redirect) {
        return Ok(());
    }
    match env.route(backend.addr) {
        Some(route) if masquerade || (doubtful && route.flags & device_flag::UPLINK != 0) => {
            forward.action = flow_action::ROUTE;
            forward.src = if route.source.is_zero() { config.node } else { route.source };
            if forward.src.is_zero() { Err(Counter::DropSnatNoAddress) } else { Ok(()) }
        }
        Some(route) if redirect && route.flags & device_flag::PEER != 0 => {
            forward.action = flow_action::PEER;
            forward.out = route.ifindex;
            Ok(())
        }
        None if masquerade => Err(Counter::DropNoRoute),
        _ => Ok(()),
    }
}

/// Whether the frontend's policy keeps the client's address, and whether the settings hide it.
#[inline(always)]
fn wishes<A: Address, E: Env<A>>(
    env: &E,
    client: A,
    arrival: Arrival,
    frontend: &crate::abi::FrontendValue,
) -> (bool, bool) {
    let flags = env.config().flags;
    let cluster_ip = frontend.kind == frontend_kind::CLUSTER_IP;
    // To keep the client's address is what policy Local is for.
    let keeps = !cluster_ip && frontend.flags & frontend_flag::EXTERNAL_LOCAL != 0;
    let off_cluster = cluster_ip
        && flags & (config_flag::DETECT_LOCAL | config_flag::LOCAL_DEVICES) != 0
        && !inside(env, client, arrival);
    (keeps, off_cluster || (flags & config_flag::MASQUERADE_ALL != 0 && !keeps))
}

/// Finds a source port with which the reply is unambiguous, and claims it by writing the reverse entry. Without source
/// NAT the client's own port is tried first.
#[inline(never)]
#[allow(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "a port number within a range of 16-bit ports"
)]
pub(super) fn allocate_port<A: Address, E: Env<A>>(
    env: &E,
    scratch: &mut Scratch<A>,
    protocol: u8,
) -> Result<(), Counter> {
    let keep = scratch.reverse.kind == flow_kind::REVERSE;
    let config = env.config();
    let lo = u32::from(config.snat_lo.get());
    let count = u32::from(config.snat_hi.get()).saturating_sub(lo) + 1;
    let start = env.random();
    // Another step for each flow: neighbours of a taken port tend to be taken as well.
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
        scratch.reverse_key = reverse_key(&scratch.forward, protocol);
        if !is_taken(env, &scratch.reverse_key, &scratch.reverse)
            && env.insert_half_open(&scratch.reverse_key, &scratch.reverse)
        {
            return Ok(());
        }
    }
    Err(Counter::DropSnatExhausted)
}

/// Whether a reverse key serves another live flow. One that is finished is removed.
#[inline(never)]
fn is_taken<A: Address, E: Env<A>>(env: &E, key: &FlowKey<A>, reverse: &FlowValue<A>) -> bool {
    if let Some(other) = env.flow(key) {
        let closed = if reverse.kind == flow_kind::REVERSE_SNAT { Closed::Either } else { Closed::Both };
        if !is_same(&other, reverse) && !is_finished(env, &other, key.proto, closed) {
            return true;
        }
        env.remove_flow(key);
    }
    match env.half_open(key) {
        Some(other) => !is_same(&other, reverse) && other.state & flow_state::RST == 0,
        None => false,
    }
}

/// Whether two reverse entries lead to the same client and frontend.
#[inline(always)]
fn is_same<A: Address>(a: &FlowValue<A>, b: &FlowValue<A>) -> bool {
    a.sport == b.sport && a.dport == b.dport && a.src == b.src && a.dst == b.dst
}
