//! Layers are fetched and unpacked by a few threads at once, each in one pass and outside of locks.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::error::PullError;
use super::image::LayerPlan;
use super::{Limits, Progress};
use crate::archive::unpack::{self, Budget};
use crate::digest::Algorithm;
use crate::oci::source::{BlobReader, Source, SourceError, VerifyingReader, recover};
use crate::store::{NewLayer, StageError, StageOptions, StagedLayer, Store};
use crate::sys::tree::Copied;

/// How many layers may be in work at once in the whole process.
#[derive(Debug)]
pub(super) struct Lanes {
    free: Mutex<usize>,
    freed: Condvar,
}

/// A lane in use.
struct Lane<'a>(&'a Lanes);

impl Lanes {
    pub(super) fn new(count: usize) -> Self {
        Self {
            free: Mutex::new(count.max(1)),
            freed: Condvar::new(),
        }
    }

    fn enter(&self) -> Lane<'_> {
        let mut free = lock(&self.free);
        while *free == 0 {
            free = self
                .freed
                .wait(free)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Lane(self)
    }
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        *lock(&self.0.free) += 1;
        self.0.freed.notify_one();
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How the store gets a layer that it lacks.
#[derive(Clone)]
pub(super) enum Task<'a> {
    /// From the image's source.
    Fetch {
        plan: &'a LayerPlan,
        source: &'a dyn Source,
    },
    /// From an additional store, where its ID is `original`.
    Bring {
        original: String,
        id: String,
        parent: Option<String>,
    },
}

impl Task<'_> {
    fn id(&self) -> &str {
        match self {
            Self::Fetch { plan, .. } => &plan.id,
            Self::Bring { id, .. } => id,
        }
    }

    pub(super) fn new_layer(&self, is_unfinished: bool) -> NewLayer {
        let parent = match self {
            Self::Fetch { plan, .. } => &plan.parent,
            Self::Bring { parent, .. } => parent,
        };
        NewLayer {
            id: Some(self.id().to_owned()),
            parent: parent.clone(),
            is_read_only: true,
            is_unfinished,
            ..NewLayer::default()
        }
    }
}

/// The layers of one image that the store lacks, on their way into it.
pub(super) struct Work<'a> {
    pub(super) store: &'a Store,
    /// The image, for messages.
    pub(super) name: &'a str,
    pub(super) limits: &'a Limits,
    pub(super) lanes: &'a Lanes,
    pub(super) progress: &'a dyn Progress,
    /// Layers of pulls under way, this one among them.
    pub(super) wanted: &'a Mutex<HashMap<String, usize>>,
    /// Layers that this pull, and nobody else, has recorded ahead of its image; lowest first.
    pub(super) recorded: Mutex<Vec<String>>,
    /// Set by the first failure: the other threads end at their next read.
    pub(super) stop: AtomicBool,
    /// What may still be unpacked, of all layers together.
    pub(super) budget: Arc<Budget>,
    /// So many bytes of complete layers may be lost when the process is killed.
    pub(super) keep_bytes: u64,
    /// Bytes that came from the source.
    pub(super) fetched: AtomicU64,
    /// Bytes that came from additional stores.
    pub(super) brought: Mutex<Copied>,
}

impl Work<'_> {
    /// Bytes that came from additional stores so far.
    pub(super) fn brought(&self) -> Copied {
        *lock(&self.brought)
    }

    /// Stages one layer; and how many bytes it holds.
    pub(super) fn stage_one(&self, task: &Task<'_>) -> Result<(StagedLayer, u64), PullError> {
        match task {
            Task::Fetch { plan, source } => self.fetch(plan, *source),
            Task::Bring {
                original, parent, ..
            } => self.bring(original, parent.as_deref()),
        }
    }

    /// Copies a layer of an additional store.
    fn bring(&self, id: &str, parent: Option<&str>) -> Result<(StagedLayer, u64), PullError> {
        let _lane = self.lanes.enter();
        if self.stop.load(Ordering::Relaxed) {
            return Err(PullError::Abandoned(self.name.to_owned()));
        }
        let (staged, copied) = self.store.stage_copy(id, parent)?;
        let mut brought = lock(&self.brought);
        brought.shared += copied.shared;
        brought.copied += copied.copied;
        Ok((staged, copied.shared + copied.copied))
    }

    /// Fetches, verifies and unpacks one layer, in one pass.
    fn fetch(
        &self,
        plan: &LayerPlan,
        source: &dyn Source,
    ) -> Result<(StagedLayer, u64), PullError> {
        let _lane = self.lanes.enter();
        if self.stop.load(Ordering::Relaxed) {
            return Err(PullError::Abandoned(self.name.to_owned()));
        }
        let failed = Mutex::new(None);
        let descriptor = &plan.descriptor;
        let blob = source.blob(descriptor)?;
        // The store checks SHA-256 itself; others are checked on the way.
        let is_checked_by_store = descriptor.digest.algorithm() == Algorithm::Sha256;
        let blob: BlobReader = if is_checked_by_store {
            blob
        } else {
            Box::new(VerifyingReader::new(blob, descriptor))
        };
        let options = StageOptions {
            digest: is_checked_by_store.then(|| descriptor.digest.clone()),
            size: Some(descriptor.size),
            diff_id: Some(plan.diff_id.clone()),
            limits: unpack::Limits {
                entries: self.limits.entries,
                ..unpack::Limits::default()
            },
            budget: Some(Arc::clone(&self.budget)),
            ..StageOptions::default()
        };
        let reader = Metered {
            work: self,
            plan,
            inner: blob,
            failed: &failed,
        };
        let staged = self
            .store
            .stage_layer_over(plan.parent.as_deref(), reader, &options);
        if let Some(error) = lock(&failed).take() {
            return Err(error.into());
        }
        let staged = staged.map_err(|source| self.failure(plan, source))?;
        let Some(measured) = &staged.measured else {
            return Err(PullError::Abandoned(self.name.to_owned()));
        };
        if measured.compression != plan.compression {
            let source = StageError::Mismatch {
                what: "compression",
                expected: plan.compression.to_string(),
                found: measured.compression.to_string(),
            };
            return Err(self.failure(plan, source));
        }
        let bytes = measured.content_size;
        self.progress.finished(descriptor);
        Ok((staged, bytes))
    }

    fn failure(&self, plan: &LayerPlan, source: StageError) -> PullError {
        PullError::Layer {
            image: self.name.to_owned(),
            digest: plan.descriptor.digest.clone(),
            source,
        }
    }
}

/// Counts what comes from the source, ends when the pull has failed elsewhere, and keeps the source's
/// error, which would lose its type on the way through decoders.
struct Metered<'a> {
    work: &'a Work<'a>,
    plan: &'a LayerPlan,
    inner: BlobReader,
    failed: &'a Mutex<Option<SourceError>>,
}

impl Read for Metered<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.work.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("another layer failed"));
        }
        match self.inner.read(bytes) {
            Ok(read) => {
                self.work.fetched.fetch_add(read as u64, Ordering::Relaxed);
                self.work
                    .progress
                    .advanced(&self.plan.descriptor, read as u64);
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                *lock(self.failed) = Some(recover("the layer", error));
                Err(io::Error::other("the source failed"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn no_more_threads_than_lanes_are_inside() {
        let lanes = Arc::new(Lanes::new(2));
        let inside = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (lanes, inside) = (Arc::clone(&lanes), Arc::clone(&inside));
                std::thread::spawn(move || {
                    for _ in 0..50 {
                        let _lane = lanes.enter();
                        assert!(inside.fetch_add(1, Ordering::SeqCst) < 2);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(*lock(&lanes.free), 2);
    }
}
