//! What the data path needs around a packet, by maps and helpers.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_get_smp_processor_id, bpf_jiffies64, bpf_ktime_get_ns};
use aya_ebpf::maps::Array;
use aya_ebpf::maps::lpm_trie::Key;
use core::ffi::c_void;
use core::hint::black_box;
use lb_common::abi::former::{AFFINITY, FLOWS, SOCKETS};
use lb_common::abi::{
    AffinityKey, AffinityValue, BackendValue, Be16, EventValue, FamilyConfig, FrontendKey, FrontendValue, SetRef,
    SocketKey, SocketValue, SourceRangeKey, TableKey, TurnKey, block_of, device_flag, filter, handover, watch,
};
use lb_common::datapath::{Direction, Env, Host, NextHop, Route, Services, SocketEnv, Stage, Watch, scaled};
use lb_common::wire::ethernet::mac_words;

use crate::former;
use crate::maps::{self, FamilyMaps, add};
use crate::route::{RouteLookup, leads, lookup_route};

/// What a program runs of the pipeline, as a constant for types. Bits: [`REST`], [`EGRESS`].
pub(crate) const FIRST: u8 = 0;
/// [`Stage::Rest`].
pub(crate) const REST: u8 = 1;
/// [`Direction::Egress`].
pub(crate) const EGRESS: u8 = 2;

/// The node around a packet, for a program of one part.
pub(crate) struct Kernel<const PART: u8> {
    /// The program's context.
    pub(crate) ctx: *mut c_void,
    /// Device at which the packet is.
    pub(crate) ifindex: u32,
}

/// Whether the former agent's second stages still have to see to every packet.
#[inline(always)]
pub(crate) fn former_comes_first() -> bool {
    former::is_bound(FLOWS) && maps::handover() != handover::OPEN
}

impl<A: FamilyMaps + RouteLookup, const PART: u8> Env<A> for Kernel<PART> {
    const STAGE: Stage = if PART & REST == 0 { Stage::First } else { Stage::Rest };
    const DIRECTION: Direction = if PART & EGRESS == 0 { Direction::Ingress } else { Direction::Egress };
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
    fn turn(&self, set: SetRef) -> u32 {
        // SAFETY: the helper has no arguments and no preconditions.
        let key = TurnKey { set: set.base, cpu: unsafe { bpf_get_smp_processor_id() } };
        let Some(next) = A::turns().get_ptr_mut(key) else {
            let first = scaled(Host::<A>::random(self), set.count);
            // Refused, it begins at random again.
            let _refused = A::turns().insert(key, first.wrapping_add(1), u64::from(BPF_ANY));
            return first;
        };
        // SAFETY: an aligned word of this processor's own entry. Where a process is interrupted here by a packet, or by
        // another process, the two get the same place.
        let turn = unsafe { *next };
        let turn = if turn < set.count { turn } else { 0 };
        // SAFETY: as above.
        unsafe { *next = turn.wrapping_add(1) };
        turn
    }

    #[inline(always)]
    fn table(&self, set: u32, byte: u32) -> Option<u8> {
        let (block, at) = block_of(byte);
        // SAFETY: blocks are replaced whole, and taken out when nothing leads to them.
        let block = unsafe { A::maglev().get(TableKey { set, block }) }?;
        // The compiler knows that it is inside, the verifier wants to see it.
        block.bytes.get(black_box(at) as usize).copied()
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
    fn set_silent(&self, id: u32, silent: u16) {
        if let Some(backend) = A::backends().get_ptr_mut(id) {
            // SAFETY: the verifier has seen the null check; an aligned half word, which the agent keeps as it is. Given to
            // another backend just now, the id's new owner is passed over until it has answered once.
            unsafe { (*backend).silent = silent };
        }
    }

    #[inline(always)]
    fn set_answered(&self, id: u32, ticks: u32) {
        if let Some(backend) = A::backends().get_ptr_mut(id) {
            // SAFETY: as above, an aligned word.
            unsafe { (*backend).answered = ticks };
        }
    }

    #[inline(always)]
    fn affinity(&self, key: &AffinityKey<A>) -> Option<AffinityValue> {
        // SAFETY: a torn read gives a backend and generation that do not match, and a fresh choice.
        let known = unsafe { A::affinity().get(key) }.copied();
        if known.is_some() || !former::is_bound(AFFINITY) {
            return known;
        }
        // SAFETY: as above.
        unsafe { A::former_affinity().get(key) }.copied()
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
    fn hardware_address(&self, ifindex: u32) -> Option<(u32, u16)> {
        let device = maps::device(ifindex)?;
        let mac = mac_words(device.mac);
        if device.flags & device_flag::PORT == 0 && mac != (0, 0) { Some(mac) } else { None }
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

    #[inline(always)]
    fn refusal_clock(&self, bucket: u32) -> u64 {
        A::refusals().get(bucket).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn set_refusal_clock(&self, bucket: u32, clock: u64) {
        if let Some(cell) = A::refusals().get_ptr_mut(bucket) {
            // SAFETY: the verifier has seen the null check; the cell is this CPU's own.
            unsafe { *cell = clock };
        }
    }
}

impl<A: FamilyMaps + RouteLookup, const PART: u8> Watch<A> for Kernel<PART> {
    #[inline(always)]
    fn is_watched(&self) -> bool {
        // In general a zero: the clock is asked only while somebody listens, or has done so.
        let until = maps::WATCH.get(watch::UNTIL).copied().unwrap_or(0);
        until != 0 && until > Host::<A>::now_ns(self) >> 30
    }

    #[inline(always)]
    fn through_memory(&self, word: u64) -> Option<u64> {
        let place = maps::outcome::<A>()?;
        // SAFETY: an aligned word of per-CPU memory that only this packet uses. Volatile, or the compiler would keep it.
        unsafe { place.write_volatile(word) };
        // SAFETY: as above.
        Some(unsafe { place.read_volatile() })
    }

    #[inline(always)]
    fn tell(&self, event: &EventValue<A>) {
        if maps::EVENTS.output::<EventValue<A>>(event, 0).is_err()
            && let Some(lost) = maps::WATCH.get(watch::LOST)
        {
            add(lost, 1);
        }
    }
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
        let known = unsafe { A::sockets().get(key) }.copied();
        if known.is_some() || !former::is_bound(SOCKETS) {
            return known;
        }
        // SAFETY: as above.
        unsafe { A::former_sockets().get(key) }.copied()
    }

    #[inline(always)]
    fn set_socket(&self, key: &SocketKey<A>, value: &SocketValue<A>) -> bool {
        A::sockets().insert(key, value, u64::from(BPF_ANY)).is_ok()
    }

    #[inline(always)]
    fn remove_socket(&self, key: &SocketKey<A>) {
        let _gone = A::sockets().remove(key);
        if former::is_bound(SOCKETS) {
            let _gone = A::former_sockets().remove(key);
        }
    }
}
