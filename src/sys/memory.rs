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

/// Has the kernel hand out the spare memory of a large buffer at once, where a page at each first touch
/// takes thrice as long. Small buffers, and kernels before 5.14, are left alone.
#[allow(unsafe_code, reason = "rustix has no safe madvise")]
pub fn populate<T>(buffer: &mut Vec<T>) {
    const PAGE: usize = 4096;
    const SMALLEST: usize = 32 * PAGE;
    const HUGE: usize = 512 * PAGE;
    let spare = buffer.spare_capacity_mut();
    let start = spare.as_mut_ptr().cast::<u8>();
    let size = std::mem::size_of_val(spare);
    // Whole pages of the spare part only: what shares a page with it is somebody else's.
    let before = start.align_offset(PAGE);
    let Some(whole) = size.checked_sub(before) else {
        return;
    };
    let whole = whole / PAGE * PAGE;
    if whole < SMALLEST {
        return;
    }
    // SAFETY: the pages lie in the buffer, which is ours alone and lives on; they keep their contents.
    // A failure changes nothing: the pages then come one by one.
    unsafe {
        if whole >= HUGE {
            libc::madvise(start.add(before).cast(), whole, libc::MADV_HUGEPAGE);
        }
        libc::madvise(start.add(before).cast(), whole, libc::MADV_POPULATE_WRITE);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_populated_buffer_is_as_it_was() {
        for size in [0, 5, 4096, 1 << 20] {
            let mut buffer = Vec::<u64>::with_capacity(size);
            buffer.push(7);
            super::populate(&mut buffer);
            buffer.extend(0..size as u64);
            let numbers = std::iter::once(7).chain(0..size as u64);
            assert!(buffer.into_iter().eq(numbers));
        }
    }
}
