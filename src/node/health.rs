//! Is the plugin alive, is it ready: a latch, and the HTTP endpoint that shows it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use tokio::net::TcpListener;

use super::metrics::Metrics;
use crate::sys;

const STARTING: u8 = 0;
const READY: u8 = 1;
const DRAINING: u8 = 2;

/// Calls can't be taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotReady {
    /// What was published before is still being found.
    #[error("the plugin is starting; try again")]
    Starting,
    /// The plugin ends.
    #[error("the plugin is shutting down; try again when it is back")]
    Draining,
}

/// Whether calls can be taken: closed at start, opened once, closed for good at the end.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    state: Arc<AtomicU8>,
}

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

    /// Whether calls can be taken.
    pub fn is_ready(&self) -> bool {
        self.check().is_ok()
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
                match readiness.check() {
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
