//! An skb's bytes, and the rewrite by helpers that know about unfinished checksums.

use aya_ebpf::bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::helpers::generated::{bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_skb_pull_data, bpf_skb_store_bytes};
use lb_common::abi::{Address, FlowValue, proto};
use lb_common::datapath::{Fragment, Headers, IpVersion, Packet, Store, checksum};

/// Highest offset at which headers are looked for.
const REACH: usize = 0x3ff;
/// `BPF_F_IPV6` (Linux 6.16 and stable branches): an IPv6 pseudo-header change is made up for by the checksum itself,
/// so a device's sum over the whole packet stays right. Older kernels refuse the flag and are asked without it.
const F_IPV6: u64 = 1 << 7;
/// What `checksum::delta` gives for no change.
const UNCHANGED: u16 = 0xffff;

/// A socket buffer.
pub(crate) struct SkbPacket(pub(crate) *mut __sk_buff);

impl SkbPacket {
    #[inline(always)]
    pub(crate) fn start(&self) -> usize {
        // SAFETY: the context is valid for the whole program. Volatile: each access has to be checked where the verifier
        // sees it, and must not be derived from another one's check.
        unsafe { (&raw const (*self.0).data).read_volatile() as usize }
    }

    #[inline(always)]
    pub(crate) fn end(&self) -> usize {
        // SAFETY: the context is valid for the whole program. Volatile: each access has to be checked where the verifier
        // sees it, and must not be derived from another one's check.
        unsafe { (&raw const (*self.0).data_end).read_volatile() as usize }
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> u32 {
        // SAFETY: the context is valid for the whole program.
        unsafe { (*self.0).len }
    }

    /// Makes more of the packet readable. False: all of it was already, or it could not be done.
    #[inline(always)]
    pub(crate) fn pull(&self, length: u32) -> bool {
        let readable = (self.end() - self.start()) as u32;
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

    #[inline(always)]
    fn l3_delta(&self, offset: usize, delta: u16) -> bool {
        // SAFETY: the context is the program's own; the helper checks the offset.
        unsafe { bpf_l3_csum_replace(self.0, offset as u32, 0, u64::from(delta), 0) == 0 }
    }

    /// Rewrites as a flow says; with `hop`, takes one off the hop limit.
    #[inline(always)]
    pub(crate) fn rewrite<A: IpVersion>(
        &mut self,
        l3: usize,
        headers: &Headers<A>,
        value: &FlowValue<A>,
        hop: bool,
    ) -> Option<()> {
        let l4 = usize::from(headers.l4);
        if headers.fragment != Fragment::Later {
            let (field, flags) =
                if headers.key.proto == proto::TCP { (l4 + 16, 0) } else { (l4 + 6, u64::from(BPF_F_MARK_MANGLED_0)) };
            if !self.l4_delta::<A>(field, value.addr_delta, flags | u64::from(BPF_F_PSEUDO_HDR)) {
                return None;
            }
            if value.port_delta != UNCHANGED && !self.l4_delta::<V4Ports>(field, value.port_delta, flags) {
                return None;
            }
            let [s0, s1] = value.sport.0.to_ne_bytes();
            let [d0, d1] = value.dport.0.to_ne_bytes();
            self.store(l4, [s0, s1, d0, d1])?;
        }
        let mut header_delta = value.addr_delta;
        if hop {
            let next = *self.bytes::<2>(l3 + A::TTL)?;
            let old = u16::from_ne_bytes(next);
            let new = [next[0].wrapping_sub(1), next[1]];
            header_delta =
                checksum::add(header_delta, checksum::delta(u64::from(old), u64::from(u16::from_ne_bytes(new))));
            self.store(l3 + A::TTL, [new[0]])?;
        }
        if !A::IS_V6 && !self.l3_delta(l3 + 10, header_delta) {
            return None;
        }
        A::store_pair(self, l3, value.src, value.dst)
    }
}

/// Ports are no part of a pseudo-header, so their delta is family-free; IPv4's way is the plain one.
type V4Ports = lb_common::abi::V4;

impl Packet for SkbPacket {
    #[inline(always)]
    fn bytes<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        if offset > REACH {
            return None;
        }
        let at = self.start() + (offset & REACH);
        if at + N > self.end() {
            return None;
        }
        // SAFETY: `N` bytes from `at` are inside the linear part; byte arrays need no alignment.
        Some(unsafe { &*(at as *const [u8; N]) })
    }
}

impl Store for SkbPacket {
    #[inline(always)]
    fn store<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()> {
        // SAFETY: the context is the program's own, the source is `N` bytes on the stack; the helper checks the offset.
        let ret = unsafe { bpf_skb_store_bytes(self.0, offset as u32, bytes.as_ptr().cast(), N as u32, 0) };
        if ret == 0 { Some(()) } else { None }
    }

    #[inline(always)]
    fn complete_checksum(&mut self, offset: usize, pseudo: u16, rest: u16) -> Option<()> {
        let pseudo_done = self.l4_delta::<V4Ports>(offset, pseudo, u64::from(BPF_F_PSEUDO_HDR));
        if pseudo_done && self.l4_delta::<V4Ports>(offset, rest, 0) { Some(()) } else { None }
    }
}
