//! Keeps the process small: what a large change needed goes back to the system.
#![expect(unsafe_code, reason = "two calls of the C library's allocator")]

/// Allocations from this size on are separate mappings, gone when they are freed. The C library would raise its
/// own threshold with each large one that it sees.
#[cfg(target_env = "gnu")]
const OWN_MAPPING_FROM: libc::c_int = 256 * 1024;
/// An arena for each thread that ever parsed something would keep what that thread left in it.
#[cfg(target_env = "gnu")]
const ARENAS: libc::c_int = 2;

/// To be called once, before threads are started.
pub fn settle_allocator() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [(libc::M_MMAP_THRESHOLD, OWN_MAPPING_FROM), (libc::M_ARENA_MAX, ARENAS)] {
        // SAFETY: `mallopt` takes two numbers and may be called at any time.
        if unsafe { libc::mallopt(parameter, value) } == 0 {
            tracing::debug!(parameter, "the allocator keeps its default");
        }
    }
}

/// Gives free memory back. Takes some milliseconds when there is much of it.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim` takes a number and may be called at any time.
    let _whether_there_was_any = unsafe { libc::malloc_trim(0) };
}
