//! The flags for ID mappings.

use super::definition::Flag;
use super::failure::Failure;
use super::grammar::Given;
use crate::store::id_map::{IdMap, Wanted, WantedMaps};
use crate::store::subordinate::{self, Owner};

/// The flags.
pub(super) const FLAGS: &[Flag] = &[
    Flag::value("gidmap", None, "GID map (container:host:size[:...])"),
    Flag::switch("hostgidmap", None, "Use the host's GIDs"),
    Flag::switch("hostuidmap", None, "Use the host's UIDs"),
    Flag::value(
        "subgidmap",
        None,
        "GID map from the subordinate IDs of a group",
    ),
    Flag::value(
        "subuidmap",
        None,
        "UID map from the subordinate IDs of a user",
    ),
    Flag::value("uidmap", None, "UID map (container:host:size[:...])"),
];

/// What the flags ask for.
///
/// # Errors
/// When a map can't be read, a user or group has no subordinate IDs, or a kind of IDs is to be both the host's and
/// mapped.
pub(super) fn wanted(given: &Given) -> Result<WantedMaps, Failure> {
    let (user, group) = (given.filled("subuidmap"), given.filled("subgidmap"));
    Ok(WantedMaps {
        uids: of_kind(given, Owner::User, user.or(group))?,
        gids: of_kind(given, Owner::Group, group.or(user))?,
    })
}

fn of_kind(given: &Given, kind: Owner, name: Option<&str>) -> Result<Wanted, Failure> {
    let (letter, capital) = match kind {
        Owner::User => ("uid", "UID"),
        Owner::Group => ("gid", "GID"),
    };
    let is_host = given.has(&format!("host{letter}map"));
    let own = [format!("{letter}map"), format!("sub{letter}map")];
    if is_host && own.iter().any(|flag| given.filled(flag).is_some()) {
        return Err(Failure::new(format!(
            "host {letter} map specified along with {capital} mapping"
        )));
    }
    let mut maps = match name {
        None => Vec::new(),
        Some(name) => subordinate::in_a_row(&subordinate::ranges(kind, name)?),
    };
    if let Some(text) = given.filled(&format!("{letter}map")) {
        maps.extend(parse(text).ok_or_else(|| {
            Failure::new(format!(
                "initializing ID mappings: {letter} setting is malformed expected \
                 [\"uint32:uint32:uint32\"]: [{text:?}]"
            ))
        })?);
    }
    Ok(match (is_host, maps.is_empty()) {
        // Also beside a mapping that the other kind's flag would give to both.
        (true, _) => Wanted::Host,
        (false, true) => Wanted::Inherited,
        (false, false) => Wanted::Mapped(maps),
    })
}

/// `container:host:size`, any number of times.
fn parse(text: &str) -> Option<Vec<IdMap>> {
    let numbers: Option<Vec<u32>> = text.split(':').map(number).collect();
    let numbers = numbers?;
    let ranges = numbers.chunks_exact(3);
    ranges.remainder().is_empty().then(|| {
        let map = |range: &[u32]| IdMap {
            container_id: range[0],
            host_id: range[1],
            size: range[2],
        };
        ranges.map(map).collect()
    })
}

/// Digits alone: no sign.
fn number(text: &str) -> Option<u32> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_triples_of_numbers() {
        let maps = parse("0:1:10:10:100:20").unwrap();
        assert_eq!(maps.len(), 2);
        assert_eq!(maps[1].to_string(), "10:100:20");
        for bad in [
            "0:1",
            "0:1:10:5",
            "0:1:x",
            "0:-1:1",
            "0:+1:1",
            ":",
            " 0:1:1",
            "0:4294967296:1",
        ] {
            assert!(parse(bad).is_none(), "{bad:?}");
        }
    }
}
