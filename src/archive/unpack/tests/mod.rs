//! Archives good and hostile, unpacked as root.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::archive::id_shift::IdRange;
use crate::archive::tar::Writer;

mod confined;
mod filling;
mod members;
mod streams;
mod whiteouts;

const OVERLAY: Whiteouts = Whiteouts::Overlay {
    user_attributes: false,
};

/// An archive in the making.
struct Archive(Writer<Vec<u8>>);

fn entry(kind: Kind, name: &[u8]) -> Entry {
    Entry {
        kind,
        name: name.to_vec(),
        link: Vec::new(),
        mode: if kind == Kind::Directory {
            0o755
        } else {
            0o644
        },
        uid: 0,
        gid: 0,
        size: 0,
        modified: Time::from(1000),
        accessed: None,
        device: (0, 0),
        attributes: Vec::new(),
        sparse: None,
    }
}

impl Archive {
    fn new() -> Self {
        Self(Writer::new(Vec::new()))
    }

    fn with(mut self, entry: &Entry) -> Self {
        self.0.entry(entry).unwrap();
        self
    }

    fn file(mut self, name: &str, contents: &[u8]) -> Self {
        let size = contents.len() as u64;
        let kind = Kind::Regular;
        self.0
            .entry(&Entry {
                size,
                ..entry(kind, name.as_bytes())
            })
            .unwrap();
        self.0.data(contents).unwrap();
        self
    }

    fn dir(self, name: &str) -> Self {
        self.with(&entry(Kind::Directory, name.as_bytes()))
    }

    fn link(self, kind: Kind, name: &str, target: &str) -> Self {
        let link = target.as_bytes().to_vec();
        self.with(&Entry {
            link,
            ..entry(kind, name.as_bytes())
        })
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.link(Kind::Symlink, name, target)
    }

    fn bytes(self) -> Vec<u8> {
        self.0.finish().unwrap()
    }
}

/// A directory with a neighbour that must stay as it is.
struct Place {
    folder: tempfile::TempDir,
    root: Dir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("root")).unwrap();
        std::fs::write(folder.path().join("outside"), "untouched").unwrap();
        let root = Dir::open(folder.path().join("root")).unwrap();
        Self { folder, root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("root").join(name)
    }

    fn unpack(&self, archive: Archive) -> Result<Summary, UnpackError> {
        self.unpack_with(archive, &Options::new(OVERLAY))
    }

    fn unpack_with(&self, archive: Archive, options: &Options) -> Result<Summary, UnpackError> {
        let bytes = archive.bytes();
        let mut recipe = tar_split::Writer::new(Vec::new());
        let result = unpack(&*bytes, &self.root, options, Some(&mut recipe));
        let outside = self.folder.path().join("outside");
        assert_eq!(std::fs::read(outside).unwrap(), b"untouched");
        assert_eq!(std::fs::read_dir(&self.folder).unwrap().count(), 2);
        result
    }

    fn stat(&self, name: &str) -> std::fs::Metadata {
        std::fs::symlink_metadata(self.path(name)).unwrap()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }
}

fn is_whiteout(metadata: &std::fs::Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

/// Unpacks bytes as an overlay layer and rebuilds them.
fn round_trip(tar: &[u8]) -> Result<Vec<u8>, UnpackError> {
    let place = Place::new();
    let mut recipe = tar_split::Writer::new(Vec::new());
    let options = Options::new(OVERLAY);
    unpack(tar, &place.root, &options, Some(&mut recipe))?;
    let recipe = recipe.finish().unwrap();
    let mut out = Vec::new();
    let mut open = |name: &[u8]| -> io::Result<sys::File> {
        Ok(place.root.open_file_in_root(path(&names::confine(name)))?)
    };
    tar_split::reassemble(&*recipe, &mut open, &mut out).unwrap();
    Ok(out)
}
