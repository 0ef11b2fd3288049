//! A stream that is read ahead on a thread of its own: inflating goes on while what came out is hashed and written.
//!
//! A few buffers go round between both sides. A stream that fits into the first of them needs no thread.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::sys::Buffer;

/// Bytes of one buffer.
const BUFFER: usize = 256 * 1024;

/// Buffers that go round.
const BUFFERS: usize = 4;

/// Lets `read` read what `source` has, which another thread reads meanwhile. The source comes back as well: at its end,
/// if that was reached.
///
/// When `read` ends early, the source is left after the read in progress.
///
/// # Errors
/// When no thread can be started. Errors of the source are what `read` meets.
pub fn run<R: Read + Send, T>(
    mut source: R,
    read: impl FnOnce(&mut (dyn Read + Send)) -> T,
) -> io::Result<(T, R)> {
    let (first, failure) = Piece::new().filled(&mut source);
    if failure.is_some() || first.len < BUFFER {
        let mut whole = first.bytes[..first.len].chain(Failure(failure));
        return Ok((read(&mut whole), source));
    }
    let (full, filled) = sync_channel(BUFFERS);
    let (spent, empty) = sync_channel(BUFFERS);
    for _ in 1..BUFFERS {
        // There is room for all.
        drop(spent.send(Piece::new()));
    }
    let mut ahead = Ahead {
        now: first,
        at: 0,
        filled,
        spent,
        is_over: false,
    };
    std::thread::scope(|scope| {
        let reading = std::thread::Builder::new()
            .name("ahead".into())
            .spawn_scoped(scope, move || {
                fill(&mut source, &empty, &full);
                source
            })?;
        let done = read(&mut ahead);
        // The other side stops when nobody waits for it.
        drop(ahead);
        let source = reading
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((done, source))
    })
}

/// What comes behind the last bytes: the end, or why there are no more.
struct Failure(Option<io::Error>);

impl Read for Failure {
    fn read(&mut self, _bytes: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

/// A buffer and how much of it is filled.
struct Piece {
    bytes: Buffer,
    len: usize,
}

impl Piece {
    fn new() -> Self {
        Self {
            bytes: Buffer::new(BUFFER),
            len: 0,
        }
    }

    /// Full, unless the source ends or fails.
    fn filled(mut self, source: &mut impl Read) -> (Self, Option<io::Error>) {
        self.len = 0;
        while self.len < BUFFER {
            match source.read(&mut self.bytes[self.len..]) {
                Ok(0) => break,
                Ok(read) => self.len += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (self, Some(error)),
            }
        }
        (self, None)
    }
}

/// Fills buffers until the source ends or fails, or nobody wants more.
fn fill(source: &mut impl Read, empty: &Receiver<Piece>, full: &SyncSender<io::Result<Piece>>) {
    while let Ok(spent) = empty.recv() {
        let (piece, failure) = spent.filled(source);
        // What came before the failure comes first.
        let is_last = failure.is_some() || piece.len == 0;
        if piece.len > 0 && full.send(Ok(piece)).is_err() {
            return;
        }
        if let Some(error) = failure {
            drop(full.send(Err(error)));
        }
        if is_last {
            return;
        }
    }
}

/// The side that reads what is ready.
struct Ahead {
    now: Piece,
    at: usize,
    filled: Receiver<io::Result<Piece>>,
    spent: SyncSender<Piece>,
    is_over: bool,
}

impl Read for Ahead {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.at == self.now.len && !self.is_over {
            let Ok(piece) = self.filled.recv() else {
                self.is_over = true;
                return Ok(0);
            };
            let piece = piece.inspect_err(|_| self.is_over = true)?;
            let spent = std::mem::replace(&mut self.now, piece);
            self.at = 0;
            // The other side may have come to the end.
            drop(self.spent.send(spent));
        }
        let read = bytes.len().min(self.now.len - self.at);
        bytes[..read].copy_from_slice(&self.now.bytes[self.at..self.at + read]);
        self.at += read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
    }

    /// Ends in an error.
    struct Broken<'a>(&'a [u8]);

    impl Read for Broken<'_> {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            match self.0.read(bytes)? {
                0 => Err(io::Error::other("torn")),
                read => Ok(read),
            }
        }
    }

    fn whole(stream: &mut (dyn Read + Send)) -> (Vec<u8>, Option<String>) {
        let mut all = Vec::new();
        let error = stream.read_to_end(&mut all).err();
        (all, error.map(|error| error.to_string()))
    }

    #[test]
    fn what_is_read_is_what_the_source_has() {
        for len in [0, 1, BUFFER - 1, BUFFER, BUFFER + 1, 9 * BUFFER + 5] {
            let source = bytes(len);
            let ((read, error), rest) = run(source.as_slice(), whole).unwrap();
            assert!(read == source && error.is_none(), "{len}");
            assert!(rest.is_empty(), "{len}");
        }
    }

    #[test]
    fn a_failure_comes_after_what_came_before_it() {
        let source = bytes(3 * BUFFER + 9);
        let ((read, error), _) = run(Broken(&source), whole).unwrap();
        assert!(read == source);
        assert_eq!(error.unwrap(), "torn");
        let ((read, error), _) = run(Broken(&source[..10]), whole).unwrap();
        assert_eq!(
            (read.as_slice(), error.unwrap().as_str()),
            (&source[..10], "torn")
        );
    }

    #[test]
    fn who_stops_reading_stops_the_other_side() {
        let (first, _) = run(io::repeat(7), |stream| {
            let mut first = vec![0; 3 * BUFFER];
            stream.read_exact(&mut first).map(|()| first)
        })
        .unwrap();
        assert!(first.unwrap().iter().all(|byte| *byte == 7));
    }
}
