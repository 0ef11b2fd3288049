//! Other programs: the few that do what this process can't or may not do by itself.

use std::ffi::OsStr;
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use super::Error;

#[allow(
    clippy::disallowed_methods,
    reason = "the one place that runs programs"
)]
fn command(program: impl AsRef<OsStr>, arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// What of a program's words is told when it fails, in bytes.
const MAX_WORDS: u64 = 4096;

/// Runs a program to its end, without input.
///
/// # Errors
/// When it can't be started, or fails; what it has written is in the error. Else nobody sees that.
pub fn run(program: impl AsRef<OsStr>, arguments: &[impl AsRef<OsStr>]) -> Result<(), Error> {
    let program = program.as_ref();
    let fail = |error| Error::new("run", program, error);
    let mut command = command(program, arguments);
    // No pipe: a program that goes on in the background would hold it open.
    let mut words = words().map_err(fail)?;
    command.stdin(Stdio::null());
    command.stdout(words.try_clone().map_err(fail)?);
    command.stderr(words.try_clone().map_err(fail)?);
    let status = command.status().map_err(fail)?;
    words.rewind().map_err(fail)?;
    let mut said = Vec::new();
    (&mut words)
        .take(MAX_WORDS)
        .read_to_end(&mut said)
        .map_err(fail)?;
    let said = String::from_utf8_lossy(&said);
    let said = said.trim().replace('\n', "; ");
    if status.success() {
        tracing::debug!(program = %program.display(), said, "a program has done its work");
        return Ok(());
    }
    let text = match said.is_empty() {
        true => status.to_string(),
        false => format!("{status}: {said}"),
    };
    Err(fail(io::Error::other(text)))
}

/// A file without a name that takes what a program writes.
fn words() -> io::Result<std::fs::File> {
    let fd = rustix::fs::memfd_create("words", rustix::fs::MemfdFlags::CLOEXEC)?;
    Ok(fd.into())
}

/// Becomes another program, which gets these variables besides those that are set. It returns only when it can't.
pub fn become_program(
    program: impl AsRef<OsStr>,
    name: Option<&OsStr>,
    arguments: &[impl AsRef<OsStr>],
    variables: &[(&str, String)],
) -> Error {
    let mut command = command(program.as_ref(), arguments);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    if let Some(name) = name {
        command.arg0(name);
    }
    Error::new("run", program.as_ref(), command.exec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_or_is_missing_is_named() {
        assert!(run("true", &["x"]).is_ok());
        let error = run("false", &[""; 0]).unwrap_err();
        assert_eq!(error.to_string(), "run false");
        let error = run("sh", &["-c", "echo a; echo b >&2; exit 3"]).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.ends_with("3: a; b"), "{source}");
        assert!(run("no-such-program", &[""; 0]).unwrap_err().is_not_found());
    }
}
