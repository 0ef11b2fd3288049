//! Where a store lies, and with which driver.

use std::path::Path;

use super::support::disk::{Disk, FileSystem};
use super::support::plugin::Settings;
use super::support::scratch::Scratch;

/// A kind of store on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Overlay,
    /// Overlay, with images in a root of their own, on a file system of its own.
    Split,
    /// Copied directories, on a file system without reflinks.
    Copies,
    /// Copied directories whose files share blocks.
    Reflinks,
    /// Subvolumes of btrfs.
    Subvolumes,
}

impl Kind {
    pub fn storage_driver(self) -> &'static str {
        match self {
            Self::Overlay | Self::Split => "overlay",
            Self::Copies | Self::Reflinks => "vfs",
            Self::Subvolumes => "btrfs",
        }
    }

    /// What it is called where results are printed.
    pub fn text(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Split => "overlay, split",
            Self::Copies => "vfs",
            Self::Reflinks => "vfs with reflinks",
            Self::Subvolumes => "btrfs",
        }
    }

    /// The file system that is made for it; else it is that of temporary files.
    fn file_system(self) -> Option<FileSystem> {
        match self {
            Self::Overlay | Self::Copies => None,
            Self::Split => Some(FileSystem::Ext4),
            Self::Reflinks => Some(FileSystem::Xfs),
            Self::Subvolumes => Some(FileSystem::Btrfs),
        }
    }
}

/// Folders for stores of one kind.
#[derive(Debug)]
pub struct Place {
    pub kind: Kind,
    // Unmounted before the folder goes that it lies in.
    disk: Option<Disk>,
    pub scratch: Scratch,
}

impl Place {
    pub fn new(kind: Kind) -> Self {
        let scratch = Scratch::new("commands");
        let disk = kind.file_system();
        Self {
            kind,
            disk: disk.map(|kind| Disk::below(scratch.path(), kind)),
            scratch,
        }
    }

    /// The settings of a store in folders of this name.
    pub fn store(&self, name: &str, binary: &Path) -> Settings {
        let disk = self.disk.as_ref().map(Disk::path);
        let (root, image_store) = match (self.kind, disk) {
            (Kind::Split, Some(disk)) => {
                (self.scratch.path(), Some(disk.join(name).join("images")))
            }
            (_, Some(disk)) => (disk, None),
            (_, None) => (self.scratch.path(), None),
        };
        let mut settings = Settings::below(&root.join(name), binary);
        settings.storage_driver = self.kind.storage_driver().to_owned();
        if let Some(root) = &image_store {
            std::fs::create_dir_all(root).expect("a folder can be made");
        }
        settings.image_store = image_store;
        settings
    }
}
