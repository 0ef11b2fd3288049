//! The wire: generated code, requests made typed, answers and status codes.
//!
//! | File | What |
//! |---|---|
//! | [`request`] | a request of the wire becomes a valid request, or the field that is wrong |
//! | [`socket`] | the private Unix socket |
//! | [`registration`] | how the kubelet finds us |

pub mod registration;
pub mod request;
pub mod socket;

use tonic::Code;

/// Generated from `proto/csi/csi.proto`.
#[allow(
    missing_docs,
    clippy::all,
    reason = "generated: its documents are in the definition"
)]
pub mod wire {
    tonic::include_proto!("csi.v1");
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
