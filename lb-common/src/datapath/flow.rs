//! A flow's two entries: their keys, what its packets change in them, and the steps from half-open to established. The
//! states are those of docs/flows.md.

use super::arrival::Arrival;
use super::closing::{self, is_over};
use super::env::Env;
use super::headers::Headers;
use super::outlier;
use super::schedule::note_affinity;
use super::scope::is_foreign;
use super::scratch::Scratch;
use super::sequence;
use super::silence;
use super::transport;
use crate::abi::{Address, AffinityKey, Counter, FlowKey, FlowValue, Tally, flow_action, flow_kind, flow_state};
use crate::wire::Fragment;

/// The forward entry's key: the reverse entry writes VIP to client, and this is it turned around.
#[inline(always)]
pub fn forward_key<A: Address>(reverse: &FlowValue<A>, protocol: u8) -> FlowKey<A> {
    let FlowValue { src, dst, sport, dport, .. } = *reverse;
    FlowKey { src: dst, dst: src, sport: dport, dport: sport, proto: protocol, pad: [0; 3] }
}

/// The key of a forward or direct entry's reverse flow.
#[inline(always)]
pub fn reverse_key<A: Address>(forward: &FlowValue<A>, protocol: u8) -> FlowKey<A> {
    let FlowValue { src, dst, sport, dport, .. } = *forward;
    let request = FlowKey { src, dst, sport, dport, proto: protocol, pad: [0; 3] };
    if flow_action::keeps_source(forward.action) { request } else { request.flipped() }
}

/// Whether a packet with this tuple, or its answer, belongs to a flow that only a former agent's tables have. A call, for the
/// sake of the stack.
#[inline(never)]
pub(super) fn is_formers<A: Address, E: Env<A>>(env: &E, key: &FlowKey<A>) -> bool {
    env.is_formers(key) || env.is_formers(&key.flipped())
}

/// Whether a forward or direct entry is that of the flow whose reverse entry has this key. Where one of a pair is evicted,
/// another flow may take its place.
#[inline(always)]
pub(super) fn is_of<A: Address>(forward: &FlowValue<A>, reverse: &FlowKey<A>) -> bool {
    same(&reverse_key(forward, reverse.proto), reverse)
}

/// Whether a reverse entry is that of the flow whose forward entry has this key.
#[inline(always)]
pub(super) fn leads_to<A: Address>(reverse: &FlowValue<A>, forward: &FlowKey<A>) -> bool {
    same(&forward_key(reverse, forward.proto), forward)
}

/// Whether two keys of one protocol are the same, by one branch: the verifier follows each.
#[inline(always)]
fn same<A: Address>(a: &FlowKey<A>, b: &FlowKey<A>) -> bool {
    let ports = u32::from(a.sport.0 ^ b.sport.0) | u32::from(a.dport.0 ^ b.dport.0);
    a.src.difference(b.src) | a.dst.difference(b.dst) | ports == 0
}

/// Notes what an entry's packet says of its flow. Returns the entry as it is then. A RST or FIN that cannot be true
/// says nothing (RFC 5961).
#[inline(always)]
pub(super) fn refresh<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, flow: E::Flow) -> E::Flow {
    let flow = if headers.has_handshake() && headers.fragment != Fragment::Later {
        let state = transport::state_bits(headers.key.proto, headers.flags);
        let believed = if headers.aborts() {
            sequence::resets(flow.next, headers.seq)
        } else {
            state == 0 || sequence::is_plausible(flow.next, headers.seq)
        };
        if believed {
            let flow = if state == 0 { flow } else { env.note(flow, state) };
            env.renumber(flow, sequence::advanced(flow.next, headers.end))
        } else {
            // Nor does it move the number that the next one would need.
            flow
        }
    } else {
        flow
    };
    env.touch(flow)
}

/// Whether an established reverse entry's connection is over.
#[inline(always)]
pub(super) fn is_finished<A: Address, E: Env<A>>(env: &E, key: &FlowKey<A>, reverse: &FlowValue<A>) -> bool {
    if !transport::has_handshake(key.proto) {
        return false;
    }
    let forward_key = forward_key(reverse, key.proto);
    // The other entry of a direct connection, which has no backend, is among the half-open ones.
    let forward = if reverse.backend == 0 { env.half_open(&forward_key) } else { env.flow(&forward_key) };
    forward.filter(|forward| is_of(forward, key)).is_none_or(|forward| is_over(reverse.state, forward.state))
}

/// Removes an established flow by its reverse entry.
#[inline(always)]
pub(super) fn remove_established<A: Address, E: Env<A>>(env: &E, key: &FlowKey<A>, reverse: &FlowValue<A>) {
    let forward_key = forward_key(reverse, key.proto);
    if env.flow(&forward_key).is_some_and(|forward| is_of(&forward, key)) {
        env.remove_flow(&forward_key);
    }
    env.remove_flow(key);
}

/// Removes the other entry of a half-open flow, or of a direct connection with another port, whose entry with this key is
/// about to be another flow's.
#[inline(always)]
pub(super) fn orphan<A: Address, E: Env<A>>(env: &E, key: &FlowKey<A>, entry: &FlowValue<A>) {
    if entry.kind == flow_kind::DIRECT {
        return orphan_twin(env, key, &reverse_key(entry, key.proto));
    }
    let forward_key = forward_key(entry, key.proto);
    if env.half_open(&forward_key).is_some_and(|forward| is_of(&forward, key)) {
        env.remove_half_open(&forward_key);
    }
}

/// Removes the reverse entry of a direct connection: among the established once its client has answered.
#[inline(always)]
fn orphan_twin<A: Address, E: Env<A>>(env: &E, direct: &FlowKey<A>, twin: &FlowKey<A>) {
    if env.half_open(twin).is_some_and(|reverse| leads_to(&reverse, direct)) {
        env.remove_half_open(twin);
    }
    if env.flow(twin).is_some_and(|reverse| leads_to(&reverse, direct)) {
        env.remove_flow(twin);
    }
}

/// What becomes of a reply.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// It is the flow's; what to write is in `scratch.forward`.
    Taken,
    /// It is not the flow's.
    Other,
    /// It comes by the device of a Pod that is not the backend.
    Forged,
}

/// Whether a packet may be a reply of this half-open flow: the first one, data that the backend sends before the client
/// has answered (TCP Fast Open, RFC 7413 section 4.2.2), or any while the table of established flows is full. Else a SYN
/// in a client's name would turn the replies of its direct connection.
#[inline(always)]
fn may_be_of_half_open<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, reverse: &FlowValue<A>) -> bool {
    let answered = reverse.state & (flow_state::REPLIED | flow_state::RST) == flow_state::REPLIED;
    transport::may_be_first_reply(headers.key.proto, headers.flags)
        || (answered && reverse.next != 0 && sequence::is_plausible(reverse.next, headers.seq))
        || env.overflows()
}

/// A packet that may be a reply of the flow whose reverse entry has the key `scratch.reverse_key` and this kind, in either
/// table.
#[inline(never)]
pub(super) fn reply<A: Address, E: Env<A>, const KIND: u8>(
    env: &E,
    headers: &Headers<A>,
    arrival: Arrival,
    scratch: &mut Scratch<A>,
) -> Reply {
    if let Some(flow) = env.flow(&scratch.reverse_key)
        && flow.kind == KIND
    {
        if is_foreign(env, headers.key.src, arrival.from) {
            return Reply::Forged;
        }
        if headers.answers_opening() && gives_way(env, &scratch.reverse_key, &flow) {
            return Reply::Other;
        }
        return replied(env, headers, arrival, flow, scratch);
    }
    if let Some(flow) = env.half_open(&scratch.reverse_key)
        && flow.kind == KIND
        && may_be_of_half_open(env, headers, &flow)
    {
        if is_foreign(env, headers.key.src, arrival.from) {
            return Reply::Forged;
        }
        scratch.reverse = *flow;
        return answered(env, headers, arrival, scratch);
    }
    Reply::Other
}

/// A SYN-ACK for an established flow: if that is over, it is removed, and the SYN-ACK another proxy's. A SYN that Sluice had
/// seen would have begun another flow: somebody else has translated it, as kube-proxy's rules do once Sluice serves no more. A call,
/// for the sake of the stack.
#[inline(never)]
fn gives_way<A: Address, E: Env<A>>(env: &E, key: &FlowKey<A>, reverse: &FlowValue<A>) -> bool {
    let over = is_finished(env, key, reverse);
    if over {
        remove_established(env, key, reverse);
    }
    over
}

/// A reply of the half-open flow whose reverse entry and its key are in `scratch.reverse` and `scratch.reverse_key`: its
/// backend has answered.
#[inline(never)]
fn answered<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, arrival: Arrival, scratch: &mut Scratch<A>) -> Reply {
    let handshake = headers.has_handshake();
    let forward = env
        .half_open(&forward_key(&scratch.reverse, headers.key.proto))
        .filter(|forward| is_of(forward, &scratch.reverse_key));
    let mut state = flow_state::REPLIED;
    let plausible = handshake && sequence::is_plausible(scratch.reverse.next, headers.seq);
    let said = if plausible { transport::state_bits(headers.key.proto, headers.flags) } else { 0 };
    if let Some(forward) = forward {
        // It may be the answer to a direct connection of the same tuple: then it acknowledges another number.
        let acknowledges = transport::acknowledges(headers.key.proto, headers.flags);
        if handshake && acknowledges && !sequence::is_plausible(forward.next, headers.ack) {
            return Reply::Other;
        }
        // Refused: nothing was established, and the client's next SYN is free to go elsewhere. The entries stay: what XDP
        // cannot send TC has to find again.
        state |= said & flow_state::RST;
        let forward = env.note(forward, state);
        if headers.answers_opening() {
            env.renumber(forward, headers.ack);
        }
    }
    if scratch.reverse.state & flow_state::REPLIED == 0 {
        count_answer(env, &scratch.reverse, said);
        if handshake {
            if silence::answered(env, scratch.reverse.backend, scratch.reverse.generation) {
                outlier::answered(env, &scratch.reverse, said);
            }
        } else {
            // There may never be a second question.
            note_client(env, &scratch.reverse);
        }
    } else if said & flow_state::RST != 0
        && let Some(forward) = forward
    {
        outlier::reset(env, &scratch.reverse, forward.state, headers.seq);
    }
    if let Some(reverse) = env.half_open(&scratch.reverse_key) {
        let reverse = env.note(reverse, state | said);
        let reverse = if headers.answers_opening() {
            env.reopen(env.renumber(reverse, headers.end), !headers.end)
        } else {
            reverse
        };
        env.touch(env.come_by(reverse, arrival.from));
    }
    scratch.forward = scratch.reverse;
    scratch.forward.tally = Tally::default();
    Reply::Taken
}

/// Counts a flow's first reply for its backend. A call, for the sake of the stack.
#[inline(never)]
fn count_answer<A: Address, E: Env<A>>(env: &E, reverse: &FlowValue<A>, state: u16) {
    // The twin of a direct connection has none.
    if reverse.backend == 0 {
        return;
    }
    env.answered(reverse.backend, reverse.generation);
    if state & flow_state::RST != 0 {
        env.refused(reverse.backend, reverse.generation);
        if reverse.state & flow_state::COUNTED != 0 {
            env.ended(reverse.backend, reverse.generation);
        }
    }
}

/// Notes the client of a flow whose Service has affinity; `reverse` is the flow's reverse entry.
#[inline(always)]
fn note_client<A: Address, E: Env<A>>(env: &E, reverse: &FlowValue<A>) {
    if reverse.state & flow_state::AFFINE != 0 {
        let client = AffinityKey { client: reverse.dst, service: reverse.service, netns: [0; 2] };
        note_affinity(env, &client, reverse.backend, reverse.generation);
    }
}

/// A reply of an established flow that is not an ordinary one: it came by another device than those before, or begins the
/// backend's numbers anew.
#[inline(never)]
fn replied<A: Address, E: Env<A>>(
    env: &E,
    headers: &Headers<A>,
    arrival: Arrival,
    reverse: E::Flow,
    scratch: &mut Scratch<A>,
) -> Reply {
    let before = reverse.state;
    let reverse = env.note(env.come_by(reverse, arrival.from), flow_state::REPLIED);
    let reverse = if headers.answers_opening() && reverse.born != 0 && reverse.born == headers.ack {
        // The backend has taken a new SYN of the client's on the tuple of an older connection.
        if let Some(forward) = env.flow(&forward_key(&reverse, headers.key.proto)) {
            env.begin_again(forward, headers.ack);
        }
        env.touch(env.begin_again(env.reopen(reverse, !headers.end), headers.end))
    } else {
        if headers.aborts() {
            judge_reset(env, headers, &reverse);
        }
        refresh(env, headers, reverse)
    };
    note_end(env, headers.key.proto, &reverse, before);
    scratch.rewrite_as(&reverse);
    Reply::Taken
}

/// The backend of an established flow resets it, or somebody who would like to seem it. A call, for the sake of the stack.
#[inline(never)]
fn judge_reset<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, reverse: &FlowValue<A>) {
    if let Some(forward) = env.flow(&forward_key(reverse, headers.key.proto)) {
        outlier::reset(env, reverse, forward.state, headers.seq);
    }
}

/// A reply may have ended its connection, if that is counted: the other direction's state has to be looked for. Both entries of an
/// established flow are there. A call, for the sake of the stack.
#[inline(never)]
fn note_end<A: Address, E: Env<A>>(env: &E, protocol: u8, reverse: &FlowValue<A>, before: u16) {
    if reverse.state & flow_state::COUNTED != 0
        && reverse.state != before
        && let Some(forward) = env.flow(&forward_key(reverse, protocol))
    {
        closing::note(env, reverse, before, forward.state);
    }
}

/// Whether a client's packet shows that it has seen the answer of its backend.
#[inline(always)]
pub(super) fn has_seen_answer<A: Address>(headers: &Headers<A>, reverse: &FlowValue<A>) -> bool {
    if reverse.state & (flow_state::REPLIED | flow_state::RST) != flow_state::REPLIED || headers.opens() {
        return false;
    }
    let acknowledges = transport::acknowledges(headers.key.proto, headers.flags);
    !headers.has_handshake() || (!headers.aborts() && acknowledges && sequence::acknowledges(headers.ack, reverse.next))
}

/// The client's packet of a half-open flow that its backend has answered: the flow, whose forward entry is in
/// `scratch.forward`, is established, unless the packet shows that the client has not seen the answer.
#[inline(never)]
pub(super) fn establish<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, scratch: &mut Scratch<A>) {
    let Some(reverse) = env.half_open(&scratch.reverse_key) else { return };
    if !has_seen_answer(headers, &reverse) {
        return;
    }
    let inserted = env.insert_flow(&scratch.reverse_key, &reverse);
    if inserted && env.insert_flow(&headers.key, &scratch.forward) {
        note_client(env, &reverse);
        env.remove_half_open(&headers.key);
        env.remove_half_open(&scratch.reverse_key);
        env.count(Counter::FlowEstablished);
        return;
    }
    // The table is full: the flow stays half-open, and is tried again with the client's next packet.
    if inserted {
        env.remove_flow(&scratch.reverse_key);
    }
    env.note_overflow();
    env.count(Counter::FlowTableFull);
}
