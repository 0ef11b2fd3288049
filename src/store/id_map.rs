//! ID maps of layers and containers: [`IdMap`], one range; [`IdMappings`], those of users and groups; and
//! [`WantedMaps`], what is asked for.

use serde::{Deserialize, Serialize};

use super::error::Error;
use crate::archive::id_shift::{IdMaps, IdRange};

/// One range of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IdMap {
    /// The first ID in the container.
    pub container_id: u32,
    /// The first ID on the host.
    pub host_id: u32,
    /// How many.
    pub size: u32,
}

impl std::fmt::Display for IdMap {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{}:{}:{}",
            self.container_id, self.host_id, self.size
        )
    }
}

/// The mappings of users and of groups, as records have them; an empty one maps nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct IdMappings {
    /// Of users.
    pub uids: Vec<IdMap>,
    /// Of groups.
    pub gids: Vec<IdMap>,
}

impl IdMappings {
    /// True when nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.uids.is_empty() && self.gids.is_empty()
    }

    /// What a container may have: no ID twice, inside or outside, and none beyond the last.
    ///
    /// # Errors
    /// [`Error::InvalidMaps`], with the range that has no place beside those before it.
    pub fn check(&self) -> Result<(), Error> {
        for ranges in [&self.uids, &self.gids] {
            for (number, range) in ranges.iter().enumerate() {
                let last = |first: u32| first.checked_add(range.size.saturating_sub(1));
                let fits = last(range.container_id).is_some() && last(range.host_id).is_some();
                let is_free = ranges[..number].iter().all(|other| {
                    !overlap(
                        range.container_id,
                        range.size,
                        other.container_id,
                        other.size,
                    ) && !overlap(range.host_id, range.size, other.host_id, other.size)
                });
                if range.size == 0 || !fits || !is_free {
                    return Err(Error::InvalidMaps(*range));
                }
            }
        }
        Ok(())
    }

    /// Where the container's root is on the host.
    ///
    /// # Errors
    /// When the maps leave it out.
    pub fn root(&self) -> Result<(u32, u32), Error> {
        IdMaps::from(self).to_host(0, 0).ok_or(Error::RootUnmapped)
    }
}

fn overlap(first: u32, size: u32, other: u32, other_size: u32) -> bool {
    let (first, other) = (u64::from(first), u64::from(other));
    first < other + u64::from(other_size) && other < first + u64::from(size)
}

impl From<&IdMappings> for IdMaps {
    fn from(mappings: &IdMappings) -> Self {
        let ranges = |maps: &[IdMap]| {
            let range = |map: &IdMap| IdRange {
                container: map.container_id,
                host: map.host_id,
                size: map.size,
            };
            maps.iter().map(range).collect()
        };
        Self {
            uids: ranges(&mappings.uids),
            gids: ranges(&mappings.gids),
        }
    }
}

/// Which mapping something new shall have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// That of the layer below.
    #[default]
    Inherited,
    /// None: IDs are the host's.
    Host,
    /// This one.
    Mapped(Vec<IdMap>),
}

impl Wanted {
    fn resolve(&self, inherited: &[IdMap]) -> Vec<IdMap> {
        match self {
            Self::Inherited => inherited.to_vec(),
            Self::Host => Vec::new(),
            Self::Mapped(maps) => maps.clone(),
        }
    }
}

/// Which mappings a new layer or container shall have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedMaps {
    /// Of users.
    pub uids: Wanted,
    /// Of groups.
    pub gids: Wanted,
}

impl WantedMaps {
    /// What is wanted over something with the mappings `inherited`.
    #[must_use]
    pub fn resolve(&self, inherited: &IdMappings) -> IdMappings {
        IdMappings {
            uids: self.uids.resolve(&inherited.uids),
            gids: self.gids.resolve(&inherited.gids),
        }
    }
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
    fn maps_that_contradict_themselves_are_refused() {
        let check = |maps: &[IdMap]| {
            let mappings = IdMappings {
                uids: maps.to_vec(),
                gids: Vec::new(),
            };
            mappings.check()
        };
        assert!(check(&[map(0, 1, 10), map(10, 100, 20)]).is_ok());
        for bad in [
            map(5, 100, 10),
            map(20, 5, 10),
            map(20, 50, 0),
            map(20, u32::MAX, 2),
        ] {
            let error = check(&[map(0, 1, 10), bad]).unwrap_err();
            assert!(error.to_string().contains(&bad.to_string()), "{error}");
        }
    }

    #[test]
    fn users_and_groups_are_wanted_apart() {
        let parent = IdMappings {
            uids: vec![map(0, 1000, 10)],
            gids: vec![map(0, 2000, 10)],
        };
        let wanted = WantedMaps {
            uids: Wanted::Host,
            gids: Wanted::Inherited,
        };
        let resolved = wanted.resolve(&parent);
        assert!(resolved.uids.is_empty());
        assert_eq!(resolved.gids, parent.gids);
        assert_eq!(parent.root().unwrap(), (1000, 2000));
    }
}
