//! A stream between one who writes and one who reads, with little memory and no file between.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Who ended a stream too early.
#[derive(Debug)]
pub enum Broken<W, R> {
    /// The pipe or the thread could not be made.
    Pipe(io::Error),
    /// The writer failed.
    Writer(W),
    /// The reader failed.
    Reader(R),
}

/// Lets `read` read what `write` writes on another thread. The reader meets the end of the stream
/// only when the writer has succeeded.
///
/// # Errors
/// See [`Broken`]; when both fail, that of the one who began.
pub fn run<T, W: Send, R>(
    write: impl FnOnce(&mut dyn Write) -> Result<(), W> + Send,
    read: impl FnOnce(&mut (dyn Read + Send)) -> Result<T, R>,
) -> Result<T, Broken<W, R>> {
    let (reader, writer) = io::pipe().map_err(Broken::Pipe)?;
    let is_whole = AtomicBool::new(false);
    let (written, done, was_short) = std::thread::scope(|scope| {
        let is_whole = &is_whole;
        let writing = std::thread::Builder::new()
            .name("stream".into())
            .spawn_scoped(scope, move || {
                let mut writer = writer;
                let result = write(&mut writer);
                is_whole.store(result.is_ok(), Ordering::Release);
                // The end, which the reader sees only now.
                drop(writer);
                result
            })
            .map_err(Broken::Pipe)?;
        let mut stream = Stream {
            reader,
            is_whole,
            was_short: false,
        };
        let done = read(&mut stream);
        let was_short = stream.was_short;
        // A writer that is not read to its end fails now.
        drop(stream);
        let written = writing
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((written, done, was_short))
    })?;
    match (written, done) {
        (Ok(()), Ok(done)) => Ok(done),
        (Err(error), Ok(_)) => Err(Broken::Writer(error)),
        (Err(error), Err(_)) if was_short => Err(Broken::Writer(error)),
        (_, Err(error)) => Err(Broken::Reader(error)),
    }
}

struct Stream<'a> {
    reader: io::PipeReader,
    is_whole: &'a AtomicBool,
    was_short: bool,
}

impl Read for Stream<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(bytes)?;
        if read == 0 && !bytes.is_empty() && !self.is_whole.load(Ordering::Acquire) {
            self.was_short = true;
            return Err(io::Error::other("the stream was not written to its end"));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(stream: &mut (dyn Read + Send)) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).map(|_| bytes)
    }

    #[test]
    fn the_end_is_seen_only_when_the_writer_has_succeeded() {
        let long = vec![7; 300_000];
        let whole = run(|out| out.write_all(&long), copy).unwrap();
        assert_eq!(whole, long);
        let failing = |out: &mut dyn Write| {
            out.write_all(&long)?;
            Err(io::Error::other("no more"))
        };
        let Err(Broken::Writer(error)) = run(failing, copy) else {
            panic!("the writer's failure was lost");
        };
        assert_eq!(error.to_string(), "no more");
        let stopped = run(
            |out| out.write_all(&long),
            |_| Err::<(), _>(io::Error::other("enough")),
        );
        assert!(matches!(stopped, Err(Broken::Reader(error)) if error.to_string() == "enough"));
    }
}
