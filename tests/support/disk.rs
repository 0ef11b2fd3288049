//! A file system of its own, made in a file.

use std::fs;
use std::path::{Path, PathBuf};

use super::scratch::unmount_below;
use super::tool::Tool;

/// How large each is; the file has holes until it is written to.
const SIZE: u64 = 512 << 20;

/// What kind it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    Ext4,
    /// With reflinks.
    Xfs,
    Btrfs,
}

/// A file system, mounted until it is dropped. Who wants nobody else to see it enters a mount name space first.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    path: PathBuf,
}

impl Disk {
    /// Its file is `image` in `folder`, its mount point `disk`.
    pub fn below(folder: &Path, kind: FileSystem) -> Self {
        let (image, path) = (folder.join("image"), folder.join("disk"));
        let file = fs::File::create(&image).expect("a file can be made");
        file.set_len(SIZE).expect("its size can be set");
        let make = match kind {
            FileSystem::Ext4 => Tool::new("mkfs.ext4").arg("-q"),
            FileSystem::Xfs => Tool::new("mkfs.xfs").args(["-q", "-m", "reflink=1"]),
            FileSystem::Btrfs => Tool::new("mkfs.btrfs").arg("-q"),
        };
        make.arg(&image).ok();
        fs::create_dir(&path).expect("a mount point can be made");
        Tool::new("mount")
            .args(["-o", "loop"])
            .arg(&image)
            .arg(&path)
            .ok();
        Self { image, path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What is still busy on it keeps it until it ends.
        unmount_below(&self.path);
        drop(fs::remove_file(&self.image));
    }
}
