//! Test hook in every call that changes something on disk or in the mount table.
//!
//! Compiled in by the cargo feature `fault`, absent from releases. Each changing call passes through
//! [`change`], which numbers it. What happens at a number is chosen by the environment, read once:
//!
//! | Variable | Effect |
//! |---|---|
//! | `STRATA_FAULT=kill-before:N` | the process kills itself before the N-th call |
//! | `STRATA_FAULT=kill-after:N` | the process kills itself after the N-th call |
//! | `STRATA_FAULT=error:N:ERRNO` | the N-th call fails with that number, undone |
//! | `STRATA_FAULT=errors-from:N:ERRNO` | every call from the N-th on fails with that number |
//! | `STRATA_FAULT=interrupt` | every call is interrupted once (`EINTR`) before it is made |
//! | `STRATA_FAULT=shorten` | every write takes half of what it is given |
//! | `STRATA_FAULT_LOG=FILE` | `N call` is appended to FILE for each call |
//! | `STRATA_FAULT_WITHOUT=GUARD` | this guard is left out, see [`is_left_out`] |
//!
//! A call that a signal interrupts is made again, in a release as well.
//!
//! Calls are numbered as they come. Where several threads make them, as for archives of more than some hundred files, it
//! differs from run to run which call has a number, and not how many there are.
//!
//! Counted are creating opens, writes to files, rename, link, unlink, mkdir, mknod, chmod, chown,
//! utimens, xattrs, truncate, allocate, clone ioctls and the mount calls; not reads, locks, sockets or
//! logs.

/// Runs `call`, a system call named `name` that changes something, again if a signal interrupts it.
///
/// # Errors
/// Those of `call`, or the injected one.
#[cfg(not(feature = "fault"))]
#[inline(always)]
pub fn change<T>(
    _name: &'static str,
    mut call: impl FnMut() -> std::io::Result<T>,
) -> std::io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// How many of `length` bytes a write may take: all of them, unless a test shortens writes.
#[cfg(not(feature = "fault"))]
#[inline(always)]
pub fn writable(length: usize) -> usize {
    length
}

/// True when the environment leaves out the guard `name`: a test that is to notice that is tried by it.
#[cfg(not(feature = "fault"))]
#[inline(always)]
pub fn is_left_out(_name: &str) -> bool {
    false
}

#[cfg(feature = "fault")]
pub use armed::{change, is_left_out, writable};

#[cfg(feature = "fault")]
mod armed {
    use std::io::{self, Write};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    enum Action {
        KillBefore(u64),
        KillAfter(u64),
        Error(u64, i32),
        ErrorsFrom(u64, i32),
        Interrupt,
        Shorten,
    }

    struct Plan {
        action: Option<Action>,
        log: Option<std::fs::File>,
    }

    static PLAN: OnceLock<Plan> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);

    fn parse(text: &str) -> Option<Action> {
        match text {
            "interrupt" => return Some(Action::Interrupt),
            "shorten" => return Some(Action::Shorten),
            _ => {}
        }
        let mut parts = text.split(':');
        let kind = parts.next()?;
        let number = parts.next()?.parse().ok()?;
        let errno = parts.next().and_then(|errno| errno.parse().ok());
        match (kind, errno) {
            ("kill-before", None) => Some(Action::KillBefore(number)),
            ("kill-after", None) => Some(Action::KillAfter(number)),
            ("error", Some(errno)) => Some(Action::Error(number, errno)),
            ("errors-from", Some(errno)) => Some(Action::ErrorsFrom(number, errno)),
            _ => None,
        }
    }

    fn plan() -> &'static Plan {
        PLAN.get_or_init(|| Plan {
            action: std::env::var("STRATA_FAULT").ok().map(|text| {
                parse(&text).unwrap_or_else(|| panic!("STRATA_FAULT={text} is not understood"))
            }),
            log: std::env::var_os("STRATA_FAULT_LOG").map(|path| {
                std::fs::OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(&path)
                    .unwrap_or_else(|error| panic!("STRATA_FAULT_LOG={}: {error}", path.display()))
            }),
        })
    }

    fn die() -> ! {
        // A real SIGKILL: no destructor and no buffered output may run.
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, rustix::process::Signal::KILL)
            .expect("a process may kill itself");
        loop {
            std::thread::park();
        }
    }

    /// True when the environment leaves out the guard `name`; see the module.
    pub fn is_left_out(name: &str) -> bool {
        static GUARD: OnceLock<Option<String>> = OnceLock::new();
        let guard = GUARD.get_or_init(|| std::env::var("STRATA_FAULT_WITHOUT").ok());
        guard.as_deref() == Some(name)
    }

    /// How many of `length` bytes a write may take; see the module.
    pub fn writable(length: usize) -> usize {
        match plan().action {
            Some(Action::Shorten) => length.div_ceil(2),
            _ => length,
        }
    }

    /// Runs `call`, a system call named `name` that changes something, again if it is interrupted; see the module.
    ///
    /// # Errors
    /// Those of `call`, or the injected one.
    pub fn change<T>(name: &'static str, mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let mut is_interrupted = matches!(plan().action, Some(Action::Interrupt));
        once(name, || {
            loop {
                let result = if std::mem::take(&mut is_interrupted) {
                    Err(io::ErrorKind::Interrupted.into())
                } else {
                    call()
                };
                match result {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    result => return result,
                }
            }
        })
    }

    /// Numbers the call and does what is to be done at its number.
    fn once<T>(name: &'static str, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let plan = plan();
        let number = COUNT.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(mut log) = plan.log.as_ref() {
            log.write_all(format!("{number} {name}\n").as_bytes())?;
        }
        match plan.action {
            Some(Action::KillBefore(at)) if at == number => die(),
            Some(Action::Error(at, errno)) if at == number => {
                return Err(io::Error::from_raw_os_error(errno));
            }
            Some(Action::ErrorsFrom(at, errno)) if at <= number => {
                return Err(io::Error::from_raw_os_error(errno));
            }
            _ => {}
        }
        let result = call();
        if let Some(Action::KillAfter(at)) = plan.action
            && at == number
        {
            die();
        }
        result
    }
}
