//! A failure becomes a status. This is the one table; details stay empty, as the interface demands, so
//! the message says everything.

use tonic::{Code, Status};

use super::super::chain;
use super::super::health::NotReady;
use super::request::RequestError;
use crate::node::volume;
use crate::node::volume::Kind;

/// The code for each kind of failure.
pub fn code(kind: Kind) -> Code {
    match kind {
        Kind::Invalid => Code::InvalidArgument,
        Kind::Differs => Code::AlreadyExists,
        Kind::InUse | Kind::Unable => Code::FailedPrecondition,
        Kind::NotFound => Code::NotFound,
        Kind::Busy => Code::Aborted,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::Forbidden => Code::PermissionDenied,
        Kind::Unavailable => Code::Unavailable,
        Kind::Full => Code::ResourceExhausted,
        Kind::OutOfRange => Code::OutOfRange,
        Kind::Corrupt => Code::DataLoss,
        Kind::Internal => Code::Internal,
    }
}

/// The status of a failed operation. Its text ends in an event of the pod or the claim.
#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
pub fn of_volume(error: volume::Error) -> Status {
    let mut text = chain(&error);
    if let Some(remedy) = error.remedy() {
        text = format!("{text}; {remedy}");
    }
    Status::new(code(error.kind()), text)
}

/// The status of a request that is not valid.
#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
pub fn of_request(error: RequestError) -> Status {
    Status::invalid_argument(chain(&error))
}

impl From<NotReady> for Status {
    fn from(error: NotReady) -> Self {
        Self::unavailable(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::volume::images::ImageError;

    #[test]
    fn what_the_user_can_mend_comes_with_advice() {
        let status = of_volume(volume::Error::Image {
            image: "registry.example/site:1".to_owned(),
            source: ImageError::Absent,
        });
        assert_eq!(status.code(), Code::NotFound);
        let text = status.message();
        assert!(
            text.starts_with("image registry.example/site:1: "),
            "{text}"
        );
        assert!(
            text.ends_with("; allow it to be pulled, or bring it to the node"),
            "{text}"
        );
    }
}
