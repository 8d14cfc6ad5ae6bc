//! Direct connections to a Pod that reuse the tuple of a translated flow: their replies must not be translated.

use super::checksum;
use super::create::lend;
use super::egress::forward_key;
use super::env::Env;
use super::parse::Headers;
use super::scratch::Scratch;
use super::verdict::Verdict;
use crate::abi::{Address, Counter, FlowValue, flow_action, flow_kind, flow_state, proto};

/// Which sides have to have sent their FIN for a connection to count as over. A RST from either ends it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// Either: enough for a lent port, of which there are few.
    Either,
    /// Both: a flow that is half closed still carries the other side's data, and the answer to the FIN.
    Both,
}

/// Whether an established reverse entry's connection is over.
#[inline(always)]
pub(super) fn ended<A: Address, E: Env<A>>(env: &E, reverse: &FlowValue<A>, protocol: u8, closed: Closed) -> bool {
    if protocol != proto::TCP {
        return false;
    }
    env.flow(&forward_key(reverse, protocol)).is_none_or(|forward| {
        let (either, both) = (reverse.state | forward.state, reverse.state & forward.state);
        let fin = if closed == Closed::Both { both } else { either };
        either & flow_state::RST != 0 || fin & flow_state::FIN != 0
    })
}

/// A packet that goes to no frontend. If it goes straight to a Pod and has the tuple of a translated flow, its replies
/// would be taken for that flow's. The direct connection gets another source port; if the translated flow is over, that
/// is forgotten instead.
#[inline(never)]
pub(super) fn collision<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, scratch: &mut Scratch<A>) -> Verdict {
    let key = &headers.key;
    let flow = match env.flow(key) {
        Some(flow) if flow.kind == flow_kind::REVERSE => flow,
        _ => return Verdict::Pass,
    };
    if let Some(direct) = env.embryo(key)
        && direct.kind == flow_kind::DIRECT
    {
        env.touch(direct);
        scratch.forward = *direct;
        return Verdict::Forward;
    }
    let syn = headers.opens();
    if ended(env, &flow, key.proto, Closed::Both) {
        if syn {
            env.remove_flow(&forward_key(&flow, key.proto));
            env.remove_flow(key);
        }
        return Verdict::Pass;
    }
    if key.proto == proto::TCP && !syn {
        // It began before the translated flow: too late to give it another port.
        return Verdict::Pass;
    }
    remap(env, headers, flow.ifindex, scratch)
}

#[inline(always)]
fn remap<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, ifindex: u32, scratch: &mut Scratch<A>) -> Verdict {
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
    if let Err(counter) = lend(env, scratch, key.proto) {
        env.count(counter);
        return Verdict::Drop;
    }
    if !env.insert_embryo(key, &scratch.forward, false) {
        env.count(Counter::DropFlowInsert);
        return Verdict::Drop;
    }
    env.count(Counter::DirectRemapped);
    Verdict::Forward
}
