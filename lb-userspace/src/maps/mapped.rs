//! An array of the kernel as memory (`BPF_F_MMAPABLE`, Linux 5.5): what has a hundred thousand entries is written without
//! a system call for each.
#![expect(unsafe_code, reason = "the memory is shared with the kernel's programs")]

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use aya::Pod;
use aya::maps::MapData;
use memmap2::{MmapOptions, MmapRaw};

use super::failure::TableFailure;
use super::pins::{fault, open_raw, read_failure};

/// Bytes that are mapped at a time: an array has room for far more than most nodes use, and what is mapped counts as
/// this process's memory.
const WINDOW: usize = 1 << 18;

/// A pinned array whose entries are read and written in place, as the kernel's own copy of an entry is: word by word. A
/// program may see half of a change, as it may with `BPF_MAP_UPDATE_ELEM`.
pub(super) struct MappedArray<V> {
    name: &'static str,
    file: File,
    len: u32,
    windows: Vec<OnceLock<MmapRaw>>,
    values: PhantomData<V>,
}

impl<V: Pod> MappedArray<V> {
    /// The kernel aligns entries to this.
    const STRIDE: usize = size_of::<V>().next_multiple_of(8);
    /// Entries in a window.
    const IN_WINDOW: usize = WINDOW / Self::STRIDE;

    pub(super) fn open(dir: &Path, name: &'static str) -> Result<Self, TableFailure> {
        let data: MapData = open_raw(dir, name)?;
        let len = data.info().map_err(read_failure(name))?.max_entries();
        let file =
            data.fd().as_fd().try_clone_to_owned().map_err(|source| TableFailure::Mapping { map: name, source })?;
        let windows = usize::try_from(len).unwrap_or(usize::MAX).div_ceil(Self::IN_WINDOW);
        let windows = (0..windows).map(|_| OnceLock::new()).collect();
        Ok(Self { name, file: file.into(), len, windows, values: PhantomData })
    }

    /// Entries.
    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    /// The entry's place, which stays mapped as long as `self`.
    fn place(&self, index: u32) -> Result<Option<*mut V>, TableFailure> {
        if index >= self.len {
            return Ok(None);
        }
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        // Entries do not span windows: a window begins where the first entry does that has no room in the one before.
        let begin = index / Self::IN_WINDOW * Self::IN_WINDOW * Self::STRIDE;
        let at = index * Self::STRIDE;
        let Some(window) = self.windows.get(index / Self::IN_WINDOW) else { return Ok(None) };
        let mapped = if let Some(mapped) = window.get() {
            mapped
        } else {
            let mapped = self.map(begin).map_err(|source| TableFailure::Mapping { map: self.name, source })?;
            window.get_or_init(|| mapped)
        };
        Ok(Some(mapped.as_mut_ptr().wrapping_add(at - begin).cast()))
    }

    /// Maps a window's entries, or as many as there are.
    fn map(&self, begin: usize) -> io::Result<MmapRaw> {
        let all = usize::try_from(self.len).unwrap_or(usize::MAX) * Self::STRIDE;
        let length = (Self::IN_WINDOW * Self::STRIDE).min(all - begin);
        MmapOptions::new().offset(u64::try_from(begin).unwrap_or(u64::MAX)).len(length).map_raw(&self.file)
    }

    /// An entry; `None`: there are not so many.
    pub(super) fn get(&self, index: u32) -> Result<Option<V>, TableFailure> {
        let place = self.place(index)?;
        // SAFETY: `place` is inside of a mapping that lives as long as `self`, and aligned: arrays begin at a page,
        // entries at multiples of 8. Any bytes are a value. Others may write at the same time, hence volatile.
        Ok(place.map(|place| unsafe { ptr::read_volatile(place) }))
    }

    /// Calls `each` for every entry. Memory that is not mapped yet is so only while it is looked at.
    pub(super) fn walk(&self, mut each: impl FnMut(u32, &V)) -> Result<(), TableFailure> {
        let mut index = 0;
        for window in &self.windows {
            let begin = usize::try_from(index).unwrap_or(usize::MAX) * Self::STRIDE;
            let passing;
            let mapped = if let Some(mapped) = window.get() {
                mapped
            } else {
                let mapped = self.map(begin);
                passing = mapped.map_err(|source| TableFailure::Mapping { map: self.name, source })?;
                &passing
            };
            for at in 0..mapped.len() / Self::STRIDE {
                let place = mapped.as_ptr().wrapping_add(at * Self::STRIDE).cast::<V>();
                // SAFETY: `place` is inside of the mapping, and aligned: arrays begin at a page, entries at multiples of
                // 8. Any bytes are a value. Others may write at the same time, hence volatile.
                each(index, &unsafe { ptr::read_volatile(place) });
                index += 1;
            }
        }
        Ok(())
    }

    /// Adds to a word of an entry that the programs add to as well; it wraps. `at` is its offset, a multiple of 4.
    pub(super) fn add_to_word(&self, index: u32, at: usize, more: u32) -> Result<(), TableFailure> {
        match self.place(index)? {
            Some(place) if at.is_multiple_of(4) && at + 4 <= size_of::<V>() => {
                let word = place.cast::<u32>().wrapping_add(at / 4);
                // SAFETY: inside of an entry, which is mapped as long as `self` and aligned to 8 bytes; who changes this word
                // while programs run does so atomically, as they do.
                let word = unsafe { AtomicU32::from_ptr(word) };
                word.fetch_add(more, Ordering::Relaxed);
                Ok(())
            }
            _ => Err(TableFailure::Full { map: self.name }),
        }
    }

    /// Writes an entry. What is written afterwards is seen afterwards.
    pub(super) fn set(&mut self, index: u32, value: V) -> Result<(), TableFailure> {
        let Some(place) = self.place(index)? else { return Err(TableFailure::Full { map: self.name }) };
        fault(self.name)?;
        // SAFETY: as for reading.
        unsafe { ptr::write_volatile(place, value) };
        fence(Ordering::Release);
        Ok(())
    }
}

impl<V: Pod> MappedArray<V> {
    /// Writes a part of an entry, so many bytes from its beginning, whose others somebody else may write.
    pub(super) fn set_part<P: Pod>(&mut self, index: u32, at: usize, part: P) -> Result<(), TableFailure> {
        let fits = at + size_of::<P>() <= size_of::<V>() && at.is_multiple_of(align_of::<P>());
        let Some(place) = self.place(index)?.filter(|_| fits) else {
            return Err(TableFailure::Full { map: self.name });
        };
        fault(self.name)?;
        // SAFETY: as for a whole entry; the part is inside of it, and aligned.
        unsafe { ptr::write_volatile(place.cast::<u8>().wrapping_add(at).cast::<P>(), part) };
        Ok(())
    }
}

impl<const N: usize> MappedArray<[u8; N]>
where
    [u8; N]: Pod,
{
    /// Writes a byte of an entry, whose others somebody else may write.
    pub(super) fn set_byte(&mut self, index: u32, at: u32, value: u8) -> Result<(), TableFailure> {
        let at = usize::try_from(at).unwrap_or(N);
        fault(self.name)?;
        match self.place(index)? {
            // SAFETY: as for a whole entry; the byte is inside of it.
            Some(place) if at < N => unsafe {
                ptr::write_volatile(place.cast::<u8>().wrapping_add(at), value);
            },
            _ => return Err(TableFailure::Full { map: self.name }),
        }
        Ok(())
    }
}
