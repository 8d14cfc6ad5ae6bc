//! Source NAT: whether a flow's source is translated, to which address, and by which port.

use super::arrival::Arrival;
use super::env::Env;
use super::flow::{is_finished, orphan, remove_established, reverse_key};
use super::scope::inside;
use super::scratch::{Idlest, Scratch};
use crate::abi::{
    Address, Be16, Counter, FlowKey, FlowValue, backend_flag, config_flag, device_flag, flow_action, flow_kind,
    flow_state, forward_mode, frontend_flag, frontend_kind,
};
use crate::wire::checksum;

/// Source ports tried before giving up.
const PROBES: u32 = 12;

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
    scratch.idlest = Idlest::default();
    let (mut found, mut at) = (false, start);
    // What differs is in a register before the loop: the verifier follows each of its turns for each value of a flag.
    let mut port = if keep { scratch.forward.sport } else { Be16::new((lo + at % count) as u16) };
    for _ in 0..PROBES {
        use_port(scratch, port, protocol);
        if is_free(env, scratch) {
            found = true;
            break;
        }
        at = at.wrapping_add(step);
        port = Be16::new((lo + at % count) as u16);
    }
    if !found {
        // All are in use: the port of the half-open or finished flow that has been idle for longest changes hands.
        if scratch.idlest.ticks <= FRESH {
            return Err(Counter::DropSnatExhausted);
        }
        use_port(scratch, scratch.idlest.port, protocol);
        scratch.idlest.over = 1;
        env.count(Counter::SnatPortTaken);
    }
    if scratch.idlest.over != 0 {
        evict(env, &scratch.reverse_key);
    }
    // By its reverse entry its key is taken.
    if env.insert_half_open(&scratch.reverse_key, &scratch.reverse) { Ok(()) } else { Err(Counter::DropFlowInsert) }
}

/// Writes a source port into both entries of a new flow.
#[inline(never)]
fn use_port<A: Address>(scratch: &mut Scratch<A>, port: Be16, protocol: u8) {
    scratch.forward.sport = port;
    scratch.forward.port_delta = checksum::delta(
        u64::from(scratch.reverse.dport.0) + u64::from(scratch.reverse.sport.0),
        u64::from(scratch.forward.sport.0) + u64::from(scratch.forward.dport.0),
    );
    scratch.reverse.port_delta = !scratch.forward.port_delta;
    scratch.reverse_key = reverse_key(&scratch.forward, protocol);
}

/// A port that no live flow has.
const FREE: u32 = u32::MAX;
/// Ticks that a half-open flow keeps its port for at least: as long as an answer may be on its way.
const FRESH: u32 = 512;

/// Whether no live flow has the port that both entries of a new flow have. If one has, it may be the idlest.
#[inline(never)]
fn is_free<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> bool {
    let idle = tenant(env, scratch);
    if idle == FREE {
        return true;
    }
    if idle > scratch.idlest.ticks {
        scratch.idlest = Idlest { ticks: idle, port: scratch.forward.sport, over: 0 };
    }
    false
}

/// Which flow has the reverse key of a new one: [`FREE`], 0 (an established one), or for how many ticks a half-open or
/// finished one has been idle. What is left there of one that is over is for [`evict`], behind the loop: the verifier follows
/// each turn of that.
#[inline(never)]
fn tenant<A: Address, E: Env<A>>(env: &E, scratch: &mut Scratch<A>) -> u32 {
    let Scratch { reverse_key: key, reverse, idlest, .. } = scratch;
    idlest.over = 0;
    if env.is_formers(key) {
        return 0;
    }
    if let Some(other) = env.flow(key) {
        let same = is_same(&other, reverse);
        if !same && !is_finished(env, key, &other) {
            return 0;
        }
        // The backend may still remember the connection that is over (TIME-WAIT): a port that nobody had is better.
        if !same && other.kind == flow_kind::REVERSE_SNAT {
            return idle_ticks(env, &other).max(FRESH + 1);
        }
        idlest.over = 1;
    }
    match env.half_open(key) {
        Some(other) if !is_same(&other, reverse) => {
            if other.state & flow_state::RST != 0 {
                idlest.over = 1;
                return FREE;
            }
            // Only flows of Services give theirs up.
            if other.kind == reverse.kind { idle_ticks(env, &other) } else { 0 }
        }
        _ => FREE,
    }
}

/// For how long an entry has had no packet. A time that is just ahead is now.
#[inline(always)]
fn idle_ticks<A: Address, E: Env<A>>(env: &E, flow: &FlowValue<A>) -> u32 {
    let idle = env.ticks().wrapping_sub(flow.seen);
    if idle > u32::MAX / 2 { 0 } else { idle }
}

/// Ends what is half-open or over with this reverse key.
#[inline(never)]
fn evict<A: Address, E: Env<A>>(env: &E, key: &FlowKey<A>) {
    if let Some(other) = env.flow(key) {
        remove_established(env, key, &other);
    }
    if let Some(other) = env.half_open(key) {
        orphan(env, key, &other);
    }
}

/// Whether two reverse entries lead to the same client and frontend.
#[inline(always)]
fn is_same<A: Address>(a: &FlowValue<A>, b: &FlowValue<A>) -> bool {
    a.sport == b.sport && a.dport == b.dport && a.src == b.src && a.dst == b.dst
}
