//! The system calls of a program as the kernel gets them: strace, and which of its lines change something.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::support::tool::{self, Ran, Tool};

/// Every call by which a program could change a disk or the mount table. strace ignores those with a question mark that
/// it does not know.
const CALLS: &[&str] = &[
    "open",
    "openat",
    "openat2",
    "creat",
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "sendfile",
    "splice",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "chown",
    "fchown",
    "lchown",
    "fchownat",
    "utime",
    "utimes",
    "futimesat",
    "utimensat",
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "setxattrat",
    "removexattr",
    "lremovexattr",
    "fremovexattr",
    "removexattrat",
    "truncate",
    "ftruncate",
    "fallocate",
    "copy_file_range",
    "ioctl",
    "mount",
    "umount2",
    "fsopen",
    "fspick",
    "fsconfig",
    "fsmount",
    "move_mount",
    "open_tree",
    "open_tree_attr",
    "mount_setattr",
    "pivot_root",
    "swapon",
    "quotactl",
    "quotactl_fd",
];

/// A call, as strace wrote it when it began.
#[derive(Clone, Debug)]
pub struct Call {
    /// The system call.
    pub name: String,
    /// Which call of that name it is in its thread, from 1 on: what strace's `when=` counts.
    pub number: usize,
    /// Whether it is one of those that the fault hook counts.
    pub is_change: bool,
    pub line: String,
}

/// strace, or how to install it.
pub fn strace() -> PathBuf {
    tool::find("strace")
}

/// Runs `binary` under strace with `environment`; its calls in the order in which they began. Files outside the store
/// count as well, except for `log`, to which the hook itself writes.
pub fn run(
    binary: &Path,
    arguments: &[String],
    environment: &[(&str, &str)],
    log: &Path,
) -> (Ran, Vec<Call>) {
    let file = log.with_extension("strace");
    let mut tool = Tool::at(&strace())
        .args(options(&file))
        .arg(binary)
        .args(arguments);
    for (name, value) in environment {
        tool = tool.env(name, value);
    }
    let ran = tool.output();
    (ran, read(&file, &[log]))
}

/// Arguments by which strace writes every call that matters to `file`.
pub fn options(file: &Path) -> Vec<String> {
    let calls: Vec<_> = CALLS.iter().map(|name| format!("?{name}")).collect();
    vec![
        "-f".into(),
        "-y".into(),
        "-s0".into(),
        "--seccomp-bpf".into(),
        format!("--trace={}", calls.join(",")),
        format!("--output={}", file.display()),
    ]
}

/// The calls that strace wrote to `file`; those on `logs` change nothing.
pub fn read(file: &Path, logs: &[&Path]) -> Vec<Call> {
    let text = fs::read(file).expect("strace writes its output: may this process be traced?");
    let mut numbers = HashMap::new();
    String::from_utf8_lossy(&text)
        .lines()
        .filter_map(|line| {
            let (thread, rest) = line.split_once(' ')?;
            let (name, arguments) = rest.trim_start().split_once('(')?;
            if !CALLS.contains(&name) {
                return None;
            }
            let number = numbers
                .entry((thread.to_owned(), name.to_owned()))
                .or_insert(0);
            *number += 1;
            Some(Call {
                name: name.to_owned(),
                number: *number,
                is_change: is_change(name, arguments, logs),
                line: line.to_owned(),
            })
        })
        .collect()
}

fn is_change(name: &str, arguments: &str, logs: &[&Path]) -> bool {
    let is_log = |path: &str| logs.iter().any(|log| *log == Path::new(path));
    let has = |word: &str| arguments.contains(word);
    match name {
        _ if between(arguments, '<', '>').starts_with("socket:") => false,
        "open" | "openat" | "openat2" => {
            let path = between(arguments, '"', '"');
            (has("O_CREAT") || has("O_TMPFILE") || has("O_TRUNC")) && !is_log(path)
        }
        // Not what the program says, nor what its threads tell each other.
        "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" => {
            let file = between(arguments, '<', '>');
            file.starts_with('/') && !file.starts_with("/dev/") && !is_log(file)
        }
        "ioctl" => has("FICLONE") || has("FIDEDUPERANGE"),
        "fsconfig" => has("FSCONFIG_CMD_CREATE") || has("FSCONFIG_CMD_RECONFIGURE"),
        "open_tree" => has("OPEN_TREE_CLONE"),
        _ => true,
    }
}

/// What lies between the first `start` and the next `end`.
fn between(text: &str, start: char, end: char) -> &str {
    text.split_once(start)
        .and_then(|(_, rest)| rest.split_once(end))
        .map_or("", |(inner, _)| inner)
}

/// The name that the call `name` of the kernel and of the hook have in common: the C library and the kernel differ in
/// names, and by architecture.
pub fn common_name(name: &str) -> &str {
    match name {
        "open" | "openat" | "openat2" | "creat" => "open",
        "pwrite" | "pwrite64" => "pwrite",
        "rename" | "renameat" | "renameat2" => "rename",
        "link" | "linkat" => "link",
        "symlink" | "symlinkat" => "symlink",
        "unlink" | "unlinkat" | "rmdir" => "unlink",
        "mkdir" | "mkdirat" => "mkdir",
        "mknod" | "mknodat" => "mknod",
        "chmod" | "fchmodat" | "fchmodat2" => "chmod",
        "chown" | "lchown" | "fchownat" => "chown",
        "futimens" | "utimensat" => "utimens",
        other => other,
    }
}

/// What the hook wrote to `log`: the names of its calls, in their order.
pub fn hooked(log: &Path) -> Vec<String> {
    let calls = numbered(log);
    assert!(
        calls.iter().map(|(number, _)| *number).eq(1..=calls.len()),
        "the hook counts by one: {calls:?}"
    );
    calls.into_iter().map(|(_, name)| name).collect()
}

/// The same of a program with several threads, which write in any order.
pub fn hooked_in_any_order(log: &Path) -> Vec<String> {
    let mut calls = numbered(log);
    calls.sort();
    assert!(
        calls.iter().map(|(number, _)| *number).eq(1..=calls.len()),
        "the hook counts by one: {calls:?}"
    );
    calls.into_iter().map(|(_, name)| name).collect()
}

fn numbered(log: &Path) -> Vec<(usize, String)> {
    fs::read_to_string(log)
        .unwrap_or_default()
        .lines()
        .map(|line| {
            let (number, name) = line.split_once(' ').expect("a number and a name");
            (number.parse().expect("a number"), name.to_owned())
        })
        .collect()
}

/// Waits until strace, running aside, has written that `process` ended.
pub fn wait_for_end(file: &Path, process: u32) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let text = fs::read(file).unwrap_or_default();
        let has_ended = String::from_utf8_lossy(&text).lines().any(|line| {
            line.split_once(' ').is_some_and(|(thread, rest)| {
                thread == process.to_string() && rest.contains("+++ exited")
            })
        });
        if has_ended {
            return;
        }
        assert!(Instant::now() < deadline, "strace does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}
