//! An skb's bytes, and the rewrite by helpers that know about unfinished checksums.

use aya_ebpf::bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::helpers::generated::{bpf_l4_csum_replace, bpf_skb_pull_data};
use lb_common::abi::{Address, FlowValue, proto};
use lb_common::datapath::{Fragment, Headers, IpVersion, Packet, Store, checksum};

use crate::access::{read, write};
use crate::context::Context as _;

/// `BPF_F_IPV6` (Linux 6.16 and stable branches): an IPv6 pseudo-header change is made up for by the checksum itself,
/// so a device's sum over the whole packet stays right. Older kernels refuse the flag and are asked without it.
const F_IPV6: u64 = 1 << 7;

/// A socket buffer.
pub(crate) struct SkbPacket(pub(crate) *mut __sk_buff);

impl SkbPacket {
    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: the context is valid for the whole program.
        unsafe { (*self.0).len }
    }

    /// How many packets it stands for (segmentation and receive offloads), and its bytes from `l3` on.
    #[inline(always)]
    pub(crate) fn amount(&self, l3: usize) -> (u32, u32) {
        // SAFETY: the context is valid for the whole program.
        let segments = unsafe { (*self.0).gso_segs };
        (if segments == 0 { 1 } else { segments }, self.len().wrapping_sub(l3 as u32))
    }

    /// Makes more of the packet readable. False: all of it was already, or it could not be done.
    #[inline(always)]
    pub(crate) fn pull(&self, length: u32) -> bool {
        let readable = (self.0.data_end() - self.0.data()) as u32;
        let length = if self.len() < length { self.len() } else { length };
        // SAFETY: the context is the program's own; packet pointers are read afresh at each use.
        readable < length && unsafe { bpf_skb_pull_data(self.0, length) } == 0
    }

    #[inline(always)]
    fn l4_delta<A: Address>(&self, offset: usize, delta: u16, flags: u64) -> bool {
        // SAFETY: the context is the program's own; the helper checks the offset.
        let ok = |flags| unsafe { bpf_l4_csum_replace(self.0, offset as u32, 0, u64::from(delta), flags) } == 0;
        if A::IS_V6 && flags & u64::from(BPF_F_PSEUDO_HDR) != 0 {
            return ok(flags | F_IPV6) || ok(flags);
        }
        ok(flags)
    }

    /// Rewrites as a flow says, and takes `hops` off the hop limit.
    #[inline(always)]
    pub(crate) fn rewrite<A: IpVersion>(
        &mut self,
        l3: usize,
        headers: &Headers<A>,
        value: &FlowValue<A>,
        hops: u8,
    ) -> Option<()> {
        let l4 = usize::from(headers.l4);
        if headers.fragment != Fragment::Later {
            let (field, flags) =
                if headers.key.proto == proto::TCP { (l4 + 16, 0) } else { (l4 + 6, u64::from(BPF_F_MARK_MANGLED_0)) };
            if !self.l4_delta::<A>(field, value.addr_delta, flags | u64::from(BPF_F_PSEUDO_HDR)) {
                return None;
            }
            if value.port_delta != checksum::UNCHANGED && !self.l4_delta::<V4Ports>(field, value.port_delta, flags) {
                return None;
            }
            self.store(l4, [u32::from(value.sport.0) | u32::from(value.dport.0) << 16])?;
        }
        // The IP header's own checksum is always complete, and makes up for the header's change in a device's sum.
        A::rewrite(self, l3, value.src, value.dst, value.addr_delta, hops)
    }
}

/// Ports are no part of a pseudo-header, so their delta is family-free; IPv4's way is the plain one.
type V4Ports = lb_common::abi::V4;

impl Packet for SkbPacket {
    #[inline(always)]
    fn words<const W: usize>(&self, offset: usize) -> Option<[u32; W]> {
        read(self.0, offset)
    }

    #[inline(always)]
    fn half(&self, offset: usize) -> Option<u16> {
        read(self.0, offset)
    }
}

impl Store for SkbPacket {
    #[inline(always)]
    fn store<const W: usize>(&mut self, offset: usize, words: [u32; W]) -> Option<()> {
        write(self.0, offset, words)
    }

    #[inline(always)]
    fn store_half(&mut self, offset: usize, half: u16) -> Option<()> {
        write(self.0, offset, half)
    }

    #[inline(always)]
    fn complete_checksum(&mut self, offset: usize, pseudo: u16, rest: u16) -> Option<()> {
        let pseudo_done = self.l4_delta::<V4Ports>(offset, pseudo, u64::from(BPF_F_PSEUDO_HDR));
        if pseudo_done && self.l4_delta::<V4Ports>(offset, rest, 0) { Some(()) } else { None }
    }
}
