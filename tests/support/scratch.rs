//! A temporary directory that is unmounted and removed whatever happens.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};

/// A temporary directory with a short path (Unix sockets have 107 bytes).
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    pub fn new(purpose: &str) -> Self {
        let path = tempfile::Builder::new()
            .prefix(&format!("strata-{purpose}-"))
            .tempdir()
            .expect("a temporary directory can be made")
            .keep();
        Self { path, keep: false }
    }

    /// Takes over a directory that somebody else removes.
    pub fn within(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            keep: true,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A directory below, made.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        fs::create_dir_all(&path).expect("a directory below the temporary one can be made");
        path
    }

    /// A copy of a program, made by another process: who is started while this one writes it would keep it busy.
    pub fn program(&self, from: impl AsRef<Path>, name: &str) -> PathBuf {
        let path = self.path.join(name);
        super::tool::Tool::new("cp")
            .arg(from.as_ref())
            .arg(&path)
            .ok();
        path
    }

    /// A path below, as text.
    pub fn text(&self, name: &str) -> String {
        self.path.join(name).to_str().expect("UTF-8").to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        unmount_below(&self.path);
        if !self.keep {
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

/// Every mount point at or below `path`, in the order of mounting.
pub fn mounts_below(path: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("the mount table can be read");
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(unescape(point)))
        .filter(|point| point.starts_with(path))
        .collect()
}

/// Takes down every mount at or below `path`.
pub fn unmount_below(path: &Path) {
    for point in mounts_below(path).into_iter().rev() {
        unmount(&point, UnmountFlags::DETACH).ok();
    }
}

fn unescape(field: &str) -> String {
    field
        .replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}
