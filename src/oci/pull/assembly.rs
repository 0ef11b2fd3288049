//! From layers on their way to layers in the store.
//!
//! Layers are staged side by side and adopted in order. Those of a whole image are adopted with its
//! record, in one change; but when many bytes are complete already they are adopted before the rest is
//! there, marked as unfinished, so that a kill does not cost them: the retry finds them.

use super::Work;
use super::error::PullError;
use super::layers::{Task, lock};
use super::trouble::Trouble;
use crate::store::{NewLayer, StagedLayer};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard};

/// What is ready, and what is in the store already.
#[derive(Default)]
struct Line {
    next: usize,
    staged: Vec<Option<(StagedLayer, u64)>>,
    adopted: usize,
    is_adopting: bool,
    failure: Option<PullError>,
}

impl Line {
    /// The end of the layers that are ready without a gap, and their bytes.
    fn ready(&self) -> (usize, u64) {
        let ready = self.staged[self.adopted..].iter().map_while(Option::as_ref);
        ready.fold((self.adopted, 0), |(end, bytes), (_, more)| {
            (end + 1, bytes + more)
        })
    }

    fn take(&mut self, tasks: &[Task<'_>], end: usize) -> Vec<(NewLayer, StagedLayer)> {
        (self.adopted..end)
            .filter_map(|number| {
                let (staged, _) = self.staged[number].take()?;
                Some((tasks[number].new_layer(true), staged))
            })
            .collect()
    }
}

impl Work<'_> {
    /// Makes the layers ready for adoption with their image, lowest first. Those that are in the store
    /// already when this returns, unfinished, are not among them.
    ///
    /// # Errors
    /// Why a layer can't be had. What was ready stays for the retry if that may have more luck, else
    /// nothing stays.
    pub(super) fn make(
        &self,
        tasks: &[Task<'_>],
        threads: usize,
    ) -> Result<Vec<(NewLayer, StagedLayer)>, PullError> {
        let line = Mutex::new(Line {
            staged: tasks.iter().map(|_| None).collect(),
            ..Line::default()
        });
        if self.store.driver().stages_without_parent() {
            self.stage_side_by_side(tasks, threads, &line);
        } else {
            self.stage_in_order(tasks, &line);
        }
        let mut line = lock(&line);
        if let Some(error) = line.failure.take() {
            if may_be_kept(&error) {
                let (end, _) = line.ready();
                let ready = line.take(tasks, end);
                if !ready.is_empty()
                    && let Err(error) = self.adopt(ready)
                {
                    tracing::debug!(%error, "the layers of a failed pull are not kept");
                }
            } else {
                self.remove();
            }
            return Err(error);
        }
        let start = line.adopted;
        let slots = line.staged.drain(..).skip(start);
        tasks[start..]
            .iter()
            .zip(slots)
            .map(|(task, slot)| match slot {
                Some((staged, _)) => Ok((task.new_layer(false), staged)),
                None => Err(PullError::Abandoned(self.name.to_owned())),
            })
            .collect()
    }

    /// An image does not come to be though its layers are there: they stay or go, as in [`Work::make`].
    pub(super) fn give_up(&self, error: &PullError) {
        if !may_be_kept(error) {
            self.remove();
        }
    }

    fn stage_side_by_side(&self, tasks: &[Task<'_>], threads: usize, line: &Mutex<Line>) {
        let run = || {
            while !self.stop.load(Ordering::Relaxed) {
                let number = {
                    let mut line = lock(line);
                    line.next += 1;
                    line.next - 1
                };
                let Some(task) = tasks.get(number) else {
                    return;
                };
                match self.stage_one(task) {
                    Ok(staged) => {
                        let mut held = lock(line);
                        held.staged[number] = Some(staged);
                        self.keep(tasks, line, held, self.keep_bytes);
                    }
                    Err(error) => self.fail(line, error),
                }
            }
        };
        let helpers = threads.min(tasks.len()).saturating_sub(1);
        std::thread::scope(|scope| {
            for _ in 0..helpers {
                let started = std::thread::Builder::new()
                    .name("layer".into())
                    .spawn_scoped(scope, run);
                if let Err(error) = started {
                    tracing::debug!(%error, "fewer layers are unpacked at once");
                    break;
                }
            }
            run();
        });
    }

    /// For drivers that need the contents of the parent: each layer is in the store before the next.
    fn stage_in_order(&self, tasks: &[Task<'_>], line: &Mutex<Line>) {
        for (number, task) in tasks.iter().enumerate() {
            match self.stage_one(task) {
                Ok(staged) => {
                    let mut held = lock(line);
                    held.staged[number] = Some(staged);
                    if number + 1 < tasks.len() {
                        self.keep(tasks, line, held, 0);
                    }
                }
                Err(error) => self.fail(line, error),
            }
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Adopts what is ready, when it is `least` bytes or more and the image is not whole yet.
    fn keep(
        &self,
        tasks: &[Task<'_>],
        line: &Mutex<Line>,
        mut held: MutexGuard<'_, Line>,
        least: u64,
    ) {
        let (end, bytes) = held.ready();
        if held.is_adopting || end == held.adopted || end == tasks.len() || bytes < least {
            return;
        }
        held.is_adopting = true;
        let layers = held.take(tasks, end);
        drop(held);
        let adopted = self.adopt(layers);
        let mut held = lock(line);
        held.is_adopting = false;
        match adopted {
            Ok(()) => held.adopted = end,
            Err(error) => {
                drop(held);
                self.fail(line, error);
            }
        }
    }

    /// The other threads fail as a consequence: the first failure says why.
    fn fail(&self, line: &Mutex<Line>, error: PullError) {
        if !self.stop.swap(true, Ordering::Relaxed) {
            lock(line).failure = Some(error);
        }
    }

    fn adopt(&self, layers: Vec<(NewLayer, StagedLayer)>) -> Result<(), PullError> {
        let adopted = self.store.adopt_layers(layers)?;
        lock(&self.recorded).extend(adopted);
        Ok(())
    }

    /// Deletes the layers that this pull has recorded already, of an image that does not come to be.
    fn remove(&self) {
        for id in std::mem::take(&mut *lock(&self.recorded)).iter().rev() {
            if lock(self.wanted).get(id).is_some_and(|count| *count > 1) {
                return;
            }
            // One that somebody uses meanwhile stays, and so do those below.
            if let Err(error) = self.store.delete_layer(id) {
                tracing::debug!(layer = id, %error, "a layer of a failed pull stays");
                return;
            }
        }
    }
}

/// Whether the retry of a pull that failed so can go on from what is there.
fn may_be_kept(error: &PullError) -> bool {
    error.trouble() == Trouble::Unavailable
}
