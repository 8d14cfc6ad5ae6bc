//! The flow tables: entries in map memory, changed in place.

use core::ops::Deref;

use aya_ebpf::bindings::BPF_ANY;
use lb_common::abi::former::FLOWS;
use lb_common::abi::{FlowKey, FlowValue, Tally, filter, flow_state, handover};
use lb_common::datapath::{Flows, Headers, Host, Scratch};

use crate::env::Kernel;
use crate::former;
use crate::maps::{self, FamilyMaps};
use crate::route::RouteLookup;

/// How long after an event of `LATELY` packets in mid-stream are looked at, in ticks: a day, where the kernel counts a
/// thousand a second, and longer elsewhere.
const LATELY_TICKS: u32 = 86_400_000;

/// An entry of a flow table, in map memory.
#[repr(transparent)]
pub(crate) struct FlowPtr<A>(*mut FlowValue<A>);

impl<A> Clone for FlowPtr<A> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for FlowPtr<A> {}

impl<A> Deref for FlowPtr<A> {
    type Target = FlowValue<A>;

    #[inline(always)]
    fn deref(&self) -> &FlowValue<A> {
        // SAFETY: the pointer came from a successful look-up in this program run. LRU memory may be given to another
        // flow meanwhile (RCU keeps it mapped): the worst case is one packet misdirected as the table overflows.
        unsafe { &*self.0 }
    }
}

/// Whether an event of `LATELY` is not long ago. What is noted may be one tick ahead.
#[inline(always)]
fn happened_lately<A: FamilyMaps>(event: u32, now: u32) -> bool {
    let last = maps::last::<A>(event);
    last != 0 && now.wrapping_sub(last).wrapping_add(1) < LATELY_TICKS
}

/// Whether only a former agent's tables have a flow of this key.
#[inline(always)]
fn only_former_has<A: FamilyMaps>(key: &FlowKey<A>) -> bool {
    A::flows().get_ptr(key).is_none()
        && A::half_open().get_ptr(key).is_none()
        && (A::former_flows().get_ptr(key).is_some() || A::former_half_open().get_ptr(key).is_some())
}

/// Notes an entry in the flow filter, in both halves: before the entry is there.
#[inline(never)]
fn note_flow<A: FamilyMaps>(key: &FlowKey<A>, kind: u8) {
    if !filter::is_noted(kind) {
        return;
    }
    let (block, cell) = filter::cell(filter::flow_hash(key));
    for half in 0..2 {
        if let Some(cells) = A::flow_filter().get_ptr_mut(half * filter::FLOW_BLOCKS + block) {
            // SAFETY: the verifier has seen the null check; the cell's number is masked. A separate byte, into which all
            // write the same.
            unsafe { *cells.cast::<u8>().wrapping_add(cell as usize) = 1 };
        }
    }
}

impl<A: FamilyMaps + RouteLookup, const PART: u8> Flows<A> for Kernel<PART> {
    type Flow = FlowPtr<A>;
    type Scratch = &'static mut Scratch<A>;
    type Headers = &'static mut Headers<A>;

    #[inline(always)]
    fn headers(&self) -> Option<&'static mut Headers<A>> {
        maps::headers::<A>()
    }

    #[inline(always)]
    fn scratch(&self) -> Option<&'static mut Scratch<A>> {
        maps::scratch::<A>()
    }

    #[inline(always)]
    fn decided(&self, scratch: &'static mut Scratch<A>) -> FlowPtr<A> {
        FlowPtr(&raw mut scratch.forward)
    }

    #[inline(always)]
    fn remaps(&self) -> bool {
        happened_lately::<A>(maps::REMAP, Host::<A>::ticks(self))
    }

    #[inline(always)]
    fn note_remap(&self) {
        maps::set_last::<A>(maps::REMAP, Host::<A>::ticks(self));
    }

    #[inline(always)]
    fn overflows(&self) -> bool {
        happened_lately::<A>(maps::OVERFLOW, Host::<A>::ticks(self))
    }

    #[inline(always)]
    fn note_overflow(&self) {
        maps::set_last::<A>(maps::OVERFLOW, Host::<A>::ticks(self));
    }

    #[inline(always)]
    fn is_carrying(&self) -> bool {
        maps::handover() != handover::NONE
    }

    #[inline(always)]
    fn is_formers(&self, key: &FlowKey<A>) -> bool {
        former::is_bound(FLOWS) && only_former_has::<A>(key)
    }

    #[inline(always)]
    fn flow(&self, key: &FlowKey<A>) -> Option<FlowPtr<A>> {
        A::flows().get_ptr_mut(key).map(FlowPtr)
    }

    #[inline(always)]
    fn half_open(&self, key: &FlowKey<A>) -> Option<FlowPtr<A>> {
        A::half_open().get_ptr_mut(key).map(FlowPtr)
    }

    #[inline(always)]
    fn note(&self, flow: FlowPtr<A>, state: u16) -> FlowPtr<A> {
        if flow.state & state != state {
            // SAFETY: in-place write to map memory; bits are only added, so a lost race costs one bit until the next
            // packet of that kind.
            unsafe { (*flow.0).state |= state };
        }
        flow
    }

    #[inline(always)]
    fn touch(&self, flow: FlowPtr<A>) -> FlowPtr<A> {
        // Written once in 256 ticks, so that a flow's cache line stays clean.
        let now = Host::<A>::ticks(self) & !0xff;
        if flow.seen != now {
            // SAFETY: in-place write of an aligned word to map memory.
            unsafe { (*flow.0).seen = now };
            // SAFETY: as above.
            unsafe { (*flow.0).tally.burst = 0 };
        }
        flow
    }

    #[inline(always)]
    fn is_stale(&self, flow: FlowPtr<A>) -> bool {
        flow.seen != Host::<A>::ticks(self) & !0xff
    }

    #[inline(always)]
    fn renumber(&self, flow: FlowPtr<A>, next: u32) -> FlowPtr<A> {
        if flow.next != next {
            // SAFETY: in-place write of an aligned word to map memory.
            unsafe { (*flow.0).next = next };
        }
        flow
    }

    #[inline(always)]
    fn begin_again(&self, flow: FlowPtr<A>, next: u32) -> FlowPtr<A> {
        // SAFETY: in-place writes of aligned fields to map memory; a bit that is lost to a race comes again with the next
        // packet of that kind.
        unsafe { (*flow.0).state &= !flow_state::CLOSED };
        Flows::<A>::renumber(self, flow, next)
    }

    #[inline(always)]
    fn reopen(&self, flow: FlowPtr<A>, opening: u32) -> FlowPtr<A> {
        // SAFETY: as above.
        unsafe { (*flow.0).born = opening };
        flow
    }

    #[inline(always)]
    fn come_by(&self, flow: FlowPtr<A>, from: u32) -> FlowPtr<A> {
        if flow.from != from {
            // SAFETY: as above.
            unsafe { (*flow.0).from = from };
        }
        flow
    }

    #[inline(always)]
    fn follow(&self, flow: FlowPtr<A>, ifindex: u32) -> FlowPtr<A> {
        // SAFETY: as above.
        unsafe { (*flow.0).ifindex = ifindex };
        flow
    }

    #[inline(always)]
    fn tally(&self, flow: FlowPtr<A>, tally: Tally) {
        // SAFETY: in-place write to map memory. Another processor's at the same time costs a few packets' count.
        unsafe { (*flow.0).tally = tally };
    }

    #[inline(always)]
    fn may_be_flow(&self, key: &FlowKey<A>) -> bool {
        let (block, cell) = filter::cell(filter::flow_hash(key));
        let half = maps::complete_half::<A>();
        // While no half knows every flow, everything may be one.
        half == 0
            || A::flow_filter()
                .get((half - 1) * filter::FLOW_BLOCKS + block)
                .and_then(|cells| cells.get(cell as usize))
                .is_none_or(|cell| *cell != 0)
    }

    #[inline(always)]
    fn insert_flow(&self, key: &FlowKey<A>, value: &FlowValue<A>) -> bool {
        note_flow(key, value.kind);
        A::flows().insert(key, value, u64::from(BPF_ANY)).is_ok()
    }

    #[inline(always)]
    fn insert_half_open(&self, key: &FlowKey<A>, value: &FlowValue<A>) -> bool {
        note_flow(key, value.kind);
        A::half_open().insert(key, value, u64::from(BPF_ANY)).is_ok()
    }

    #[inline(always)]
    fn remove_flow(&self, key: &FlowKey<A>) {
        // Already gone is as good.
        let _gone = A::flows().remove(key);
    }

    #[inline(always)]
    fn remove_half_open(&self, key: &FlowKey<A>) {
        let _gone = A::half_open().remove(key);
    }
}
