//! The tables of fragments, for the data path.

use aya_ebpf::bindings::BPF_ANY;
use lb_common::abi::{FragmentKey, FragmentValue, HeldKey, HeldValue, SenderKey, Waiting};
use lb_common::datapath::Fragments;

use crate::env::Kernel;
use crate::maps::FamilyMaps;
use crate::route::RouteLookup;

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
