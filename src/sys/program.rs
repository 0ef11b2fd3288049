//! Other programs: the few that do what this process can't or may not do by itself.

use std::ffi::OsStr;
use std::io;
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

/// Runs a program to its end, without input; what it writes goes to stderr.
///
/// # Errors
/// When it can't be started, or fails.
pub fn run(program: impl AsRef<OsStr>, arguments: &[impl AsRef<OsStr>]) -> Result<(), Error> {
    let program = program.as_ref();
    let fail = |error| Error::new("run", program, error);
    let mut command = command(program, arguments);
    command.stdin(Stdio::null());
    command.stdout(io::stderr());
    let status = command.status().map_err(fail)?;
    match status.success() {
        true => Ok(()),
        false => Err(fail(io::Error::other(status.to_string()))),
    }
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
        assert!(run("no-such-program", &[""; 0]).unwrap_err().is_not_found());
    }
}
