//! An XDP frame's bytes.

use aya_ebpf::bindings::xdp_md;
use lb_common::datapath::{Packet, PacketMut, Store};

/// Highest offset at which headers are looked for: lets the verifier bound what is added to the packet pointer.
const REACH: usize = 0x3ff;

/// An XDP frame.
pub(crate) struct XdpPacket(pub(crate) *mut xdp_md);

impl XdpPacket {
    #[inline(always)]
    fn start(&self) -> usize {
        // SAFETY: the context is valid for the whole program. Volatile: each access has to be checked where the verifier
        // sees it, and must not be derived from another one's check.
        unsafe { (&raw const (*self.0).data).read_volatile() as usize }
    }

    #[inline(always)]
    fn end(&self) -> usize {
        // SAFETY: the context is valid for the whole program. Volatile: each access has to be checked where the verifier
        // sees it, and must not be derived from another one's check.
        unsafe { (&raw const (*self.0).data_end).read_volatile() as usize }
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
    fn bytes<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        let at = self.at(offset, N)? as *const [u8; N];
        // SAFETY: `at` found `N` bytes inside the frame; byte arrays need no alignment.
        Some(unsafe { &*at })
    }
}

impl PacketMut for XdpPacket {
    #[inline(always)]
    fn bytes_mut<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        let at = self.at(offset, N)? as *mut [u8; N];
        // SAFETY: as in `bytes`; XDP frames are writable and `self` is borrowed mutably.
        Some(unsafe { &mut *at })
    }
}

impl Store for XdpPacket {
    #[inline(always)]
    fn store<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()> {
        *self.bytes_mut::<N>(offset)? = bytes;
        Some(())
    }
}
