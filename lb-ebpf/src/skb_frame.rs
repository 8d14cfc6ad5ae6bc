//! A socket buffer as a frame: reads, writes, and the helpers that know about unfinished checksums.

use aya_ebpf::bindings::{__sk_buff, BPF_F_INGRESS, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM};
use aya_ebpf::helpers::generated::{
    bpf_clone_redirect, bpf_l4_csum_replace, bpf_skb_adjust_room, bpf_skb_change_head, bpf_skb_change_tail,
    bpf_skb_load_bytes, bpf_skb_pull_data, bpf_skb_store_bytes,
};
use lb_common::abi::HeldValue;
use lb_common::abi::held::CELL;
use lb_common::datapath::{Arrival, Frame, NextHop};
use lb_common::wire::{Read, Write, ethernet};

use crate::access::{read, write};
use crate::context::Context as _;
use crate::xdp_frame::TRANSLATED;

/// `BPF_F_IPV6` (Linux 6.16 and stable branches): an IPv6 pseudo-header change is made up for by the checksum itself,
/// so a device's sum over the whole packet stays right. Older kernels refuse the flag and are asked without it.
const F_IPV6: u64 = 1 << 7;
/// `BPF_ADJ_ROOM_MAC`: room is made behind the Ethernet header.
const ADJ_ROOM_MAC: u32 = 1;
/// `PACKET_HOST` (`linux/if_packet.h`): for this host.
pub(crate) const PACKET_HOST: u32 = 0;
/// The part of a tag that names the VLAN (IEEE 802.1Q). 0: the tag has a priority only.
const VLAN_ID: u32 = 0xfff;
/// `tc_index` of a packet that Sluice has sent by redirect.
pub(crate) const SENT: u32 = 0x534c;
/// How much of a packet that is spread over pages is made readable when its headers are not.
const PULL: u32 = 192;

/// A socket buffer whose network header begins at `L3`. `DIRECT`: it is written through packet pointers. A program that
/// does so anywhere gets a prologue from the verifier, which makes each packet it sees writable; without, a write costs
/// a call, and packets that are only read cost nothing.
pub(crate) struct SkbFrame<const L3: usize, const DIRECT: bool>(pub(crate) *mut __sk_buff);

impl<const L3: usize, const DIRECT: bool> SkbFrame<L3, DIRECT> {
    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: the context is valid for the whole program.
        unsafe { (*self.0).len }
    }

    #[inline(always)]
    fn patch(&self, field: usize, delta: u16, flags: u64) -> bool {
        // SAFETY: the context is the program's own; the helper checks the offset.
        unsafe { bpf_l4_csum_replace(self.0, field as u32, 0, u64::from(delta), flags) == 0 }
    }

    /// Whether XDP has translated this packet.
    #[inline(always)]
    fn is_marked(&self) -> bool {
        let (meta, data) = (self.0.data_meta(), self.0.data());
        // SAFETY: the comparison before it shows four bytes of metadata.
        meta + 4 <= data && unsafe { *(meta as *const u32) } == TRANSLATED
    }

    /// Whether Sluice has sent this packet out by redirect: then it is as it should be. The mark goes no further.
    #[inline(always)]
    fn is_sent(&self) -> bool {
        // SAFETY: the context is valid for the whole program.
        let sent = unsafe { (*self.0).tc_index } == SENT;
        if sent {
            // SAFETY: a field of the kernel's context that programs may write.
            unsafe { (*self.0).tc_index = 0 };
        }
        sent
    }

    /// Whether the packet belongs to a VLAN, whose device has a program as well. The tag is not in the packet any more.
    #[inline(always)]
    fn is_in_vlan(&self) -> bool {
        // SAFETY: the context is valid for the whole program.
        let tagged = unsafe { (*self.0).vlan_present } != 0;
        // SAFETY: as above.
        tagged && unsafe { (*self.0).vlan_tci } & VLAN_ID != 0
    }

    #[inline(always)]
    fn put<T: Copy>(&self, offset: usize, value: T) -> Option<()> {
        if DIRECT {
            return write(self.0, offset, value);
        }
        let (from, length) = (core::ptr::from_ref(&value).cast_mut().cast(), size_of::<T>() as u32);
        // SAFETY: the value is on the stack and as long as is said; the helper checks the offset.
        if unsafe { bpf_skb_store_bytes(self.0, offset as u32, from, length, 0) } == 0 { Some(()) } else { None }
    }
}

/// A length from 1 to `CELL` as it is, and any other in these bounds, which the verifier sees.
#[inline(always)]
fn bounded(length: u32) -> u32 {
    (core::hint::black_box(length).wrapping_sub(1) & CELL as u32) + 1
}

impl<const L3: usize, const DIRECT: bool> Read for SkbFrame<L3, DIRECT> {
    #[inline(always)]
    fn u32s_at<const W: usize>(&self, offset: usize) -> Option<[u32; W]> {
        read(self.0, offset)
    }

    #[inline(always)]
    fn u16_at(&self, offset: usize) -> Option<u16> {
        read(self.0, offset)
    }
}

impl<const L3: usize, const DIRECT: bool> Write for SkbFrame<L3, DIRECT> {
    #[inline(always)]
    fn put_u32s<const W: usize>(&mut self, offset: usize, words: [u32; W]) -> Option<()> {
        self.put(offset, words)
    }

    #[inline(always)]
    fn put_u16(&mut self, offset: usize, value: u16) -> Option<()> {
        self.put(offset, value)
    }
}

impl<const LINK: usize, const DIRECT: bool> Frame for SkbFrame<LINK, DIRECT> {
    const L3: usize = LINK;
    const KERNEL_RESOLVES: bool = true;
    const REPLAYS: bool = true;
    const KERNEL_CLASSIFIES: bool = true;

    #[inline(always)]
    fn is_seen_elsewhere(&self, arrival: Arrival) -> bool {
        let seen = if arrival.hook.is_ingress() { self.is_marked() } else { self.is_sent() };
        arrival.hook.is_uplink() && (seen || self.is_in_vlan())
    }

    #[inline(always)]
    fn is_for_this_host(&self) -> bool {
        // SAFETY: the context is valid for the whole program.
        let kind = unsafe { (*self.0).pkt_type };
        // SAFETY: as above.
        let tagged = unsafe { (*self.0).vlan_present };
        // Of a frame with a priority and no VLAN (IEEE 802.1p) the kernel's type says nothing.
        kind == PACKET_HOST || tagged != 0
    }

    /// The kernel has compared already.
    #[inline(always)]
    fn is_addressed_to(&self, _mac: (u32, u16)) -> bool {
        false
    }

    #[inline(always)]
    fn pull(&mut self) -> bool {
        let readable = (self.0.data_end() - self.0.data()) as u32;
        let length = if self.len() < PULL { self.len() } else { PULL };
        // SAFETY: the context is the program's own; packet pointers are read afresh at each use.
        readable < length && unsafe { bpf_skb_pull_data(self.0, length) } == 0
    }

    #[inline(always)]
    fn mark_translated(&mut self) -> bool {
        true
    }

    #[inline(always)]
    fn patch_checksum(
        &mut self,
        field: usize,
        address_delta: u16,
        port_delta: u16,
        optional: bool,
        pseudo_v6: bool,
    ) -> Option<()> {
        let flags = if optional { u64::from(BPF_F_MARK_MANGLED_0) } else { 0 };
        let pseudo = flags | u64::from(BPF_F_PSEUDO_HDR);
        let patched = (pseudo_v6 && self.patch(field, address_delta, pseudo | F_IPV6))
            || self.patch(field, address_delta, pseudo);
        let ports_stay = port_delta == lb_common::wire::checksum::UNCHANGED;
        if patched && (ports_stay || self.patch(field, port_delta, flags)) { Some(()) } else { None }
    }

    #[inline(always)]
    fn complete_checksum(&mut self, field: usize, pseudo: u16, rest: u16) -> Option<()> {
        // An skb with an unfinished checksum wants the former only.
        let done = self.patch(field, pseudo, u64::from(BPF_F_PSEUDO_HDR)) && self.patch(field, rest, 0);
        if done { Some(()) } else { None }
    }

    #[inline(always)]
    fn resize(&mut self, length: usize) -> Option<()> {
        // SAFETY: the context is the program's own; packet pointers are read afresh after this.
        if unsafe { bpf_skb_change_tail(self.0, length as u32, 0) } == 0 { Some(()) } else { None }
    }

    #[inline(always)]
    fn make_room(&mut self, bytes: usize) -> Option<()> {
        // SAFETY: the context is the program's own; packet pointers are read afresh after this.
        if unsafe { bpf_skb_adjust_room(self.0, bytes as i32, ADJ_ROOM_MAC, 0) } != 0 {
            return None;
        }
        self.pull();
        Some(())
    }

    #[inline(always)]
    fn length(&self) -> Option<u16> {
        u16::try_from(self.len()).ok()
    }

    #[inline(always)]
    fn copy_out(&self, at: u16, piece: &mut HeldValue) -> Option<()> {
        let left = self.len().saturating_sub(u32::from(at));
        let length = bounded(if left < CELL as u32 { left } else { CELL as u32 });
        let to = piece.bytes.as_mut_ptr().cast();
        // SAFETY: the context is the program's own; the piece is as long as the largest bounded length.
        if unsafe { bpf_skb_load_bytes(self.0.cast(), u32::from(at), to, length) } != 0 {
            return None;
        }
        (piece.at, piece.length) = (at, length as u16);
        Some(())
    }

    #[inline(always)]
    fn copy_in(&mut self, piece: &HeldValue) -> Option<()> {
        let (at, length) = (u32::from(piece.at), bounded(u32::from(piece.length)));
        let from = piece.bytes.as_ptr().cast_mut().cast();
        // SAFETY: as above; packet pointers are read afresh after this.
        let stored = unsafe { bpf_skb_store_bytes(self.0, at, from, length, u64::from(BPF_F_RECOMPUTE_CSUM)) };
        if stored == 0 { Some(()) } else { None }
    }

    #[inline(always)]
    fn replay(&mut self, arrival: Arrival) -> Option<()> {
        let flags = if arrival.hook.is_ingress() { u64::from(BPF_F_INGRESS) } else { 0 };
        // SAFETY: the context is the program's own; packet pointers are read afresh after this.
        if unsafe { bpf_clone_redirect(self.0, arrival.ifindex, flags) } == 0 { Some(()) } else { None }
    }

    #[inline(always)]
    fn send(&mut self, ifindex: u32) -> Option<()> {
        // SAFETY: a field of the kernel's context that programs may write.
        unsafe { (*self.0).tc_index = SENT };
        // SAFETY: the context is the program's own; packet pointers are read afresh after this.
        if unsafe { bpf_clone_redirect(self.0, ifindex, 0) } == 0 { Some(()) } else { None }
    }

    #[inline(always)]
    fn amount(&self, _datagram: u16) -> (u32, u32) {
        // SAFETY: the context is valid for the whole program.
        let segments = unsafe { (*self.0).gso_segs };
        (if segments == 0 { 1 } else { segments }, self.len().wrapping_sub(LINK as u32))
    }

    #[inline(always)]
    fn unsegmented_len(&self, _datagram: u16) -> u16 {
        // SAFETY: the context is valid for the whole program.
        let segment = unsafe { (*self.0).gso_size };
        if segment == 0 { self.len().saturating_sub(LINK as u32).min(u32::from(u16::MAX)) as u16 } else { 0 }
    }

    #[inline(always)]
    fn address(&mut self, _hop: &NextHop) -> Option<()> {
        // A redirect towards Ethernet takes the packet's own link header off: there has to be one.
        // SAFETY: the context is the program's own; packet pointers are not used after this.
        if LINK == 0 && unsafe { bpf_skb_change_head(self.0, ethernet::HEADER as u32, 0) } != 0 {
            return None;
        }
        Some(())
    }
}
