//! [`Source`]: the seam between pulling and the places where images lie.

use std::fmt;
use std::io::{self, Read};

use super::manifest::Descriptor;
use crate::digest::Digest;
use crate::sys;

/// A place that holds one image: a registry, a layout, an archive.
///
/// Its methods block, and may be called from several threads at once; never from a thread of an
/// asynchronous runtime.
pub trait Source: Send + Sync {
    /// Fetches the manifest or index that the image's name leads to.
    ///
    /// # Errors
    /// When there is none, it can't be had, or it is too large.
    fn resolve(&self) -> Result<Resolved, SourceError>;

    /// Fetches a manifest that an index lists, verified.
    ///
    /// # Errors
    /// As [`Source::resolve`], or when the bytes do not match the descriptor.
    fn manifest(&self, descriptor: &Descriptor) -> Result<Resolved, SourceError>;

    /// Opens a blob for one pass.
    ///
    /// The stream has the descriptor's size or fails; its digest is for the reader to check, see
    /// [`VerifyingReader`]. Errors of the stream carry a [`SourceError`].
    ///
    /// # Errors
    /// When there is none or it can't be had.
    fn blob(&self, descriptor: &Descriptor) -> Result<BlobReader, SourceError>;
}

/// The bytes of a blob, as they come.
pub type BlobReader = Box<dyn Read + Send>;

/// A manifest or an index, byte for byte.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub digest: Digest,
    /// What the source says they are; empty when it does not.
    pub media_type: String,
}

/// What went wrong at a source or a destination, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// There is no such image, tag, manifest or blob.
    #[error("{what} does not exist")]
    NotFound {
        /// What is missing, and where.
        what: String,
    },
    /// The registry wants other credentials, or any.
    #[error("{host} rejects the login: {detail}")]
    Unauthenticated {
        /// The registry or token service.
        host: String,
        /// What it said, or which credentials were used.
        detail: String,
    },
    /// The registry knows us and forbids it.
    #[error("{host} forbids access to {what}")]
    Denied {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
    },
    /// The registry can't be reached, is overloaded or broken; later may be better.
    #[error("{what} is unavailable: {detail}")]
    Unavailable {
        /// What was asked for.
        what: String,
        /// What happened, the last time.
        detail: String,
    },
    /// The registry takes what is pushed for wrong, too large, or not its business.
    #[error("{host} refuses {what}: {detail}")]
    Refused {
        /// The registry.
        host: String,
        /// What was pushed.
        what: String,
        /// What it said.
        detail: String,
    },
    /// The bytes are not what they should be.
    #[error("{what} is corrupt: {detail}")]
    Corrupt {
        /// Which bytes.
        what: String,
        /// What is wrong with them.
        detail: String,
    },
    /// A limit is exceeded.
    #[error("{what} is too large: {size} bytes, and {limit} are allowed")]
    TooLarge {
        /// What is too large.
        what: String,
        /// How large it is, as far as it is known.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// Something that Strata does not do.
    #[error("{what} is not supported: {detail}")]
    Unsupported {
        /// What it is.
        what: String,
        /// Why, and the way out.
        detail: String,
    },
    /// A file can't be read.
    #[error(transparent)]
    File(#[from] sys::Error),
}

impl SourceError {
    pub(crate) fn corrupt(what: impl fmt::Display, detail: impl fmt::Display) -> Self {
        Self::Corrupt {
            what: what.to_string(),
            detail: detail.to_string(),
        }
    }

    pub(crate) fn unsupported(what: impl fmt::Display, detail: impl fmt::Display) -> Self {
        Self::Unsupported {
            what: what.to_string(),
            detail: detail.to_string(),
        }
    }

    pub(crate) fn unavailable(what: impl fmt::Display, detail: impl fmt::Display) -> Self {
        Self::Unavailable {
            what: what.to_string(),
            detail: detail.to_string(),
        }
    }
}

impl From<SourceError> for io::Error {
    fn from(error: SourceError) -> Self {
        let kind = match &error {
            SourceError::NotFound { .. } => io::ErrorKind::NotFound,
            SourceError::Corrupt { .. } => io::ErrorKind::InvalidData,
            SourceError::File(file) => file.kind(),
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// Reads a small blob or manifest wholly, at most `limit` bytes.
pub(crate) fn read_bounded(
    mut reader: impl Read,
    what: &str,
    limit: u64,
) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    let read = reader
        .by_ref()
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| recover(what, error))?;
    if read as u64 > limit {
        return Err(SourceError::TooLarge {
            what: what.to_owned(),
            size: read as u64,
            limit,
        });
    }
    Ok(bytes)
}

/// Gets the [`SourceError`] out of an error of a stream.
pub(crate) fn recover(what: &str, error: io::Error) -> SourceError {
    match error.downcast::<SourceError>() {
        Ok(inner) => inner,
        Err(error) => SourceError::File(sys::Error::new("read", what, error)),
    }
}

/// Checks size and digest of a stream as it passes: the read at its end fails unless both are right.
#[derive(Debug)]
pub struct VerifyingReader<R> {
    inner: R,
    hasher: Option<crate::digest::Hasher>,
    expected: Digest,
    size: u64,
    count: u64,
}

impl<R: Read> VerifyingReader<R> {
    /// Nothing read yet.
    pub fn new(inner: R, descriptor: &Descriptor) -> Self {
        Self {
            inner,
            hasher: Some(crate::digest::Hasher::new(descriptor.digest.algorithm())),
            expected: descriptor.digest.clone(),
            size: descriptor.size,
            count: 0,
        }
    }

    fn check(&mut self) -> io::Result<()> {
        let Some(hasher) = self.hasher.take() else {
            return Ok(());
        };
        verify(hasher.finish(), self.count, &self.expected, self.size)?;
        Ok(())
    }
}

/// Compares what came with what was promised.
pub(crate) fn verify(
    found: Digest,
    count: u64,
    expected: &Digest,
    size: u64,
) -> Result<(), SourceError> {
    let what = format_args!("the blob {expected}");
    if count != size {
        return Err(SourceError::corrupt(
            what,
            format_args!("it has {count} bytes instead of {size}"),
        ));
    }
    if found != *expected {
        return Err(SourceError::corrupt(
            what,
            format_args!("its digest is {found}"),
        ));
    }
    Ok(())
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let read = self.inner.read(bytes)?;
        self.count += read as u64;
        if read == 0 || self.count > self.size {
            self.check()?;
            return Ok(read);
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes[..read]);
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn read(bytes: &[u8], descriptor: &Descriptor) -> io::Result<Vec<u8>> {
        let mut found = Vec::new();
        VerifyingReader::new(Cursor::new(bytes), descriptor).read_to_end(&mut found)?;
        Ok(found)
    }

    #[test]
    fn only_the_promised_bytes_pass() {
        let descriptor = Descriptor::new("x", Digest::of(b"hello"), 5);
        assert_eq!(read(b"hello", &descriptor).unwrap(), b"hello");
        for bad in [&b"hell"[..], b"hellx", b"hello!", b""] {
            let error = read(bad, &descriptor).unwrap_err();
            let found = recover("x", error);
            assert!(matches!(found, SourceError::Corrupt { .. }), "{bad:?}");
        }
    }
}
