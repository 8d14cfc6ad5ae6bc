//! The two entries of a flow, as docs/flows.md has them.

use super::super::family::Family;
use crate::abi::{FlowKey, FlowValue, flow_action, flow_kind, flow_state};

/// How far from the newest byte a FIN, and how far ahead of it a segment, may be.
pub(super) const NEAR: u32 = 1 << 16;
pub(super) const AHEAD: u32 = 1 << 20;
/// Ticks that a half-open flow keeps its SNAT port for.
pub(super) const FRESH: u32 = 512;

/// One entry before and after.
pub(super) struct Change<'a, A> {
    pub(super) key: &'a FlowKey<A>,
    pub(super) old: Option<&'a FlowValue<A>>,
    pub(super) new: Option<&'a FlowValue<A>>,
    pub(super) established: bool,
}

/// Whether an entry is the one that a client's packets meet.
pub(super) const fn is_request(kind: u8) -> bool {
    matches!(kind, flow_kind::FORWARD | flow_kind::DIRECT)
}

/// Key of the other entry of an entry's flow.
pub(super) fn other_key<A: Copy>(key: &FlowKey<A>, value: &FlowValue<A>) -> FlowKey<A> {
    let written = FlowKey { src: value.src, dst: value.dst, sport: value.sport, dport: value.dport, ..*key };
    if is_request(value.kind) && flow_action::keeps_source(value.action) { written } else { written.flipped() }
}

/// Whether an entry is still the same flow's: what it rewrites never changes, its states only grow, until the numbers of
/// an established one begin anew.
pub(super) fn is_same<A: Family>(established: bool, old: &FlowValue<A>, new: &FlowValue<A>) -> bool {
    let fixed = FlowValue {
        state: old.state,
        seen: old.seen,
        ifindex: old.ifindex,
        from: old.from,
        next: old.next,
        // In a forward entry, when the flow began.
        born: if is_request(new.kind) { new.born } else { old.born },
        tally: old.tally,
        ..*new
    };
    let lost = old.state & !new.state;
    let grows = lost == 0 || (established && lost & !flow_state::CLOSED == 0 && old.next != new.next);
    fixed == *old && grows && (old.state ^ new.state) & flow_state::AFFINE == 0
}
