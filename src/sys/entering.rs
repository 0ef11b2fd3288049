//! Becoming root of a user name space of one's own: what a user needs who is to give files to other IDs.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use rustix::process::{Gid, Pid, Uid, WaitOptions};
use rustix::thread::UnshareFlags;

use super::userns::Range;
use super::{Dir, Error, fault, program};

/// Which IDs there are in a name space that was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// All that were asked for.
    All,
    /// This process' own alone, as 0: the others were refused.
    OwnAlone,
}

/// Moves this process into a new user and mount name space, as whose root it goes on. Its own user and group are 0
/// there; `users` and `groups` are what else is to be there.
///
/// Only a process that is left outside may map other IDs than one's own, so one is started. For root it writes the maps
/// itself; for others it runs `newuidmap` and `newgidmap`, which look into `/etc/subuid` and `/etc/subgid`.
///
/// # Errors
/// When the kernel refuses the name space, or this process has more threads than one.
pub fn enter(users: &[Range], groups: &[Range]) -> Result<Mapped, Error> {
    let fail = |error: io::Error| Error::new("make a user name space in", "/proc/self", error);
    // A fork of several threads may hold locks of the others, and the kernel moves no process that has some.
    if Dir::open("/proc/self/task")?.list()?.len() > 1 {
        return Err(fail(io::ErrorKind::ResourceBusy.into()));
    }
    let user = rustix::process::geteuid();
    let group = rustix::process::getegid();
    let users = with_own(user.as_raw(), users);
    let groups = with_own(group.as_raw(), groups);
    let helper = Helper::start(&users, &groups).map_err(fail)?;
    let flags = UnshareFlags::NEWUSER | UnshareFlags::NEWNS;
    unshare(flags).map_err(fail)?;
    let missing = helper.finish().map_err(fail)?;
    if missing & USERS != 0 {
        write_map("uid_map", text(&users[..1]).as_bytes())?;
    }
    if missing & GROUPS != 0 {
        write_map("setgroups", b"deny")?;
        write_map("gid_map", text(&groups[..1]).as_bytes())?;
    }
    let fail = |errno: rustix::io::Errno| Error::new("become root in", "/proc/self", errno);
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).map_err(fail)?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).map_err(fail)?;
    Ok(match missing {
        0 => Mapped::All,
        _ => Mapped::OwnAlone,
    })
}

/// Exit codes of the helper: which maps it could not write.
const USERS: i32 = 1;
const GROUPS: i32 = 2;

fn with_own(id: u32, ranges: &[Range]) -> Vec<Range> {
    let own = Range {
        inside: 0,
        outside: id,
        size: 1,
    };
    std::iter::once(own).chain(ranges.iter().copied()).collect()
}

#[allow(
    unsafe_code,
    reason = "rustix says that it may take descriptors away, which these two flags don't"
)]
fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: neither flag touches descriptors or memory.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// A file of `/proc` takes a map in one write alone.
fn write_map(name: &str, bytes: &[u8]) -> Result<(), Error> {
    let path = format!("/proc/self/{name}");
    fault::change("write", || {
        File::options().write(true).open(&path)?.write_all(bytes)
    })
    .map_err(|error| Error::new("write", path, error))
}

fn text(ranges: &[Range]) -> String {
    let line = |range: &Range| format!("{} {} {}\n", range.inside, range.outside, range.size);
    ranges.iter().map(line).collect()
}

/// A process that stays outside, and maps the IDs when it is told that the name space is there. Dropping it untold ends
/// it.
struct Helper {
    process: Pid,
    told: OwnedFd,
}

impl Helper {
    #[allow(
        unsafe_code,
        reason = "std starts programs, not processes that go on in this one"
    )]
    fn start(users: &[Range], groups: &[Range]) -> io::Result<Self> {
        let (wait, told) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let target = rustix::process::getpid();
        // SAFETY: this process has one thread, so the copy holds no lock of another.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                drop(told);
                let is_told = rustix::io::read(&wait, &mut [0_u8; 1]).is_ok_and(|count| count == 1);
                let code = match is_told {
                    true => map(target, users, groups),
                    false => USERS | GROUPS,
                };
                // SAFETY: the copy ends without what the process would do at its own end.
                unsafe { libc::_exit(code) }
            }
            process => Ok(Self {
                process: Pid::from_raw(process).ok_or(io::ErrorKind::Other)?,
                told,
            }),
        }
    }

    /// Has the maps written; the answer is which could not be.
    fn finish(self) -> io::Result<i32> {
        let Self { process, told } = self;
        rustix::io::retry_on_intr(|| rustix::io::write(&told, b"!"))?;
        drop(told);
        let ended = rustix::io::retry_on_intr(|| {
            rustix::process::waitpid(Some(process), WaitOptions::empty())
        })?;
        let code = ended.and_then(|(_, status)| status.exit_status());
        Ok(code.unwrap_or(USERS | GROUPS))
    }
}

/// Maps the IDs of another process; the answer is which could not be. What fails is told on stderr, since nobody else
/// hears of it.
fn map(target: Pid, users: &[Range], groups: &[Range]) -> i32 {
    let target = target.as_raw_pid().to_string();
    let is_root = rustix::process::geteuid().is_root();
    let mut missing = 0;
    for (file, program, ranges, bit) in [
        ("uid_map", "newuidmap", users, USERS),
        ("gid_map", "newgidmap", groups, GROUPS),
    ] {
        let is_written = if is_root {
            let path = format!("/proc/{target}/{file}");
            let file = File::options().write(true).open(path);
            file.is_ok_and(|mut file| file.write_all(text(ranges).as_bytes()).is_ok())
        } else {
            let mut arguments = vec![target.clone()];
            arguments.extend(text(ranges).split_whitespace().map(str::to_owned));
            ranges.len() > 1 && program::run(program, &arguments).is_ok()
        };
        if !is_written {
            missing |= bit;
        }
    }
    missing
}
