//! Deletions in a layer: kept as overlay's marks or as files, or carried out.

use std::os::unix::ffi::OsStrExt;

use rustix::fs::FileType;

use super::{UnpackError, Unpacker, Whiteouts, path, times};
use crate::archive::names;
use crate::archive::tar::Entry;
use crate::sys::Dir;

/// What the names of deletions begin with.
const PREFIX: &[u8] = b".wh.";
/// What the names begin with that AUFS kept for itself.
const META_PREFIX: &[u8] = b".wh..wh.";
/// Deletes everything that lower layers have in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

impl Unpacker<'_, '_> {
    /// Handles `name` if it marks a deletion; false when it is an ordinary member.
    pub(super) fn whiteout(&mut self, entry: &Entry, name: &[u8]) -> Result<bool, UnpackError> {
        let applies = self.options.whiteouts == Whiteouts::Apply;
        // AUFS kept hard links and its own state at the top of layers: no part of the tree.
        if applies && name.starts_with(META_PREFIX) && name != OPAQUE {
            return Ok(true);
        }
        let (parent, last) = names::split(name);
        let Some(hidden) = last.strip_prefix(PREFIX) else {
            return Ok(false);
        };
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(UnpackError::Forbidden {
                name: entry.name.clone(),
                reason: "invalid whiteout name",
            });
        }
        if self.options.whiteouts == Whiteouts::Files {
            return Ok(false);
        }
        if last == OPAQUE {
            self.opaque(entry, parent)?;
        } else if applies {
            self.delete(parent, hidden)?;
        } else {
            self.hide(entry, parent, hidden)?;
        }
        Ok(true)
    }

    fn opaque(&mut self, entry: &Entry, name: &[u8]) -> Result<(), UnpackError> {
        let parent = self.parents.open(name, times(entry))?;
        match self.options.whiteouts {
            Whiteouts::Overlay { .. } => self.make_opaque(&parent.dir),
            Whiteouts::Apply => {
                self.clear(&parent.dir, name)?;
                Ok(self.parents.forget()?)
            }
            Whiteouts::Files => Ok(()),
        }
    }

    /// Marks a directory so that overlay shows nothing of what lower layers have in it.
    pub(super) fn make_opaque(&self, dir: &Dir) -> Result<(), UnpackError> {
        let key: &[u8] = match self.options.whiteouts {
            Whiteouts::Overlay {
                user_attributes: true,
            } => b"user.overlay.opaque",
            Whiteouts::Overlay { .. } => b"trusted.overlay.opaque",
            Whiteouts::Files | Whiteouts::Apply => return Ok(()),
        };
        Ok(dir.set_attribute("", key, b"y")?)
    }

    /// Removes everything in `dir` that did not come with this layer; `name` is its own.
    fn clear(&self, dir: &Dir, name: &[u8]) -> Result<(), UnpackError> {
        let mut ahead = vec![Vec::new()];
        while let Some(relative) = ahead.pop() {
            let opened;
            let here = if relative.is_empty() {
                dir
            } else {
                opened = dir.open_dir(path(&relative))?;
                &opened
            };
            for entry in here.list()? {
                let below = names::join(&relative, entry.name.as_bytes());
                if !self.unpacked.contains(&names::join(name, &below)) {
                    here.remove_tree(&entry.name)?;
                } else if entry.file_type == FileType::Directory {
                    ahead.push(below);
                }
            }
        }
        Ok(())
    }

    /// Deletes what lower layers left at a name; what came with this layer stays, as OCI has it.
    fn delete(&mut self, parent: &[u8], hidden: &[u8]) -> Result<(), UnpackError> {
        let name = names::join(parent, hidden);
        let dir = match self.root.open_dir_in_root(path(parent)) {
            Ok(dir) => dir,
            Err(error) if is_missing(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.parents.note(parent, &dir)?;
        if !self.unpacked.contains(&name) {
            dir.remove_tree(path(hidden))?;
        } else if let Ok(Some(below)) = dir.find_dir(path(hidden)) {
            self.clear(&below, &name)?;
        }
        Ok(self.parents.forget()?)
    }

    /// Makes the 0/0 device by which overlay hides what lower layers have at a name.
    fn hide(&mut self, entry: &Entry, parent: &[u8], hidden: &[u8]) -> Result<(), UnpackError> {
        let parent = match self.parents.open(parent, times(entry)) {
            Ok(parent) => parent,
            // Below something that is hidden already there is nothing to hide.
            Err(UnpackError::System(error)) if error.errno() == Some(libc::ENOTDIR) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let made = parent
            .dir
            .create_node(path(hidden), FileType::CharacterDevice, 0, (0, 0));
        match made {
            // It came with this layer, and a deletion is about lower layers only.
            Err(error) if error.is_already_exists() => {
                if let Ok(Some(dir)) = parent.dir.find_dir(path(hidden)) {
                    self.make_opaque(&dir)?;
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
            Ok(()) => self.own(&parent, path(hidden), entry),
        }
    }
}

fn is_missing(error: &crate::sys::Error) -> bool {
    error.is_not_found() || error.errno() == Some(libc::ENOTDIR)
}
