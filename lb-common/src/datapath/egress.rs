//! Packets on their way out to a client: Pod to VIP.

use super::env::Env;
use super::ingress::{in_service_range, known_vip};
use super::parse::{Headers, tcp_flag};
use super::scratch::Scratch;
use super::verdict::{Fast, Verdict};
use crate::abi::{Address, Counter, FlowKey, FlowValue, flow_kind, flow_state, proto};

/// The key turned around.
#[inline(always)]
pub(super) fn flip<A: Address>(key: &FlowKey<A>) -> FlowKey<A> {
    FlowKey { src: key.dst, dst: key.src, sport: key.dport, dport: key.sport, proto: key.proto, pad: [0; 3] }
}

/// Bits of `flow_state` that a packet's TCP flags set.
#[inline(always)]
pub(super) fn closing(tcp_flags: u8) -> u16 {
    let mut state = 0;
    if tcp_flags & tcp_flag::FIN != 0 {
        state |= flow_state::FIN;
    }
    if tcp_flags & tcp_flag::RST != 0 {
        state |= flow_state::RST;
    }
    state
}

/// An established flow's packet: notes what it says of the flow.
#[inline(always)]
pub(super) fn hit<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, flow: E::Flow) -> Fast<E::Flow> {
    if headers.tcp_flags & (tcp_flag::FIN | tcp_flag::RST) != 0 {
        env.note(flow, closing(headers.tcp_flags));
    }
    env.touch(flow);
    Fast::Hit(flow)
}

/// First look-up for a packet that leaves towards a client.
#[inline(always)]
pub fn egress<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>) -> Fast<E::Flow> {
    let key = flip(&headers.key);
    if let Some(flow) = env.flow(&key)
        && flow.kind == flow_kind::REVERSE
    {
        return hit(env, headers, flow);
    }
    // A TCP flow becomes established by its SYN-ACK, so only that packet, or a RST in its place, can be a first reply.
    if headers.key.proto == proto::TCP && headers.tcp_flags & (tcp_flag::SYN | tcp_flag::RST) == 0 {
        return Fast::Pass;
    }
    Fast::Slow
}

/// A possible first reply: looks in the embryonic table and promotes the flow.
#[inline(always)]
pub fn egress_slow<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, scratch: &mut Scratch<A>) -> Verdict {
    scratch.twin = flip(&headers.key);
    match env.embryo(&scratch.twin) {
        Some(flow) if flow.kind == flow_kind::REVERSE => {
            scratch.reverse = *flow;
            promote(env, headers.tcp_flags, scratch);
            Verdict::Forward
        }
        _ => astray(env, headers, scratch),
    }
}

/// The node's own packet for a `ClusterIP`, about to leave the node: no socket hook has translated it, and nobody else
/// would. Only first packets are looked at.
#[inline(always)]
fn astray<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, scratch: &Scratch<A>) -> Verdict {
    let first = headers.key.proto != proto::TCP || headers.opens();
    if scratch.own == 0 || scratch.uplink == 0 || !first {
        return Verdict::Pass;
    }
    let counter = if known_vip(env, headers.key.dst) {
        Counter::DropUntranslated
    } else if in_service_range(env.config(), headers.key.dst) {
        Counter::DropUnallocatedVip
    } else {
        return Verdict::Pass;
    };
    env.count(counter);
    Verdict::Drop
}

/// The forward entry's key: the reverse entry writes VIP to client, and this is it turned around.
#[inline(always)]
pub(super) fn forward_key<A: Address>(reverse: &FlowValue<A>, protocol: u8) -> FlowKey<A> {
    FlowKey {
        src: reverse.dst,
        dst: reverse.src,
        sport: reverse.dport,
        dport: reverse.sport,
        proto: protocol,
        pad: [0; 3],
    }
}

/// Moves a flow, whose reverse entry and its key are in `scratch.reverse` and `scratch.twin`, to the established
/// table. Leaves the reverse entry in `scratch.forward`: it is what the packet at hand needs.
#[inline(never)]
pub(super) fn promote<A: Address, E: Env<A>>(env: &E, tcp_flags: u8, scratch: &mut Scratch<A>) {
    let key = forward_key(&scratch.reverse, scratch.twin.proto);
    if tcp_flags & tcp_flag::RST != 0 {
        // Refused: nothing was established, and the client's next SYN is free to go elsewhere. The entries stay: what XDP
        // cannot send TC has to find again.
        for key in [key, scratch.twin] {
            if let Some(flow) = env.embryo(&key) {
                env.note(flow, flow_state::RST);
            }
        }
        scratch.forward = scratch.reverse;
        return;
    }
    scratch.reverse.state |= flow_state::REPLIED | closing(tcp_flags);
    scratch.reverse.seen = env.ticks();
    if let Some(forward) = env.embryo(&key)
        && forward.kind == flow_kind::FORWARD
    {
        scratch.forward = *forward;
        scratch.forward.state |= flow_state::REPLIED;
        scratch.forward.seen = scratch.reverse.seen;
        if env.insert_flow(&key, &scratch.forward) {
            env.remove_embryo(&key);
        } else {
            env.count(Counter::DropFlowInsert);
        }
    }
    scratch.forward = scratch.reverse;
    if env.insert_flow(&scratch.twin, &scratch.reverse) {
        env.remove_embryo(&scratch.twin);
        env.count(Counter::FlowEstablished);
    } else {
        env.count(Counter::DropFlowInsert);
    }
}
