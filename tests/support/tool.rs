//! Other programs: found, or a failure that says how to install them; run and checked.

use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// The program `name`, in the cache of built tools or on the search path.
///
/// # Panics
/// When it is missing: a test that needs a tool fails without it, it does not skip.
pub fn find(name: &str) -> PathBuf {
    let mut folders = vec![cache().join("bin")];
    folders.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    folders.push("/usr/sbin".into());
    folders
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: run scripts/install test"))
}

/// Where built tools lie, as in the Makefile.
pub fn cache() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = from("STRATA_CACHE") {
        return path.into();
    }
    if let Some(path) = from("XDG_CACHE_HOME") {
        return PathBuf::from(path).join("strata");
    }
    PathBuf::from(from("HOME").unwrap_or_else(|| "/root".into())).join(".cache/strata")
}

/// Fails unless this process is root.
pub fn require_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "real mounts need root: run as root, for instance by sudo -E make test"
    );
}

/// A program and its arguments.
#[derive(Debug)]
pub struct Tool {
    command: Command,
    line: String,
    input: Option<Vec<u8>>,
}

/// What a program left behind.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
    line: String,
}

impl Tool {
    pub fn new(name: &str) -> Self {
        Self::at(&find(name))
    }

    pub fn at(path: &std::path::Path) -> Self {
        let mut command = Command::new(path);
        command.stdin(Stdio::null());
        Self {
            command,
            line: path.display().to_string(),
            input: None,
        }
    }

    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.line.push(' ');
        self.line.push_str(&argument.as_ref().to_string_lossy());
        self.command.arg(argument);
        self
    }

    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, arguments: I) -> Self {
        for argument in arguments {
            self = self.arg(argument);
        }
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it in this folder.
    pub fn within(mut self, folder: &std::path::Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Without what cargo tells its tests: a cargo that the program runs would build dependencies anew for it.
    pub fn outside_of_cargo(mut self) -> Self {
        const TOLD: [&str; 6] = [
            "CARGO_BIN_",
            "CARGO_CRATE_",
            "CARGO_MANIFEST_",
            "CARGO_PKG_",
            "CARGO_PRIMARY_",
            "OUT_DIR",
        ];
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if TOLD.iter().any(|prefix| text.starts_with(prefix)) {
                self.command.env_remove(&name);
            }
        }
        self
    }

    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    /// Runs it to its end, whatever its exit code.
    pub fn output(mut self) -> Ran {
        let Output {
            status,
            stdout,
            stderr,
        } = match self.input {
            None => self.command.output(),
            Some(input) => self
                .command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .and_then(|mut child| {
                    let mut pipe = child.stdin.take().expect("standard input is a pipe");
                    let writer = std::thread::spawn(move || drop(pipe.write_all(&input)));
                    let output = child.wait_with_output();
                    writer.join().expect("the writer does not panic");
                    output
                }),
        }
        .unwrap_or_else(|error| panic!("run {}: {error}", self.line));
        Ran {
            code: status.code().unwrap_or(-1),
            stdout,
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            line: self.line,
        }
    }

    /// Runs it and fails unless its exit code is 0.
    pub fn ok(self) -> Ran {
        let ran = self.output();
        assert!(ran.code == 0, "{ran}");
        ran
    }
}

impl Ran {
    /// Its standard output, trimmed.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    /// The last non-empty line of its standard output.
    pub fn last_line(&self) -> String {
        self.text().lines().last().unwrap_or_default().to_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "`{}` exited with {}\nstdout: {}\nstderr: {}",
            self.line,
            self.code,
            String::from_utf8_lossy(&self.stdout),
            self.stderr
        )
    }
}
