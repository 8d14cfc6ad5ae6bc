//! An XDP frame: its checksums are complete, and it is sent as it stands.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{
    bpf_xdp_adjust_head, bpf_xdp_adjust_meta, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len,
};
use lb_common::abi::HeldValue;
use lb_common::datapath::{Arrival, Frame, NextHop};
use lb_common::wire::{Read, Write, checksum, ethernet};

use crate::access::{read, write};
use crate::context::Context as _;

/// Metadata in front of a packet that XDP has translated and passed up: TC leaves it alone.
pub(crate) const TRANSLATED: u32 = 0x534c_5543;

/// An XDP frame. `FRAGS`: it may be spread over several buffers, of which packet pointers reach the first.
pub(crate) struct XdpFrame<const FRAGS: bool>(pub(crate) *mut xdp_md);

impl<const FRAGS: bool> XdpFrame<FRAGS> {
    /// Length of the first buffer. Opaque: the verifier knows the difference of two packet pointers as a number, but not
    /// other orders of it.
    #[inline(always)]
    fn first_len(&self) -> u64 {
        core::hint::black_box(self.0.data_end() - self.0.data()) as u64
    }

    /// Length of the frame.
    #[inline(always)]
    fn len(&self) -> u64 {
        // SAFETY: the context is the program's own. The helper is as old as such frames (Linux 5.18).
        if FRAGS { unsafe { bpf_xdp_get_buff_len(self.0) } } else { self.first_len() }
    }

    /// Length from the network header on, without asking the kernel where the first buffer holds all that is said to come.
    #[inline(always)]
    fn network_len(&self, datagram: u16) -> u32 {
        let first = self.first_len() as u32 - Self::L3 as u32;
        if FRAGS && u32::from(datagram) > first { self.len() as u32 - Self::L3 as u32 } else { first }
    }
}

impl<const FRAGS: bool> Read for XdpFrame<FRAGS> {
    #[inline(always)]
    fn u32s_at<const W: usize>(&self, offset: usize) -> Option<[u32; W]> {
        read(self.0, offset)
    }

    #[inline(always)]
    fn u16_at(&self, offset: usize) -> Option<u16> {
        read(self.0, offset)
    }
}

impl<const FRAGS: bool> Write for XdpFrame<FRAGS> {
    #[inline(always)]
    fn put_u32s<const W: usize>(&mut self, offset: usize, words: [u32; W]) -> Option<()> {
        write(self.0, offset, words)
    }

    #[inline(always)]
    fn put_u16(&mut self, offset: usize, value: u16) -> Option<()> {
        write(self.0, offset, value)
    }
}

impl<const FRAGS: bool> Frame for XdpFrame<FRAGS> {
    const L3: usize = ethernet::HEADER;
    const KERNEL_RESOLVES: bool = false;
    const REPLAYS: bool = false;
    const KERNEL_CLASSIFIES: bool = false;

    #[inline(always)]
    fn is_seen_elsewhere(&self, _arrival: Arrival) -> bool {
        false
    }

    #[inline(always)]
    fn is_for_this_host(&self) -> bool {
        false
    }

    #[inline(always)]
    fn is_addressed_to(&self, mac: (u32, u16)) -> bool {
        let (Some([first]), Some(last)) = (self.u32s_at::<1>(0), self.u16_at(4)) else { return false };
        first == mac.0 && last == mac.1
    }

    #[inline(always)]
    fn pull(&mut self) -> bool {
        false
    }

    #[inline(always)]
    fn mark_translated(&mut self) -> bool {
        // SAFETY: the context is the program's own; packet pointers are read afresh after this. A driver without room for
        // metadata refuses.
        if unsafe { bpf_xdp_adjust_meta(self.0, -4) } != 0 {
            return false;
        }
        let (meta, data) = (self.0.data_meta(), self.0.data());
        if meta + 4 > data {
            return false;
        }
        // SAFETY: the four bytes are inside the metadata area, which the kernel aligns to four.
        unsafe { *(meta as *mut u32) = TRANSLATED };
        true
    }

    #[inline(always)]
    fn patch_checksum(&mut self, field: usize, address: u16, port: u16, optional: bool, _v6: bool) -> Option<()> {
        checksum::patch(self, field, checksum::add(address, port), optional)
    }

    #[inline(always)]
    fn complete_checksum(&mut self, field: usize, pseudo: u16, rest: u16) -> Option<()> {
        self.put_u16(field, !checksum::add(pseudo, rest))
    }

    #[inline(always)]
    fn resize(&mut self, length: usize) -> Option<()> {
        // SAFETY: the context is the program's own; packet pointers are read afresh after this.
        if unsafe { bpf_xdp_adjust_tail(self.0, length as i32 - self.len() as i32) } == 0 { Some(()) } else { None }
    }

    #[inline(always)]
    fn make_room(&mut self, bytes: usize) -> Option<()> {
        let addresses = self.u32s_at::<{ ethernet::ADDRESS_WORDS }>(0)?;
        let ethertype = self.u16_at(ethernet::ETHERTYPE)?;
        // SAFETY: the context is the program's own; packet pointers are read afresh after this.
        if unsafe { bpf_xdp_adjust_head(self.0, -(bytes as i32)) } != 0 {
            return None;
        }
        self.put_u32s(0, addresses)?;
        self.put_u16(ethernet::ETHERTYPE, ethertype)
    }

    #[inline(always)]
    fn length(&self) -> Option<u16> {
        None
    }

    #[inline(always)]
    fn copy_out(&self, _at: u16, _piece: &mut HeldValue) -> Option<()> {
        None
    }

    #[inline(always)]
    fn copy_in(&mut self, _piece: &HeldValue) -> Option<()> {
        None
    }

    #[inline(always)]
    fn replay(&mut self, _arrival: Arrival) -> Option<()> {
        None
    }

    #[inline(always)]
    fn send(&mut self, _ifindex: u32) -> Option<()> {
        None
    }

    #[inline(always)]
    fn amount(&self, datagram: u16) -> (u32, u32) {
        (1, self.network_len(datagram))
    }

    #[inline(always)]
    fn unsegmented_len(&self, datagram: u16) -> u16 {
        self.network_len(datagram).min(u32::from(u16::MAX)) as u16
    }

    #[inline(always)]
    fn address(&mut self, hop: &NextHop) -> Option<()> {
        self.put_u32s(0, hop.ethernet)
    }
}
