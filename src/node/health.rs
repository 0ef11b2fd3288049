//! Is the plugin alive, is it ready: a latch, and the HTTP endpoint that shows it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use tokio::net::TcpListener;

use super::checks::Problem;
use super::metrics::Metrics;
use crate::sys;

const STARTING: u8 = 0;
const READY: u8 = 1;
const DRAINING: u8 = 2;

/// Calls can't be taken now, or not all of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotReady {
    /// What was published before is still being found.
    #[error("the plugin is starting; try again")]
    Starting,
    /// The plugin ends.
    #[error("the plugin is shutting down; try again when it is back")]
    Draining,
    /// The node lacks something.
    #[error("this node is not ready for volumes: {0}")]
    Lacking(String),
}

/// Whether calls can be taken: closed at start, opened once, closed for good at the end. And what the
/// node lacks, which comes and goes.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    state: Arc<AtomicU8>,
    lacks: Arc<Mutex<Lacks>>,
}

/// What the node lacks.
#[derive(Debug, Default)]
struct Lacks {
    problems: Vec<Problem>,
    /// When that was told; never, while it lacks nothing.
    told: Option<Instant>,
}

/// After so long a node that still lacks something tells it again: the cluster forgets events within an hour, and one that
/// was told while the API server was away is lost.
const TELL_AGAIN: Duration = Duration::from_secs(900);

impl Readiness {
    /// Calls can be taken from now on.
    pub fn open(&self) {
        // The states only ever grow: a plugin that drains already stays so.
        self.state.fetch_max(READY, Ordering::AcqRel);
    }

    /// No more calls are taken.
    pub fn close(&self) {
        self.state.store(DRAINING, Ordering::Release);
    }

    /// Whether calls can be taken and the node lacks nothing.
    pub fn is_ready(&self) -> bool {
        self.check_all().is_ok()
    }

    /// The node lacks these things `now`. Returns whether that is to be told: others than before, or told long ago.
    pub fn set_problems(&self, problems: Vec<Problem>, now: Instant) -> bool {
        let mut lacks = self.lock();
        // A text may change while its problem stays: how much is free, for one.
        let remedies = problems.iter().map(|one| one.remedy);
        let is_news = !lacks.problems.iter().map(|one| one.remedy).eq(remedies);
        let is_old = |told| now.duration_since(told) >= TELL_AGAIN;
        let is_told = is_news || lacks.told.is_some_and(is_old);
        if is_told {
            lacks.told = (!problems.is_empty()).then_some(now);
        }
        lacks.problems = problems;
        is_told
    }

    /// Whether a new volume can be made, and why not.
    ///
    /// # Errors
    /// When the node lacks something without which there are no volumes.
    pub fn check_node(&self) -> Result<(), NotReady> {
        lacking(
            self.lock()
                .problems
                .iter()
                .filter(|problem| problem.is_fatal),
        )
    }

    /// Whether the node lacks anything.
    ///
    /// # Errors
    /// What it lacks.
    pub fn check_lacks(&self) -> Result<(), NotReady> {
        lacking(self.lock().problems.iter())
    }

    /// Whether calls can be taken and the node lacks nothing, and why not.
    ///
    /// # Errors
    /// Either of them; what the node lacks first.
    pub fn check_all(&self) -> Result<(), NotReady> {
        self.check_lacks()?;
        self.check()
    }

    fn lock(&self) -> MutexGuard<'_, Lacks> {
        self.lacks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether calls can be taken, and why not.
    ///
    /// # Errors
    /// While starting and while draining.
    pub fn check(&self) -> Result<(), NotReady> {
        match self.state.load(Ordering::Acquire) {
            READY => Ok(()),
            STARTING => Err(NotReady::Starting),
            _ => Err(NotReady::Draining),
        }
    }
}

fn lacking<'a>(problems: impl Iterator<Item = &'a Problem>) -> Result<(), NotReady> {
    let texts: Vec<_> = problems.map(ToString::to_string).collect();
    if texts.is_empty() {
        Ok(())
    } else {
        Err(NotReady::Lacking(texts.join(". ")))
    }
}

/// Listens for the HTTP endpoint. Every address is `[::]`, also where the kernel has no IPv6.
///
/// # Errors
/// When the address can't be had.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, sys::Error> {
    let every = SocketAddr::from((Ipv6Addr::UNSPECIFIED, address.port()));
    let bound = match TcpListener::bind(address).await {
        Err(error) if address == every && is_without_ipv6(&error) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    };
    bound.map_err(|error| sys::Error::new("listen at", address.to_string(), error))
}

fn is_without_ipv6(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let found = error.raw_os_error();
    [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL]
        .iter()
        .any(|errno| found == Some(errno.raw_os_error()))
}

/// `/healthz`, `/readyz` and `/metrics`. None of them waits for the store.
pub fn routes(readiness: Readiness, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route(
            "/readyz",
            get(|| async move {
                match readiness.check_all() {
                    Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
                    Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
                }
            }),
        )
        .route(
            "/metrics",
            get(|| async move {
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                ([(header::CONTENT_TYPE, kind)], metrics.text())
            }),
        )
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    #[test]
    fn the_latch_opens_once() {
        let readiness = Readiness::default();
        assert_eq!(readiness.check(), Err(NotReady::Starting));
        readiness.open();
        assert!(readiness.is_ready());
        readiness.close();
        readiness.open();
        assert_eq!(readiness.check(), Err(NotReady::Draining));
    }

    #[test]
    fn what_the_node_lacks_comes_and_goes() {
        let readiness = Readiness::default();
        readiness.open();
        let full = Problem {
            what: "the pool is full".to_owned(),
            remedy: "make room",
            is_fatal: false,
        };
        let start = Instant::now();
        let set = |problem: &Problem, after: Duration| {
            readiness.set_problems(vec![problem.clone()], start + after)
        };
        assert!(set(&full, Duration::ZERO));
        assert!(!set(&full, TELL_AGAIN / 2), "it was just told");
        assert!(set(&full, TELL_AGAIN));
        assert!(!set(&full, TELL_AGAIN * 3 / 2), "it was told again");
        assert!(!readiness.is_ready());
        assert_eq!(
            readiness.check_all().unwrap_err().to_string(),
            "this node is not ready for volumes: the pool is full; make room"
        );
        assert!(readiness.check().is_ok() && readiness.check_node().is_ok());
        let fatal = Problem {
            is_fatal: true,
            ..full.clone()
        };
        set(&fatal, TELL_AGAIN * 3 / 2);
        assert!(readiness.check_node().is_err());
        let none = |after: u32| readiness.set_problems(Vec::new(), start + TELL_AGAIN * after);
        assert!(none(2) && !none(4), "that all is well is told once");
        assert!(readiness.is_ready());
    }

    #[tokio::test]
    async fn health_is_shown() {
        let readiness = Readiness::default();
        let routes = routes(readiness.clone(), Arc::new(Metrics::new()));
        let status = async |path: &str| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            routes.clone().oneshot(request).await.unwrap().status()
        };
        assert_eq!(status("/healthz").await, StatusCode::OK);
        assert_eq!(status("/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
        readiness.open();
        assert_eq!(status("/readyz").await, StatusCode::OK);
        assert_eq!(status("/metrics").await, StatusCode::OK);
        assert_eq!(status("/other").await, StatusCode::NOT_FOUND);
    }
}
