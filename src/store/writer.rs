//! [`Writer`]: the one writer of a store in this process.
//!
//! Callers submit a change and wait. One of the waiting threads becomes the leader: it takes the locks
//! once, applies everything that has gathered, saves each touched file once, syncs once, and wakes
//! all. While it waits for the disk, the next batch gathers. A command line with one change is a batch
//! of one; nothing runs when nothing is submitted.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Inner;
use super::error::Error;
use super::staging;
use super::transaction::{AfterSave, Scope, Transaction};

/// How many changes one batch takes at most: bounds how long the locks are held.
const BATCH: usize = 64;

type Change = Box<dyn FnOnce(&mut Transaction<'_>) -> Result<(), Error> + Send>;

/// The queue.
#[derive(Debug, Default)]
pub struct Writer {
    queue: Mutex<Queue>,
    progress: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Job>,
    has_leader: bool,
}

struct Job {
    scope: Scope,
    change: Change,
    answer: Arc<Mutex<Option<Result<(), Error>>>>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Job")
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(job: &Arc<Mutex<Option<Result<(), Error>>>>, result: Result<(), Error>) {
    *lock(job) = Some(result);
}

impl Writer {
    /// Runs `change` under the locks of `scope`, and saves what it changed.
    ///
    /// A change that fails is taken back and disturbs no other of its batch.
    ///
    /// # Errors
    /// The change's own, that of an action after the save (the change is then saved), or why the batch
    /// could not be saved (nothing is then changed).
    pub fn write<T: Send + 'static>(
        &self,
        store: &Inner,
        scope: Scope,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let value = Arc::new(Mutex::new(None));
        let kept = Arc::clone(&value);
        let change: Change = Box::new(move |transaction| {
            let made = change(transaction)?;
            *lock(&kept) = Some(made);
            Ok(())
        });
        self.submit(store, scope, change)?;
        lock(&value).take().ok_or(Error::Abandoned)
    }

    fn submit(&self, store: &Inner, scope: Scope, change: Change) -> Result<(), Error> {
        let own = Arc::new(Mutex::new(None));
        let mut queue = lock(&self.queue);
        queue.waiting.push(Job {
            scope,
            change,
            answer: Arc::clone(&own),
        });
        loop {
            if let Some(result) = lock(&own).take() {
                return result;
            }
            if queue.has_leader {
                queue = self
                    .progress
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            queue.has_leader = true;
            let take = queue.waiting.len().min(BATCH);
            let batch: Vec<Job> = queue.waiting.drain(..take).collect();
            drop(queue);
            let trash = self.lead(store, batch);
            queue = lock(&self.queue);
            if !trash.is_empty() {
                drop(queue);
                // Nobody waits for what was deleted to be gone but the one who led.
                drop(trash);
                queue = lock(&self.queue);
            }
        }
    }

    /// Runs a batch, and steps down even if a change panics.
    fn lead(&self, store: &Inner, batch: Vec<Job>) -> Vec<staging::Entry> {
        let _reign = Reign {
            writer: self,
            answers: batch.iter().map(|job| Arc::clone(&job.answer)).collect(),
        };
        run(store, batch)
    }
}

/// While it lives, its thread is the leader.
struct Reign<'a> {
    writer: &'a Writer,
    answers: Vec<Arc<Mutex<Option<Result<(), Error>>>>>,
}

impl Drop for Reign<'_> {
    fn drop(&mut self) {
        for job in &self.answers {
            let mut slot = lock(job);
            // Only a panic leaves a change of the batch without an answer.
            if slot.is_none() {
                *slot = Some(Err(Error::Abandoned));
            }
        }
        lock(&self.writer.queue).has_leader = false;
        self.writer.progress.notify_all();
    }
}

/// A change that was applied and waits for the save.
struct Applied {
    answer: Arc<Mutex<Option<Result<(), Error>>>>,
    adopted: Vec<String>,
    after_save: Vec<AfterSave>,
}

fn run(store: &Inner, batch: Vec<Job>) -> Vec<staging::Entry> {
    let scope = batch
        .iter()
        .fold(Scope::default(), |scope, job| scope.union(job.scope));
    let mut transaction = match Transaction::begin(store, scope) {
        Ok(transaction) => transaction,
        Err(error) => {
            for job in batch {
                answer(&job.answer, Err(error.clone()));
            }
            return Vec::new();
        }
    };
    // What a dead process left was taken out by `begin`, and is discarded after the save.
    let repairs = transaction.take_after_save();
    let start = transaction.savepoint();
    let mut applied = Vec::with_capacity(batch.len());
    for job in batch {
        let savepoint = transaction.savepoint();
        match (job.change)(&mut transaction) {
            Ok(()) => applied.push(Applied {
                answer: job.answer,
                adopted: transaction.take_adopted(),
                after_save: transaction.take_after_save(),
            }),
            Err(error) => {
                transaction.take_after_save();
                transaction.roll_back(&savepoint);
                answer(&job.answer, Err(error));
            }
        }
    }
    if let Err(error) = transaction.save() {
        transaction.roll_back(&start);
        let undone = transaction.save_again();
        for job in applied {
            if undone.is_ok() {
                for id in &job.adopted {
                    transaction.undo_adoption(id);
                }
            }
            answer(&job.answer, Err(error.clone()));
        }
        // Mounts that were made or taken down are what they are, whatever became of the records.
        if let Err(error) = transaction.save_mounts() {
            tracing::error!(%error, "the table of mounts could not be saved");
        }
        if let Err(again) = undone {
            tracing::error!(%error, %again, "a failed change could not be taken back");
        }
        return transaction.finish();
    }
    for repair in repairs {
        if let Err(error) = repair(&mut transaction) {
            tracing::warn!(%error, "a half-made layer could not be removed");
        }
    }
    let mut answers = Vec::with_capacity(applied.len());
    for job in applied {
        let mut result = Ok(());
        for action in job.after_save {
            // All of them run: each cleans up something of its own. The first failure is reported.
            let done = action(&mut transaction);
            if result.is_ok() {
                result = done;
            }
        }
        answers.push((job.answer, result));
    }
    let mounts = transaction.save_mounts();
    for (slot, result) in answers {
        answer(&slot, result.and(mounts.clone()));
    }
    transaction.finish()
}
