//! A layer against what came in: its archive, put together again, and its files against the archive's headers.

use std::io::{self, Read, Write};

use super::problem::Problem;
use crate::archive::Whiteouts;
use crate::archive::compression::Compression;
use crate::archive::expected::{Deletions, Expected, Found, Holds};
use crate::archive::id_shift::IdMaps;
use crate::archive::pipe::{self, Broken};
use crate::archive::tar;
use crate::digest::{Algorithm, Digest, HashingReader};
use crate::store::layer::diff::DiffError;
use crate::store::{LayerRecord, Layers, Store};

/// An archive that was read to its end.
struct Seen {
    digest: Digest,
    size: u64,
}

impl Store {
    /// What is wrong with the contents of a layer whose archive is known.
    pub(super) fn check_contents(
        &self,
        layers: &Layers,
        layer: &LayerRecord,
        compares_files: bool,
    ) -> Vec<Problem> {
        let id = &layer.id;
        let mut expected = Expected::default();
        let is_whole_tree = self.has_whole_tree(layer);
        let holds = Holds {
            deletions: match self.driver().whiteouts() {
                _ if is_whole_tree => Deletions::Applied,
                Whiteouts::Overlay { .. } => Deletions::Marks,
                Whiteouts::Files => Deletions::MarksOrFiles,
                Whiteouts::Apply => Deletions::Applied,
            },
            owners: !self.driver().ignores_chown_errors(),
            times: !shares_files(&self.config().pull_options),
            overrides: self.driver().force_mask().is_some(),
        };
        if is_whole_tree && compares_files {
            // Its directory holds what all layers below have brought, with its own owners.
            for below in ancestors(layers, layer) {
                if let Err(text) = self.read_archive(&below, holds, &mut expected) {
                    return vec![Problem::LayerUnreadable(below.id.clone(), text)];
                }
            }
        }
        let seen = match self.read_archive(layer, holds, &mut expected) {
            Ok(seen) => seen,
            Err(text) => return vec![Problem::LayerUnreadable(id.clone(), text)],
        };
        if layer.diff_digest.get() != Some(&seen.digest) {
            return vec![Problem::LayerDigest(id.clone())];
        }
        if layer.diff_size != 0 && layer.diff_size.unsigned_abs() != seen.size {
            return vec![Problem::LayerSize(id.clone())];
        }
        if !compares_files {
            return Vec::new();
        }
        match self.compare_files(layer, &expected, holds) {
            Ok(lines) => lines
                .into_iter()
                .map(|line| Problem::LayerModified(id.clone(), line))
                .collect(),
            Err(text) => vec![Problem::LayerUnreadable(id.clone(), text)],
        }
    }

    fn compare_files(
        &self,
        layer: &LayerRecord,
        expected: &Expected,
        holds: Holds,
    ) -> Result<Vec<String>, String> {
        let driver = self.driver();
        let contents = |id: &String| driver.content(id);
        let root = driver.content(&layer.id).map_err(|error| chain(&error))?;
        // That a layer below is missing is told already; nothing can show through then.
        let below = driver.lowers(&layer.id).unwrap_or_default();
        let lowers: Vec<_> = below.iter().map_while(|id| contents(id).ok()).collect();
        let tree = Found {
            root: &root,
            id_maps: &IdMaps::from(&layer.mappings()),
            lowers: &lowers,
        };
        expected
            .compare(&tree, holds)
            .map_err(|error| chain(&error))
    }

    /// True when the layer's directory holds what is below too: a copy with other owners does so in an overlay as well,
    /// which then has nothing below it.
    fn has_whole_tree(&self, layer: &LayerRecord) -> bool {
        if self.driver().kind().has_whole_trees() {
            return true;
        }
        let lowers = self.driver().lowers(&layer.id);
        layer.is_mapped()
            && !layer.parent.is_empty()
            && lowers.is_ok_and(|lowers| lowers.is_empty())
    }

    /// Puts the archive of a layer together, and takes its headers in.
    fn read_archive(
        &self,
        layer: &LayerRecord,
        holds: Holds,
        expected: &mut Expected,
    ) -> Result<Seen, String> {
        expected.begin_archive();
        let write = |out: &mut dyn Write| self.diff(&layer.id, None, Some(Compression::None), out);
        let read = |archive: &mut (dyn Read + Send)| -> Result<Seen, tar::Error> {
            let mut hashing = HashingReader::new(archive, Algorithm::Sha256);
            let mut reader = tar::Reader::new(&mut hashing);
            while let Some(entry) = reader.next_entry()? {
                expected.add(&entry, holds);
            }
            while !reader.trailing()?.is_empty() {}
            drop(reader);
            io::copy(&mut hashing, &mut io::sink())?;
            let (digest, size, _) = hashing.finish();
            Ok(Seen { digest, size })
        };
        pipe::run(write, read).map_err(|broken| match broken {
            Broken::Pipe(error) => chain(&error),
            // Which file it is says more than that the stream is put together.
            Broken::Writer(DiffError::Reassemble(error)) => chain(&error),
            Broken::Writer(error) => chain(&error),
            Broken::Reader(error) => chain(&error),
        })
    }
}

/// True when pulls link equal files of several layers to each other, which then have one time.
fn shares_files(pull_options: &[(String, String)]) -> bool {
    pull_options
        .iter()
        .any(|(key, value)| key == "use_hard_links" && value.eq_ignore_ascii_case("true"))
}

/// The layers below, lowest first.
fn ancestors(layers: &Layers, layer: &LayerRecord) -> Vec<std::sync::Arc<LayerRecord>> {
    let mut below = Vec::new();
    let mut next = layer.parent.clone();
    while let Some(found) = layers.find_id(&next).filter(|_| below.len() < layers.len()) {
        next.clone_from(&found.parent);
        below.push(found.record);
    }
    below.reverse();
    below
}

/// An error and its causes in one line, without the system's numbers.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        if !text.is_empty() {
            text.push_str(": ");
        }
        let own = error.to_string();
        text.push_str(own.split(" (os error ").next().unwrap_or_default());
        next = error.source();
    }
    text
}
