//! [`Destination`]: the seam between pushing and the places where images go.

use std::io::{self, Write};

use super::manifest::Descriptor;
use super::source::{Resolved, SourceError};
use crate::digest::{Algorithm, Digest, Hasher};

/// Writes a blob from its beginning to its end, each time that it is called the same bytes. When the writer fails, it gives
/// back the writer's own error.
pub type Content<'a> = dyn Fn(&mut dyn Write) -> io::Result<()> + Sync + 'a;

/// A place that takes one image: a registry, a layout, an archive.
///
/// Its methods block, and may be called from several threads at once; never from a thread of an
/// asynchronous runtime. Its failures are those of a [`Source`](super::Source).
pub trait Destination: Send + Sync {
    /// True when it takes Docker's manifests as they are; else they are made OCI's.
    fn takes_docker(&self) -> bool;

    /// True when it has the blob already, or could take it from where it has it.
    ///
    /// # Errors
    /// When it can't be asked.
    fn has_blob(&self, blob: &Descriptor) -> Result<bool, SourceError>;

    /// Takes a blob whose digest is found while it is written; gives the digest and the size.
    /// `what` names it. When the destination fails for a while, `content` is called again.
    ///
    /// # Errors
    /// When it can't be taken. A failure of `content` fails it too; whoever made `content` knows why.
    fn put_blob(&self, what: &str, content: &Content<'_>) -> Result<(Digest, u64), SourceError>;

    /// Takes a small blob, which has this digest.
    ///
    /// # Errors
    /// When it can't be taken.
    fn put_bytes(&self, digest: &Digest, bytes: &[u8]) -> Result<(), SourceError>;

    /// Takes the manifest, and gives the image its name. All of its blobs are there.
    ///
    /// # Errors
    /// When it can't be taken; the name then leads to what it led to before.
    fn publish(&self, manifest: &Resolved) -> Result<(), SourceError>;
}

/// Hashes and counts what is written through it.
#[derive(Debug)]
pub(super) struct HashingWriter<W> {
    inner: W,
    hasher: Hasher,
    count: u64,
}

impl<W: Write> HashingWriter<W> {
    /// Nothing written yet.
    pub(super) fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Hasher::new(Algorithm::Sha256),
            count: 0,
        }
    }

    /// The digest and number of the bytes written, and the writer.
    pub(super) fn finish(self) -> (Digest, u64, W) {
        (self.hasher.finish(), self.count, self.inner)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
