//! Packet pointers out of a program's context.
//!
//! Read volatile each time: helpers move the packet, and a check of one access must not be taken for another's, since
//! the verifier follows each on its own.

use aya_ebpf::bindings::{__sk_buff, xdp_md};

/// A context with packet pointers.
pub(crate) trait Context: Copy {
    /// First byte of the packet.
    fn data(self) -> usize;
    /// One past the last readable byte.
    fn data_end(self) -> usize;
    /// First byte of the metadata in front of the packet.
    fn data_meta(self) -> usize;
    /// Device at which the packet is.
    fn ifindex(self) -> u32;
}

macro_rules! context {
    ($ty:ty, $ifindex:ident) => {
        impl Context for *mut $ty {
            #[inline(always)]
            fn data(self) -> usize {
                // SAFETY: the kernel's context, valid for the whole program.
                let field = unsafe { &raw const (*self).data };
                // SAFETY: a field of that context.
                unsafe { field.read_volatile() as usize }
            }

            #[inline(always)]
            fn data_end(self) -> usize {
                // SAFETY: the kernel's context, valid for the whole program.
                let field = unsafe { &raw const (*self).data_end };
                // SAFETY: a field of that context.
                unsafe { field.read_volatile() as usize }
            }

            #[inline(always)]
            fn data_meta(self) -> usize {
                // SAFETY: the kernel's context, valid for the whole program.
                unsafe { (*self).data_meta as usize }
            }

            #[inline(always)]
            fn ifindex(self) -> u32 {
                // SAFETY: the kernel's context, valid for the whole program.
                unsafe { (*self).$ifindex }
            }
        }
    };
}

context!(__sk_buff, ifindex);
context!(xdp_md, ingress_ifindex);
