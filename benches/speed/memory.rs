//! The most memory that a program used.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Runs to the end and returns the most memory that was resident, in MiB, as the kernel counted it. It is
/// asked again and again: what `wait4` says of a child begins with what its parent had.
pub fn peak(command: &mut Command, pause: Duration) -> f64 {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0.0;
    let result = loop {
        if let Ok(text) = fs::read_to_string(&status)
            && let Some(line) = text.lines().find(|line| line.starts_with("VmHWM:"))
        {
            let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
            peak = kib / 1024.0;
        }
        if let Some(result) = child.try_wait().unwrap() {
            break result;
        }
        std::thread::sleep(pause);
    };
    assert!(result.success(), "{command:?} failed");
    peak
}
