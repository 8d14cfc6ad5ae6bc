//! The tables of a former agent, while a successor with other tables takes over (docs/upgrade.md). The agent says at load
//! which of them are there: without any, nothing of this is left of a program.

use aya_ebpf::EbpfContext;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{HashMap, ProgramArray};
use lb_common::abi::{Address, AffinityKey, AffinityValue, FlowKey, FlowValue, SocketKey, SocketValue, V4, V6, former};

/// Set by the agent at load: bits of [`former`].
#[unsafe(no_mangle)]
static FORMER: u8 = 0;

/// Whether a former agent's tables of one kind are there.
#[inline(always)]
pub(crate) fn is_bound(kind: u8) -> bool {
    // SAFETY: read-only data, which the agent fixes before the program is loaded.
    unsafe { core::ptr::read_volatile(&raw const FORMER) & kind != 0 }
}

/// The second stages of the former agent.
#[map]
pub(crate) static FORMER_TC: ProgramArray = ProgramArray::with_max_entries(8, 0);
/// Those of XDP.
#[map]
pub(crate) static FORMER_XDP: ProgramArray = ProgramArray::with_max_entries(2, 0);
/// Those of XDP that take no frames in fragments.
#[map]
pub(crate) static FORMER_XDP_LIN: ProgramArray = ProgramArray::with_max_entries(2, 0);

macro_rules! former_maps {
    ($($addr:ty: $flows:ident $half:ident $affinity:ident $sockets:ident;)*) => {
        $(
            #[map]
            static $flows: HashMap<FlowKey<$addr>, FlowValue<$addr>> = HashMap::with_max_entries(1, 0);
            #[map]
            static $half: HashMap<FlowKey<$addr>, FlowValue<$addr>> = HashMap::with_max_entries(1, 0);
            #[map]
            static $affinity: HashMap<AffinityKey<$addr>, AffinityValue> = HashMap::with_max_entries(1, 0);
            #[map]
            static $sockets: HashMap<SocketKey<$addr>, SocketValue<$addr>> = HashMap::with_max_entries(1, 0);

            impl FormerMaps for $addr {
                #[inline(always)]
                fn former_flows() -> &'static HashMap<FlowKey<Self>, FlowValue<Self>> {
                    &$flows
                }

                #[inline(always)]
                fn former_half_open() -> &'static HashMap<FlowKey<Self>, FlowValue<Self>> {
                    &$half
                }

                #[inline(always)]
                fn former_affinity() -> &'static HashMap<AffinityKey<Self>, AffinityValue> {
                    &$affinity
                }

                #[inline(always)]
                fn former_sockets() -> &'static HashMap<SocketKey<Self>, SocketValue<Self>> {
                    &$sockets
                }
            }
        )*
    };
}

/// A former agent's tables of one address family.
pub(crate) trait FormerMaps: Address + 'static {
    /// Established flows: only whether there is one. A value may be another version's.
    fn former_flows() -> &'static HashMap<FlowKey<Self>, FlowValue<Self>>;
    /// The same of half-open ones.
    fn former_half_open() -> &'static HashMap<FlowKey<Self>, FlowValue<Self>>;
    /// Affinity.
    fn former_affinity() -> &'static HashMap<AffinityKey<Self>, AffinityValue>;
    /// Sockets.
    fn former_sockets() -> &'static HashMap<SocketKey<Self>, SocketValue<Self>>;
}

former_maps! {
    V4: FORMER_FLOWS4 FORMER_HALF4 FORMER_AFFIN4 FORMER_SOCKS4;
    V6: FORMER_FLOWS6 FORMER_HALF6 FORMER_AFFIN6 FORMER_SOCKS6;
}

/// Hands a packet on to a second stage of the former agent, which begins at its beginning. Returns if it has none.
#[inline(always)]
pub(crate) fn hand_on<C: EbpfContext>(ctx: &C, stages: &ProgramArray, index: u32) {
    if is_bound(former::FLOWS) {
        // SAFETY: the programs of this table are of this kind; the context is the program's own.
        unsafe { stages.tail_call(ctx, index) };
    }
}
