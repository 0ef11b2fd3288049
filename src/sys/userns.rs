//! User name spaces: whether this process is in the first one, and making others for the sake of their maps.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::{Dir, Error, fault};

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

/// A part of a user name space's map: `size` IDs from `inside` on are those from `outside` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    /// The first ID inside.
    pub inside: u32,
    /// The first ID outside.
    pub outside: u32,
    /// How many.
    pub size: u32,
}

/// A user name space that nobody is in.
#[derive(Debug)]
pub struct UserNamespace(OwnedFd);

impl AsFd for UserNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl UserNamespace {
    /// Makes one with these maps; no range at all: every ID is what it is.
    ///
    /// Only a process can make one, so one is started, which does nothing and ends before this returns.
    ///
    /// # Errors
    /// When the kernel refuses: the maps overlap, there are too many ranges, or this process is not root.
    pub fn new(users: &[Range], groups: &[Range]) -> Result<Self, Error> {
        let member = Member::start()?;
        for (name, ranges) in [("uid_map", users), ("gid_map", groups)] {
            let path = member.path(name);
            let fail = |error: io::Error| Error::new("write", &path, error);
            fault::change("write", || {
                // One write has to bring the whole map; /proc knows no atomic replacement.
                open(&path, true)?.write_all(text(ranges).as_bytes())
            })
            .map_err(fail)?;
        }
        let path = member.path("ns/user");
        let namespace = open(&path, false).map_err(|error| Error::new("open", &path, error))?;
        Ok(Self(namespace.into()))
    }
}

/// Opens a file of `/proc`.
fn open(path: &Path, writes: bool) -> io::Result<File> {
    File::options().read(!writes).write(writes).open(path)
}

fn text(ranges: &[Range]) -> String {
    const ALL: Range = Range {
        inside: 0,
        outside: 0,
        size: u32::MAX,
    };
    let ranges = if ranges.is_empty() { &[ALL] } else { ranges };
    let line = |range: &Range| format!("{} {} {}\n", range.inside, range.outside, range.size);
    ranges.iter().map(line).collect()
}

/// A process in a new user name space. Dropping it ends it.
struct Member {
    process: libc::pid_t,
    /// It lives as long as this is open.
    life: Option<OwnedFd>,
}

impl Member {
    #[allow(
        unsafe_code,
        reason = "std starts programs, not processes that go on in this one"
    )]
    fn start() -> Result<Self, Error> {
        let fail = |error: io::Error| Error::new("make a user name space in", "/proc/self", error);
        let (end, life) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|errno| fail(errno.into()))?;
        let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
        // SAFETY: without a stack of its own the new process is a copy of this thread alone. Until its end it makes
        // only system calls, so it needs no lock that another thread may have held.
        let process = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
        match process {
            -1 => Err(fail(io::Error::last_os_error())),
            0 => {
                // SAFETY: both are descriptors of this process, and the buffer is its own; _exit does not return.
                unsafe {
                    libc::close(life.as_raw_fd());
                    let mut byte = [0_u8; 1];
                    libc::read(end.as_raw_fd(), byte.as_mut_ptr().cast(), 1);
                    libc::_exit(0)
                }
            }
            process => Ok(Self {
                process: libc::pid_t::try_from(process)
                    .map_err(|_| fail(io::ErrorKind::Other.into()))?,
                life: Some(life),
            }),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.process))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        drop(self.life.take());
        let process = rustix::process::Pid::from_raw(self.process);
        let ended = rustix::io::retry_on_intr(|| {
            rustix::process::waitpid(process, rustix::process::WaitOptions::empty())
        });
        if let Err(error) = ended {
            // Whoever waits for any child may have met it.
            tracing::debug!(%error, "the process of a user name space was waited for by somebody else");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_space_is_made_for_its_maps() {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test makes user name spaces: run it as root"
        );
        let range = Range {
            inside: 0,
            outside: 100_000,
            size: 65_536,
        };
        let namespace = UserNamespace::new(&[range], &[]).unwrap();
        let link = format!("/proc/self/fd/{}", namespace.as_fd().as_raw_fd());
        let name = std::fs::read_link(link).unwrap();
        assert!(name.to_str().unwrap().starts_with("user:["), "{name:?}");
        assert_ne!(name.to_str().unwrap(), INITIAL);
        let error = UserNamespace::new(&[range, range], &[]).unwrap_err();
        assert!(error.to_string().contains("uid_map"), "{error}");
        assert_eq!(text(&[]), "0 0 4294967295\n");
    }
}
