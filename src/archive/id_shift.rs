//! Moving owners between a container's user namespace and ours.

use super::capability;

/// One range of a mapping: `size` IDs from `container` on are those from `host` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdRange {
    /// The first ID inside.
    pub container: u32,
    /// The first ID outside.
    pub host: u32,
    /// How many.
    pub size: u32,
}

/// The mappings of users and groups; no range at all means that nothing is mapped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct IdMaps {
    /// Of users.
    pub uids: Vec<IdRange>,
    /// Of groups.
    pub gids: Vec<IdRange>,
}

fn shift(ranges: &[IdRange], id: u32, ends: impl Fn(&IdRange) -> (u32, u32)) -> Option<u32> {
    if ranges.is_empty() {
        return Some(id);
    }
    ranges.iter().find_map(|range| {
        let (from, to) = ends(range);
        let offset = id.checked_sub(from).filter(|offset| *offset < range.size)?;
        to.checked_add(offset)
    })
}

impl IdMaps {
    /// True when every ID stays what it is.
    pub fn is_identity(&self) -> bool {
        self.uids.is_empty() && self.gids.is_empty()
    }

    /// True when there are no holes: the ranges follow each other, inside and outside.
    pub fn is_contiguous(&self) -> bool {
        [&self.uids, &self.gids].into_iter().all(|ranges| {
            let mut sorted = ranges.clone();
            sorted.sort_unstable_by_key(|range| range.container);
            sorted.windows(2).all(|pair| {
                let follows = |first: u32, next: u32| first.checked_add(pair[0].size) == Some(next);
                follows(pair[0].container, pair[1].container) && follows(pair[0].host, pair[1].host)
            })
        })
    }

    /// The owner outside of one inside; `None` when either has no place in the maps.
    pub fn to_host(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        let inside_out = |range: &IdRange| (range.container, range.host);
        Some((
            shift(&self.uids, uid, inside_out)?,
            shift(&self.gids, gid, inside_out)?,
        ))
    }

    /// The user outside of one inside, if the maps have a place for it.
    pub fn user_to_host(&self, uid: u32) -> Option<u32> {
        shift(&self.uids, uid, |range| (range.container, range.host))
    }

    /// The user inside of one outside, if the maps have a place for it.
    pub fn user_to_container(&self, uid: u32) -> Option<u32> {
        shift(&self.uids, uid, |range| (range.host, range.container))
    }

    /// The group outside of one inside, if the maps have a place for it.
    pub fn group_to_host(&self, gid: u32) -> Option<u32> {
        shift(&self.gids, gid, |range| (range.container, range.host))
    }

    /// The group inside of one outside, if the maps have a place for it.
    pub fn group_to_container(&self, gid: u32) -> Option<u32> {
        shift(&self.gids, gid, |range| (range.host, range.container))
    }

    /// The owner inside of one outside; `None` when either has no place in the maps.
    pub fn to_container(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        let outside_in = |range: &IdRange| (range.host, range.container);
        Some((
            shift(&self.uids, uid, outside_in)?,
            shift(&self.gids, gid, outside_in)?,
        ))
    }
}

impl IdMaps {
    /// Moves an owner from where `self` puts it to where `to` does: the ranges of that move.
    ///
    /// Where nothing is mapped on one side, that side's ranges are everything.
    #[must_use]
    pub fn to_other(&self, to: &Self) -> Self {
        Self {
            uids: ranges_to_other(&self.uids, &to.uids),
            gids: ranges_to_other(&self.gids, &to.gids),
        }
    }
}

/// The ranges from the outside of `from` to the outside of `to`, by way of the container.
fn ranges_to_other(from: &[IdRange], to: &[IdRange]) -> Vec<IdRange> {
    const ALL: [IdRange; 1] = [IdRange {
        container: 0,
        host: 0,
        size: u32::MAX,
    }];
    if from.is_empty() && to.is_empty() {
        return Vec::new();
    }
    let all = |ranges: &[IdRange]| match ranges {
        [] => ALL.to_vec(),
        ranges => ranges.to_vec(),
    };
    let (from, to) = (all(from), all(to));
    let mut moved = Vec::new();
    for old in &from {
        for new in &to {
            let start = old.container.max(new.container);
            let end = u64::from(old.container) + u64::from(old.size);
            let end = end.min(u64::from(new.container) + u64::from(new.size));
            let size = end.saturating_sub(u64::from(start));
            if let Ok(size @ 1..) = u32::try_from(size) {
                moved.push(IdRange {
                    container: old.host + (start - old.container),
                    host: new.host + (start - new.container),
                    size,
                });
            }
        }
    }
    moved
}

/// What an owner becomes that the new maps have no place for.
pub const OVERFLOW_ID: u32 = 65_534;

/// Moves owners of a tree from one container's maps to another's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shift {
    /// Where they are now.
    pub from: IdMaps,
    /// Where they are to be.
    pub to: IdMaps,
}

impl Shift {
    /// The user that a user becomes; [`OVERFLOW_ID`] when there is no place for it.
    pub fn user(&self, id: u32) -> u32 {
        self.find_user(id).unwrap_or(OVERFLOW_ID)
    }

    /// The group that a group becomes; [`OVERFLOW_ID`] when there is no place for it.
    pub fn group(&self, id: u32) -> u32 {
        let inside = shift(&self.from.gids, id, |range| (range.host, range.container));
        let outside = inside
            .and_then(|inside| shift(&self.to.gids, inside, |range| (range.container, range.host)));
        outside.unwrap_or(OVERFLOW_ID)
    }

    /// The user that a user becomes, if there is a place for it.
    pub fn find_user(&self, id: u32) -> Option<u32> {
        self.to.user_to_host(self.from.user_to_container(id)?)
    }

    /// What the extended attribute `key` becomes: a file's capabilities are those of another root.
    pub fn attribute(&self, key: &[u8], value: Vec<u8>) -> Vec<u8> {
        match key == capability::KEY {
            true => capability::shift(value, false, |root| self.find_user(root)),
            false => value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_move_from_one_container_to_another() {
        let range = |container, host, size| IdRange {
            container,
            host,
            size,
        };
        let maps = |host| IdMaps {
            uids: vec![range(0, host, 10), range(20, host + 50, 5)],
            gids: vec![range(0, host, 10)],
        };
        let shift = Shift {
            from: maps(1000),
            to: maps(2000),
        };
        assert_eq!((shift.user(1003), shift.group(1003)), (2003, 2003));
        assert_eq!((shift.user(1051), shift.group(1051)), (2051, OVERFLOW_ID));
        assert_eq!(shift.find_user(3), None);
        let out = Shift {
            from: maps(1000),
            to: IdMaps::default(),
        };
        assert_eq!(out.user(1051), 21);

        let moved = maps(1000).to_other(&maps(2000));
        assert_eq!(moved.uids, [range(1000, 2000, 10), range(1050, 2050, 5)]);
        assert_eq!(IdMaps::default().to_other(&maps(7)).uids, maps(7).uids);
        assert!(IdMaps::default().to_other(&IdMaps::default()).is_identity());
        let back = maps(1000).to_other(&IdMaps::default());
        assert_eq!(back.uids, [range(1000, 0, 10), range(1050, 20, 5)]);
    }

    #[test]
    fn owners_move_both_ways_and_only_within_the_ranges() {
        let range = |container, host, size| IdRange {
            container,
            host,
            size,
        };
        let maps = IdMaps {
            uids: vec![range(0, 100_000, 10), range(10, 5, 1)],
            gids: Vec::new(),
        };
        assert_eq!(maps.to_host(9, 7), Some((100_009, 7)));
        assert_eq!(maps.to_host(10, 7), Some((5, 7)));
        assert_eq!(maps.to_host(11, 7), None);
        assert_eq!(maps.to_container(100_009, 7), Some((9, 7)));
        assert_eq!(maps.to_container(0, 7), None);
        assert!(IdMaps::default().is_identity());
    }
}
