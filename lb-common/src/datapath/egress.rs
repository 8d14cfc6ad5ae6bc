//! Packets on their way out to a client: Pod to VIP.

use super::env::Env;
use super::parse::{Headers, tcp_flag};
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

/// First look-up for a packet that leaves towards a client.
#[inline(always)]
pub fn egress<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>) -> Fast<E::Flow> {
    let key = flip(&headers.key);
    if let Some(flow) = env.flow(&key)
        && flow.kind == flow_kind::REVERSE
    {
        if headers.tcp_flags & (tcp_flag::FIN | tcp_flag::RST) != 0 {
            env.note(flow, closing(headers.tcp_flags));
        }
        env.touch(flow);
        return Fast::Hit(flow);
    }
    // A TCP flow becomes established by its SYN-ACK, so only that packet, or a RST in its place, can be a first reply.
    if headers.key.proto == proto::TCP && headers.tcp_flags & (tcp_flag::SYN | tcp_flag::RST) == 0 {
        return Fast::Pass;
    }
    Fast::Slow
}

/// A possible first reply: looks in the embryonic table and promotes the flow.
#[inline(always)]
pub fn egress_slow<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>) -> Verdict<A> {
    let key = flip(&headers.key);
    match env.embryo(&key) {
        Some(flow) if flow.kind == flow_kind::REVERSE => Verdict::Forward(promote(env, &key, &flow, headers.tcp_flags)),
        _ => Verdict::Pass,
    }
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

/// Moves a flow to the established table. Returns the reverse entry.
#[inline(always)]
pub(super) fn promote<A: Address, E: Env<A>>(
    env: &E,
    reverse_key: &FlowKey<A>,
    embryo: &FlowValue<A>,
    tcp_flags: u8,
) -> FlowValue<A> {
    let mut reverse = *embryo;
    let forward_key = forward_key(&reverse, reverse_key.proto);
    if tcp_flags & tcp_flag::RST != 0 {
        // Refused: nothing was established, and the client's next try is free to go elsewhere.
        env.remove_embryo(&forward_key);
        env.remove_embryo(reverse_key);
        return reverse;
    }
    reverse.state |= flow_state::REPLIED | closing(tcp_flags);
    reverse.seen = env.ticks();
    if let Some(forward) = env.embryo(&forward_key)
        && forward.kind == flow_kind::FORWARD
    {
        let mut value = *forward;
        value.state |= flow_state::REPLIED;
        value.seen = reverse.seen;
        if !env.insert_flow(&forward_key, &value) {
            env.count(Counter::DropFlowInsert);
            return reverse;
        }
        env.remove_embryo(&forward_key);
    }
    if env.insert_flow(reverse_key, &reverse) {
        env.remove_embryo(reverse_key);
        env.count(Counter::FlowEstablished);
    }
    reverse
}
