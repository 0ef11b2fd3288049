//! One block of a header: where the fields are and how numbers are written.

use super::{BLOCK, Kind, Time};

pub(super) const TYPE_PAX: u8 = b'x';
pub(super) const TYPE_PAX_GLOBAL: u8 = b'g';
pub(super) const TYPE_GNU_NAME: u8 = b'L';
pub(super) const TYPE_GNU_LINK: u8 = b'K';
pub(super) const TYPE_GNU_SPARSE: u8 = b'S';

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    V7,
    Ustar,
    Star,
    Gnu,
}

/// What one block says, before PAX records and long names.
#[derive(Debug)]
pub(super) struct Fields {
    pub(super) is_gnu: bool,
    pub(super) type_flag: u8,
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: i64,
    pub(super) gid: i64,
    pub(super) size: i64,
    pub(super) modified: i64,
    pub(super) accessed: Option<i64>,
    pub(super) device: (i64, i64),
}

pub(super) type Block = [u8; BLOCK];

/// The bytes before the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0);
    &field[..end.unwrap_or(field.len())]
}

/// Octal digits padded with spaces or NULs, or a big-endian number marked by its first bit.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    if field[0] & 0x80 == 0 {
        return octal(field);
    }
    // Two's complement: the bit after the mark is the sign.
    let negative = field[0] & 0x40 != 0;
    let mut value: i128 = if negative { -1 } else { 0 };
    for (index, byte) in field.iter().enumerate() {
        let byte = if index == 0 {
            (byte & 0x7f) | if negative { 0x80 } else { 0 }
        } else {
            *byte
        };
        // Twelve bytes fit; what leaves 64 bits is found below.
        value = (value << 8) | i128::from(byte);
    }
    i64::try_from(value).ok()
}

pub(super) fn octal(field: &[u8]) -> Option<i64> {
    let is_padding = |byte: &u8| *byte == b' ' || *byte == 0;
    let Some(start) = field.iter().position(|byte| !is_padding(byte)) else {
        return Some(0);
    };
    let end = field.iter().rposition(|byte| !is_padding(byte))? + 1;
    let mut value: i64 = 0;
    for byte in text(&field[start..end]) {
        if !(b'0'..=b'7').contains(byte) {
            return None;
        }
        value = value.checked_mul(8)?.checked_add(i64::from(byte - b'0'))?;
    }
    Some(value)
}

/// The sum of all bytes with the checksum's own as spaces: unsigned, and signed as old programs did.
pub(super) fn checksums(block: &Block) -> (i64, i64) {
    let mut unsigned: i64 = 8 * i64::from(b' ');
    let mut signed: i64 = unsigned;
    for byte in block[..148].iter().chain(&block[156..]) {
        unsigned += i64::from(*byte);
        signed += i64::from(byte.cast_signed());
    }
    (unsigned, signed)
}

/// # Errors
/// What is wrong with the block.
pub(super) fn parse(block: &Block) -> Result<Fields, &'static str> {
    let stored = octal(&block[148..156]).ok_or("the checksum is no number")?;
    let (unsigned, signed) = checksums(block);
    if stored != unsigned && stored != signed {
        return Err("the checksum is wrong");
    }
    let format = match &block[257..265] {
        b"ustar  \0" => Format::Gnu,
        magic if magic.starts_with(b"ustar\0") && block[508..] == *b"tar\0" => Format::Star,
        magic if magic.starts_with(b"ustar\0") => Format::Ustar,
        _ => Format::V7,
    };
    let required =
        |range: std::ops::Range<usize>| number(&block[range]).ok_or("a number can't be read");
    let mut fields = Fields {
        is_gnu: format == Format::Gnu,
        type_flag: block[156],
        name: text(&block[..100]).to_vec(),
        link: text(&block[157..257]).to_vec(),
        mode: 0,
        uid: required(108..116)?,
        gid: required(116..124)?,
        size: required(124..136)?,
        modified: required(136..148)?,
        accessed: None,
        device: (0, 0),
    };
    fields.mode = (required(100..108)? & 0o7777) as u32;
    if format == Format::V7 {
        return Ok(fields);
    }
    fields.device = (required(329..337)?, required(337..345)?);
    let prefix = match format {
        Format::Ustar => text(&block[345..500]),
        Format::Star => {
            fields.accessed = Some(required(476..488)?);
            text(&block[345..476])
        }
        Format::Gnu => match gnu_times(block) {
            Some(accessed) => {
                fields.accessed = accessed;
                &[]
            }
            // Go before 1.8 wrote a prefix into GNU headers.
            None => Some(text(&block[345..500]))
                .filter(|prefix| prefix.is_ascii())
                .unwrap_or_default(),
        },
        Format::V7 => &[],
    };
    if !prefix.is_empty() {
        let mut name = prefix.to_vec();
        name.push(b'/');
        name.append(&mut fields.name);
        fields.name = name;
    }
    Ok(fields)
}

/// Access time of a GNU header; the outer `None` when the field holds something else.
fn gnu_times(block: &Block) -> Option<Option<i64>> {
    let time = |field: &[u8]| match field[0] {
        0 => Some(None),
        _ => number(field).map(Some),
    };
    let accessed = time(&block[345..357])?;
    time(&block[357..369])?;
    Some(accessed)
}

/// The kind of a member, by its type byte and final name.
pub(super) fn kind(type_flag: u8, name: &[u8]) -> Kind {
    match type_flag {
        // Archives older than the directory type mark directories by the slash.
        0 if name.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' | TYPE_GNU_SPARSE => Kind::Regular,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        TYPE_PAX_GLOBAL => Kind::GlobalHeader,
        other => Kind::Other(other),
    }
}

impl From<i64> for Time {
    fn from(seconds: i64) -> Self {
        Self {
            seconds,
            nanoseconds: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b" 644 \0\0\0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"00008\0\0\0"), None);
        assert_eq!(number(b"\x80\0\0\0\0\0\x01\0"), Some(256));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xfe"), Some(-2));
        assert_eq!(
            number(&[
                0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff
            ]),
            None
        );
        assert_eq!(number(b"777777777777"), Some(0o777_777_777_777));
    }
}
