//! Archives whose headers have the right sums, which chance would hardly find.

/// Length of a block.
pub const BLOCK: usize = 512;
const SUM: std::ops::Range<usize> = 148..156;
const SIZE: std::ops::Range<usize> = 124..136;

/// Gives each header the sum that it should have, as far as headers can be followed.
pub fn mend(archive: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = archive.get_mut(at..at + BLOCK) {
        if header.iter().all(|byte| *byte == 0) {
            return;
        }
        mend_header(header);
        let size = header[SIZE]
            .iter()
            .filter(|byte| byte.is_ascii_digit())
            .fold(0_usize, |size, byte| {
                size.saturating_mul(8) + usize::from(byte & 7)
            });
        at = at
            .saturating_add(BLOCK)
            .saturating_add(size.checked_next_multiple_of(BLOCK).unwrap_or(usize::MAX))
            .min(usize::MAX - BLOCK);
    }
}

fn mend_header(header: &mut [u8]) {
    header[SUM].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[SUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Appends a member.
pub fn member(archive: &mut Vec<u8>, kind: u8, name: &[u8], link: &[u8], payload: &[u8]) {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &name[..name.len().min(100)]);
    put(100, b"0000755\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", payload.len()).as_bytes());
    put(136, b"14524360400\0");
    put(156, &[kind]);
    put(157, &link[..link.len().min(100)]);
    put(257, b"ustar\x0000");
    mend_header(&mut header);
    archive.extend_from_slice(&header);
    archive.extend_from_slice(payload);
    archive.resize(archive.len().next_multiple_of(BLOCK), 0);
}
