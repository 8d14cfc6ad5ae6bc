//! An XDP frame's bytes.

use aya_ebpf::bindings::xdp_md;
use lb_common::datapath::{Packet, Store};

use crate::context::Context as _;

/// Highest offset at which headers are looked for: lets the verifier bound what is added to the packet pointer.
const REACH: usize = 0x3ff;

/// An XDP frame.
pub(crate) struct XdpPacket(pub(crate) *mut xdp_md);

impl XdpPacket {
    #[inline(always)]
    fn start(&self) -> usize {
        self.0.data()
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.0.data_end()
    }

    #[inline(always)]
    fn at(&self, offset: usize, length: usize) -> Option<usize> {
        if offset > REACH {
            return None;
        }
        let start = self.start() + (offset & REACH);
        if start + length > self.end() { None } else { Some(start) }
    }
}

impl Packet for XdpPacket {
    #[inline(always)]
    fn words<const W: usize>(&self, offset: usize) -> Option<[u32; W]> {
        let at = self.at(offset, 4 * W)? as *const [u32; W];
        // SAFETY: `at` found the words inside the packet. They may be unaligned: BPF loads have no alignment of their
        // own, and the verifier refuses the program on machines where that matters.
        Some(unsafe { *at })
    }

    #[inline(always)]
    fn half(&self, offset: usize) -> Option<u16> {
        let at = self.at(offset, 2)? as *const u16;
        // SAFETY: as in `words`.
        Some(unsafe { *at })
    }
}

impl Store for XdpPacket {
    #[inline(always)]
    fn store<const W: usize>(&mut self, offset: usize, words: [u32; W]) -> Option<()> {
        let at = self.at(offset, 4 * W)? as *mut [u32; W];
        // SAFETY: as in `words`; XDP frames are writable and `self` is borrowed mutably.
        unsafe { *at = words };
        Some(())
    }

    #[inline(always)]
    fn store_half(&mut self, offset: usize, half: u16) -> Option<()> {
        let at = self.at(offset, 2)? as *mut u16;
        // SAFETY: as in `store`.
        unsafe { *at = half };
        Some(())
    }
}
