//! An XDP frame's bytes.

use aya_ebpf::bindings::xdp_md;
use lb_common::datapath::{Packet, Store};

use crate::access::{read, write};

/// An XDP frame.
pub(crate) struct XdpPacket(pub(crate) *mut xdp_md);

impl Packet for XdpPacket {
    #[inline(always)]
    fn words<const W: usize>(&self, offset: usize) -> Option<[u32; W]> {
        read(self.0, offset)
    }

    #[inline(always)]
    fn half(&self, offset: usize) -> Option<u16> {
        read(self.0, offset)
    }
}

impl Store for XdpPacket {
    #[inline(always)]
    fn store<const W: usize>(&mut self, offset: usize, words: [u32; W]) -> Option<()> {
        write(self.0, offset, words)
    }

    #[inline(always)]
    fn store_half(&mut self, offset: usize, half: u16) -> Option<()> {
        write(self.0, offset, half)
    }
}
