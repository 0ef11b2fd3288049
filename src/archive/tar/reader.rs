//! [`Reader`]: the members of an archive, their payload, and the raw bytes between.

use std::io::Read;

use super::header::{self, Block, Fields};
use super::pax::Records;
use super::sparse::{self, TextMap};
use super::{BLOCK, Entry, Error, Kind, Time};
use crate::sys::Buffer;

const BUFFER: usize = 256 * 1024;

/// How much [`Reader::data`] gathers before it answers, if the payload has as much.
const CHUNK: usize = 64 * 1024;

/// The longest PAX header or long name, as in Go.
const MAX_SPECIAL: u64 = 1 << 20;

/// The most that headers before one member may amount to.
const MAX_RAW: usize = 4 << 20;

/// Reads an archive once from front to back.
///
/// Call [`Reader::next_entry`]; then [`Reader::raw`] holds all bytes since the last payload; then read the
/// payload with [`Reader::data`] until it is empty. After the last member come the end marker in `raw` and
/// whatever follows in [`Reader::trailing`].
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    buffer: Buffer,
    start: usize,
    end: usize,
    offset: u64,
    raw: Vec<u8>,
    remaining: u64,
    padding: usize,
}

impl<R: Read> Reader<R> {
    /// Reads from `source`, which is uncompressed and needs no buffer of its own.
    pub fn new(source: R) -> Self {
        Self {
            source,
            buffer: Buffer::new(BUFFER),
            start: 0,
            end: 0,
            offset: 0,
            raw: Vec::new(),
            remaining: 0,
            padding: 0,
        }
    }

    /// All bytes that belong to no payload, since the last payload.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// How many bytes have been handed out.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Gathers up to `wanted` bytes in the buffer; fewer only at the end of the stream.
    fn fill(&mut self, wanted: usize) -> Result<usize, Error> {
        if self.end - self.start < wanted {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            while self.end < wanted {
                match self.source.read(&mut self.buffer[self.end..]) {
                    Ok(0) => break,
                    Ok(read) => self.end += read,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok((self.end - self.start).min(wanted))
    }

    fn take(&mut self, len: usize) -> &[u8] {
        let taken = self.start..self.start + len;
        self.start += len;
        self.offset += len as u64;
        &self.buffer[taken]
    }

    fn invalid(&self, what: &'static str) -> Error {
        Error::InvalidHeader {
            what,
            offset: self.offset,
        }
    }

    /// Takes up to `len` bytes into `raw`, saying how many there were.
    fn take_raw(&mut self, len: usize) -> Result<usize, Error> {
        if self.raw.len() + len > MAX_RAW {
            return Err(self.invalid("too many headers for one member"));
        }
        let mut taken = 0;
        while taken < len {
            let ready = self.fill((len - taken).min(CHUNK))?;
            if ready == 0 {
                break;
            }
            self.start += ready;
            self.offset += ready as u64;
            self.raw
                .extend_from_slice(&self.buffer[self.start - ready..self.start]);
            taken += ready;
        }
        Ok(taken)
    }

    /// The next block, which goes to `raw` as well; `None` at the end of the stream.
    fn block(&mut self) -> Result<Option<Block>, Error> {
        match self.take_raw(BLOCK)? {
            BLOCK => {
                let mut block = [0; BLOCK];
                block.copy_from_slice(&self.raw[self.raw.len() - BLOCK..]);
                Ok(Some(block))
            }
            0 => Ok(None),
            _ => Err(Error::UnexpectedEof),
        }
    }

    /// The payload of a header that describes another, with its padding.
    fn special(&mut self, size: i64) -> Result<Vec<u8>, Error> {
        let size = u64::try_from(size)
            .ok()
            .filter(|size| *size <= MAX_SPECIAL)
            .ok_or_else(|| self.invalid("the size of a PAX header or long name"))?
            as usize;
        let from = self.raw.len();
        if self.take_raw(size)? < size {
            return Err(Error::UnexpectedEof);
        }
        let bytes = self.raw[from..from + size].to_vec();
        self.padding = size.next_multiple_of(BLOCK) - size;
        Ok(bytes)
    }

    /// Padding, which Go lets end early at the end of the stream.
    fn skip_padding(&mut self) -> Result<(), Error> {
        let padding = std::mem::take(&mut self.padding);
        self.take_raw(padding)?;
        Ok(())
    }

    /// Goes to the next member; `None` behind the last.
    ///
    /// # Errors
    /// When the stream can't be read, ends within a member, or is no archive.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        while !self.data()?.is_empty() {}
        self.raw.clear();
        let mut records = Records::default();
        let mut long_name = Vec::new();
        let mut long_link = Vec::new();
        loop {
            self.skip_padding()?;
            let Some((block, fields)) = self.header()? else {
                return Ok(None);
            };
            match fields.type_flag {
                header::TYPE_PAX => records = self.records(fields.size)?,
                header::TYPE_PAX_GLOBAL => {
                    let mut records = self.records(fields.size)?;
                    let mut entry = entry(fields);
                    // Go hands out the name and nothing else.
                    (entry.uid, entry.gid) = (0, 0);
                    if let Some(path) = records.path.take() {
                        entry.name = path;
                    }
                    entry.size = 0;
                    return Ok(Some(entry));
                }
                header::TYPE_GNU_NAME => {
                    long_name = header::text(&self.special(fields.size)?).to_vec();
                }
                header::TYPE_GNU_LINK => {
                    long_link = header::text(&self.special(fields.size)?).to_vec();
                }
                type_flag => {
                    let stored = records.size.unwrap_or(fields.size);
                    let is_gnu = fields.is_gnu;
                    let mut entry = entry(fields);
                    records.apply(&mut entry);
                    if !long_name.is_empty() {
                        entry.name = long_name;
                    }
                    if !long_link.is_empty() {
                        entry.link = long_link;
                    }
                    entry.kind = header::kind(type_flag, &entry.name);
                    self.payload(&mut entry, stored)?;
                    if type_flag == header::TYPE_GNU_SPARSE && !is_gnu {
                        return Err(self.invalid("a sparse file whose header is not GNU's"));
                    }
                    self.sparse(&mut entry, type_flag, &block, records)?;
                    return Ok(Some(entry));
                }
            }
        }
    }

    fn records(&mut self, size: i64) -> Result<Records, Error> {
        let bytes = self.special(size)?;
        Records::parse(&bytes).map_err(|what| self.invalid(what))
    }

    /// The next header; `None` at the end marker or a clean end of the stream.
    fn header(&mut self) -> Result<Option<(Block, Fields)>, Error> {
        let Some(block) = self.block()? else {
            return Ok(None);
        };
        if block == [0; BLOCK] {
            // Two blocks of zeros mark the end; the stream may end after one.
            return match self.block()? {
                Some(block) if block != [0; BLOCK] => {
                    Err(self.invalid("a header after a block of zeros"))
                }
                _ => Ok(None),
            };
        }
        let fields = header::parse(&block).map_err(|what| self.invalid(what))?;
        Ok(Some((block, fields)))
    }

    /// Sets up the payload of a member; everything but files has none, whatever its header says.
    fn payload(&mut self, entry: &mut Entry, stored: i64) -> Result<(), Error> {
        if !matches!(entry.kind, Kind::Regular | Kind::Other(_)) {
            return Ok(());
        }
        let stored = u64::try_from(stored).map_err(|_| self.invalid("a negative size"))?;
        entry.size = stored;
        self.remaining = stored;
        self.padding = ((BLOCK as u64 - stored % BLOCK as u64) % BLOCK as u64) as usize;
        Ok(())
    }

    fn sparse(
        &mut self,
        entry: &mut Entry,
        type_flag: u8,
        block: &Block,
        records: Records,
    ) -> Result<(), Error> {
        let map = if type_flag == header::TYPE_GNU_SPARSE {
            self.old_gnu_map(entry, block)?
        } else {
            self.pax_map(entry, records)?
        };
        let Some(map) = map else {
            return Ok(());
        };
        if entry.kind != Kind::Regular {
            return Err(self.invalid("a sparse map for something that is no file"));
        }
        let pieces = sparse::pieces(&map, entry.size).map_err(|what| self.invalid(what))?;
        let total: u64 = pieces.iter().map(|piece| piece.len).sum();
        if total != self.remaining {
            return Err(self.invalid("a sparse map that does not fit what is stored"));
        }
        entry.sparse = Some(pieces);
        Ok(())
    }

    fn old_gnu_map(&mut self, entry: &mut Entry, block: &Block) -> Result<Option<Vec<i64>>, Error> {
        let mut map = Vec::new();
        let mut more =
            sparse::old_gnu(block, false, &mut map).map_err(|what| self.invalid(what))?;
        entry.size = sparse::old_gnu_size(block)
            .ok_or_else(|| self.invalid("the real size of a sparse file"))?;
        while more {
            let block = self.block()?.ok_or(Error::UnexpectedEof)?;
            more = sparse::old_gnu(&block, true, &mut map).map_err(|what| self.invalid(what))?;
        }
        Ok(Some(map))
    }

    fn pax_map(&mut self, entry: &mut Entry, records: Records) -> Result<Option<Vec<i64>>, Error> {
        let sparse = records.sparse;
        let version = (sparse.version.0.as_deref(), sparse.version.1.as_deref());
        let is_text = match version {
            (Some(b"0"), Some(b"0" | b"1")) => false,
            (Some(b"1"), Some(b"0")) => true,
            (None, None) if sparse.has_map => false,
            _ => return Ok(None),
        };
        if let Some(name) = sparse.name {
            entry.name = name;
        }
        if let Some(size) = sparse.size.or(sparse.real_size) {
            entry.size = u64::try_from(size).map_err(|_| self.invalid("a negative size"))?;
        }
        if !is_text {
            return Ok(Some(sparse.map));
        }
        let mut map = TextMap::default();
        loop {
            self.remaining = self
                .remaining
                .checked_sub(BLOCK as u64)
                .ok_or(Error::UnexpectedEof)?;
            let block = self.block()?.ok_or(Error::UnexpectedEof)?;
            if map.block(&block).map_err(|what| self.invalid(what))? {
                return Ok(Some(map.numbers()));
            }
        }
    }

    /// The next bytes of the payload as they are stored; empty behind the last.
    ///
    /// # Errors
    /// When the stream can't be read or ends before.
    pub fn data(&mut self) -> Result<&[u8], Error> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let wanted = self.remaining.min(CHUNK as u64) as usize;
        if self.fill(wanted)? < wanted {
            return Err(Error::UnexpectedEof);
        }
        let ready = (self.end - self.start) as u64;
        let len = ready.min(self.remaining);
        self.remaining -= len;
        Ok(self.take(len as usize))
    }

    /// The next bytes behind the end marker; empty at the end of the stream.
    ///
    /// # Errors
    /// When the stream can't be read.
    pub fn trailing(&mut self) -> Result<&[u8], Error> {
        self.fill(1)?;
        let ready = self.end - self.start;
        Ok(self.take(ready))
    }
}

fn entry(fields: Fields) -> Entry {
    Entry {
        kind: header::kind(fields.type_flag, &fields.name),
        name: fields.name,
        link: fields.link,
        mode: fields.mode,
        uid: fields.uid,
        gid: fields.gid,
        size: 0,
        modified: Time::from(fields.modified),
        accessed: fields.accessed.map(Time::from),
        device: fields.device,
        attributes: Vec::new(),
        sparse: None,
    }
}
