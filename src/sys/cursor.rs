//! A place in a tree of any depth, with one directory open.
//!
//! Whoever writes in a volume chooses how deep its tree is: walks neither recurse nor keep a descriptor for each level.
//! A path that is too long for the kernel ends them with its error.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::{Dir, Error};

/// A directory of a tree, opened when it is looked into.
#[derive(Debug)]
pub struct Cursor<'a> {
    root: &'a Dir,
    path: PathBuf,
    here: Option<Dir>,
}

impl<'a> Cursor<'a> {
    /// At the root.
    pub fn new(root: &'a Dir) -> Self {
        Self {
            root,
            path: PathBuf::new(),
            here: None,
        }
    }

    /// Where it is, relative to the root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory; `None` when it has vanished.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn dir(&mut self) -> Result<Option<&Dir>, Error> {
        if self.path.as_os_str().is_empty() {
            return Ok(Some(self.root));
        }
        if self.here.is_none() {
            self.here = self.root.find_dir(&self.path)?;
        }
        Ok(self.here.as_ref())
    }

    /// Goes down; stays and says false when there is no such directory.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn enter(&mut self, name: &OsStr) -> Result<bool, Error> {
        let Some(below) = self
            .dir()?
            .map(|dir| dir.find_dir(name))
            .transpose()?
            .flatten()
        else {
            return Ok(false);
        };
        self.path.push(name);
        self.here = Some(below);
        Ok(true)
    }

    /// Goes up; at the root it stays.
    pub fn leave(&mut self) {
        self.path.pop();
        self.here = None;
    }
}
