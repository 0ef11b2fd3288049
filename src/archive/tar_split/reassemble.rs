//! An archive out of its recipe and the files of the tree.

use std::io::{self, BufWriter, Read, Write};

use super::{Checksum, Line, ReadError, Reader, inflate};
use crate::archive::read_ahead;
use crate::sys::Buffer;

/// Files of so many bytes are read by a thread of their own while what came of them is summed up and written.
const READ_AHEAD: u64 = 4 << 20;

/// Why an archive can't be rebuilt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReassembleError {
    /// The recipe can't be read.
    #[error(transparent)]
    Recipe(#[from] ReadError),
    /// A file of the layer can't be opened or read.
    #[error("read {} of the layer", String::from_utf8_lossy(name))]
    File {
        /// Its name in the archive.
        name: Vec<u8>,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not what it was when the layer was unpacked.
    #[error(
        "file integrity checksum failed for {:?}",
        String::from_utf8_lossy(name)
    )]
    Changed {
        /// Its name in the archive.
        name: Vec<u8>,
    },
    /// The output failed.
    #[error("write the archive")]
    Write(#[source] io::Error),
}

/// Rebuilds an archive bit for bit, opening each file with a payload by its name in the archive: a regular file, of
/// which a read gives all that fits. The recipe and large files are read ahead.
///
/// # Errors
/// When the recipe or a file can't be read, a file has changed, or the output fails. A part of the archive may have
/// been written.
pub fn reassemble<F: Read + Send>(
    recipe: impl Read + Send,
    open: &mut dyn FnMut(&[u8]) -> io::Result<F>,
    out: impl Write,
) -> Result<u64, ReassembleError> {
    let rebuilt = read_ahead::run(inflate(recipe), |lines| {
        rebuild(Reader::inflated(lines), open, out)
    });
    rebuilt.map_err(ReadError::Read)?.0
}

fn rebuild<F: Read + Send>(
    mut reader: Reader<impl Read>,
    open: &mut dyn FnMut(&[u8]) -> io::Result<F>,
    out: impl Write,
) -> Result<u64, ReassembleError> {
    // Most segments are a header.
    let mut out = BufWriter::with_capacity(128 * 1024, out);
    let mut buffer = Buffer::new(256 * 1024);
    let mut total = 0;
    while let Some(line) = reader.next_line()? {
        match line {
            Line::Segment(bytes) => {
                out.write_all(&bytes).map_err(ReassembleError::Write)?;
                total += bytes.len() as u64;
            }
            Line::File {
                name,
                size,
                checksum: Some(checksum),
            } => {
                let failed = |source| ReassembleError::File {
                    name: name.clone(),
                    source,
                };
                let mut file = open(&name).map_err(failed)?;
                let copied = if size < READ_AHEAD {
                    copy(&mut file, size, &mut buffer, &mut out)
                } else {
                    let copied = read_ahead::run(file, |mut file| {
                        copy(&mut file, size, &mut buffer, &mut out)
                    });
                    copied.map_err(failed)?.0
                };
                match copied {
                    Ok(found) if found == checksum => total += size,
                    Ok(_) | Err(CopyError::Length) => {
                        return Err(ReassembleError::Changed { name });
                    }
                    Err(CopyError::Read(error)) => return Err(failed(error)),
                    Err(CopyError::Write(error)) => return Err(ReassembleError::Write(error)),
                }
            }
            Line::File { .. } => {}
        }
    }
    out.flush().map_err(ReassembleError::Write)?;
    Ok(total)
}

/// Why a file is not in the archive.
enum CopyError {
    Read(io::Error),
    Write(io::Error),
    /// It is shorter or longer than it was.
    Length,
}

/// Copies a file of `size` bytes; its checksum.
fn copy(
    file: &mut impl Read,
    size: u64,
    buffer: &mut [u8],
    out: &mut impl Write,
) -> Result<[u8; 8], CopyError> {
    let mut sum = Checksum::new();
    let mut copied = 0;
    loop {
        let read = match file.read(buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error)),
        };
        copied += read as u64;
        if copied > size || read == 0 && copied < size {
            return Err(CopyError::Length);
        }
        sum.update(&buffer[..read]);
        out.write_all(&buffer[..read]).map_err(CopyError::Write)?;
        // Of a longer file the first read would have filled the buffer.
        if read == 0 || copied == size && size < buffer.len() as u64 {
            return Ok(sum.finish());
        }
    }
}
