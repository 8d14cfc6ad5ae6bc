//! A packet's bytes between two packet pointers: what XDP frames and skbs have in common.

use crate::context::Context;

/// Highest offset at which headers are looked for: lets the verifier bound what is added to the packet pointer.
const REACH: usize = 0x3ff;

/// Where a `T` at `offset` lies, or `None` where the packet is shorter. It may be unaligned.
#[inline(always)]
fn at<C: Context, T>(ctx: C, offset: usize) -> Option<*mut T> {
    if offset > REACH {
        return None;
    }
    let at = ctx.data() + (offset & REACH);
    if at + size_of::<T>() > ctx.data_end() { None } else { Some(at as *mut T) }
}

/// Reads a `T`, made of integers only, at `offset`.
#[inline(always)]
pub(crate) fn read<C: Context, T: Copy>(ctx: C, offset: usize) -> Option<T> {
    let at = at::<C, T>(ctx, offset)?;
    // SAFETY: `at` found the value inside the packet. It may be unaligned: BPF loads have no alignment of their own, and
    // the verifier refuses the program on machines where that matters.
    Some(unsafe { *at })
}

/// Writes a `T`, made of integers only, at `offset`.
#[inline(always)]
pub(crate) fn write<C: Context, T: Copy>(ctx: C, offset: usize, value: T) -> Option<()> {
    let at = at::<C, T>(ctx, offset)?;
    // SAFETY: as in `read`. XDP frames are writable; a program that writes to an skb gets one of its own from the
    // verifier's prologue.
    unsafe { *at = value };
    Some(())
}
