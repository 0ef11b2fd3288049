//! The built binary: what it prints, where, and its exit codes.

mod grammar;

use std::process::{Command, Output};

/// What a run of the binary left behind.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs `strata` with these arguments and nothing from the environment.
fn strata(arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strata"));
    command.env_clear().args(arguments).output().unwrap().into()
}
