//! Walks a hash map bucket by bucket with `BPF_MAP_LOOKUP_BATCH` (Linux 5.6), which aya does not have: a walk by "next key"
//! starts over whenever the key it stands on is evicted, so in a busy table it may never end.
#![expect(unsafe_code, reason = "one raw system call")]

use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsRawFd, BorrowedFd};

use aya::Pod;

/// `BPF_MAP_LOOKUP_BATCH`, `enum bpf_cmd`.
const LOOKUP_BATCH: libc::c_long = 24;
/// No bucket of these maps holds more than this.
const LARGEST_CHUNK: usize = 1 << 20;

/// `struct { ... } batch` of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

fn zeroed<T: Pod>(count: usize) -> Vec<T> {
    // SAFETY: plain old data is valid for all bit patterns, zeros included.
    vec![unsafe { std::mem::zeroed::<T>() }; count]
}

/// Calls `each` with chunks of about `chunk` entries until the end or until it breaks.
pub fn walk<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    chunk: usize,
    mut each: impl FnMut(&[K], &[V]) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut position: Option<u32> = None;
    let mut room = chunk.max(64);
    loop {
        let mut keys = zeroed::<K>(room);
        let mut values = zeroed::<V>(room);
        let mut next = 0u32;
        let mut attr = BatchAttr {
            in_batch: position.as_ref().map_or(0, |at| std::ptr::from_ref(at).addr() as u64),
            out_batch: std::ptr::from_mut(&mut next).expose_provenance() as u64,
            keys: keys.as_mut_ptr().expose_provenance() as u64,
            values: values.as_mut_ptr().expose_provenance() as u64,
            count: u32::try_from(room).unwrap_or(u32::MAX),
            map_fd: u32::try_from(map.as_raw_fd()).unwrap_or(0),
            ..BatchAttr::default()
        };
        // SAFETY: `attr` is laid out as the kernel's, its pointers lead to `count` keys and values and to two positions
        // of 4 bytes, all alive during the call; keys and values are plain old data of the map's sizes.
        let result = unsafe { libc::syscall(libc::SYS_bpf, LOOKUP_BATCH, &raw mut attr, size_of::<BatchAttr>()) };
        let failure = (result < 0).then(io::Error::last_os_error);
        let found = usize::try_from(attr.count).unwrap_or(0).min(room);
        match failure.as_ref().and_then(io::Error::raw_os_error) {
            None | Some(libc::ENOENT) => {
                if found > 0 && each(&keys[..found], &values[..found]).is_break() {
                    return Ok(());
                }
                if failure.is_some() {
                    return Ok(());
                }
                position = Some(next);
            }
            // The next bucket does not fit.
            Some(libc::ENOSPC) if room < LARGEST_CHUNK => room *= 2,
            _ => return Err(failure.unwrap_or_else(|| io::ErrorKind::Other.into())),
        }
    }
}
