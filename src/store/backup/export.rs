//! Writing a backup.

use std::collections::{HashMap, HashSet};
use std::io::{BufWriter, Write};

use serde::Serialize;

use super::members::{Pieces, write};
use super::{BackupError, Counts, END, HEAD, Head, Maps, Sum, VERSION};
use crate::archive::compression::Compression;
use crate::archive::pack;
use crate::archive::tar::Writer;
use crate::digest::{Algorithm, Hasher};
use crate::store::driver::DriverError;
use crate::store::layer::diff::DiffError;
use crate::store::{
    ContainerRecord, Error, Flags, Found, Kind, LayerRecord, Record, Store, big_data,
};
use crate::sys::Dir;

impl Store {
    /// Writes all layers, images and containers of the store to `out`. What is changed meanwhile may be written as it was
    /// before or after, or be an error; nothing is locked for long.
    ///
    /// # Errors
    /// See [`BackupError`]; what was written until then is no whole backup, which every reader notices.
    pub fn export(&self, out: impl Write) -> Result<Counts, BackupError> {
        let mut out = Writer::new(BufWriter::with_capacity(1 << 20, out));
        let mut counts = Counts::default();

        let containers = self.containers()?;
        let mapped = containers
            .iter()
            .filter(|found| !found.mappings().is_empty());
        let maps = |found: Found<ContainerRecord>| Maps {
            uidmap: found.uid_map.clone(),
            gidmap: found.gid_map.clone(),
        };
        let head = Head {
            version: VERSION,
            mapped: mapped
                .map(|found| (found.layer.clone(), maps(found)))
                .collect(),
        };
        json(&mut out, HEAD, &head)?;
        let is_kept = |flags: &Flags| !flags.is_set(Flags::VOLATILE);
        let volatile: HashSet<String> = containers
            .iter()
            .filter(|container| !is_kept(&container.flags))
            .map(|container| container.layer.clone())
            .collect();
        for layer in self.layers_to_export(&volatile)? {
            let prefix = format!("layers/{}", counts.layers);
            json(&mut out, &format!("{prefix}/record.json"), &*layer.record)?;
            let home = self.0.layers.dir();
            directory(&mut out, &prefix, Kind::Layer, home, &*layer.record)?;
            self.export_diff(&mut out, &prefix, &layer)?;
            counts.layers += 1;
        }
        for image in self.images()?.iter().filter(|image| !image.is_read_only) {
            let prefix = format!("images/{}", counts.images);
            json(&mut out, &format!("{prefix}/record.json"), &*image.record)?;
            let home = self.0.images.dir_of(&image.id);
            directory(&mut out, &prefix, Kind::Image, home, &*image.record)?;
            counts.images += 1;
        }
        for container in containers.iter().filter(|found| is_kept(&found.flags)) {
            let prefix = format!("containers/{}", counts.containers);
            json(
                &mut out,
                &format!("{prefix}/record.json"),
                &*container.record,
            )?;
            let home = self.0.containers.dir();
            directory(&mut out, &prefix, Kind::Container, home, &*container.record)?;
            counts.containers += 1;
        }
        json(&mut out, END, &counts)?;
        out.finish().map_err(BackupError::Write)?;
        Ok(counts)
    }

    /// Whole layers of the store itself, parents first.
    fn layers_to_export(
        &self,
        volatile: &HashSet<String>,
    ) -> Result<Vec<Found<LayerRecord>>, Error> {
        let mut on: HashMap<String, Vec<Found<LayerRecord>>> = HashMap::new();
        let layers = self.layers()?;
        let is_own = |id: &str| layers.find_id(id).is_some_and(|layer| !layer.is_read_only);
        for layer in layers.iter() {
            let is_whole = !layer.is_incomplete() && !layer.flags.is_set(Flags::UNFINISHED);
            if layer.is_read_only || !is_whole || volatile.contains(&layer.id) {
                continue;
            }
            // One of an additional store is as good as none: whoever imports needs that store too.
            let below = match is_own(&layer.parent) {
                true => layer.parent.clone(),
                false => String::new(),
            };
            on.entry(below).or_default().push(layer);
        }
        let mut sorted = on.remove("").unwrap_or_default();
        let mut next = 0;
        while let Some(layer) = sorted.get(next) {
            next += 1;
            let above = on.remove(&layer.id).unwrap_or_default();
            sorted.extend(above);
        }
        Ok(sorted)
    }

    fn export_diff<W: Write>(
        &self,
        out: &mut Writer<W>,
        prefix: &str,
        layer: &LayerRecord,
    ) -> Result<(), BackupError> {
        let mut summed = Summed {
            out: Pieces::new(out, format!("{prefix}/diff")),
            hasher: Hasher::new(Algorithm::Sha256),
            size: 0,
        };
        self.diff(&layer.id, None, Some(Compression::None), &mut summed)
            .map_err(|error| match error {
                DiffError::Write(error) => BackupError::Write(error),
                error => BackupError::Store(error.into()),
            })?;
        let Summed {
            out: pieces,
            hasher,
            size,
        } = summed;
        pieces.finish().map_err(BackupError::Write)?;
        let digest = hasher.finish();
        if let Some(recorded) = layer.diff_digest.get()
            && *recorded != digest
        {
            return Err(BackupError::Store(
                DiffError::Digest {
                    expected: recorded.clone(),
                    found: digest,
                }
                .into(),
            ));
        }
        let sum = Sum {
            digest: digest.as_str().to_owned(),
            size,
        };
        json(out, &format!("{prefix}/sum.json"), &sum)
    }
}

/// Hashes what passes.
struct Summed<'a, W: Write> {
    out: Pieces<'a, W>,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Write for Summed<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

fn json<W: Write>(
    out: &mut Writer<W>,
    name: &str,
    value: &impl Serialize,
) -> Result<(), BackupError> {
    let bytes = serde_json::to_vec(value).map_err(|error| BackupError::Write(error.into()))?;
    write(out, name, &bytes).map_err(BackupError::Write)
}

/// The directory of an object, if it has one; there is a file in it for each item that is listed.
fn directory<W: Write, R: Record>(
    out: &mut Writer<W>,
    prefix: &str,
    kind: Kind,
    home: &Dir,
    record: &R,
) -> Result<(), BackupError> {
    let dir = home.find_dir(record.id())?;
    for key in record.data_keys() {
        let file = big_data::file_name(key).map_err(BackupError::Store)?;
        let found = match &dir {
            Some(dir) => dir.stat(file)?,
            None => None,
        };
        if found.is_none() {
            return Err(BackupError::Missing {
                kind,
                id: record.id().to_owned(),
                key: key.clone(),
            });
        }
    }
    let Some(dir) = dir else {
        return Ok(());
    };
    let pieces = Pieces::new(out, format!("{prefix}/directory"));
    let pieces = pack::pack(&dir, pieces, &pack::Options::default()).map_err(DriverError::from);
    let pieces = pieces.map_err(|error| BackupError::Store(error.into()))?;
    pieces.finish().map_err(BackupError::Write)
}
