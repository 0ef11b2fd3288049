//! Making one member: the inode, then owner, mode, attributes and times, in the order in which one does not undo
//! the other.

use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::FileType;

use super::attributes::{self, Target, check_owner};
use super::filling::{self, Filling};
use super::forced;
use super::parents::Parent;
use super::{Bytes, Defaults, UnpackError, Unpacker, Whiteouts, path, times};
use crate::archive::names;
use crate::archive::tar::{Entry, Piece};
use crate::sys::{Dir, Error, File};

/// After so many bytes the disk begins to write a file, so that a sync at the end of the archive has little left to do.
const WRITEBACK: usize = 16 << 20;

impl Defaults {
    /// Finds out by making an inode without a name, or supposes nothing.
    ///
    /// The umask can't be read without changing it for all threads, and what else plays a part (default ACLs,
    /// mounts that map owners or give the parent's group) is seen this way as well.
    pub(super) fn probe(root: &Dir) -> Result<Self, Error> {
        let unknown = Self {
            owner: None,
            mode: 0,
        };
        if root.stat_self()?.st_mode & libc::S_ISGID != 0 {
            return Ok(unknown);
        }
        let Ok(file) = root.create_unnamed_file(0o777) else {
            return Ok(unknown);
        };
        let stat = file.stat()?;
        Ok(Self {
            owner: Some((stat.st_uid, stat.st_gid)),
            mode: stat.st_mode & 0o777,
        })
    }

    /// True when an inode that was made with `mode` has another mode now.
    fn change_mode(self, mode: u32) -> bool {
        mode & !self.mode != 0
    }
}

impl Unpacker<'_, '_> {
    /// As [`attributes::owner`]; `None` when new inodes have it anyway, or shall not have it.
    fn owner(&self, parent: &Parent, entry: &Entry) -> Result<Option<(u32, u32)>, UnpackError> {
        let owner = self.old_owner(entry)?;
        let is_default = !parent.gives_group && self.defaults.owner == owner;
        Ok(owner.filter(|_| !is_default))
    }

    /// As [`Unpacker::owner`], of an inode that is there already.
    fn old_owner(&self, entry: &Entry) -> Result<Option<(u32, u32)>, UnpackError> {
        let owner = attributes::owner(self.options, entry)?;
        Ok(Some(owner).filter(|_| self.options.force_mask.is_none()))
    }

    /// The mode that the member gets on disk.
    fn mode(&self, entry: &Entry) -> u32 {
        self.options.force_mask.unwrap_or(entry.mode)
    }

    /// Sets the owner of a name.
    pub(super) fn own(
        &self,
        parent: &Parent,
        name: &Path,
        entry: &Entry,
    ) -> Result<(), UnpackError> {
        match self.owner(parent, entry)? {
            Some((uid, gid)) => check_owner(self.options, parent.dir.set_owner(name, uid, gid)),
            None => Ok(()),
        }
    }

    fn attributes(&mut self, target: &Target<'_>, entry: &Entry) -> Result<(), UnpackError> {
        let attributes = attributes::wanted(self.options, entry)?;
        if attributes
            .iter()
            .any(|(key, _)| key == attributes::DEFAULT_ACL)
        {
            // New inodes below it no longer follow the umask.
            self.defaults.mode = 0;
        }
        self.summary.skipped_attributes += attributes::set(self.options, target, &attributes)?;
        Ok(())
    }

    /// Runs `make`; when something is in its way, removes that and runs it again. True when it was a whiteout.
    fn replacing<T>(
        &mut self,
        parent: &Parent,
        name: &Path,
        make: impl Fn() -> Result<T, Error>,
    ) -> Result<(T, bool), UnpackError> {
        match make() {
            Err(error) if error.is_already_exists() => {}
            result => return Ok((result?, false)),
        }
        self.filler.settle()?;
        let mut was_whiteout = false;
        if let Some(stat) = parent.dir.stat(name)? {
            let file_type = FileType::from_raw_mode(stat.st_mode);
            was_whiteout = file_type == FileType::CharacterDevice && stat.st_rdev == 0;
            let is_counted = matches!(file_type, FileType::RegularFile | FileType::Symlink);
            if self.options.whiteouts != Whiteouts::Apply && is_counted && stat.st_nlink == 1 {
                let size = stat.st_size.unsigned_abs();
                self.summary.size = self.summary.size.saturating_sub(size);
            }
        }
        parent.dir.remove_tree(name)?;
        self.parents.forget()?;
        Ok((make()?, was_whiteout))
    }

    pub(super) fn file(
        &mut self,
        parent: &Parent,
        name: &[u8],
        entry: &Entry,
        payload: &mut dyn Bytes,
    ) -> Result<(), UnpackError> {
        let owner = self.owner(parent, entry)?;
        let mode = self.mode(entry);
        let attributes = attributes::wanted(self.options, entry)?;
        let name = path(name);
        let (file, _) =
            self.replacing(parent, name, || parent.dir.create_file(name, mode & 0o777))?;
        self.summary.size += entry.size;
        let mut filling = Filling {
            file,
            owner,
            mode: Some(mode).filter(|mode| self.defaults.change_mode(*mode)),
            attributes,
            times: times(entry),
        };
        match &entry.sparse {
            None if filling::is_small(entry.size) => {
                let contents = self.filler.contents();
                let before = contents.len();
                loop {
                    let bytes = payload.next()?;
                    if bytes.is_empty() {
                        break;
                    }
                    contents.extend_from_slice(bytes);
                }
                let len = contents.len() - before;
                return self.filler.add(filling, len);
            }
            None => large(&mut filling.file, payload)?,
            Some(pieces) => sparse(&filling.file, pieces, entry.size, payload)?,
        }
        self.summary.skipped_attributes += filling.finish(self.options)?;
        Ok(())
    }

    pub(super) fn directory(
        &mut self,
        parent: &Parent,
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), UnpackError> {
        let owner = self.owner(parent, entry)?;
        let last = path(names::split(name).1);
        let wanted = self.mode(entry);
        // Ours until its mode is set, however little its owner may do.
        let mode = wanted & 0o777 | 0o700;
        let made = parent.dir.create_dir(last, mode);
        let mut is_new = made.is_ok();
        let mut old = None;
        let mut was_whiteout = false;
        match made {
            Err(error) if error.is_already_exists() => {
                let stat = parent.dir.stat(last)?;
                let is_dir = stat.is_some_and(|stat| {
                    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
                });
                if !is_dir {
                    let make = || parent.dir.create_dir(last, mode);
                    ((), was_whiteout) = self.replacing(parent, last, make)?;
                    is_new = true;
                } else {
                    old = stat.map(|stat| stat.st_ino);
                }
            }
            result => result?,
        }
        let dir = parent.dir.open_dir(last)?;
        let owner = if is_new {
            owner
        } else {
            self.old_owner(entry)?
        };
        if let Some((uid, gid)) = owner {
            check_owner(self.options, dir.set_owner("", uid, gid))?;
        }
        let inherits = parent.gives_group;
        if !is_new || inherits || mode != wanted || self.defaults.change_mode(wanted) {
            dir.set_mode(wanted)?;
        }
        if !is_new && wanted & libc::S_ISGID != 0 {
            // It may be kept under several names, as one that gives no group.
            self.parents.forget()?;
        }
        self.attributes(&Target::Name(&dir, Path::new("")), entry)?;
        if was_whiteout {
            // This layer deleted what was there before it made the directory.
            self.make_opaque(&dir)?;
        }
        let gives_group = wanted & libc::S_ISGID != 0;
        self.parents
            .keep(name, Rc::new(Parent { dir, gives_group }));
        self.parents.directories.say(name, old, times(entry));
        Ok(())
    }

    pub(super) fn root_directory(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        if let Some((uid, gid)) = self.old_owner(entry)? {
            check_owner(self.options, self.root.set_owner("", uid, gid))?;
        }
        let mode = self.mode(entry);
        self.root.set_mode(mode)?;
        self.attributes(&Target::Name(self.root, Path::new("")), entry)?;
        if mode & libc::S_ISGID != 0 {
            self.parents.forget()?;
        }
        self.parents.directories.say(b"", None, times(entry));
        Ok(())
    }

    pub(super) fn symlink(
        &mut self,
        parent: &Parent,
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), UnpackError> {
        let name = path(name);
        let target = path(&entry.link);
        self.replacing(parent, name, || parent.dir.symlink(name, target))?;
        self.own(parent, name, entry)?;
        self.attributes(&Target::Name(&parent.dir, name), entry)?;
        let (accessed, modified) = times(entry);
        parent.dir.set_times(name, accessed, modified)?;
        self.summary.size += entry.link.len() as u64;
        Ok(())
    }

    /// Makes a hard link. As in Go its header counts for the inode: it is the later one.
    pub(super) fn hard_link(
        &mut self,
        parent: &Parent,
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), UnpackError> {
        let name = path(name);
        let target = names::confine(&entry.link);
        let (target_parent, target_name) = names::split(&target);
        let missing = || {
            let target = std::ffi::OsString::from_vec(target.clone());
            Error::new(
                "link",
                std::path::PathBuf::from(target),
                rustix::io::Errno::NOENT,
            )
        };
        let target_dir = match self.root.open_dir_in_root(path(target_parent)) {
            Ok(dir) => dir,
            Err(error) if error.is_not_found() => return Err(missing().into()),
            Err(error) => return Err(error.into()),
        };
        let target_name = path(target_name);
        self.filler.settle()?;
        let Some(stat) = target_dir.stat(target_name)? else {
            return Err(missing().into());
        };
        let existing = parent.dir.stat(name)?;
        if existing.is_some_and(|old| (old.st_dev, old.st_ino) == (stat.st_dev, stat.st_ino)) {
            return Ok(());
        }
        self.replacing(parent, name, || {
            parent.dir.hard_link(name, &target_dir, target_name)
        })?;
        let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        if let Some((uid, gid)) = self.old_owner(entry)?
            && (uid, gid) != (stat.st_uid, stat.st_gid)
        {
            check_owner(self.options, parent.dir.set_owner(name, uid, gid))?;
        }
        // What is forced stays what the first name's header meant: this one does not say what kind of file it is.
        let is_forced = self.options.force_mask.is_some();
        if !is_link && !is_forced && stat.st_mode & 0o7777 != entry.mode {
            parent.dir.set_mode_of(name, entry.mode)?;
        }
        self.attributes(&Target::Name(&parent.dir, name), entry)?;
        let (accessed, modified) = times(entry);
        Ok(parent.dir.set_times(name, accessed, modified)?)
    }

    pub(super) fn node(
        &mut self,
        parent: &Parent,
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), UnpackError> {
        let file_type = forced::file_type(entry.kind);
        let mode = self.mode(entry);
        let mut device = (0, 0);
        if file_type != FileType::Fifo {
            device = forced::device(entry)?;
            if self.options.in_user_namespace && self.options.force_mask.is_none() {
                return Ok(());
            }
        }
        let name = path(name);
        self.replacing(parent, name, || match self.options.force_mask {
            None => parent
                .dir
                .create_node(name, file_type, mode & 0o777, device),
            Some(mask) => parent.dir.create_file(name, mask & 0o777).map(drop),
        })?;
        self.own(parent, name, entry)?;
        if self.defaults.change_mode(mode) {
            parent.dir.set_mode_of(name, mode)?;
        }
        self.attributes(&Target::Name(&parent.dir, name), entry)?;
        let (accessed, modified) = times(entry);
        Ok(parent.dir.set_times(name, accessed, modified)?)
    }
}

/// Writes the contents of a file as they come.
fn large(file: &mut File, payload: &mut dyn Bytes) -> Result<(), UnpackError> {
    let mut waiting = 0;
    loop {
        let bytes = payload.next()?;
        if bytes.is_empty() {
            return Ok(());
        }
        filling::write(file, bytes)?;
        waiting += bytes.len();
        if waiting >= WRITEBACK {
            waiting = 0;
            // Only to save time: whoever needs the file on disk syncs it.
            drop(file.start_writeback());
        }
    }
}

/// Puts the stored pieces of a sparse file where they belong.
fn sparse(
    file: &File,
    pieces: &[Piece],
    size: u64,
    payload: &mut dyn Bytes,
) -> Result<(), UnpackError> {
    file.set_size(size)?;
    let mut pieces = pieces.iter().copied();
    let mut piece = Piece { offset: 0, len: 0 };
    loop {
        let mut bytes = payload.next()?;
        if bytes.is_empty() {
            return Ok(());
        }
        while !bytes.is_empty() {
            if piece.len == 0 {
                // The reader has compared the sum of all pieces with what is stored.
                piece = pieces.next().unwrap_or(Piece {
                    offset: size,
                    len: bytes.len() as u64,
                });
                continue;
            }
            let len = piece.len.min(bytes.len() as u64);
            let (now, rest) = bytes.split_at(len as usize);
            file.write_at(now, piece.offset)?;
            piece.offset += len;
            piece.len -= len;
            bytes = rest;
        }
    }
}
