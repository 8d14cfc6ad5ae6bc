//! Puts a packet's headers back to those of the next flow, at the same cost whatever the last program did to them.

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::generated::bpf_xdp_adjust_meta;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;

/// Headers of one flow's packet: 14 bytes of Ethernet in the first two words, then the rest.
///
/// The words after the Ethernet header are written as they lie here, so that every aligned word that a program reads
/// was written by one store: a load that has to wait for two stores would be charged to the program under test.
type Template = [u64; 10];

/// Number of flows that a case cycles over.
const FLOWS: u32 = 1024;

/// What to restore: counter of packets, first template of the case, mask of the counter's bits that go into source port
/// (low half) and source address (high half), and an unused word.
#[map]
static STATE: Array<[u32; 4]> = Array::with_max_entries(1, 0);
/// Templates, `FLOWS` a case.
#[map]
static TEMPLATES: Array<Template> = Array::with_max_entries(FLOWS, 0);

/// Where a family has the end of its source address and its source port.
pub(crate) trait Family {
    /// Words of 8 bytes behind the Ethernet header.
    const WORDS: usize;
    /// Whether half a word follows them.
    const HALF: bool;
    /// Word that ends with the last 4 bytes of the source address.
    const ADDRESS: usize;
    /// Word with the source port, and by how many bits it is shifted.
    const PORT: (usize, u32);
    /// Length of Ethernet, IP and TCP headers.
    const LENGTH: usize = 14 + 8 * Self::WORDS + if Self::HALF { 4 } else { 0 };
}

/// IPv4.
pub(crate) struct V4;
/// IPv6.
pub(crate) struct V6;

impl Family for V4 {
    const WORDS: usize = 5;
    const HALF: bool = false;
    const ADDRESS: usize = 1;
    const PORT: (usize, u32) = (2, 32);
}

impl Family for V6 {
    const WORDS: usize = 7;
    const HALF: bool = true;
    const ADDRESS: usize = 2;
    const PORT: (usize, u32) = (5, 0);
}

/// Restores a frame. False: something is wrong with the harness.
#[inline(always)]
pub(crate) fn xdp<F: Family>(ctx: *mut xdp_md) -> bool {
    // SAFETY: the context is valid for the whole program.
    let (meta, data) = unsafe { ((*ctx).data_meta as usize, (*ctx).data as usize) };
    // Called also when there is nothing to take back: the cost must not depend on the program under test.
    // SAFETY: the context is the program's own; packet pointers are read afresh after this.
    unsafe { bpf_xdp_adjust_meta(ctx, (data - meta) as i32) };
    // SAFETY: the context is valid for the whole program.
    let (data, end) = unsafe { ((*ctx).data as usize, (*ctx).data_end as usize) };
    fill::<F>(data, end)
}

/// Restores a socket buffer. False: something is wrong with the harness.
#[inline(always)]
pub(crate) fn tc<F: Family>(ctx: *mut __sk_buff) -> bool {
    // SAFETY: the context is valid for the whole program.
    let (data, end) = unsafe { ((*ctx).data as usize, (*ctx).data_end as usize) };
    fill::<F>(data, end)
}

#[inline(always)]
fn fill<F: Family>(data: usize, end: usize) -> bool {
    let Some(state) = STATE.get_ptr_mut(0) else { return false };
    // SAFETY: the verifier has seen the null check; the bench runs one packet at a time.
    let [next, base, mask, _] = unsafe { *state };
    // SAFETY: as above.
    unsafe { (*state)[0] = next.wrapping_add(1) };
    let Some(template) = TEMPLATES.get(base.wrapping_add(next & (FLOWS - 1))) else { return false };
    if data + F::LENGTH > end {
        return false;
    }
    let salt = next & mask;
    let port = u64::from((salt as u16).to_be()) << F::PORT.1;
    let address = u64::from((salt >> 16).to_be()) << 32;
    // SAFETY: the comparison above shows these bytes to be inside the packet.
    unsafe {
        *(data as *mut u32) = template[0] as u32;
        *((data + 4) as *mut u32) = (template[0] >> 32) as u32;
        *((data + 8) as *mut u32) = template[1] as u32;
        *((data + 12) as *mut u16) = (template[1] >> 32) as u16;
    }
    let mut word = 0;
    while word < F::WORDS {
        let mut bytes = template[2 + word];
        if word == F::ADDRESS {
            bytes ^= address;
        }
        if word == F::PORT.0 {
            bytes ^= port;
        }
        // SAFETY: as above.
        unsafe { *((data + 14 + 8 * word) as *mut u64) = bytes };
        word += 1;
    }
    if F::HALF {
        // SAFETY: as above.
        unsafe { *((data + 14 + 8 * F::WORDS) as *mut u32) = template[2 + F::WORDS] as u32 };
    }
    true
}
