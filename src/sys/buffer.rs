//! A buffer that the kernel reads files into fast.

use std::ops::{Deref, DerefMut};

const PAGE: usize = 4096;

/// Zeroed bytes that begin where a page does.
///
/// The allocator lets a large buffer begin 16 bytes behind a page's start. There some processors (AMD's Zen 3) take four
/// times as long to copy a cached page: the write that is 16 bytes behind the read looks to them as if it fed the next one.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// One of `len` bytes.
    pub fn new(len: usize) -> Self {
        let bytes = vec![0; len + PAGE];
        // Less than a page, or when it can't be told more than there is.
        let start = bytes.as_ptr().align_offset(PAGE).min(PAGE);
        Self { bytes, start, len }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..][..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_of_any_length_begins_with_a_page() {
        for len in [0, 1, PAGE - 1, PAGE, 64 << 10, 1 << 20] {
            let mut buffer = Buffer::new(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr().addr() % PAGE, 0, "{len}");
            buffer.fill(7);
            assert!(buffer.iter().all(|byte| *byte == 7));
        }
    }
}
