//! BPF maps as bytes, whatever is in them: what aya does for types alone, and in batches not at all.
//!
//! A walk bucket by bucket (`BPF_MAP_LOOKUP_BATCH`, Linux 5.6) ends: one by "next key" starts over whenever the key it stands
//! on is evicted, so in a busy table it may never end.
#![expect(unsafe_code, reason = "raw system calls")]

use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::faults;

const LOOKUP_ELEM: libc::c_long = 1;
const UPDATE_ELEM: libc::c_long = 2;
const GET_NEXT_KEY: libc::c_long = 4;
/// `BPF_MAP_LOOKUP_BATCH`, `enum bpf_cmd`.
const LOOKUP_BATCH: libc::c_long = 24;
/// `BPF_NOEXIST`.
pub const ONLY_NEW: u64 = 1;
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

/// `union bpf_attr`, the part for single entries.
#[repr(C)]
struct EntryAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

fn number(map: BorrowedFd<'_>) -> u32 {
    map.as_raw_fd().cast_unsigned()
}

fn call<T>(command: libc::c_long, attr: &mut T) -> io::Result<()> {
    let attr = std::ptr::from_mut(attr);
    // SAFETY: `attr` is laid out as the kernel's, and its pointers lead to memory of the map's sizes that is alive during the
    // call: callers see to it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Bytes of a map's keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntrySize {
    /// Of a key.
    pub key: usize,
    /// Of a value.
    pub value: usize,
}

/// Calls `each` with the bytes of about `chunk` keys and values until the end or until it breaks.
pub fn walk(
    map: BorrowedFd<'_>,
    size: EntrySize,
    chunk: usize,
    mut each: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
) -> io::Result<()> {
    // A position is a number for hash tables and arrays, and a key for tries.
    let mut position: Option<Vec<u8>> = None;
    let mut room = chunk.max(64);
    loop {
        let mut keys = vec![0u8; room * size.key];
        let mut values = vec![0u8; room * size.value];
        let mut next = vec![0u8; size.key.max(4)];
        let mut attr = BatchAttr {
            in_batch: position.as_ref().map_or(0, |at| at.as_ptr().expose_provenance() as u64),
            out_batch: next.as_mut_ptr().expose_provenance() as u64,
            keys: keys.as_mut_ptr().expose_provenance() as u64,
            values: values.as_mut_ptr().expose_provenance() as u64,
            count: u32::try_from(room).unwrap_or(u32::MAX),
            map_fd: number(map),
            ..BatchAttr::default()
        };
        let failure = call(LOOKUP_BATCH, &mut attr).err();
        let found = usize::try_from(attr.count).unwrap_or(0).min(room);
        match failure.as_ref().and_then(io::Error::raw_os_error) {
            None | Some(libc::ENOENT) => {
                if found > 0 && each(&keys[..found * size.key], &values[..found * size.value]).is_break() {
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

fn entry(map: BorrowedFd<'_>, key: &[u8], value: u64, flags: u64) -> EntryAttr {
    EntryAttr { map_fd: number(map), pad: 0, key: key.as_ptr().expose_provenance() as u64, value, flags }
}

/// Reads an entry into `value`, which has the size of the map's values. False: it is not there.
pub fn read(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    let mut attr = entry(map, key, value.as_mut_ptr().expose_provenance() as u64, 0);
    match call(LOOKUP_ELEM, &mut attr) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        other => other.map(|()| true),
    }
}

/// Writes an entry; with [`ONLY_NEW`] only where nothing is. False: there was one.
pub fn write(map: BorrowedFd<'_>, key: &[u8], value: &[u8], flags: u64) -> io::Result<bool> {
    let mut attr = entry(map, key, value.as_ptr().expose_provenance() as u64, flags);
    faults::point("entry that is carried over")?;
    match call(UPDATE_ELEM, &mut attr) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        other => other.map(|()| true),
    }
}

/// The key behind this one, or the first, into `next`. False: it is not there.
pub fn next_key(map: BorrowedFd<'_>, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<bool> {
    let mut attr = entry(map, key.unwrap_or_default(), next.as_mut_ptr().expose_provenance() as u64, 0);
    if key.is_none() {
        attr.key = 0;
    }
    match call(GET_NEXT_KEY, &mut attr) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        other => other.map(|()| true),
    }
}
