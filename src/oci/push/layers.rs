//! Layers are put together, compressed and sent by a few threads at once, with little memory each.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::error::PushError;
use super::image::Layer;
use crate::archive::compression::{Compression, encoder};
use crate::digest::Digest;
use crate::oci::destination::{Destination, HashingWriter};
use crate::oci::manifest::{Descriptor, layer_media_type};
use crate::oci::pull::Progress;
use crate::oci::source::SourceError;
use crate::store::Store;
use crate::store::layer::diff::DiffError;

/// The layers of one image on their way to a destination.
pub(super) struct Work<'a> {
    pub(super) store: &'a Store,
    pub(super) destination: &'a dyn Destination,
    /// The image, for messages.
    pub(super) name: &'a str,
    pub(super) compression: Compression,
    pub(super) progress: &'a dyn Progress,
    /// Set by the first failure: the other threads end at their next write.
    pub(super) stop: AtomicBool,
    /// Bytes that went to the destination.
    pub(super) sent: AtomicU64,
}

/// What progress is told about: the uncompressed archive.
pub(super) fn plain(layer: &Layer) -> Descriptor {
    let kind = layer_media_type(Compression::None).unwrap_or_default();
    Descriptor::new(kind, layer.diff_id.clone(), layer.size)
}

/// Runs `act` for each number below `count`, on up to `threads` threads. The first failure ends it.
pub(super) fn for_each<T: Send>(
    name: &str,
    count: usize,
    threads: usize,
    stop: &AtomicBool,
    act: impl Fn(usize) -> Result<T, PushError> + Sync,
) -> Result<Vec<T>, PushError> {
    let next = Mutex::new(0..count);
    let done: Vec<Mutex<Option<T>>> = (0..count).map(|_| Mutex::new(None)).collect();
    let failure = Mutex::new(None);
    let run = || {
        while !stop.load(Ordering::Relaxed) {
            let Some(number) = lock(&next).next() else {
                return;
            };
            match act(number) {
                Ok(result) => *lock(&done[number]) = Some(result),
                // The others fail as a consequence: the first one says why.
                Err(error) => {
                    if !stop.swap(true, Ordering::Relaxed) {
                        *lock(&failure) = Some(error);
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(count) {
            let started = std::thread::Builder::new()
                .name("layer".into())
                .spawn_scoped(scope, run);
            if let Err(error) = started {
                tracing::debug!(%error, "fewer layers are sent at once");
                break;
            }
        }
        run();
    });
    if let Some(error) = lock(&failure).take() {
        return Err(error);
    }
    done.into_iter()
        .map(|slot| {
            slot.into_inner()
                .unwrap_or_else(PoisonError::into_inner)
                .ok_or_else(|| PushError::Abandoned(name.to_owned()))
        })
        .collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Work<'_> {
    /// A form of the layer that the destination has.
    pub(super) fn find(&self, layer: &Layer) -> Result<Option<Descriptor>, PushError> {
        for known in &layer.known {
            let found = self.destination.has_blob(known);
            if found.map_err(PushError::Destination)? {
                return Ok(Some(known.clone()));
            }
        }
        Ok(None)
    }

    /// Sends a layer; what the manifest has to say of it.
    pub(super) fn send(&self, layer: &Layer) -> Result<Descriptor, PushError> {
        let failed = Mutex::new(None);
        let told = AtomicU64::new(0);
        let descriptor = plain(layer);
        let content = |out: &mut dyn Write| {
            let mut out = Out {
                work: self,
                inner: out,
                failure: None,
            };
            let result = self.write(layer, &mut out, |count| {
                // What is sent again is no progress.
                let before = told.fetch_max(count, Ordering::Relaxed);
                if count > before {
                    self.progress.advanced(&descriptor, count - before);
                }
            });
            result.map_err(|error| {
                // The destination gets back what it said itself; it knows what it was writing.
                out.failure.take().unwrap_or_else(|| {
                    *lock(&failed) = Some(error);
                    io::Error::other("the layer could not be read")
                })
            })
        };
        let what = format!("the layer {} of {}", layer.diff_id, self.name);
        let put = self.destination.put_blob(&what, &content);
        if let Some(source) = lock(&failed).take() {
            return Err(PushError::Layer {
                image: self.name.to_owned(),
                diff_id: layer.diff_id.clone(),
                source,
            });
        }
        let (digest, size) = put.map_err(PushError::Destination)?;
        self.sent.fetch_add(size, Ordering::Relaxed);
        self.progress.finished(&descriptor);
        let kind = layer_media_type(self.compression).ok_or_else(|| {
            PushError::Destination(SourceError::unsupported(
                format_args!("a layer in {}", self.compression),
                "choose gzip, zstd or none",
            ))
        })?;
        Ok(Descriptor::new(kind, digest, size))
    }

    /// Writes the layer's archive, compressed; it has to be the one that came in.
    fn write(
        &self,
        layer: &Layer,
        out: &mut dyn Write,
        progress: impl Fn(u64),
    ) -> Result<(), DiffError> {
        let compressed = encoder(self.compression, out).map_err(DiffError::Write)?;
        let mut plain = Counting {
            inner: HashingWriter::new(compressed),
            count: 0,
            progress,
        };
        self.store
            .diff(&layer.id, None, Some(Compression::None), &mut plain)?;
        let (found, _, compressed) = plain.inner.finish();
        compressed.finish().map_err(DiffError::Write)?;
        check(&layer.diff_id, &found)
    }
}

fn check(expected: &Digest, found: &Digest) -> Result<(), DiffError> {
    if expected == found {
        return Ok(());
    }
    Err(DiffError::Digest {
        expected: expected.clone(),
        found: found.clone(),
    })
}

/// Passes on to the destination, unless another layer has failed.
struct Out<'a> {
    work: &'a Work<'a>,
    inner: &'a mut dyn Write,
    /// What the destination said: whoever makes the stream passes on its kind alone, in other words.
    failure: Option<io::Error>,
}

impl Out<'_> {
    fn keep<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let kind = error.kind();
            // An interrupted call is made again.
            if kind != io::ErrorKind::Interrupted {
                self.failure.get_or_insert(error);
            }
            kind.into()
        })
    }
}

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = match self.work.stop.load(Ordering::Relaxed) {
            true => Err(io::Error::other("another layer failed")),
            false => self.inner.write(bytes),
        };
        self.keep(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.inner.flush();
        self.keep(result)
    }
}

/// Tells how much has passed.
struct Counting<W, F> {
    inner: W,
    count: u64,
    progress: F,
}

impl<W: Write, F: Fn(u64)> Write for Counting<W, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.count += written as u64;
        (self.progress)(self.count);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
