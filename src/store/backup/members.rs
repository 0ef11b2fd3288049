//! Streams in pieces: their length is not known before they end, and nothing is kept aside.

use std::io::{self, Read, Write};

use super::BackupError;
use crate::archive::tar::{self, Entry, Kind, Reader, Time, Writer};

/// How long a piece is, but the last one.
const PIECE: usize = 4 << 20;
/// Records and sums are never longer.
const SMALL: usize = 64 << 20;

/// Writes a whole member.
///
/// # Errors
/// When the output can't be written.
pub(super) fn write<W: Write>(out: &mut Writer<W>, name: &str, bytes: &[u8]) -> io::Result<()> {
    out.entry(&Entry {
        kind: Kind::Regular,
        name: name.as_bytes().to_vec(),
        link: Vec::new(),
        mode: 0o600,
        uid: 0,
        gid: 0,
        size: bytes.len() as u64,
        modified: Time::default(),
        accessed: None,
        device: (0, 0),
        attributes: Vec::new(),
        sparse: None,
    })?;
    out.data(bytes)
}

/// Writes a stream as members `<prefix>.0`, `<prefix>.1`, and so on; at least one.
pub(super) struct Pieces<'a, W: Write> {
    out: &'a mut Writer<W>,
    prefix: String,
    next: u64,
    gathered: Vec<u8>,
}

impl<'a, W: Write> Pieces<'a, W> {
    pub(super) fn new(out: &'a mut Writer<W>, prefix: String) -> Self {
        Self {
            out,
            prefix,
            next: 0,
            gathered: Vec::with_capacity(PIECE),
        }
    }

    fn piece(&mut self) -> io::Result<()> {
        let name = format!("{}.{}", self.prefix, self.next);
        self.next += 1;
        write(self.out, &name, &self.gathered)?;
        self.gathered.clear();
        Ok(())
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// When the output can't be written.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if self.next == 0 || !self.gathered.is_empty() {
            self.piece()?;
        }
        Ok(())
    }
}

impl<W: Write> Write for Pieces<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.gathered.len());
        self.gathered.extend_from_slice(&bytes[..taken]);
        if self.gathered.len() == PIECE {
            self.piece()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The members of a backup, one after the other.
pub(super) struct Members<R> {
    reader: Reader<R>,
    /// The name of the member that is next, once it was looked at.
    ahead: Option<String>,
}

impl<R: Read> Members<R> {
    pub(super) fn new(source: R) -> Self {
        Self {
            reader: Reader::new(source),
            ahead: None,
        }
    }

    /// The name of the next member.
    ///
    /// # Errors
    /// When the stream ends here, or is no archive.
    pub(super) fn peek(&mut self) -> Result<&str, BackupError> {
        if self.ahead.is_none() {
            let entry = self.reader.next_entry().map_err(BackupError::Read)?;
            let entry = entry.ok_or(BackupError::Read(tar::Error::UnexpectedEof))?;
            let name = String::from_utf8_lossy(&entry.name).into_owned();
            if entry.kind != Kind::Regular || entry.sparse.is_some() {
                return Err(BackupError::Foreign(format!("{name:?} is no file")));
            }
            self.ahead = Some(name);
        }
        Ok(self.ahead.as_deref().unwrap_or_default())
    }

    /// All of the next member, which has this name and is small.
    ///
    /// # Errors
    /// When it is another one, or the stream can't be read.
    pub(super) fn small(&mut self, name: &str) -> Result<Vec<u8>, BackupError> {
        let found = self.peek()?;
        if found != name {
            return Err(BackupError::Foreign(format!(
                "{found:?} is where {name:?} should be"
            )));
        }
        self.ahead = None;
        let mut bytes = Vec::new();
        loop {
            let piece = self.reader.data().map_err(BackupError::Read)?;
            if piece.is_empty() {
                return Ok(bytes);
            }
            if bytes.len() + piece.len() > SMALL {
                return Err(BackupError::Foreign(format!("{name:?} is too long")));
            }
            bytes.extend_from_slice(piece);
        }
    }

    /// The stream in the members `<prefix>.0`, `<prefix>.1`, and so on.
    pub(super) fn stream(&mut self, prefix: &str) -> Stream<'_, R> {
        Stream {
            members: self,
            prefix: prefix.to_owned(),
            next: 0,
            rest: Vec::new(),
            at: 0,
        }
    }
}

/// A stream that is read from its pieces.
pub(super) struct Stream<'a, R> {
    members: &'a mut Members<R>,
    prefix: String,
    next: u64,
    rest: Vec<u8>,
    at: usize,
}

impl<R: Read> Stream<'_, R> {
    fn refill(&mut self) -> Result<(), BackupError> {
        self.rest.clear();
        self.at = 0;
        loop {
            if self.next > 0 && self.members.ahead.is_none() {
                let data = self.members.reader.data().map_err(BackupError::Read)?;
                if !data.is_empty() {
                    self.rest.extend_from_slice(data);
                    return Ok(());
                }
            }
            if self.members.peek()? != format!("{}.{}", self.prefix, self.next) {
                return Ok(());
            }
            self.members.ahead = None;
            self.next += 1;
        }
    }
}

impl<R: Read> Read for Stream<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.rest.len() {
            self.refill().map_err(io::Error::other)?;
        }
        let taken = buffer.len().min(self.rest.len() - self.at);
        buffer[..taken].copy_from_slice(&self.rest[self.at..self.at + taken]);
        self.at += taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_every_length_come_back() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 7] {
            let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let mut out = Writer::new(Vec::new());
            let mut pieces = Pieces::new(&mut out, "a".to_owned());
            pieces.write_all(&bytes).unwrap();
            pieces.finish().unwrap();
            write(&mut out, "end", b"x").unwrap();
            let archive = out.finish().unwrap();
            let mut members = Members::new(&archive[..]);
            let mut read = Vec::new();
            members.stream("a").read_to_end(&mut read).unwrap();
            assert!(read == bytes, "{length}");
            assert_eq!(members.small("end").unwrap(), b"x");
            members.peek().unwrap_err();
        }
    }

    #[test]
    fn a_stream_that_is_cut_is_an_error() {
        let mut out = Writer::new(Vec::new());
        let mut pieces = Pieces::new(&mut out, "a".to_owned());
        pieces.write_all(&[1; 5000]).unwrap();
        pieces.finish().unwrap();
        let archive = out.finish().unwrap();
        for length in [600, 2048, archive.len()] {
            let mut members = Members::new(&archive[..length]);
            let mut read = Vec::new();
            members.stream("a").read_to_end(&mut read).unwrap_err();
        }
    }
}
