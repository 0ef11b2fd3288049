//! [`Failure`]: an error as the user reads it, and the exit code that goes with it.

use std::error::Error;
use std::io;

use super::output::Output;
use crate::archive::compression::Compression;
use crate::store;
use crate::store::Kind;
use crate::store::layer::diff::DiffError;
use crate::sys;

/// Exit code of a command that failed.
pub const FAILED: u8 = 1;
/// Exit code of a command line that could not be understood.
pub const MISUSED: u8 = 125;

/// Why a command failed: one text, made once from a chain of errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// What is wrong, on stderr.
    Text(String),
    /// What is wrong, and below it what to do about it.
    Advice(String, String),
    /// The store can't be opened: on stdout, where the peer has it.
    Open(String),
    /// Everything is said already.
    Silent,
}

/// How a command ended; the number is its exit code.
pub type Outcome = Result<u8, Failure>;

impl Failure {
    /// A failure with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The chain of an error.
    pub fn because(error: &dyn Error) -> Self {
        Self::Text(chain(error))
    }

    /// The store can't be opened.
    pub fn open(error: &dyn Error) -> Self {
        Self::Open(chain(error))
    }

    /// The same with a cause at its end.
    pub fn caused_by(self, cause: &dyn Error) -> Self {
        match self {
            Self::Text(text) => Self::Text(format!("{text}: {}", chain(cause))),
            other => other,
        }
    }

    /// An error of an operation on an image; one that is not known is named.
    pub fn of_image(key: &str, error: store::Error) -> Self {
        match error {
            store::Error::Unknown(Kind::Image) => {
                Self::Text(format!("locating image with ID {key:?}: {error}"))
            }
            error => error.into(),
        }
    }

    /// Archives are read in this compression, and never written.
    pub fn unsupported(compression: Compression) -> Self {
        let ending = match compression {
            Compression::Bzip2 => "bz2",
            other => other.as_str(),
        };
        Self::Text(format!("unsupported compression format tar.{ending}"))
    }

    /// What is wrong, in one line.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) | Self::Advice(text, _) | Self::Open(text) => text.clone(),
            Self::Silent => String::new(),
        }
    }

    /// Stdout can't be written. A reader that has gone away needs no message.
    pub fn stdout(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::Silent;
        }
        Self::new("write the output").caused_by(&error)
    }

    /// The same failure with a way out.
    pub fn advise(self, advice: impl Into<String>) -> Self {
        match self {
            Self::Text(text) => Self::Advice(text, advice.into()),
            other => other,
        }
    }

    /// Tells the user.
    pub fn report(&self, output: &mut Output) {
        match self {
            Self::Text(text) => output.error_line(text),
            Self::Advice(text, advice) => {
                output.error_line(text);
                output.error_line(format_args!("hint: {advice}"));
            }
            Self::Open(text) => {
                // When stdout is gone too, the exit code still tells.
                drop(output.line(format_args!("error initializing: {text}")));
            }
            Self::Silent => {}
        }
    }
}

/// Where the peer says more, or says it in another order, than the store's own text.
impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        match &error {
            store::Error::LayerUsedByImage(image) => Self::Text(format!(
                "used by image {image}: layer is in use by an image"
            )),
            store::Error::LayerUsedByContainer(container) => Self::Text(format!(
                "used by container {container}: layer is in use by a container"
            )),
            store::Error::ImageUsedByContainer(container) => Self::Text(format!(
                "image used by {container}: image is in use by a container"
            )),
            store::Error::DuplicateName { kind, name, owner } => Self::Text(match kind {
                Kind::Layer => error.to_string(),
                Kind::Image => format!(
                    "image name {name:?} is already associated with image {owner:?}: that name is already in use"
                ),
                Kind::Container => format!(
                    "the container name {name:?} is already in use by {owner}. You have to remove that container to be \
                     able to reuse that name: that name is already in use"
                ),
            }),
            store::Error::StillMounted => {
                Self::new("a layer is mounted: layer is in use by a container")
            }
            error => Self::because(error),
        }
    }
}

impl From<sys::Error> for Failure {
    fn from(error: sys::Error) -> Self {
        Self::because(&error)
    }
}

impl From<DiffError> for Failure {
    fn from(error: DiffError) -> Self {
        match error {
            DiffError::Write(error) => Self::stdout(error),
            DiffError::Compression(compression) => Self::unsupported(compression),
            DiffError::Store(error) => error.into(),
            error if is_broken_pipe(&error) => Self::Silent,
            error => Self::because(&error),
        }
    }
}

/// True when a reader of a stream has gone away, however deep that lies.
fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let is_pipe = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
        if error.downcast_ref().is_some_and(is_pipe) {
            return true;
        }
        next = error.source();
    }
    false
}

/// An error and its causes in one line; a cause whose text already ends it is not repeated.
pub fn chain(error: &dyn Error) -> String {
    let mut text = plain(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = plain(&error.to_string());
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// The system's words as Go has them: without a number, and not as the start of a sentence.
fn plain(text: &str) -> String {
    match text.rfind(" (os error ") {
        Some(at) if text.ends_with(')') => {
            let mut letters = text[..at].chars();
            let first = letters.next().map(|letter| letter.to_ascii_lowercase());
            first.into_iter().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("open /x")]
    struct Outer(#[source] io::Error);

    #[test]
    fn a_chain_is_joined_once_and_without_numbers() {
        let error = Outer(io::Error::from_raw_os_error(2));
        assert_eq!(chain(&error), "open /x: no such file or directory");
    }

    #[test]
    fn a_reader_that_went_away_needs_no_message() {
        assert_eq!(
            Failure::stdout(io::ErrorKind::BrokenPipe.into()),
            Failure::Silent
        );
    }
}
