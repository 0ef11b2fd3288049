//! Moving owners between a container's user namespace and ours.

/// One range of a mapping: `size` IDs from `container` on are those from `host` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// The first ID inside.
    pub container: u32,
    /// The first ID outside.
    pub host: u32,
    /// How many.
    pub size: u32,
}

/// The mappings of users and groups; no range at all means that nothing is mapped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

    /// The owner outside of one inside; `None` when either has no place in the maps.
    pub fn to_host(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        let inside_out = |range: &IdRange| (range.container, range.host);
        Some((
            shift(&self.uids, uid, inside_out)?,
            shift(&self.gids, gid, inside_out)?,
        ))
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

#[cfg(test)]
mod tests {
    use super::*;

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
