//! Files of image layers that have equal contents share their blocks, where the file system can.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use rustix::fs::FileType;

use super::Store;
use super::error::Error;
use crate::archive::tar_split::Checksum;
use crate::digest::{Algorithm, Hasher};
use crate::sys::extents::Sharing;
use crate::sys::{Buffer, File};

/// So many files that look alike and are not are compared with a next one: by their sizes alone, many do.
const MODELS: usize = 16;

/// How files are found that may be equal. Whether they are is always the kernel's own comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Likeness {
    /// Equal checksums of the contents.
    #[default]
    Checksum,
    /// Equal sizes.
    Size,
    /// Equal SHA-256 of the contents.
    Sha256,
}

/// A file of a layer.
struct Candidate {
    /// Which of the layers.
    layer: usize,
    folder: PathBuf,
    name: PathBuf,
}

impl Store {
    /// Lets equal files in the layers of images share their blocks; how many bytes files have in common with others,
    /// also since before.
    ///
    /// No lock is needed: contents stay what they are, and the kernel compares them while nobody can change them. What
    /// is deleted meanwhile is passed over.
    ///
    /// # Errors
    /// When records or layers can't be read.
    pub fn dedup(&self, likeness: Likeness) -> Result<u64, Error> {
        let layers = Vec::from_iter(self.layers_of_images()?);
        let mut by_size: HashMap<(u64, u64), Vec<Candidate>> = HashMap::new();
        let mut seen = HashSet::new();
        for (layer, id) in layers.iter().enumerate() {
            self.driver().content(id)?.walk(|met| {
                let (device, size) = (met.stat.st_dev, met.stat.st_size.unsigned_abs());
                let is_file = FileType::from_raw_mode(met.stat.st_mode) == FileType::RegularFile;
                if is_file && size > 0 && seen.insert((device, met.stat.st_ino)) {
                    by_size.entry((device, size)).or_default().push(Candidate {
                        layer,
                        folder: met.below.to_owned(),
                        name: PathBuf::from(&met.name),
                    });
                }
                Ok::<_, Error>(())
            })?;
        }
        let mut shared = 0;
        for ((_, size), files) in by_size {
            // A file that no other has the size of is not read.
            if files.len() < 2 {
                continue;
            }
            match self.share(&layers, &files, size, likeness)? {
                Some(bytes) => shared += bytes,
                None => return Ok(shared),
            }
        }
        Ok(shared)
    }

    /// Lets those of `files` that are equal share their blocks: how much they have in common; `None` when the file system
    /// can't.
    fn share(
        &self,
        layers: &[String],
        files: &[Candidate],
        size: u64,
        likeness: Likeness,
    ) -> Result<Option<u64>, Error> {
        let mut models: HashMap<Vec<u8>, Vec<File>> = HashMap::new();
        let mut shared = 0;
        for candidate in files {
            let Some(file) = self.open_candidate(layers, candidate)? else {
                continue;
            };
            let models = models.entry(likeness.of(&file)?).or_default();
            let mut is_shared = false;
            for model in models.iter() {
                match model.share_with(&file, size)? {
                    Sharing::Shared(bytes) => {
                        shared += bytes;
                        is_shared = true;
                        break;
                    }
                    Sharing::Differs => {}
                    Sharing::Unsupported => return Ok(None),
                }
            }
            if !is_shared && models.len() < MODELS {
                models.push(file);
            }
        }
        Ok(Some(shared))
    }

    /// The IDs of the store's own layers that images stand on.
    fn layers_of_images(&self) -> Result<BTreeSet<String>, Error> {
        let layers = self.layers()?;
        let mut reached = BTreeSet::new();
        for image in self.images()?.iter() {
            for top in image.top_layers() {
                let mut next = top.to_owned();
                while let Some(layer) = layers.find_id(&next)
                    && !layer.is_read_only
                    && reached.insert(next)
                {
                    next = layer.parent.clone();
                }
            }
        }
        Ok(reached)
    }

    fn open_candidate(&self, layers: &[String], file: &Candidate) -> Result<Option<File>, Error> {
        let Some(layer) = layers.get(file.layer) else {
            return Ok(None);
        };
        let content = self.driver().content(layer)?;
        let folder = match file.folder.as_os_str().is_empty() {
            true => Some(content),
            false => content.find_dir(&file.folder)?,
        };
        let found = folder.map(|folder| folder.find_file(&file.name));
        Ok(found.transpose()?.flatten())
    }
}

impl Likeness {
    /// What the contents of a file come to.
    fn of(self, file: &File) -> Result<Vec<u8>, Error> {
        match self {
            Self::Size => Ok(Vec::new()),
            Self::Checksum => {
                let mut sum = Checksum::new();
                each_piece(file, |bytes| sum.update(bytes))?;
                Ok(sum.finish().to_vec())
            }
            Self::Sha256 => {
                let mut hasher = Hasher::new(Algorithm::Sha256);
                each_piece(file, |bytes| hasher.update(bytes))?;
                Ok(hasher.finish().hex().into())
            }
        }
    }
}

fn each_piece(file: &File, mut take: impl FnMut(&[u8])) -> Result<(), Error> {
    let mut buffer = Buffer::new(256 * 1024);
    let mut offset = 0;
    loop {
        let read = file.read_at(&mut buffer, offset)?;
        if read == 0 {
            return Ok(());
        }
        take(&buffer[..read]);
        offset += read as u64;
    }
}
