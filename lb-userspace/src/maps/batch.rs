//! Walks a map in chunks of typed entries.
#![expect(unsafe_code, reason = "bytes of the kernel become values")]

use std::io;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;

use aya::Pod;

use crate::linux::bpf_map::{self, EntrySize};

/// Calls `each` with chunks of about `chunk` entries until the end or until it breaks.
pub fn walk<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    chunk: usize,
    mut each: impl FnMut(&[K], &[V]) -> ControlFlow<()>,
) -> io::Result<()> {
    let size = EntrySize { key: size_of::<K>(), value: size_of::<V>() };
    bpf_map::walk(map, size, chunk, |keys, values| each(&typed(keys), &typed(values)))
}

fn typed<T: Pod>(bytes: &[u8]) -> Vec<T> {
    // SAFETY: each chunk has the size of a value, and any bytes are one; they may lie anywhere.
    bytes.chunks_exact(size_of::<T>()).map(|value| unsafe { value.as_ptr().cast::<T>().read_unaligned() }).collect()
}
