//! What was found on the disk: bytes of one layer, and of several.

use std::collections::{BTreeMap, HashMap};

use rustix::fs::{FileType, Stat};

use crate::store::Store;
use crate::store::error::Error;
use crate::sys::extents::SharedExtent;
use crate::sys::{Dir, walk::Met};

/// Who has a stretch of the disk: places in the list of layers, ascending.
pub(super) type Owners = Vec<usize>;

/// What was found on the disk.
#[derive(Default)]
pub(super) struct Measure {
    /// Bytes that one layer has alone.
    pub(super) alone: Vec<u64>,
    /// Bytes that several layers have.
    pub(super) common: BTreeMap<Owners, u64>,
    /// Inodes with several names.
    inodes: HashMap<(u64, u64), (u64, Owners)>,
    /// Shared stretches by device, each with the layer that has it.
    extents: BTreeMap<u64, Vec<(SharedExtent, usize)>>,
}

fn blocks(stat: &Stat) -> u64 {
    stat.st_blocks.unsigned_abs() * 512
}

impl Measure {
    /// Measures layers with these IDs; places are those in their order.
    ///
    /// # Errors
    /// When a layer can't be read.
    pub(super) fn of<'a>(
        store: &Store,
        ids: impl ExactSizeIterator<Item = &'a str>,
    ) -> Result<Self, Error> {
        let mut measure = Self {
            alone: vec![0; ids.len()],
            ..Self::default()
        };
        for (place, id) in ids.enumerate() {
            measure.layer(store, place, id)?;
        }
        measure.settle();
        Ok(measure)
    }

    /// All that was found, each once.
    pub(super) fn total(&self) -> u64 {
        self.alone.iter().sum::<u64>() + self.common.values().sum::<u64>()
    }

    /// What only those places have for which `is_wanted`.
    pub(super) fn sum_of(&self, is_wanted: impl Fn(&usize) -> bool) -> u64 {
        let alone = self.alone.iter().enumerate();
        let alone = alone.filter(|(place, _)| is_wanted(place));
        let common = self.common.iter();
        let common = common.filter(|(owners, _)| owners.iter().all(&is_wanted));
        alone.map(|(_, bytes)| bytes).sum::<u64>() + common.map(|(_, bytes)| bytes).sum::<u64>()
    }

    /// What each place has together with others.
    pub(super) fn shared(&self) -> Vec<u64> {
        let mut shared = vec![0; self.alone.len()];
        for (owners, bytes) in &self.common {
            for owner in owners {
                shared[*owner] += bytes;
            }
        }
        shared
    }

    fn layer(&mut self, store: &Store, place: usize, id: &str) -> Result<(), Error> {
        let records = store.0.layers.dir();
        let recipe = records.stat(format!("{id}.tar-split.gz"))?;
        self.alone[place] += recipe.as_ref().map_or(0, blocks);
        self.alone[place] += tree_bytes(records.find_dir(id)?)?;
        if !store.driver().exists(id)? {
            return Ok(());
        }
        let content = store.driver().content(id)?;
        let may_share = content.may_share_blocks()?;
        self.alone[place] += blocks(&content.stat_self()?);
        content.walk(|met| self.meet(place, met, may_share))
    }

    fn meet(&mut self, layer: usize, met: &Met<'_>, may_share: bool) -> Result<(), Error> {
        let stat = &met.stat;
        let mut bytes = blocks(stat);
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if is_file && may_share && bytes > 0 && self.is_first(stat) {
            let file = met.parent.find_file(&met.name)?;
            for extent in file
                .map(|file| file.shared_extents())
                .transpose()?
                .unwrap_or_default()
            {
                bytes = bytes.saturating_sub(extent.length);
                let found = self.extents.entry(stat.st_dev).or_default();
                found.push((extent, layer));
            }
        }
        if stat.st_nlink < 2 || !is_file {
            self.alone[layer] += bytes;
            return Ok(());
        }
        let known = self.inodes.entry((stat.st_dev, stat.st_ino));
        let (_, owners) = known.or_insert_with(|| (bytes, Vec::new()));
        if owners.last() != Some(&layer) {
            owners.push(layer);
        }
        Ok(())
    }

    /// Whether an inode was not met by another of its names.
    fn is_first(&self, stat: &Stat) -> bool {
        stat.st_nlink < 2 || !self.inodes.contains_key(&(stat.st_dev, stat.st_ino))
    }

    fn add(&mut self, owners: &[usize], bytes: u64) {
        match owners {
            [] => {}
            [layer] => self.alone[*layer] += bytes,
            owners => *self.common.entry(owners.to_vec()).or_default() += bytes,
        }
    }

    /// Gives every stretch and every inode to those who have it.
    fn settle(&mut self) {
        for (bytes, owners) in std::mem::take(&mut self.inodes).into_values() {
            self.add(&owners, bytes);
        }
        for extents in std::mem::take(&mut self.extents).into_values() {
            let mut edges: Vec<(u64, bool, usize)> = Vec::with_capacity(extents.len() * 2);
            for (extent, layer) in extents {
                edges.push((extent.start, true, layer));
                edges.push((extent.start.saturating_add(extent.length), false, layer));
            }
            edges.sort_unstable();
            let mut open: BTreeMap<usize, usize> = BTreeMap::new();
            let mut since = 0;
            for (at, begins, layer) in edges {
                let owners: Owners = open.keys().copied().collect();
                self.add(&owners, at - since);
                since = at;
                let count = open.entry(layer).or_default();
                if begins {
                    *count += 1;
                } else if *count > 1 {
                    *count -= 1;
                } else {
                    open.remove(&layer);
                }
            }
        }
    }
}

/// The bytes of a directory and everything below it.
pub(super) fn tree_bytes(dir: Option<Dir>) -> Result<u64, Error> {
    let Some(dir) = dir else {
        return Ok(0);
    };
    let mut bytes = blocks(&dir.stat_self()?);
    dir.walk(|met| {
        bytes += blocks(&met.stat);
        Ok::<_, Error>(())
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(extents: &[(u64, u64, usize)]) -> Measure {
        let list = extents
            .iter()
            .map(|(start, length, layer)| {
                let (start, length) = (*start, *length);
                (SharedExtent { start, length }, *layer)
            })
            .collect();
        let mut measure = Measure {
            alone: vec![0; 3],
            extents: BTreeMap::from([(1, list)]),
            ..Measure::default()
        };
        measure.settle();
        measure
    }

    #[test]
    fn stretches_belong_to_all_who_have_them() {
        let found = measure(&[(0, 100, 0), (50, 100, 1), (60, 10, 2), (400, 5, 2)]);
        assert_eq!(found.alone, [50, 50, 5]);
        assert_eq!(
            found.common,
            BTreeMap::from([(vec![0, 1], 40), (vec![0, 1, 2], 10)])
        );
    }

    #[test]
    fn what_a_layer_shares_with_itself_is_its_own() {
        let found = measure(&[(0, 100, 1), (0, 100, 1), (30, 10, 1)]);
        assert_eq!(found.alone, [0, 100, 0]);
        assert!(found.common.is_empty());
    }
}
