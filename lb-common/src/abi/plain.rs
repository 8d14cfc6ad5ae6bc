//! Plain old data, proved by the compiler: integers only, and every byte is a field's.
//!
//! Each type of this module that lies in a map is declared inside [`plain!`]. A field that is no integer (`bool`,
//! `enum`, `Option`, a pointer) or a gap that the compiler would fill breaks the build, not a node.

use super::{Be16, V4, V6};

/// Integers and nothing else. Implemented by `plain!` and for the integers below, nowhere else.
pub trait Plain: Copy + 'static {
    /// Bytes of all integers in it: the type's size, unless there is padding.
    const BYTES: usize;
    /// Changes with names, types and order of the fields.
    const SHAPE: u64;
}

/// A step of FNV-1a.
const fn step(shape: u64, with: u64) -> u64 {
    (shape ^ with).wrapping_mul(0x0100_0000_01b3)
}

/// Takes a field, or a type, into a shape.
#[allow(clippy::as_conversions, reason = "widening, and const")]
pub(super) const fn shape(before: u64, name: &str, of: u64) -> u64 {
    let (mut shape, mut bytes) = (before, name.as_bytes());
    while let [byte, rest @ ..] = bytes {
        shape = step(shape, *byte as u64);
        bytes = rest;
    }
    step(shape, of)
}

macro_rules! integers {
    ($($ty:ty = $bytes:literal;)*) => {
        $(
            impl Plain for $ty {
                const BYTES: usize = $bytes;
                const SHAPE: u64 = shape(0, stringify!($ty), $bytes);
            }
        )*
    };
}

integers! {
    u8 = 1;
    u16 = 2;
    u32 = 4;
    u64 = 8;
    Be16 = 2;
    V4 = 4;
    V6 = 16;
}

impl<T: Plain, const N: usize> Plain for [T; N] {
    const BYTES: usize = N * T::BYTES;
    #[allow(clippy::as_conversions, reason = "widening, and const")]
    const SHAPE: u64 = shape(T::SHAPE, "[]", N as u64);
}

/// Declares a type that crosses the kernel border, for one or both address families, and proves that it is plain.
macro_rules! plain {
    ($(#[$meta:meta])* pub struct $name:ident<$addr:ident> { $($(#[$doc:meta])* pub $field:ident: $ty:ty,)* }) => {
        $(#[$meta])*
        #[repr(C)]
        pub struct $name<$addr> { $($(#[$doc])* pub $field: $ty,)* }

        impl<$addr: $crate::abi::Plain> $crate::abi::Plain for $name<$addr> {
            const BYTES: usize = 0 $(+ <$ty as $crate::abi::Plain>::BYTES)*;
            const SHAPE: u64 = {
                let shape = $crate::abi::plain::shape(0, stringify!($name), 0);
                $(let shape =
                    $crate::abi::plain::shape(shape, stringify!($field), <$ty as $crate::abi::Plain>::SHAPE);)*
                shape
            };
        }

        $crate::abi::plain::prove!($name<$crate::abi::V4>);
        $crate::abi::plain::prove!($name<$crate::abi::V6>);
    };
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$doc:meta])* pub $field:ident: $ty:ty,)* }) => {
        $(#[$meta])*
        #[repr(C)]
        pub struct $name { $($(#[$doc])* pub $field: $ty,)* }

        impl $crate::abi::Plain for $name {
            const BYTES: usize = 0 $(+ <$ty as $crate::abi::Plain>::BYTES)*;
            const SHAPE: u64 = {
                let shape = $crate::abi::plain::shape(0, stringify!($name), 0);
                $(let shape =
                    $crate::abi::plain::shape(shape, stringify!($field), <$ty as $crate::abi::Plain>::SHAPE);)*
                shape
            };
        }

        $crate::abi::plain::prove!($name);
    };
}

/// No padding; so the agent may copy the type to and from the kernel as bytes.
macro_rules! prove {
    ($ty:ty) => {
        const _: () =
            assert!(size_of::<$ty>() == <$ty as $crate::abi::Plain>::BYTES, concat!(stringify!($ty), " has padding"));

        #[cfg(feature = "user")]
        #[allow(unsafe_code, reason = "aya's marker trait is unsafe; the assertion above is its condition")]
        // SAFETY: `repr(C)`, integers only, every byte is a field's, and all bit patterns of integers are valid.
        unsafe impl aya::Pod for $ty {}
    };
}

pub(super) use {plain, prove};
