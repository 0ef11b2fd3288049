//! Who uses the space of a store: what each layer, image and container has alone, and what it shares.
//!
//! What counts are blocks of the disk, each once: holes are nothing, a file with several names is one file, and blocks
//! that files share by reflink belong to all layers that have them.

use std::collections::{BTreeMap, HashMap};

use rustix::fs::{FileType, Stat};

use super::error::Error;
use super::{Record as _, Store};
use crate::sys::extents::SharedExtent;
use crate::sys::{Dir, walk::Met};

/// The bytes of one object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// What its deletion would free.
    pub own: u64,
    /// What others have too.
    pub shared: u64,
}

/// A layer and its own difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerUsage {
    /// Its ID.
    pub id: String,
    /// That of the layer below; empty without.
    pub parent: String,
    /// Its names.
    pub names: Vec<String>,
    /// What it uses. Layers above it are not asked: they would have to go first.
    pub bytes: Bytes,
    /// True when an image or a container stands on it.
    pub is_used: bool,
}

/// An image or a container with all layers below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectUsage {
    /// Its ID.
    pub id: String,
    /// Its names.
    pub names: Vec<String>,
    /// Its top layers; a container has one.
    pub tops: Vec<String>,
    /// What it uses, with its data items and directories.
    pub bytes: Bytes,
}

/// The whole store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All layers of the store itself.
    pub layers: Vec<LayerUsage>,
    /// All images of the store itself.
    pub images: Vec<ObjectUsage>,
    /// All containers.
    pub containers: Vec<ObjectUsage>,
    /// What all of them use together.
    pub total: u64,
    /// The part of it that no image and no container needs.
    pub unused: u64,
}

/// Who has a stretch of the disk: places in the list of layers, ascending.
type Owners = Vec<usize>;

/// What was found on the disk.
#[derive(Default)]
struct Measure {
    /// Bytes that one layer has alone.
    alone: Vec<u64>,
    /// Bytes that several layers have.
    common: BTreeMap<Owners, u64>,
    /// Inodes with several names.
    inodes: HashMap<(u64, u64), (u64, Owners)>,
    /// Shared stretches by device, each with the layer that has it.
    extents: BTreeMap<u64, Vec<(SharedExtent, usize)>>,
}

fn blocks(stat: &Stat) -> u64 {
    stat.st_blocks.unsigned_abs() * 512
}

impl Measure {
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

/// Who stands on a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Users {
    #[default]
    Nobody,
    /// Images and containers are counted through.
    One(usize),
    Several,
}

impl Store {
    /// Measures what everything in the store uses. Takes no lock for longer than reading the records does: what
    /// vanishes meanwhile is not counted.
    ///
    /// # Errors
    /// When records or layers can't be read.
    pub fn usage(&self) -> Result<Usage, Error> {
        let mut layers: Vec<_> = self.layers()?.iter().collect();
        layers.retain(|layer| !layer.is_read_only);
        let places: HashMap<&str, usize> = layers
            .iter()
            .enumerate()
            .map(|(place, layer)| (&*layer.id, place))
            .collect();
        let mut measure = Measure {
            alone: vec![0; layers.len()],
            ..Measure::default()
        };
        for (place, layer) in layers.iter().enumerate() {
            self.measure_layer(&mut measure, place, &layer.id)?;
        }
        measure.settle();

        let images = self.images()?;
        let containers = self.containers()?;
        let mut objects: Vec<ObjectUsage> = Vec::new();
        for image in images.iter().filter(|image| !image.is_read_only) {
            objects.push(ObjectUsage {
                id: image.id.clone(),
                names: image.names.clone(),
                tops: image
                    .top_layers()
                    .filter(|top| !top.is_empty())
                    .map(str::to_owned)
                    .collect(),
                bytes: Bytes {
                    own: tree_bytes(self.0.images.dir().find_dir(&image.id)?)?,
                    shared: 0,
                },
            });
        }
        let image_count = objects.len();
        for container in containers.iter() {
            let folder = self.0.containers.dir().find_dir(container.id())?;
            objects.push(ObjectUsage {
                id: container.id.clone(),
                names: container.names.clone(),
                tops: vec![container.layer.clone()],
                bytes: Bytes {
                    own: tree_bytes(folder)?,
                    shared: 0,
                },
            });
        }
        let chains: Vec<Vec<usize>> = objects
            .iter()
            .map(|object| chain(&object.tops, &places, |place| &layers[place].record.parent))
            .collect();
        let mut users = vec![Users::Nobody; layers.len()];
        for (object, chain) in chains.iter().enumerate() {
            for place in chain {
                users[*place] = match users[*place] {
                    Users::Nobody => Users::One(object),
                    Users::One(_) | Users::Several => Users::Several,
                };
            }
        }
        let mut total: u64 =
            measure.alone.iter().sum::<u64>() + measure.common.values().sum::<u64>();
        for (object, chain) in chains.iter().enumerate() {
            let bytes = &mut objects[object].bytes;
            total += bytes.own;
            let is_own = |place: &usize| users[*place] == Users::One(object);
            for place in chain {
                match is_own(place) {
                    true => bytes.own += measure.alone[*place],
                    false => bytes.shared += measure.alone[*place],
                }
            }
            for (owners, length) in &measure.common {
                if owners.iter().all(is_own) {
                    bytes.own += length;
                } else if owners.iter().any(|owner| chain.contains(owner)) {
                    bytes.shared += length;
                }
            }
        }
        let is_unused = |place: &usize| users[*place] == Users::Nobody;
        let alone = measure.alone.iter().enumerate();
        let unused = alone
            .filter(|(place, _)| is_unused(place))
            .map(|(_, bytes)| bytes)
            .sum::<u64>()
            + measure
                .common
                .iter()
                .filter(|(owners, _)| owners.iter().all(is_unused))
                .map(|(_, bytes)| bytes)
                .sum::<u64>();
        let mut shared = vec![0; layers.len()];
        for (owners, bytes) in &measure.common {
            for owner in owners {
                shared[*owner] += bytes;
            }
        }
        let containers = objects.split_off(image_count);
        Ok(Usage {
            layers: layers
                .iter()
                .enumerate()
                .map(|(place, layer)| LayerUsage {
                    id: layer.id.clone(),
                    parent: layer.parent.clone(),
                    names: layer.names.clone(),
                    bytes: Bytes {
                        own: measure.alone[place],
                        shared: shared[place],
                    },
                    is_used: !is_unused(&place),
                })
                .collect(),
            images: objects,
            containers,
            total,
            unused,
        })
    }

    fn measure_layer(&self, measure: &mut Measure, place: usize, id: &str) -> Result<(), Error> {
        let records = self.0.layers.dir();
        let recipe = records.stat(format!("{id}.tar-split.gz"))?;
        measure.alone[place] += recipe.as_ref().map_or(0, blocks);
        measure.alone[place] += tree_bytes(records.find_dir(id)?)?;
        if !self.driver().exists(id)? {
            return Ok(());
        }
        let content = self.driver().content(id)?;
        let may_share = content.may_share_blocks()?;
        measure.alone[place] += blocks(&content.stat_self()?);
        content.walk(|met| measure.meet(place, met, may_share))
    }
}

/// The bytes of a directory and everything below it.
fn tree_bytes(dir: Option<Dir>) -> Result<u64, Error> {
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

/// The places of all layers below `tops`, each once.
fn chain<'a>(
    tops: &'a [String],
    places: &HashMap<&str, usize>,
    parent: impl Fn(usize) -> &'a String,
) -> Vec<usize> {
    let mut found = Vec::new();
    let mut met = std::collections::HashSet::new();
    for top in tops {
        let mut next = top;
        while let Some(place) = places.get(next.as_str())
            && met.insert(*place)
        {
            found.push(*place);
            next = parent(*place);
        }
    }
    found
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

    #[test]
    fn chains_end_where_a_layer_is_missing_or_met_again() {
        let parents = ["".to_owned(), "a".to_owned(), "gone".to_owned()];
        let places = HashMap::from([("a", 0), ("b", 1), ("c", 2)]);
        let tops = ["b".to_owned(), "c".to_owned(), "a".to_owned()];
        assert_eq!(chain(&tops, &places, |place| &parents[place]), [1, 0, 2]);
    }
}
