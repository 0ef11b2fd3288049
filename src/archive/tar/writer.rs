//! [`Writer`]: ustar members with PAX records where ustar has no room, to the byte as Go's `archive/tar` writes them, so that
//! a difference that nobody recorded has one digest, whichever tool makes it.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::header::{Block, TYPE_PAX, checksums};
use super::{BLOCK, Entry, Kind, Time};

/// Bytes of the fields for a name and for what comes before it.
const NAME: usize = 100;
const PREFIX: usize = 155;

/// PAX records by their keys.
type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// Writes an archive from front to back.
///
/// Each [`Writer::entry`] is followed by exactly as many bytes of [`Writer::data`] as its size says;
/// [`Writer::finish`] writes the end marker. Equal members give equal bytes.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    remaining: u64,
    padding: usize,
}

impl<W: Write> Writer<W> {
    /// Writes to `out`, in pieces of a block and up: give it a buffer.
    pub fn new(out: W) -> Self {
        Self {
            out,
            remaining: 0,
            padding: 0,
        }
    }

    /// Begins a member. Sparse maps are not written: the payload has its holes as zeros.
    ///
    /// # Errors
    /// When the output can't be written, or the payload of the member before is incomplete.
    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.end_payload()?;
        let mut records = Records::new();
        let mut block = [0; BLOCK];
        text(&mut block[157..257], &entry.link, b"linkpath", &mut records);
        let mode = i64::from(entry.mode);
        number(&mut block[100..108], mode, b"", &mut records);
        number(&mut block[108..116], entry.uid, b"uid", &mut records);
        number(&mut block[116..124], entry.gid, b"gid", &mut records);
        let size = i64::try_from(entry.size).map_err(|_| io::ErrorKind::FileTooLarge)?;
        number(&mut block[124..136], size, b"size", &mut records);
        time(&mut block[136..148], entry.modified, &mut records);
        block[156] = type_flag(entry.kind);
        number(&mut block[329..337], entry.device.0, b"", &mut records);
        number(&mut block[337..345], entry.device.1, b"", &mut records);
        for (name, value) in &entry.attributes {
            let key = [b"SCHILY.xattr.", name.as_slice()].concat();
            records.insert(key, value.clone());
        }
        match split(&entry.name).filter(|_| records.is_empty()) {
            Some((prefix, rest)) => {
                put(&mut block[345..500], prefix);
                put(&mut block[..100], rest);
            }
            None => text(&mut block[..100], &entry.name, b"path", &mut records),
        }
        if !records.is_empty() {
            self.records(&entry.name, &records)?;
        }
        seal(&mut block);
        self.out.write_all(&block)?;
        if entry.kind == Kind::Regular {
            self.expect(entry.size);
        }
        Ok(())
    }

    fn expect(&mut self, size: u64) {
        self.remaining = size;
        self.padding = ((BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64) as usize;
    }

    /// A header of type `x` with these records, in the order of their keys.
    fn records(&mut self, name: &[u8], records: &Records) -> io::Result<()> {
        let mut payload = Vec::new();
        for (key, value) in records {
            record(&mut payload, key, value);
        }
        let mut block = [0; BLOCK];
        put(&mut block[..100], &records_name(name));
        for range in [100..108, 108..116, 116..124, 136..148] {
            number(&mut block[range], 0, b"", &mut Records::new());
        }
        let size = payload.len() as i64;
        number(&mut block[124..136], size, b"", &mut Records::new());
        block[156] = TYPE_PAX;
        seal(&mut block);
        self.out.write_all(&block)?;
        self.expect(payload.len() as u64);
        self.data(&payload)?;
        self.end_payload()
    }

    /// Writes a part of the payload.
    ///
    /// # Errors
    /// When the output can't be written, or the member is not that large.
    pub fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.remaining = self
            .remaining
            .checked_sub(bytes.len() as u64)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        self.out.write_all(bytes)
    }

    fn end_payload(&mut self) -> io::Result<()> {
        if self.remaining != 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let padding = std::mem::take(&mut self.padding);
        self.out.write_all(&[0; BLOCK][..padding])
    }

    /// Writes the end marker and gives back the output.
    ///
    /// # Errors
    /// When the output can't be written, or the payload of the last member is incomplete.
    pub fn finish(mut self) -> io::Result<W> {
        self.end_payload()?;
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }
}

#[cfg(test)]
impl<W> Writer<W> {
    /// What was written, complete or not.
    pub(in crate::archive) fn abandon(self) -> W {
        self.out
    }
}

fn type_flag(kind: Kind) -> u8 {
    match kind {
        Kind::Regular => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
        Kind::GlobalHeader => b'g',
        Kind::Other(other) => other,
    }
}

/// Appends `length key=value`, whose length counts its own digits.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// The name of a header of records: that of the member, in a folder of its own, for programs that extract it as a file.
fn records_name(name: &[u8]) -> Vec<u8> {
    let end = name.iter().rposition(|byte| *byte == b'/');
    let (folder, last) = name.split_at(end.map_or(0, |end| end + 1));
    let own = [folder, b"PaxHeaders.0/", last].concat();
    let mut own: Vec<u8> = own.into_iter().filter(u8::is_ascii).take(100).collect();
    while own.pop_if(|last| *last == b'/').is_some() {}
    own
}

/// A long name as ustar has it: what goes into the prefix, and the rest.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= NAME || !name.is_ascii() {
        return None;
    }
    let last = name.len() - usize::from(name.ends_with(b"/"));
    let end = last.min(PREFIX + 1);
    let slash = name[..end].iter().rposition(|byte| *byte == b'/')?;
    let (prefix, rest) = (&name[..slash], &name[slash + 1..]);
    let fits = (1..=PREFIX).contains(&slash) && (1..=NAME).contains(&rest.len());
    fits.then_some((prefix, rest))
}

fn put(field: &mut [u8], value: &[u8]) {
    for (place, byte) in field.iter_mut().zip(value) {
        *place = *byte;
    }
}

/// A text that fits, else a PAX record and what of it fits.
fn text(field: &mut [u8], value: &[u8], key: &[u8], records: &mut Records) {
    if value.len() > field.len() || !value.is_ascii() {
        records.insert(key.to_vec(), value.to_vec());
    }
    let ascii: Vec<u8> = value.iter().copied().filter(u8::is_ascii).collect();
    put(field, &ascii);
    if ascii.len() > field.len() && field.ends_with(b"/") {
        // Cut there, the name of a file would be that of a directory.
        let inner = &field[..field.len() - 1];
        let end = inner.iter().rposition(|byte| *byte != b'/');
        field[end.map_or(0, |end| end + 1)] = 0;
    }
}

/// A number in octal digits and a NUL, else a PAX record and 0.
fn number(field: &mut [u8], value: i64, key: &[u8], records: &mut Records) {
    let digits = field.len() - 1;
    let fits = value >= 0 && value < 1 << (3 * digits);
    if !fits && !key.is_empty() {
        records.insert(key.to_vec(), value.to_string().into_bytes());
    }
    let mut rest = if fits { value } else { 0 };
    for place in field[..digits].iter_mut().rev() {
        *place = b'0' + (rest & 7) as u8;
        rest >>= 3;
    }
}

fn time(field: &mut [u8], time: Time, records: &mut Records) {
    if time.nanoseconds == 0 {
        return number(field, time.seconds, b"mtime", records);
    }
    let nanoseconds = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let (seconds, fraction) = (
        nanoseconds.unsigned_abs() / 1_000_000_000,
        nanoseconds.unsigned_abs() % 1_000_000_000,
    );
    let text = format!("{sign}{seconds}.{fraction:09}");
    let text = text.trim_end_matches('0').as_bytes();
    records.insert(b"mtime".to_vec(), text.to_vec());
    number(field, time.seconds.max(0), b"", records);
}

/// Adds magic, version and checksum.
fn seal(block: &mut Block) {
    block[257..265].copy_from_slice(b"ustar\x0000");
    let (sum, _) = checksums(block);
    number(&mut block[148..155], sum, b"", &mut Records::new());
    block[155] = b' ';
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tar::Reader;

    fn entry(name: &[u8]) -> Entry {
        Entry {
            kind: Kind::Regular,
            name: name.to_vec(),
            link: Vec::new(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 0,
            modified: Time::from(1),
            accessed: None,
            device: (0, 0),
            attributes: Vec::new(),
            sparse: None,
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut entries = vec![entry(b"plain"), entry("nön-ascii".as_bytes())];
        entries.push(entry(&[b'l'; 300]));
        entries.push(Entry {
            uid: 3_000_000_000,
            gid: 4_000_000_000,
            modified: Time {
                seconds: -2,
                nanoseconds: 750_000_000,
            },
            attributes: vec![
                (b"user.a".to_vec(), b"1\n\0\xff".to_vec()),
                (b"user.b".to_vec(), Vec::new()),
            ],
            ..entry(b"rich\xff")
        });
        entries.push(Entry {
            kind: Kind::CharDevice,
            device: (5, 1),
            ..entry(b"console")
        });
        entries.push(Entry {
            kind: Kind::Symlink,
            link: vec![b'x'; 200],
            ..entry(b"link")
        });
        entries.push(Entry {
            size: 700,
            modified: Time {
                seconds: 1_700_000_000,
                nanoseconds: 5,
            },
            ..entry(b"full")
        });
        let mut writer = Writer::new(Vec::new());
        for entry in &entries {
            writer.entry(entry).unwrap();
            writer.data(&vec![7; entry.size as usize]).unwrap();
        }
        let bytes = writer.finish().unwrap();
        assert_eq!(bytes.len() % BLOCK, 0);
        let mut reader = Reader::new(&*bytes);
        let mut found = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            found.push(entry);
        }
        assert_eq!(found, entries);
        assert_eq!(reader.raw(), vec![0; 2 * BLOCK + 324]);
    }

    #[test]
    fn a_payload_is_as_large_as_its_header_says() {
        let mut writer = Writer::new(Vec::new());
        writer
            .entry(&Entry {
                size: 1,
                ..entry(b"a")
            })
            .unwrap();
        assert!(writer.data(b"12").is_err());
        assert!(writer.finish().is_err());
    }

    #[test]
    fn the_length_of_a_record_counts_itself() {
        for len in 0..2000 {
            let mut bytes = Vec::new();
            record(&mut bytes, b"k", &vec![b'v'; len]);
            let digits = bytes.iter().position(|byte| *byte == b' ').unwrap();
            let told: usize = std::str::from_utf8(&bytes[..digits])
                .unwrap()
                .parse()
                .unwrap();
            assert_eq!(told, bytes.len());
        }
    }
}
