//! A program that is run to its end, or to a deadline: then something holds a lock for ever.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// How long any operation may take, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a program left behind.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code, or `None` when a signal ended it.
    pub code: Option<i32>,
    pub was_killed: bool,
    pub out: Vec<u8>,
    pub error: String,
}

impl Ended {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).trim().to_owned()
    }
}

/// Runs `command`; its output passes through files below `folder`, which no pipe limits.
///
/// # Errors
/// When it does not end in time: what it was.
pub fn run(mut command: Command, folder: &Path) -> Result<Ended, String> {
    let line = format!("{command:?}");
    let (out, error) = (folder.join("stdout"), folder.join("stderr"));
    let create = |path: &Path| File::create(path).expect("an output file can be made");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(create(&out))
        .stderr(create(&error))
        .spawn()
        .unwrap_or_else(|error| panic!("run {line}: {error}"));
    let pid = Pid::from_child(&child);
    let watch = pidfd_open(pid, PidfdFlags::empty()).expect("a child can be watched");
    let patience = Timespec {
        tv_sec: PATIENCE.as_secs().cast_signed(),
        tv_nsec: 0,
    };
    let ended = poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&patience));
    if ended != Ok(1) {
        let stack = fs::read_to_string(format!("/proc/{}/wchan", child.id())).unwrap_or_default();
        drop(child.kill());
        drop(child.wait());
        return Err(format!("a deadlock: {line} does not end (in {stack})"));
    }
    let status = child.wait().expect("a child that has ended has a status");
    Ok(Ended {
        code: status.code(),
        was_killed: status.signal().is_some(),
        out: fs::read(&out).unwrap_or_default(),
        error: String::from_utf8_lossy(&fs::read(&error).unwrap_or_default()).into_owned(),
    })
}
