//! The wire: generated code, requests made typed, answers and status codes.
//!
//! | File | What |
//! |---|---|
//! | [`identity`] | who we are, what we offer, are we ready |
//! | [`node`] | publish, unpublish, statistics |
//! | [`controller`] | volumes of claims on this node |
//! | [`request`] | a request of the wire becomes a valid request, or the field that is wrong |
//! | [`status`] | a failure becomes a status: the one table |
//! | [`socket`] | the private Unix socket |
//! | [`registration`] | how the kubelet finds us |

pub mod caller;
pub mod controller;
pub mod identity;
pub mod node;
pub mod registration;
pub mod request;
pub mod socket;
pub mod status;

use std::sync::Arc;
use std::time::Instant;

use tonic::{Code, Response, Status};

use super::health::Readiness;
use super::metrics::Metrics;
use super::volume::Volumes;

/// Generated from `proto/csi/csi.proto`.
#[allow(
    missing_docs,
    clippy::all,
    reason = "generated: its documents are in the definition"
)]
pub mod wire {
    tonic::include_proto!("csi.v1");
}

/// Calls that change something, which are logged; the others come every minute for every volume.
const CHANGES: [&str; 4] = [
    "NodePublishVolume",
    "NodeUnpublishVolume",
    "CreateVolume",
    "DeleteVolume",
];

/// What the services share.
#[derive(Debug)]
pub struct Context {
    /// Name of the driver.
    pub driver_name: String,
    /// Name of this node.
    pub node_name: String,
    /// How many volumes the node may have; 0 for no limit.
    pub max_volumes: i64,
    /// The volumes.
    pub volumes: Arc<Volumes>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether calls can be taken.
    pub readiness: Readiness,
}

impl Context {
    /// Key of the topology segment that says in which store a volume is.
    pub fn topology_key(&self) -> String {
        format!("topology.{}/pool-default", self.driver_name)
    }

    /// Where the volumes of this node are.
    pub fn topology(&self) -> wire::Topology {
        wire::Topology {
            segments: [(
                self.topology_key(),
                self.volumes.store_id().as_str().to_owned(),
            )]
            .into(),
        }
    }

    /// Runs one call to its end, whether or not the caller waits for it, and counts and logs it.
    ///
    /// A caller that hangs up must not stop a mount half way: the next call would find the volume free
    /// and its work unfinished.
    async fn call<T: Send + 'static>(
        &self,
        rpc: &'static str,
        about: String,
        work: impl Future<Output = Result<T, Status>> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        self.readiness.check()?;
        let metrics = Arc::clone(&self.metrics);
        let running = tokio::spawn(async move {
            let in_flight = metrics.start(rpc);
            let start = Instant::now();
            let result = work.await;
            let elapsed = start.elapsed();
            let code = result.as_ref().err().map_or(Code::Ok, Status::code);
            metrics.finish(in_flight, code_name(code), elapsed);
            let milliseconds = elapsed.as_micros() as f64 / 1000.0;
            match &result {
                Ok(_) if CHANGES.contains(&rpc) => {
                    tracing::info!(rpc, about, milliseconds, "done");
                }
                Ok(_) => tracing::debug!(rpc, about, milliseconds, "done"),
                Err(status) => tracing::warn!(
                    rpc,
                    about,
                    milliseconds,
                    code = code_name(code),
                    error = status.message(),
                    "failed"
                ),
            }
            result
        });
        match running.await {
            Ok(result) => result.map(Response::new),
            Err(_) => Err(Status::internal(format!(
                "{rpc} panicked; the plugin's log has the place"
            ))),
        }
    }
}

/// Name of a status code as the interface's documents write it.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests;
