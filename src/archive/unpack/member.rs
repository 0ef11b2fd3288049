//! Making one member: the inode, then owner, mode, attributes and times, in the order in which one does not undo
//! the other.

use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::FileType;

use super::parents::Parent;
use super::{Bytes, Defaults, UnpackError, Unpacker, Whiteouts, path, times};
use crate::archive::capability;
use crate::archive::names;
use crate::archive::override_stat::{self, OverrideStat};
use crate::archive::tar::{Entry, Kind, Piece};
use crate::sys::{Dir, Error, File};

/// Attributes of the process that made the archive, not of the file.
const SKIPPED_ATTRIBUTE: &[u8] = b"security.selinux";

/// After so many bytes the disk begins to write a file, so that a sync at the end of the archive has little left to do.
const WRITEBACK: usize = 16 << 20;

/// Where an attribute goes.
enum Target<'a> {
    File(&'a File),
    Name(&'a Dir, &'a Path),
}

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

impl Unpacker<'_> {
    /// The owner of a member outside of the container.
    fn host_owner(&self, entry: &Entry) -> Result<(u32, u32), UnpackError> {
        // Every member was checked to have IDs that fit.
        let (uid, gid) = (entry.uid as u32, entry.gid as u32);
        let owner = self.options.id_maps.to_host(uid, gid);
        owner.ok_or_else(|| UnpackError::Forbidden {
            name: entry.name.clone(),
            reason: "the user or group ID is not mapped",
        })
    }

    /// As [`Unpacker::host_owner`]; `None` when new inodes have it anyway, or shall not have it.
    fn owner(&self, parent: &Parent, entry: &Entry) -> Result<Option<(u32, u32)>, UnpackError> {
        let owner = self.old_owner(entry)?;
        let is_default = !parent.gives_group && self.defaults.owner == owner;
        Ok(owner.filter(|_| !is_default))
    }

    /// As [`Unpacker::owner`], of an inode that is there already.
    fn old_owner(&self, entry: &Entry) -> Result<Option<(u32, u32)>, UnpackError> {
        let owner = self.host_owner(entry)?;
        Ok(Some(owner).filter(|_| self.options.force_mask.is_none()))
    }

    /// The mode that the member gets on disk.
    fn mode(&self, entry: &Entry) -> u32 {
        self.options.force_mask.unwrap_or(entry.mode)
    }

    fn check_owner(&self, result: Result<(), Error>) -> Result<(), UnpackError> {
        match result {
            Err(error) if self.options.ignore_chown_errors => {
                tracing::warn!(%error, "the owner of a file is not what its layer says");
                Ok(())
            }
            result => Ok(result?),
        }
    }

    /// Sets the owner of a name.
    pub(super) fn own(
        &self,
        parent: &Parent,
        name: &Path,
        entry: &Entry,
    ) -> Result<(), UnpackError> {
        match self.owner(parent, entry)? {
            Some((uid, gid)) => self.check_owner(parent.dir.set_owner(name, uid, gid)),
            None => Ok(()),
        }
    }

    fn attributes(&mut self, target: &Target<'_>, entry: &Entry) -> Result<(), UnpackError> {
        for (key, value) in &entry.attributes {
            if key == SKIPPED_ATTRIBUTE || self.options.whiteouts.reserves(key) {
                continue;
            }
            if key == override_stat::KEY && self.options.force_mask.is_some() {
                continue;
            }
            if key.contains(&0) || key.len() > 255 {
                return Err(UnpackError::Forbidden {
                    name: entry.name.clone(),
                    reason: "the name of an extended attribute is invalid",
                });
            }
            let maps = &self.options.id_maps;
            let moved = (key == capability::KEY && !maps.is_identity())
                .then(|| capability::shift(value.clone(), false, |root| maps.user_to_host(root)));
            let value = moved.as_ref().unwrap_or(value);
            let result = match target {
                Target::File(file) => file.set_attribute(key, value),
                Target::Name(dir, name) => dir.set_attribute(name, key, value),
            };
            if key == b"system.posix_acl_default" {
                // New inodes below it no longer follow the umask.
                self.defaults.mode = 0;
            }
            match result.as_ref().map_err(Error::errno) {
                Ok(()) => {}
                Err(Some(libc::EOPNOTSUPP)) => self.summary.skipped_attributes += 1,
                Err(Some(libc::EPERM)) if self.options.in_user_namespace => {
                    self.summary.skipped_attributes += 1;
                }
                Err(_) => result?,
            }
        }
        if self.options.force_mask.is_some() && has_override(entry.kind) {
            let value = self.meant(entry)?.to_value();
            match target {
                Target::File(file) => file.set_attribute(override_stat::KEY, &value)?,
                Target::Name(dir, name) => dir.set_attribute(name, override_stat::KEY, &value)?,
            }
        }
        Ok(())
    }

    /// What the archive says of a member whose mode and owner are forced.
    fn meant(&self, entry: &Entry) -> Result<OverrideStat, UnpackError> {
        let (uid, gid) = self.host_owner(entry)?;
        let mut meant = OverrideStat {
            uid,
            gid,
            mode: entry.mode & 0o7777,
            file_type: file_type(entry.kind),
            device: (0, 0),
        };
        if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
            meant.device = device(entry)?;
        }
        Ok(meant)
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
        let name = path(name);
        let mode = self.mode(entry);
        let create = || parent.dir.create_file(name, mode & 0o777);
        let (mut file, _) = self.replacing(parent, name, create)?;
        match &entry.sparse {
            None => {
                let mut waiting = 0;
                loop {
                    let bytes = payload.next()?;
                    if bytes.is_empty() {
                        break;
                    }
                    file.write_all(bytes)
                        .map_err(|error| Error::new("write", file.path(), error))?;
                    waiting += bytes.len();
                    if waiting >= WRITEBACK {
                        waiting = 0;
                        // Only to save time: whoever needs the file on disk syncs it.
                        drop(file.start_writeback());
                    }
                }
            }
            Some(pieces) => sparse(&file, pieces, entry.size, payload)?,
        }
        if let Some((uid, gid)) = owner {
            self.check_owner(file.set_owner(uid, gid))?;
        }
        if self.defaults.change_mode(mode) {
            file.set_mode(mode)?;
        }
        self.attributes(&Target::File(&file), entry)?;
        let (accessed, modified) = times(entry);
        file.set_times(accessed, modified)?;
        self.summary.size += entry.size;
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
            self.check_owner(dir.set_owner("", uid, gid))?;
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
            self.check_owner(self.root.set_owner("", uid, gid))?;
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
            self.check_owner(parent.dir.set_owner(name, uid, gid))?;
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
        let file_type = file_type(entry.kind);
        let mode = self.mode(entry);
        let mut device = (0, 0);
        if file_type != FileType::Fifo {
            device = self::device(entry)?;
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

/// What a member becomes.
fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::CharDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::Fifo => FileType::Fifo,
        Kind::Regular | Kind::HardLink | Kind::GlobalHeader | Kind::Other(_) => {
            FileType::RegularFile
        }
    }
}

/// True for members that have an attribute which says what they are meant to be, if they are forced.
fn has_override(kind: Kind) -> bool {
    !matches!(kind, Kind::Symlink | Kind::HardLink)
}

/// The numbers of a device.
fn device(entry: &Entry) -> Result<(u32, u32), UnpackError> {
    let forbidden = |reason| UnpackError::Forbidden {
        name: entry.name.clone(),
        reason,
    };
    let number = |number: i64| {
        u32::try_from(number).map_err(|_| forbidden("the device number does not fit"))
    };
    let device = (number(entry.device.0)?, number(entry.device.1)?);
    if entry.kind == Kind::CharDevice && device == (0, 0) {
        return Err(forbidden("a 0/0 character device is overlay's whiteout"));
    }
    Ok(device)
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
