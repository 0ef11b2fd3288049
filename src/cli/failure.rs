//! [`Failure`]: an error as the user reads it, and the exit code that goes with it.

use std::error::Error;
use std::io;

use super::output::Output;

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

    /// Stdout can't be written. A reader that has gone away needs no message.
    pub fn stdout(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::Silent;
        }
        Self::Text(format!("write stdout: {}", plain(&error.to_string())))
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

/// An error and its causes in one line; a cause whose text already ends it is not repeated.
pub fn chain(error: &dyn Error) -> String {
    let mut text = plain(&error.to_string()).to_owned();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        let next = plain(&next);
        if !text.ends_with(next) {
            text.push_str(": ");
            text.push_str(next);
        }
        cause = error.source();
    }
    text
}

/// Without the number that Rust adds to the system's words.
fn plain(text: &str) -> &str {
    match text.rfind(" (os error ") {
        Some(at) if text.ends_with(')') => &text[..at],
        _ => text,
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
        assert_eq!(chain(&error), "open /x: No such file or directory");
    }

    #[test]
    fn a_reader_that_went_away_needs_no_message() {
        assert_eq!(
            Failure::stdout(io::ErrorKind::BrokenPipe.into()),
            Failure::Silent
        );
    }
}
