//! The directories that members lie in, kept open since most members arrive directory by directory.

use std::collections::HashMap;
use std::rc::Rc;

use rustix::io::Errno;

use super::{UnpackError, path};
use crate::archive::id_shift::IdMaps;
use crate::archive::names;
use crate::sys::{Dir, Error};

/// How many are kept open: many runs share the process's descriptors.
const KEPT: usize = 16;

/// As the kernel: more links on one path are a loop.
const MAX_LINKS: usize = 40;

/// A directory that members lie in.
#[derive(Debug)]
pub(super) struct Parent {
    pub(super) dir: Dir,
    /// New inodes get its group, and directories its bit.
    pub(super) gives_group: bool,
}

impl Parent {
    fn new(dir: Dir) -> Result<Self, Error> {
        let gives_group = dir.stat_self()?.st_mode & libc::S_ISGID != 0;
        Ok(Self { dir, gives_group })
    }
}

/// Opens directories by their names in the archive.
#[derive(Debug)]
pub(super) struct Parents<'a> {
    root: &'a Dir,
    id_maps: &'a IdMaps,
    root_parent: Rc<Parent>,
    last: Option<(Vec<u8>, Rc<Parent>)>,
    kept: HashMap<Vec<u8>, Rc<Parent>>,
}

impl<'a> Parents<'a> {
    pub(super) fn new(root: &'a Dir, id_maps: &'a IdMaps) -> Result<Self, Error> {
        Ok(Self {
            root,
            id_maps,
            root_parent: Rc::new(Parent::new(root.try_clone()?)?),
            last: None,
            kept: HashMap::new(),
        })
    }

    /// Forgets all, since a directory or a link on the way was replaced, or the root changed.
    pub(super) fn forget(&mut self) -> Result<(), Error> {
        self.last = None;
        self.kept.clear();
        self.root_parent = Rc::new(Parent::new(self.root.try_clone()?)?);
        Ok(())
    }

    /// Remembers a directory that was just made.
    pub(super) fn keep(&mut self, name: &[u8], parent: Rc<Parent>) {
        if self.kept.len() >= KEPT {
            self.kept.clear();
        }
        self.kept.insert(name.to_vec(), Rc::clone(&parent));
        self.last = Some((name.to_vec(), parent));
    }

    /// The directory `name`, as the archive's tree has it; made with all above it when missing.
    pub(super) fn open(&mut self, name: &[u8]) -> Result<Rc<Parent>, UnpackError> {
        if name.is_empty() {
            return Ok(Rc::clone(&self.root_parent));
        }
        if let Some((last, parent)) = &self.last
            && last == name
        {
            return Ok(Rc::clone(parent));
        }
        if let Some(parent) = self.kept.get(name) {
            let parent = Rc::clone(parent);
            self.last = Some((name.to_vec(), Rc::clone(&parent)));
            return Ok(parent);
        }
        let dir = match self.root.open_dir_in_root(path(name)) {
            Ok(dir) => dir,
            Err(error) if error.is_not_found() => self.create(name)?,
            Err(error) => return Err(error.into()),
        };
        let parent = Rc::new(Parent::new(dir)?);
        self.keep(name, Rc::clone(&parent));
        Ok(parent)
    }

    /// Goes down to `name` step by step, making what is missing, also where a link points to nothing.
    fn create(&self, name: &[u8]) -> Result<Dir, UnpackError> {
        let steps = |path: &[u8]| -> Vec<Vec<u8>> {
            path.split(|byte| *byte == b'/')
                .filter(|part| !matches!(*part, b"" | b"."))
                .map(<[u8]>::to_vec)
                .rev()
                .collect()
        };
        let mut ahead = steps(name);
        // Where we are: real directories only, so that `..` is the one before.
        let mut here = Vec::new();
        let mut dir = self.root.try_clone()?;
        let mut links = 0;
        while let Some(step) = ahead.pop() {
            if step == b".." {
                here = names::split(&here).0.to_vec();
                dir = self.root.open_dir_in_root(path(&here))?;
                continue;
            }
            let found = match dir.find_dir(path(&step)) {
                Ok(found) => found,
                Err(error) => {
                    let Some(target) = dir.find_link(path(&step))? else {
                        return Err(error.into());
                    };
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Error::new("open", path(name), Errno::LOOP).into());
                    }
                    let target = target.into_os_string().into_encoded_bytes();
                    if target.starts_with(b"/") {
                        here.clear();
                        dir = self.root.try_clone()?;
                    }
                    ahead.extend(steps(&target));
                    continue;
                }
            };
            dir = match found {
                Some(found) => found,
                None => self.create_one(&dir, &step)?,
            };
            if !here.is_empty() {
                here.push(b'/');
            }
            here.extend_from_slice(&step);
        }
        Ok(dir)
    }

    fn create_one(&self, dir: &Dir, name: &[u8]) -> Result<Dir, UnpackError> {
        dir.create_dir(path(name), 0o777)?;
        if !self.id_maps.is_identity()
            && let Some((uid, gid)) = self.id_maps.to_host(0, 0)
        {
            dir.set_owner(path(name), uid, gid)?;
        }
        Ok(dir.open_dir(path(name))?)
    }
}
