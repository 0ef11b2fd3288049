//! How the process keeps its memory.

/// Makes all threads share two arenas of the allocator, and gives freed memory back early.
///
/// By default nearly every thread gets an arena of its own; a process with many short-lived threads then
/// keeps what they once used. To be called before there are threads.
#[allow(unsafe_code, reason = "std and rustix have no mallopt")]
pub fn keep_little() {
    const ARENAS: i32 = 2;
    const KEPT: i32 = 256 * 1024;
    // SAFETY: mallopt takes numbers, and no other thread allocates yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
    }
}
