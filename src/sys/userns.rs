//! Whether this process is root of the machine or of a user name space only.

use std::sync::OnceLock;

use super::{Dir, Error};

/// The kernel's fixed number for the first user name space (`PROC_USER_INIT_INO`).
const INITIAL: &str = "user:[4026531837]";

/// True when the process can't act as root of the machine: another user, or root of a user name space.
///
/// Overlay then keeps its marks in `user.overlay.*`. The answer is found once.
///
/// # Errors
/// When `/proc` can't be read.
pub fn is_rootless() -> Result<bool, Error> {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    if let Some(answer) = ANSWER.get() {
        return Ok(*answer);
    }
    let is_initial = Dir::open("/proc/self/ns")?
        .find_link("user")?
        .is_none_or(|name| name.as_os_str() == INITIAL);
    let is_root = rustix::process::geteuid().is_root();
    Ok(*ANSWER.get_or_init(|| !(is_root && is_initial)))
}
