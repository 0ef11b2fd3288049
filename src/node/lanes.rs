//! Lanes: the only bridge from asynchronous code to blocking work.
//!
//! Each lane has threads of its own, bounded, started on demand and ended when idle, and a bounded
//! queue. Slow pulls can't keep a publish waiting, a slow disk can't keep waiting what writes nothing to it, and a
//! peer that holds the store's locks can't keep anything waiting that needs none.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

const IDLE: Duration = Duration::from_secs(5);
const STACK: usize = 512 * 1024;

/// Work was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaneError {
    /// As many wait already as the lane lets wait.
    #[error("{waiting} operations wait for the {lane} lane already")]
    Full {
        /// Which lane.
        lane: &'static str,
        /// How many wait.
        waiting: usize,
    },
    /// The work panicked; the panic is in the log.
    #[error("an operation in the {lane} lane panicked")]
    Panicked {
        /// Which lane.
        lane: &'static str,
    },
    /// The system gives no thread.
    #[error("start a thread of the {lane} lane")]
    Thread {
        /// Which lane.
        lane: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// How many threads and waiting operations each lane may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Threads that bind and unbind targets.
    pub mounts: usize,
    /// Threads that call the store and so may wait for its locks.
    pub records: usize,
    /// Threads that take down mounts of claims.
    pub unmounts: usize,
    /// Threads that look at how full volumes are.
    pub looks: usize,
    /// Operations that may wait for a lane, each.
    pub queue: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            mounts: 8,
            records: 32,
            unmounts: 8,
            looks: 2,
            queue: 4096,
        }
    }
}

/// The lanes of a plugin.
#[derive(Clone, Debug)]
pub struct Lanes {
    /// Binds and unbinds targets; never waits for the store.
    pub mounts: Lane,
    /// Calls the store, and so may wait for its locks.
    pub records: Lane,
    /// Takes down mounts of claims, which waits until the disk has what was written; never waits for the store.
    pub unmounts: Lane,
    /// Looks at how full volumes are; changes nothing.
    pub looks: Lane,
}

impl Lanes {
    /// Lanes without any thread yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            mounts: Lane::new("mounts", limits.mounts, limits.queue),
            records: Lane::new("records", limits.records, limits.queue),
            unmounts: Lane::new("unmounts", limits.unmounts, limits.queue),
            looks: Lane::new("looks", limits.looks, limits.queue),
        }
    }

    /// All lanes, for metrics.
    pub fn all(&self) -> [&Lane; 4] {
        [&self.mounts, &self.records, &self.unmounts, &self.looks]
    }
}

/// Threads of one purpose, and what waits for them.
#[derive(Clone)]
pub struct Lane {
    inner: Arc<Inner>,
}

type Job = Box<dyn FnOnce() + Send>;

struct Inner {
    name: &'static str,
    threads: usize,
    queue: usize,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane")
            .field("name", &self.inner.name)
            .field("threads", &self.inner.threads)
            .finish_non_exhaustive()
    }
}

impl Lane {
    /// A lane of at most `threads` threads for which at most `queue` operations wait.
    pub fn new(name: &'static str, threads: usize, queue: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                name,
                threads: threads.max(1),
                queue: queue.max(1),
                state: Mutex::default(),
                wake: Condvar::new(),
            }),
        }
    }

    /// What the lane is for.
    pub fn name(&self) -> &'static str {
        self.inner.name
    }

    /// How many operations wait.
    pub fn waiting(&self) -> usize {
        self.inner.lock().jobs.len()
    }

    /// Does `work` on a thread of this lane. It is done even when nobody waits for its result any more.
    ///
    /// # Errors
    /// When too many wait, no thread can be had, or the work panics.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, LaneError> {
        let (answer, result) = oneshot::channel();
        self.submit(Box::new(move || {
            // Nobody listens when the asker has given up; the work is done all the same.
            drop(answer.send(work()));
        }))?;
        result.await.map_err(|_| LaneError::Panicked {
            lane: self.inner.name,
        })
    }

    fn submit(&self, job: Job) -> Result<(), LaneError> {
        let inner = &self.inner;
        let mut state = inner.lock();
        if state.jobs.len() >= inner.queue {
            return Err(LaneError::Full {
                lane: inner.name,
                waiting: state.jobs.len(),
            });
        }
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() || state.threads >= inner.threads {
            drop(state);
            inner.wake.notify_one();
            return Ok(());
        }
        state.threads += 1;
        drop(state);
        let worker = Arc::clone(inner);
        let started = std::thread::Builder::new()
            .name(inner.name.to_owned())
            .stack_size(STACK)
            .spawn(move || worker.work());
        if let Err(source) = started {
            let mut state = inner.lock();
            state.threads -= 1;
            // Others serve the queue, if there are any.
            if state.threads == 0 {
                state.jobs.pop_back();
                return Err(LaneError::Thread {
                    lane: inner.name,
                    source,
                });
            }
        }
        Ok(())
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Jobs run outside the lock, so a poisoned one still guards a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                // The hook has logged it, and whoever waits sees its channel close.
                drop(catch_unwind(AssertUnwindSafe(job)));
                state = self.lock();
                continue;
            }
            state.idle += 1;
            let (guard, waited) = self
                .wake
                .wait_timeout(state, IDLE)
                .unwrap_or_else(PoisonError::into_inner);
            state = guard;
            state.idle -= 1;
            if waited.timed_out() && state.jobs.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_stuck_lane_does_not_hold_up_another() {
        let lanes = Lanes::new(Limits {
            mounts: 1,
            records: 1,
            unmounts: 1,
            looks: 1,
            queue: 2,
        });
        let (release, wait) = mpsc::channel::<()>();
        let records = lanes.records.clone();
        let stuck = tokio::spawn(async move { records.run(move || wait.recv()).await });
        assert_eq!(lanes.mounts.run(|| 7).await.unwrap(), 7);
        release.send(()).unwrap();
        stuck.await.unwrap().unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_full_queue_is_refused_and_a_panic_ends_nothing() {
        let lane = Lane::new("test", 1, 1);
        let (release, wait) = mpsc::channel::<()>();
        let (started, running) = mpsc::channel::<()>();
        let busy = lane.clone();
        let first = tokio::spawn(async move {
            busy.run(move || {
                started.send(()).unwrap();
                wait.recv().unwrap();
            })
            .await
        });
        tokio::task::yield_now().await;
        running.recv().unwrap();
        let queued = lane.clone();
        let second = tokio::spawn(async move { queued.run(|| 2).await });
        while lane.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(
            lane.run(|| 3).await,
            Err(LaneError::Full { waiting: 1, .. })
        ));
        release.send(()).unwrap();
        first.await.unwrap().unwrap();
        assert_eq!(second.await.unwrap().unwrap(), 2);
        assert!(matches!(
            lane.run(|| panic!("on purpose")).await,
            Err(LaneError::Panicked { .. })
        ));
        assert_eq!(lane.run(|| 4).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn threads_stay_within_the_limit() {
        let lane = Lane::new("test", 3, 100);
        let work: Vec<_> = (0..50)
            .map(|n| {
                let lane = lane.clone();
                tokio::spawn(async move { lane.run(move || n).await.unwrap() })
            })
            .collect();
        let mut sum = 0;
        for one in work {
            sum += one.await.unwrap();
        }
        assert_eq!(sum, 49 * 50 / 2);
        assert!(lane.inner.lock().threads <= 3);
    }
}
