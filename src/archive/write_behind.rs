//! A stream that is written by a thread of its own: what comes next is made while what came is compressed and written.
//!
//! The counterpart of [`read_ahead`](super::read_ahead): a few buffers go round between both sides, and a stream that fits
//! into the first of them needs no thread.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Bytes of one buffer.
const BUFFER: usize = 256 * 1024;

/// Buffers that go round.
const BUFFERS: usize = 3;

/// Gathers what is written to it, and lets another thread write that to `W`. [`WriteBehind::finish`] ends it; dropped
/// instead, it waits for the other thread and leaves the rest. A flush does nothing.
#[derive(Debug)]
pub struct WriteBehind<W: Write + Send + 'static> {
    now: Vec<u8>,
    output: Output<W>,
}

#[derive(Debug)]
enum Output<W> {
    /// Nothing was written yet.
    Here(W),
    There(Writing<W>),
    /// It has failed, or was given back.
    Over,
}

/// The side that writes.
#[derive(Debug)]
struct Writing<W> {
    full: SyncSender<Vec<u8>>,
    spent: Receiver<Vec<u8>>,
    thread: JoinHandle<io::Result<W>>,
}

impl<W: Write + Send + 'static> Writing<W> {
    fn start(mut output: W) -> io::Result<Self> {
        let (full, filled) = sync_channel::<Vec<u8>>(BUFFERS);
        let (empty, spent) = sync_channel(BUFFERS);
        for _ in 1..BUFFERS {
            // There is room for all.
            drop(empty.send(Vec::with_capacity(BUFFER)));
        }
        let write = move || {
            while let Ok(mut buffer) = filled.recv() {
                output.write_all(&buffer)?;
                buffer.clear();
                // The other side may have come to the end.
                drop(empty.send(buffer));
            }
            Ok(output)
        };
        let thread = std::thread::Builder::new()
            .name("behind".into())
            .spawn(write)?;
        Ok(Self {
            full,
            spent,
            thread,
        })
    }

    /// Waits until all is written.
    fn stop(self) -> io::Result<W> {
        drop(self.full);
        self.thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl<W: Write + Send + 'static> WriteBehind<W> {
    /// Writes to `output`.
    pub fn new(output: W) -> Self {
        Self {
            now: Vec::new(),
            output: Output::Here(output),
        }
    }

    /// Hands over what was gathered, and waits for a buffer when the other side has all of them.
    fn hand_over(&mut self) -> io::Result<()> {
        let writing = match std::mem::replace(&mut self.output, Output::Over) {
            Output::Here(output) => Writing::start(output)?,
            Output::There(writing) => writing,
            Output::Over => return Err(io::Error::other("the stream has ended")),
        };
        let full = std::mem::take(&mut self.now);
        match writing.full.send(full).map(|()| writing.spent.recv()) {
            Ok(Ok(spent)) => {
                self.now = spent;
                self.output = Output::There(writing);
                Ok(())
            }
            // It stops before the end when it has failed, and says why.
            _ => writing.stop().map(drop),
        }
    }

    /// Writes what is left and gives back the output.
    ///
    /// # Errors
    /// When the output can't be written.
    pub fn finish(mut self) -> io::Result<W> {
        match std::mem::replace(&mut self.output, Output::Over) {
            Output::Here(mut output) => {
                output.write_all(&self.now)?;
                Ok(output)
            }
            Output::There(writing) => {
                // When nobody takes it, that is because of an error, which comes next.
                drop(writing.full.send(std::mem::take(&mut self.now)));
                writing.stop()
            }
            Output::Over => Err(io::Error::other("the stream has ended")),
        }
    }
}

impl<W: Write + Send + 'static> Write for WriteBehind<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.now.len() + bytes.len() > BUFFER && !self.now.is_empty() {
            self.hand_over()?;
        }
        self.now.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write + Send + 'static> Drop for WriteBehind<W> {
    fn drop(&mut self) {
        if let Output::There(writing) = std::mem::replace(&mut self.output, Output::Over) {
            // Whoever drops it has failed otherwise, and says that.
            drop(writing.stop());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then fails.
    struct Small(usize);

    impl Write for Small {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or_else(full)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn full() -> io::Error {
        io::Error::other("full")
    }

    #[test]
    fn what_is_written_arrives_in_order() {
        for len in [0, 1, BUFFER - 1, BUFFER, BUFFER + 1, 9 * BUFFER + 5] {
            let bytes: Vec<u8> = (0..len).map(|at| (at * 7 + at / 251) as u8).collect();
            for piece in [1000, 3 * BUFFER] {
                let mut behind = WriteBehind::new(Vec::new());
                for piece in bytes.chunks(piece) {
                    behind.write_all(piece).unwrap();
                }
                assert!(behind.finish().unwrap() == bytes, "{len} in {piece}");
            }
        }
    }

    #[test]
    fn a_failure_of_the_output_is_told_by_a_later_write_or_the_end() {
        for taken in [0, BUFFER, 5 * BUFFER] {
            let mut behind = WriteBehind::new(Small(taken));
            let written = (0..9 * 64).try_for_each(|_| behind.write_all(&[7; BUFFER / 64]));
            let error = written.and_then(|()| behind.finish().map(drop));
            assert_eq!(error.unwrap_err().to_string(), "full", "{taken}");
        }
        let mut behind = WriteBehind::new(Small(0));
        behind.write_all(b"little").unwrap();
        assert_eq!(behind.finish().map(drop).unwrap_err().to_string(), "full");
    }
}
