//! The built binary: what it prints, where, and its exit codes.

mod backup;
mod check;
mod copy;
mod grammar;
mod images;
mod junk;
mod opening;
mod pull;
mod registries;
mod relative;
mod staging_dir;
mod store;
mod usage;

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

/// A store of its own, with the driver that needs no privileges.
struct Sandbox {
    folder: tempfile::TempDir,
}

impl Sandbox {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// A file with these contents.
    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// Runs a command on the store.
    fn run(&self, arguments: &[&str]) -> Ran {
        let (graph, run) = (self.path("graph"), self.path("run"));
        let mut all = vec!["--graph", &graph, "--run", &run, "--storage-driver", "vfs"];
        all.extend(arguments);
        strata(&all)
    }

    /// The stdout of a command that must succeed.
    fn ok(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert!(ran.code == 0, "{arguments:?}: {}{}", ran.out, ran.err);
        ran.out
    }

    /// The code and stderr of a command that must fail, saying nothing on stdout.
    fn fails(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(
            (ran.code, ran.out.as_str()),
            (1, ""),
            "{arguments:?}: {}",
            ran.err
        );
        ran.err
    }
}
