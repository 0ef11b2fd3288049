//! Automatic user name spaces: IDs of the host that no other container has, as many as an image needs.
//!
//! How many that is, is read from the records of its layers and from its `/etc/passwd` and `/etc/group`, which are opened where
//! they lie: nothing is mounted, and no lock is held meanwhile. Only the choice is made under the lock of user name spaces.

use std::sync::Arc;

use super::Store;
use super::config::Config;
use super::error::Error;
use super::id_map::{IdMap, IdMappings};
use super::image::record::ImageRecord;
use super::subordinate::{self, HostRange, Owner};
use crate::sys::{Dir, userns};

/// What the user name space of a new container shall be like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AutomaticMaps {
    /// How many IDs it has; 0: as many as the image needs.
    pub size: u32,
    /// How many it has at least, where the image decides.
    pub initial_size: u32,
    /// Ranges that the caller chooses.
    pub additional: IdMappings,
}

/// Whose subordinate IDs root gives to containers, when the configuration does not say.
const DEFAULT_USER: &str = "containers";
const DEFAULT_MIN_SIZE: u32 = 1024;
const DEFAULT_MAX_SIZE: u32 = 65_536;
/// The user who owns what nobody may; counting it would make every image need all IDs.
const NOBODY: u32 = 65_534;
/// Nobody has so many users: what is longer is no list of them.
const MAX_LIST: u64 = 16 << 20;

/// IDs from the first on to before the second, in ascending order.
type Intervals = Vec<(u64, u64)>;

impl Store {
    /// How many IDs the container needs.
    pub(super) fn automatic_size(
        &self,
        wanted: &AutomaticMaps,
        image: Option<&ImageRecord>,
    ) -> Result<u32, Error> {
        if wanted.size > 0 {
            return Ok(wanted.size);
        }
        let Config {
            automatic_min_size: least,
            automatic_max_size: most,
            ..
        } = self.config();
        let least = if *least == 0 {
            DEFAULT_MIN_SIZE
        } else {
            *least
        };
        let most = if *most == 0 { DEFAULT_MAX_SIZE } else { *most };
        let mut size = wanted.initial_size.max(least);
        if let Some(image) = image {
            size = size.max(self.ids_of_layers(&image.layer)?);
            for (list, fields) in [("etc/passwd", &[2, 3][..]), ("etc/group", &[2])] {
                size = size.max(ids_in_list(&self.list(&image.layer, list), fields));
            }
        }
        if size > most {
            return Err(Error::NoIds(format!(
                "the container needs {size}, and an automatic one may have {most}"
            )));
        }
        Ok(size)
    }

    /// One more than the highest ID in a layer and those below.
    fn ids_of_layers(&self, top: &str) -> Result<u32, Error> {
        let mut size = 0;
        let mut next = top.to_owned();
        let mut seen = std::collections::HashSet::new();
        while !next.is_empty() && seen.insert(next.clone()) {
            let Some(layer) = self.find_layer(&next)? else {
                break;
            };
            for id in layer.uids.iter().chain(&layer.gids) {
                size = size.max(id.saturating_add(1));
            }
            next.clone_from(&layer.parent);
        }
        Ok(size)
    }

    /// A list in the image, empty where it has none.
    fn list(&self, layer: &str, path: &str) -> Vec<u8> {
        let read = || {
            let mut file = self.driver().open_file(layer, path.as_bytes()).ok()?;
            let size = file.stat().ok()?.st_size.unsigned_abs();
            (size <= MAX_LIST).then(|| file.read_all().ok()).flatten()
        };
        read().unwrap_or_default()
    }

    /// Chooses IDs that no container has.
    ///
    /// LOCKS: that of user name spaces.
    pub(super) fn automatic_maps(
        &self,
        wanted: &AutomaticMaps,
        size: u32,
    ) -> Result<IdMappings, Error> {
        let mut used = wanted.additional.clone();
        for container in self.containers()?.iter() {
            let container = Arc::clone(&container.record);
            used.uids.extend(&container.uid_map);
            used.gids.extend(&container.gid_map);
        }
        let choose = |kind: Owner, used: &[IdMap], additional: &[IdMap]| {
            let available = self.available(kind)?;
            choose(&available, used, additional, size)
                .ok_or_else(|| Error::NoIds(format!("{size} are needed")))
        };
        Ok(IdMappings {
            uids: choose(Owner::User, &used.uids, &wanted.additional.uids)?,
            gids: choose(Owner::Group, &used.gids, &wanted.additional.gids)?,
        })
    }

    /// The IDs that containers may have: those of a user of whom the administrator says so; inside a user name space
    /// all of it but its root.
    fn available(&self, kind: Owner) -> Result<Intervals, Error> {
        if userns::is_rootless()? {
            let name = match kind {
                Owner::User => "uid_map",
                Owner::Group => "gid_map",
            };
            let text = Dir::open("/proc/self")?.read(name)?;
            return Ok(inside(&String::from_utf8_lossy(&text)));
        }
        let user = self.config().automatic_user.as_deref();
        let ranges = subordinate::ranges(kind, user.unwrap_or(DEFAULT_USER))?;
        let interval = |range: &HostRange| {
            let first = u64::from(range.first);
            (first, first + u64::from(range.size))
        };
        Ok(sorted(ranges.iter().map(interval).collect()))
    }
}

/// The inner IDs of a map of `/proc`, but for root.
fn inside(text: &str) -> Intervals {
    let interval = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let first: u64 = fields.next()?.parse().ok()?;
        let size: u64 = fields.nth(1)?.parse().ok()?;
        Some((first.max(1), first + size))
    };
    sorted(text.lines().filter_map(interval).collect())
}

fn sorted(mut intervals: Intervals) -> Intervals {
    intervals.retain(|(first, end)| first < end);
    intervals.sort_unstable();
    let mut merged = Intervals::new();
    for (first, end) in intervals {
        match merged.last_mut() {
            Some(last) if first <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((first, end)),
        }
    }
    merged
}

/// What is in `from` and not in `out`.
fn without(from: &[(u64, u64)], out: Intervals) -> Intervals {
    let out = sorted(out);
    let mut left = Intervals::new();
    for (first, end) in from {
        let mut first = *first;
        for (out_first, out_end) in &out {
            if *out_end > first && out_first < end {
                left.push((first, *out_first));
                first = *out_end;
            }
        }
        left.push((first, *end));
    }
    sorted(left)
}

/// The lowest free IDs for the first `size` of a container, beside the ranges that its caller chose; `None` when there
/// are too few.
fn choose(
    available: &[(u64, u64)],
    used: &[IdMap],
    additional: &[IdMap],
    size: u32,
) -> Option<Vec<IdMap>> {
    let span = |first: u32, size: u32| (u64::from(first), u64::from(first) + u64::from(size));
    let host = used.iter().map(|map| span(map.host_id, map.size));
    let chosen = additional
        .iter()
        .map(|map| span(map.container_id, map.size));
    let mut free = without(available, host.collect()).into_iter();
    let mut maps = Vec::new();
    let (mut here, mut end) = free.next()?;
    for (mut first, last) in without(&[(0, size.into())], chosen.collect()) {
        while first < last {
            if here == end {
                (here, end) = free.next()?;
            }
            let count = (last - first).min(end - here);
            maps.push(IdMap {
                container_id: u32::try_from(first).ok()?,
                host_id: u32::try_from(here).ok()?,
                size: u32::try_from(count).ok()?,
            });
            first += count;
            here += count;
        }
    }
    maps.extend(additional);
    Some(maps)
}

/// One more than the highest ID in these fields of a list of users or groups.
fn ids_in_list(text: &[u8], fields: &[usize]) -> u32 {
    let mut size: u32 = 0;
    for line in String::from_utf8_lossy(text).lines() {
        let parts: Vec<&str> = line.split(':').collect();
        if parts[0] == "nobody" || parts[0] == "nogroup" {
            continue;
        }
        let ids = fields
            .iter()
            .filter_map(|field| parts.get(*field)?.trim().parse::<u32>().ok());
        for id in ids.filter(|id| *id != NOBODY) {
            size = size.max(id.saturating_add(1));
        }
    }
    size
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(container_id: u32, host_id: u32, size: u32) -> IdMap {
        IdMap {
            container_id,
            host_id,
            size,
        }
    }

    #[test]
    fn the_lowest_free_ids_are_chosen() {
        let available = [(1000, 2000), (5000, 6000)];
        assert_eq!(
            choose(&available, &[], &[], 100),
            Some(vec![map(0, 1000, 100)])
        );
        let used = [map(0, 1000, 100), map(0, 1200, 700)];
        assert_eq!(
            choose(&available, &used, &[], 300),
            Some(vec![
                map(0, 1100, 100),
                map(100, 1900, 100),
                map(200, 5000, 100)
            ])
        );
        assert_eq!(choose(&available, &used, &[], 1201), None);
        assert_eq!(choose(&[], &[], &[], 1), None);
        // A used range may begin before what is available and end in it.
        assert_eq!(
            choose(&available, &[map(0, 0, 1500)], &[], 1),
            Some(vec![map(0, 1500, 1)])
        );
    }

    #[test]
    fn chosen_ranges_are_kept_and_nothing_else_gets_their_ids() {
        let additional = [map(10, 1005, 5)];
        let maps = choose(&[(1000, 2000)], &additional, &additional, 20).unwrap();
        let expected = [
            map(0, 1000, 5),
            map(5, 1010, 5),
            map(15, 1015, 5),
            map(10, 1005, 5),
        ];
        assert_eq!(maps, expected);
        let mappings = IdMappings {
            uids: maps,
            gids: Vec::new(),
        };
        mappings.check().unwrap();
    }

    #[test]
    fn lists_of_users_say_how_many_ids_there_are() {
        let passwd =
            b"root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:\nweb:x:33:2000::/:\nbad\nx:y:z\n";
        assert_eq!(ids_in_list(passwd, &[2, 3]), 2001);
        assert_eq!(
            ids_in_list(b"nogroup:x:70000:\nstaff:x:50:root,web\n", &[2]),
            51
        );
        assert_eq!(ids_in_list(b"\xff\xfe\n", &[2]), 0);
    }

    #[test]
    fn in_a_name_space_all_but_its_root_is_available() {
        let text = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(inside(text), [(1, 65_537)]);
    }
}
