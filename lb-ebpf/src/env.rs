//! What the data path needs around a packet, by maps and helpers.

use core::ops::Deref;

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_jiffies64, bpf_ktime_get_ns};
use aya_ebpf::maps::Array;
use aya_ebpf::maps::lpm_trie::Key;
use core::ffi::c_void;
use lb_common::abi::{
    AffinityKey, AffinityValue, BackendValue, Be16, Counter, FamilyConfig, FlowKey, FlowValue, FragmentKey,
    FragmentValue, FrontendKey, FrontendValue, HeldKey, HeldValue, SenderKey, SocketKey, SocketValue, SourceRangeKey,
    StatsValue, Tally, Waiting, device_flag, filter,
};
use lb_common::datapath::{
    Counters, Direction, Env, Flows, Fragments, Headers, Host, NextHop, Route, Scratch, Services, SocketEnv, Stage,
};

use crate::maps::{self, FamilyMaps};
use crate::route::{RouteLookup, leads, lookup_route};

/// What a program runs of the pipeline, as a constant for types. Bits: [`REST`], [`EGRESS`].
pub(crate) const FIRST: u8 = 0;
/// [`Stage::Rest`].
pub(crate) const REST: u8 = 1;
/// [`Direction::Egress`].
pub(crate) const EGRESS: u8 = 2;
/// How long after an event of `LATELY` packets in mid-stream are looked at, in ticks: a day, where the kernel counts a
/// thousand a second, and longer elsewhere.
const LATELY_TICKS: u32 = 86_400_000;

/// The node around a packet, for a program of one part.
pub(crate) struct Kernel<const PART: u8> {
    /// The program's context.
    pub(crate) ctx: *mut c_void,
    /// Device at which the packet is.
    pub(crate) ifindex: u32,
}

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

impl<A: FamilyMaps + RouteLookup, const PART: u8> Env<A> for Kernel<PART> {
    const STAGE: Stage = if PART & REST == 0 { Stage::First } else { Stage::Rest };
    const DIRECTION: Direction = if PART & EGRESS == 0 { Direction::Ingress } else { Direction::Egress };
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
        let last = maps::last::<A>(maps::REMAP);
        // What is noted may be one tick ahead.
        last != 0 && Host::<A>::ticks(self).wrapping_sub(last).wrapping_add(1) < LATELY_TICKS
    }

    #[inline(always)]
    fn note_remap(&self) {
        // Never 0, which says that there was none.
        maps::set_last::<A>(maps::REMAP, Host::<A>::ticks(self) | 1);
    }

    #[inline(always)]
    fn overflows(&self) -> bool {
        let last = maps::last::<A>(maps::OVERFLOW);
        last != 0 && Host::<A>::ticks(self).wrapping_sub(last) < LATELY_TICKS
    }

    #[inline(always)]
    fn note_overflow(&self) {
        maps::set_last::<A>(maps::OVERFLOW, Host::<A>::ticks(self) | 1);
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
        let now = Host::<A>::ticks(self) & !0xff;
        // Written once in 256 ticks, so that a flow's cache line stays clean.
        if flow.seen != now {
            // SAFETY: in-place write of an aligned word to map memory.
            unsafe { (*flow.0).seen = now };
            // SAFETY: as above.
            unsafe { (*flow.0).tally.burst = 0 };
        }
        flow
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
    fn insert_flow(&self, key: &FlowKey<A>, value: &FlowValue<A>) -> bool {
        A::flows().insert(key, value, u64::from(BPF_ANY)).is_ok()
    }

    #[inline(always)]
    fn insert_half_open(&self, key: &FlowKey<A>, value: &FlowValue<A>) -> bool {
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

impl<A: FamilyMaps + RouteLookup, const PART: u8> Fragments<A> for Kernel<PART> {
    type Held = &'static HeldValue;

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey<A>) -> Option<FragmentValue> {
        // SAFETY: a torn read is of two datagrams with one identification: the receiver's checksum finds out.
        unsafe { A::fragments().get(key) }.copied()
    }

    #[inline(always)]
    fn set_fragment(&self, key: &FragmentKey<A>, value: &FragmentValue) {
        // A refused write costs the datagram's later fragments.
        let _refused = A::fragments().insert(key, value, u64::from(BPF_ANY));
    }

    #[inline(always)]
    fn early(&self, key: &FragmentKey<A>) -> Option<Waiting> {
        // SAFETY: two aligned words; another processor's half costs a cell, or a fragment.
        unsafe { A::early().get(key) }.copied()
    }

    #[inline(always)]
    fn set_early(&self, key: &FragmentKey<A>, value: Option<Waiting>) {
        // A refused write costs the fragment that was to wait.
        let _refused = match value {
            Some(value) => A::early().insert(key, value, u64::from(BPF_ANY)),
            None => A::early().remove(key),
        };
    }

    #[inline(always)]
    fn sender(&self, key: &SenderKey<A>) -> Option<Waiting> {
        // SAFETY: as for `early`.
        unsafe { A::senders().get(key) }.copied()
    }

    #[inline(always)]
    fn set_sender(&self, key: &SenderKey<A>, value: &Waiting) {
        let _refused = A::senders().insert(key, value, u64::from(BPF_ANY));
    }

    #[inline(always)]
    fn held(&self, key: &HeldKey<A>) -> Option<&'static HeldValue> {
        // SAFETY: memory of the map, mapped as long as the program runs. If it is given to another datagram meanwhile, the
        // receiver's checksum finds out.
        unsafe { A::held().get(key) }
    }

    #[inline(always)]
    fn set_held(&self, key: &HeldKey<A>, value: Option<&HeldValue>) {
        let _refused = match value {
            Some(value) => A::held().insert(key, value, u64::from(BPF_ANY)),
            None => A::held().remove(key),
        };
    }
}

impl<A: FamilyMaps + RouteLookup, const PART: u8> Services<A> for Kernel<PART> {
    #[inline(always)]
    fn may_be_frontend(&self, addr: A, port: Be16) -> bool {
        front_holds::<A>(filter::address_hash(addr)) || front_holds::<A>(filter::endpoint_hash(addr, port))
    }

    #[inline(always)]
    fn may_be_frontend_port(&self, addr: A, port: Be16) -> bool {
        front_holds::<A>(filter::endpoint_hash(addr, port))
    }

    #[inline(always)]
    fn may_be_backend(&self, addr: A, port: Be16) -> bool {
        let at = filter::position(filter::endpoint_hash(addr, port), filter::BACK_BLOCKS);
        holds(A::back_filter(), at)
    }

    #[inline(always)]
    fn may_be_frontend_address(&self, addr: A) -> bool {
        address_holds::<A>(filter::frontend_address_hash(addr))
    }

    #[inline(always)]
    fn may_be_backend_address(&self, addr: A) -> bool {
        address_holds::<A>(filter::backend_address_hash(addr))
    }

    #[inline(always)]
    fn frontend(&self, key: &FrontendKey<A>) -> Option<FrontendValue> {
        // SAFETY: frontends are replaced whole (RCU), never written in place.
        unsafe { A::frontends().get(key) }.copied()
    }

    #[inline(always)]
    fn slot(&self, index: u32) -> u32 {
        A::slots().get(index).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn backend(&self, id: u32) -> Option<BackendValue<A>> {
        A::backends().get(id).copied()
    }

    #[inline(always)]
    fn generation(&self, id: u32) -> u32 {
        A::backends().get(id).map_or(0, |backend| backend.generation)
    }

    #[inline(always)]
    fn affinity(&self, key: &AffinityKey<A>) -> Option<AffinityValue> {
        // SAFETY: a torn read gives a backend and generation that do not match, and a fresh choice.
        unsafe { A::affinity().get(key) }.copied()
    }

    #[inline(always)]
    fn set_affinity(&self, key: &AffinityKey<A>, value: &AffinityValue) {
        // A refused write costs this client its affinity, not its connection.
        let _refused = A::affinity().insert(key, value, u64::from(BPF_ANY));
    }

    #[inline(always)]
    fn in_source_range(&self, key: &SourceRangeKey<A>) -> bool {
        let bits = 32 + 32 * A::WORDS as u32;
        A::ranges().get(Key::new(bits, *key)).is_some()
    }
}

impl<A: FamilyMaps + RouteLookup, const PART: u8> Host<A> for Kernel<PART> {
    #[inline(always)]
    fn config(&self) -> &FamilyConfig<A> {
        A::config().get(0).unwrap_or(A::no_config())
    }

    #[inline(always)]
    fn device_flags(&self, ifindex: u32) -> u32 {
        maps::device(ifindex).map_or(0, |device| device.flags)
    }

    #[inline(always)]
    fn route(&self, dst: A) -> Option<Route<A>> {
        let hop = lookup_route(self.ctx, self.ifindex, dst, 0)?;
        let (source, flags) =
            maps::device(hop.ifindex).map_or((A::ZERO, 0), |device| (A::of_device(device), device.flags));
        Some(Route { ifindex: hop.ifindex, source, flags })
    }

    #[inline(always)]
    fn next_hop(&self, dst: A, length: u16) -> Option<NextHop> {
        lookup_route(self.ctx, self.ifindex, dst, length)
    }

    #[inline(always)]
    fn leads(&self, ifindex: u32, src: A, dst: A) -> bool {
        Host::<A>::device_flags(self, ifindex) & device_flag::UPLINK != 0 && leads(self.ctx, ifindex, src, dst)
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: the helper has no arguments and no preconditions.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        // SAFETY: the helper has no arguments and no preconditions.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn ticks(&self) -> u32 {
        // SAFETY: the helper has no arguments and no preconditions; the verifier makes it one load.
        unsafe { bpf_jiffies64() as u32 }
    }
}

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
        if reply {
            stats.reply_packets += u64::from(packets);
            stats.reply_bytes += u64::from(bytes);
        } else {
            stats.packets += u64::from(packets);
            stats.bytes += u64::from(bytes);
        }
    }

    #[inline(always)]
    fn connected(&self, backend: u32, generation: u32) {
        if let Some(stats) = counted::<A>(backend, generation) {
            stats.connections += 1;
        }
    }
}

/// This CPU's cell of a backend, as long as it is that backend's.
#[inline(always)]
fn counted<A: FamilyMaps>(backend: u32, generation: u32) -> Option<&'static mut StatsValue> {
    let cell = A::stats().get_ptr_mut(backend)?;
    // SAFETY: the verifier has seen the null check; the cell is this CPU's own, and lives as long as the program.
    let stats = unsafe { &mut *cell };
    if stats.generation == generation { Some(stats) } else { None }
}

/// Whether a filter holds what has its bits here. A block that is not there (it always is) holds everything.
#[inline(always)]
fn holds(filter: &Array<filter::Block>, at: filter::Position) -> bool {
    let Some(block) = filter.get(at.block) else { return true };
    block.get(at.word as usize).is_none_or(|word| word & at.bits == at.bits)
}

#[inline(always)]
fn address_holds<A: FamilyMaps>(hash: u64) -> bool {
    holds(A::address_filter(), filter::position(hash, filter::ADDRESS_BLOCKS))
}

#[inline(always)]
fn front_holds<A: FamilyMaps>(hash: u64) -> bool {
    holds(A::front_filter(), filter::position(hash, filter::FRONT_BLOCKS))
}

impl<A: FamilyMaps + RouteLookup, const PART: u8> SocketEnv<A> for Kernel<PART> {
    #[inline(always)]
    fn socket(&self, key: &SocketKey<A>) -> Option<SocketValue<A>> {
        // SAFETY: entries are replaced whole; a socket's own calls are in order.
        unsafe { A::sockets().get(key) }.copied()
    }

    #[inline(always)]
    fn set_socket(&self, key: &SocketKey<A>, value: &SocketValue<A>) -> bool {
        A::sockets().insert(key, value, u64::from(BPF_ANY)).is_ok()
    }

    #[inline(always)]
    fn remove_socket(&self, key: &SocketKey<A>) {
        let _gone = A::sockets().remove(key);
    }
}
