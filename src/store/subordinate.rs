//! Subordinate IDs: which IDs of the host the administrator lets a user's containers have.

use std::path::Path;

use super::error::Error;
use super::id_map::IdMap;
use crate::sys::{self, File};

/// Which kind of IDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Those of users, in `/etc/subuid`.
    User,
    /// Those of groups, in `/etc/subgid`.
    Group,
}

impl Owner {
    fn path(self) -> &'static str {
        match self {
            Self::User => "/etc/subuid",
            Self::Group => "/etc/subgid",
        }
    }
}

/// A range of the host's IDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostRange {
    /// The first.
    pub first: u32,
    /// How many.
    pub size: u32,
}

/// The ranges that `name` has, in the order of the file.
///
/// # Errors
/// When there are none, or the file can't be read.
pub fn ranges(kind: Owner, name: &str) -> Result<Vec<HostRange>, Error> {
    let text = read(Path::new(kind.path()))?;
    let mut found = parse(&text, name);
    if found.is_empty()
        && kind == Owner::User
        && let Some(number) = number(&read(Path::new("/etc/passwd"))?, name)
    {
        found = parse(&text, number);
    }
    if found.is_empty() {
        let (ids, owner) = match kind {
            Owner::User => ("subuid", "user"),
            Owner::Group => ("subgid", "group"),
        };
        let path = kind.path();
        return Err(Error::NoSubordinateIds(format!(
            "no {ids} ranges found for {owner} {name:?} in {path}"
        )));
    }
    Ok(found)
}

/// The ranges of the user with this number: by its name, else by the number itself. None: there are none.
///
/// # Errors
/// When a file can't be read.
pub fn ranges_of(kind: Owner, user: u32) -> Result<Vec<HostRange>, Error> {
    let text = read(Path::new(kind.path()))?;
    let number = user.to_string();
    let passwd = read(Path::new("/etc/passwd"))?;
    let found = name(&passwd, &number).map_or_else(Vec::new, |name| parse(&text, name));
    Ok(match found.is_empty() {
        true => parse(&text, &number),
        false => found,
    })
}

/// One map of all ranges, the first of them for the container's ID 0 and the others after each other.
pub fn in_a_row(ranges: &[HostRange]) -> Vec<IdMap> {
    let mut next: u32 = 0;
    let mut maps = Vec::new();
    for range in ranges {
        let size = range.size.min(u32::MAX - next);
        if size > 0 {
            maps.push(IdMap {
                container_id: next,
                host_id: range.first,
                size,
            });
        }
        next += size;
    }
    maps
}

fn read(path: &Path) -> Result<String, sys::Error> {
    match File::open(path) {
        Err(error) if error.is_not_found() => Ok(String::new()),
        file => Ok(String::from_utf8_lossy(&file?.read_all()?).into_owned()),
    }
}

/// Lines of `name:first:size`; what is not one is passed over.
fn parse(text: &str, name: &str) -> Vec<HostRange> {
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let first = fields.next()?.parse().ok()?;
        let size = fields.next()?.parse().ok()?;
        let is_whole = fields.next().is_none() && u32::checked_add(first, size).is_some();
        is_whole.then_some(HostRange { first, size })
    };
    text.lines().filter_map(range).collect()
}

/// The number of a user in the text of `/etc/passwd`.
fn number<'a>(passwd: &'a str, name: &str) -> Option<&'a str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name))
            .then(|| fields.nth(1))
            .flatten()
    })
}

/// The name of a user in the text of `/etc/passwd`.
fn name<'a>(passwd: &'a str, number: &str) -> Option<&'a str> {
    passwd.lines().find_map(|line| {
        let (name, rest) = line.split_once(':')?;
        (rest.split(':').nth(1) == Some(number)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_a_name_follow_each_other() {
        let text = "alice:300000:1000\n# no\nbob:1:2\nalice:500000:2000\nalice:x:1\nalice:1:2:3\n";
        let ranges = parse(text, "alice");
        assert_eq!(ranges.len(), 2);
        let maps = in_a_row(&ranges);
        let text: Vec<String> = maps.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["0:300000:1000", "1000:500000:2000"]);
        assert_eq!(number("root:x:0:0:/root\nbob:x:12:1:/", "bob"), Some("12"));
        assert_eq!(name("root:x:0:0:/root\nbob:x:12:1:/", "12"), Some("bob"));
    }
}
