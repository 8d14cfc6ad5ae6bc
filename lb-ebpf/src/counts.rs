//! What the data path counts: an event, or for a backend.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use lb_common::abi::{CauseKey, CauseValue, Counter, FlowValue, StatsValue};
use lb_common::datapath::Counters;

use crate::env::Kernel;
use crate::maps::{self, FamilyMaps, add, add_word, subtract_one};
use crate::route::RouteLookup;

impl<A: FamilyMaps + RouteLookup, const PART: u8> Counters<A> for Kernel<PART> {
    #[inline(always)]
    fn count(&self, counter: Counter) {
        maps::count(counter.index());
    }

    #[inline(always)]
    fn count_index(&self, index: u32) {
        maps::count(index);
    }

    #[inline(always)]
    fn account(&self, flow: &FlowValue<A>, reply: bool, packets: u32, bytes: u32) {
        let Some(stats) = counted::<A>(flow.backend, flow.generation) else { return };
        let (of_packets, of_bytes) =
            if reply { (&stats.reply_packets, &stats.reply_bytes) } else { (&stats.packets, &stats.bytes) };
        add(of_packets, packets);
        add(of_bytes, bytes);
    }

    #[inline(always)]
    fn connected(&self, backend: u32, generation: u32, waits: bool) {
        if let Some(stats) = counted::<A>(backend, generation) {
            add(&stats.connections, 1);
            if waits {
                add(&stats.unanswered, 1);
            }
        }
    }

    #[inline(always)]
    fn answered(&self, backend: u32, generation: u32) {
        if let Some(stats) = counted::<A>(backend, generation) {
            subtract_one(&stats.unanswered);
        }
    }

    #[inline(always)]
    fn refused(&self, backend: u32, generation: u32) {
        if let Some(stats) = counted::<A>(backend, generation) {
            add(&stats.refused, 1);
        }
    }

    #[inline(always)]
    fn went(&self, backend: u32, generation: u32, client: u64, answered: u32, failed: u32) {
        let Some(cell) = A::outliers().get_ptr_mut(backend) else { return };
        // SAFETY: the verifier has seen the null check. Of two that set a bit at once one may lose it.
        let cell = unsafe { &mut *cell };
        if cell.generation == generation {
            add(&cell.answered, answered);
            add(&cell.failed, failed);
            (cell.clients, cell.failing) = (cell.clients | client, cell.failing | if failed == 0 { 0 } else { client });
        }
    }

    #[inline(always)]
    fn opened(&self, backend: u32, generation: u32) {
        if let Some(stats) = counted::<A>(backend, generation) {
            add_word(&stats.open, 1);
        }
    }

    #[inline(always)]
    fn ended(&self, backend: u32, generation: u32) {
        if let Some(stats) = counted::<A>(backend, generation) {
            add_word(&stats.open, u32::MAX);
        }
    }

    #[inline(always)]
    fn open(&self, backend: u32, generation: u32) -> Option<u32> {
        counted::<A>(backend, generation).map(|stats| StatsValue::open_now(stats.open))
    }

    #[inline(always)]
    fn blame(&self, service: u32, cause: u32) {
        let key = CauseKey { service, counter: cause };
        // SAFETY: the helper has no arguments and no preconditions.
        let now = unsafe { bpf_ktime_get_ns() };
        match maps::CAUSES.get_ptr_mut(key) {
            Some(cell) => {
                // SAFETY: the entry is there, or, evicted meanwhile, memory of the map still: at worst another entry
                // counts one too many.
                let cell = unsafe { &mut *cell };
                add(&cell.count, 1);
                cell.last_ns = now;
            }
            // Of two processors that begin it one loses a count.
            None => _ = maps::CAUSES.insert(key, CauseValue { count: 1, last_ns: now }, u64::from(BPF_NOEXIST)),
        }
    }
}

/// A backend's cell, as long as it is that backend's.
#[inline(always)]
fn counted<A: FamilyMaps>(backend: u32, generation: u32) -> Option<&'static StatsValue> {
    A::stats().get(backend).filter(|stats| stats.generation == generation)
}
