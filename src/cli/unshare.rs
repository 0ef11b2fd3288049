//! `unshare` and `--unshare`: root of a user name space of one's own, which may give files to other IDs.

use std::env;
use std::ffi::{OsStr, OsString};

use super::definition::{Definition, MANY, Run};
use super::failure::{Failure, Outcome};
use super::grammar::Given;
use super::output::Output;
use super::session;
use crate::store::subordinate::{self, Owner};
use crate::sys::entering::{self, Mapped};
use crate::sys::program;
use crate::sys::userns::Range;

/// The commands of this file.
pub(super) const COMMANDS: &[Definition] = &[Definition::peer(
    "unshare",
    "Run a command as root of a user name space",
    Run::Alone(run),
)
.operands("[command [...]]", 0, MANY)];

/// Says to every tool of the family that it is in its name space already.
const CONFIGURED: &str = "_CONTAINERS_USERNS_CONFIGURED";
/// The user and the group outside the name space.
pub(super) const OUTER_USER: &str = "_CONTAINERS_ROOTLESS_UID";
const OUTER_GROUP: &str = "_CONTAINERS_ROOTLESS_GID";
/// How Buildah separates builds: not as the machine's root.
const ISOLATION: &str = "BUILDAH_ISOLATION";

/// `unshare`: becomes the command, or a shell.
fn run(given: &Given, output: &mut Output) -> Outcome {
    let variables = enter(output)?;
    let (program, arguments) = match given.operands.split_first() {
        Some((program, arguments)) => (OsString::from(program), arguments),
        None => {
            let shell = session::path_variable("SHELL").map(OsString::from);
            (shell.unwrap_or_else(|| "/bin/sh".into()), &[][..])
        }
    };
    output.finish()?;
    Err(program::become_program(program, None, arguments, &variables).into())
}

/// `--unshare`: begins again, as root of a name space. Comes back when this process is that already.
pub(super) fn restart(output: &mut Output) -> Result<(), Failure> {
    if is_inside()? {
        return Ok(());
    }
    let variables = enter(output)?;
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_else(|| "strata".into());
    let arguments: Vec<OsString> = arguments.collect();
    let own = OsStr::new("/proc/self/exe");
    Err(program::become_program(own, Some(&name), &arguments, &variables).into())
}

/// True when this process, or a tool of the family that started it, has entered a name space.
fn is_inside() -> Result<bool, Failure> {
    let is_root = rustix::process::geteuid().is_root();
    let is_set = session::text_variable(CONFIGURED)?.is_some();
    Ok(is_root && (is_set || session::outer_user()?.is_some()))
}

/// Enters a name space, unless this is one already; returns what the next program is to be told.
fn enter(output: &mut Output) -> Result<Vec<(&'static str, String)>, Failure> {
    if is_inside()? {
        return Ok(Vec::new());
    }
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    let (users, groups) = (ranges(Owner::User, user)?, ranges(Owner::Group, user)?);
    let mapped = entering::enter(&users, &groups)?;
    if mapped == Mapped::OwnAlone || users.is_empty() || groups.is_empty() {
        output.error_line(format_args!(
            "the name space has user {user} alone: files of other owners can't be made in it\n\
             hint: give the user ranges in /etc/subuid and /etc/subgid, and install newuidmap and newgidmap"
        ));
    }
    let mut variables = vec![
        (CONFIGURED, "done".to_owned()),
        (OUTER_USER, user.to_string()),
        (OUTER_GROUP, group.to_string()),
    ];
    if session::text_variable(ISOLATION)?.is_none() {
        variables.push((ISOLATION, "rootless".to_owned()));
    }
    Ok(variables)
}

/// What a user may have besides its own ID, from 1 on.
fn ranges(kind: Owner, user: u32) -> Result<Vec<Range>, Failure> {
    let found = subordinate::ranges_of(kind, user)?;
    let maps = subordinate::in_a_row(&found);
    let range = |map: &crate::store::id_map::IdMap| {
        let inside = map.container_id.checked_add(1)?;
        Some(Range {
            inside,
            outside: map.host_id,
            size: map.size.min(u32::MAX - inside),
        })
    };
    Ok(maps.iter().filter_map(range).collect())
}
