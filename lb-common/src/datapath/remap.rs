//! Direct connections to a Pod that reuse the tuple of a translated flow: their replies must not be translated.

use super::env::Env;
use super::flow::{forward_key, is_finished};
use super::headers::Headers;
use super::outcome::Decision;
use super::scratch::Scratch;
use super::snat::allocate_port;
use crate::abi::{Address, Counter, FlowKey, FlowValue, flow_action, flow_kind};
use crate::wire::checksum;

/// A packet that goes to no frontend. If it goes straight to a Pod and has the tuple of a translated flow, its replies
/// would be taken for that flow's. The direct connection gets another source port; if the translated flow is over, that
/// is forgotten instead.
#[inline(never)]
pub(super) fn remapped<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, scratch: &mut Scratch<A>) -> Decision {
    let key = &headers.key;
    let Some(flow) = translated(env, key) else { return Decision::PASS };
    if let Some(direct) = env.half_open(key)
        && direct.kind == flow_kind::DIRECT
    {
        scratch.forward = *env.touch(direct);
        return Decision::TRANSLATE;
    }
    if is_finished(env, &flow, key.proto) {
        if headers.opens() {
            env.remove_flow(&forward_key(&flow, key.proto));
            env.remove_flow(key);
        }
        return Decision::PASS;
    }
    if !headers.may_open() {
        // It began before the translated flow: too late to give it another port.
        return Decision::PASS;
    }
    remap(env, headers, flow.ifindex, scratch)
}

/// The reverse entry of the translated flow that has this tuple. A half-open flow is moved to the established ones: its
/// place is where the direct connection's entry goes.
#[inline(never)]
fn translated<A: Address, E: Env<A>>(env: &E, key: &FlowKey<A>) -> Option<E::Flow> {
    if let Some(flow) = env.flow(key) {
        return if flow.kind == flow_kind::REVERSE { Some(flow) } else { None };
    }
    let reverse = env.half_open(key)?;
    if reverse.kind != flow_kind::REVERSE {
        return None;
    }
    let forward_key = forward_key(&reverse, key.proto);
    let forward = env.half_open(&forward_key)?;
    if forward.kind != flow_kind::FORWARD || !env.insert_flow(key, &reverse) {
        return None;
    }
    if !env.insert_flow(&forward_key, &forward) {
        env.remove_flow(key);
        return None;
    }
    env.remove_half_open(&forward_key);
    env.remove_half_open(key);
    env.flow(key)
}

#[inline(always)]
fn remap<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, ifindex: u32, scratch: &mut Scratch<A>) -> Decision {
    let key = &headers.key;
    scratch.forward = FlowValue {
        src: key.src,
        dst: key.dst,
        sport: key.sport,
        dport: key.dport,
        kind: flow_kind::DIRECT,
        action: flow_action::STACK,
        seen: env.ticks(),
        ifindex,
        addr_delta: checksum::UNCHANGED,
        ..FlowValue::default()
    };
    scratch.reverse = scratch.forward;
    scratch.reverse.src = key.dst;
    scratch.reverse.dst = key.src;
    scratch.reverse.sport = key.dport;
    scratch.reverse.dport = key.sport;
    scratch.reverse.kind = flow_kind::REVERSE;
    // Before anything is written: mid-stream packets are looked at from now on.
    env.note_remap();
    if let Err(counter) = allocate_port(env, scratch, key.proto) {
        return Decision::drop(counter);
    }
    if !env.insert_half_open(key, &scratch.forward) {
        return Decision::drop(Counter::DropFlowInsert);
    }
    env.count(Counter::DirectRemapped);
    Decision::TRANSLATE
}
