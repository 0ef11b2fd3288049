//! How much memory a zstd frame asks for, read from its header (RFC 8878, section 3.1.1.1).

/// The most bytes of a frame that [`window`] needs.
pub const HEADER: usize = 18;

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The bytes that a decoder must remember of the frame that begins so; none when that can't be told.
pub fn window(start: &[u8]) -> Option<u64> {
    let rest = start.strip_prefix(&MAGIC)?;
    let (descriptor, rest) = rest.split_first()?;
    let is_single = descriptor & 0b10_0000 != 0;
    if !is_single {
        let (window, _) = rest.split_first()?;
        let base = 1_u64 << (10 + u32::from(window >> 3));
        return Some(base + base / 8 * u64::from(window & 0b111));
    }
    // All of it is one segment, and as large as what comes out.
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 0b11)];
    let (length, added) = [(1, 0), (2, 256), (4, 0), (8, 0)][usize::from(descriptor >> 6)];
    let field = rest.get(dictionary..dictionary + length)?;
    let size = field
        .iter()
        .rev()
        .fold(0, |size, byte| size << 8 | u64::from(*byte));
    Some(size + added)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_window_is_what_the_encoder_was_told() {
        for log in [10, 20, 23, 24, 27] {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
            encoder.window_log(log).unwrap();
            encoder.write_all(b"hello").unwrap();
            let frame = encoder.finish().unwrap();
            assert_eq!(window(&frame), Some(1 << log));
        }
    }

    #[test]
    fn a_frame_of_one_segment_is_as_large_as_its_contents() {
        for size in [0, 200, 256, 300, 65_000, 70_000, 5_000_000] {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
            encoder.window_log(27).unwrap();
            encoder.set_pledged_src_size(Some(size)).unwrap();
            encoder.write_all(&vec![7; size as usize]).unwrap();
            let frame = encoder.finish().unwrap();
            assert_eq!(window(&frame), Some(size), "{size}");
        }
    }

    #[test]
    fn what_is_no_frame_or_cut_short_has_no_window() {
        for start in [
            &b""[..],
            b"\x50\x2a\x4d\x18\0\0\0\0",
            &MAGIC,
            &[0x28, 0xb5, 0x2f, 0xfd, 0xe0, 1],
        ] {
            assert_eq!(window(start), None);
        }
    }
}
