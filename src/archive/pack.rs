//! Packing a directory into an archive: a whole tree, the difference that an overlay layer is, or chosen changes.
//!
//! Equal trees give equal bytes: members come depth first in the order of their names, times are cut to seconds, and
//! user names are left out. The root has no member. Sockets are left out, as archives have no place for them.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat, major, minor};

use super::capability;
use super::changes::{self, Change};
use super::id_shift::IdMaps;
use super::lowers::{Found, Lowers, is_opaque, is_whiteout};
use super::names;
use super::override_stat;
use super::tar::{self, Entry, Kind, Time};
use crate::sys::{self, Buffer, Cursor, Dir};

/// Headers are small; they go out in pieces of this size.
const OUTPUT_BUFFER: usize = 128 * 1024;

/// How to pack.
#[derive(Clone, Debug, Default)]
pub struct Options<'a> {
    /// Owners are moved back to what they are in the container.
    pub id_maps: IdMaps,
    /// The directory is an overlay layer over these, nearest first: its marks become the deletions of archives.
    pub overlay: Option<&'a [Dir]>,
    /// Members are what [`override_stat`] says that they are meant to be.
    pub overrides: bool,
}

/// Why a directory was not packed. A part of the archive may have been written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// The directory can't be read.
    #[error(transparent)]
    System(#[from] sys::Error),
    /// The archive can't be written.
    #[error("write the archive")]
    Write(#[source] io::Error),
    /// The owner of something has no place in the container's ID maps.
    #[error("the owner {uid}:{gid} of {} is not mapped", path.display())]
    Unmapped {
        /// What it owns.
        path: PathBuf,
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
    },
    /// A file became shorter while it was read.
    #[error("{} changed while it was read", path.display())]
    Changed {
        /// Which.
        path: PathBuf,
    },
}

impl PackError {
    /// True when the file system or a quota is full, where the archive is written.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::System(error) => error.is_no_space(),
            Self::Write(error) => sys::is_no_space(error),
            Self::Unmapped { .. } | Self::Changed { .. } => false,
        }
    }
}

/// Packs all of `dir` into `out`.
///
/// # Errors
/// See [`PackError`].
pub fn pack<W: Write>(dir: &Dir, out: W, options: &Options<'_>) -> Result<W, PackError> {
    let mut packer = Packer::new(out, options);
    let lowers = options.overlay.map(|dirs| Lowers {
        dirs,
        has_files: false,
    });
    packer.tree(dir, lowers)?;
    packer.finish()
}

/// Packs the changed paths of `dir`, and deletions as whiteouts of the time `now`.
///
/// # Errors
/// See [`PackError`].
pub fn pack_changes<W: Write>(
    dir: &Dir,
    changes: &[Change],
    now: Time,
    out: W,
    options: &Options<'_>,
) -> Result<W, PackError> {
    let mut packer = Packer::new(out, options);
    let mut parent: Option<(Vec<u8>, Dir)> = None;
    for change in changes {
        let name = names::confine(change.path.as_os_str().as_bytes());
        let (parent_name, last) = names::split(&name);
        if change.kind == changes::Kind::Delete {
            let mut whiteout = bare(whiteout_name(parent_name, last), now);
            whiteout.mode = 0;
            packer.entry(&whiteout)?;
            continue;
        }
        if parent.as_ref().is_none_or(|(name, _)| name != parent_name) {
            let opened = match parent_name {
                b"" => dir.try_clone()?,
                name => dir.open_dir(OsStr::from_bytes(name))?,
            };
            parent = Some((parent_name.to_vec(), opened));
        }
        if let Some((_, parent)) = &parent
            && let Some(stat) = parent.stat(OsStr::from_bytes(last))?
        {
            packer.member(parent, &name, &stat)?;
        }
    }
    packer.finish()
}

/// The name that deletes `last` in `parent`.
fn whiteout_name(parent: &[u8], last: &[u8]) -> Vec<u8> {
    names::join(parent, &[b".wh.", last].concat())
}

/// The names in a directory that are still to be packed, and what lower layers have under each.
type Level = std::vec::IntoIter<(OsString, Found)>;

fn level(
    dir: &Dir,
    path: &Path,
    lowers: Option<Lowers<'_>>,
    which: &[usize],
) -> Result<Level, PackError> {
    let mut names: Vec<OsString> = dir.list()?.into_iter().map(|entry| entry.name).collect();
    names.sort_unstable();
    let found = match lowers {
        Some(lowers) => lowers.find(path, which, &names)?,
        None => vec![Found::default(); names.len()],
    };
    let level: Vec<_> = names.into_iter().zip(found).collect();
    Ok(level.into_iter())
}

/// An empty file of root's.
fn bare(name: Vec<u8>, modified: Time) -> Entry {
    Entry {
        kind: Kind::Regular,
        name,
        link: Vec::new(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        size: 0,
        modified,
        accessed: None,
        device: (0, 0),
        attributes: Vec::new(),
        sparse: None,
    }
}

/// True for the attributes that are part of a layer.
fn is_packed(key: &[u8]) -> bool {
    matches!(key, b"security.capability" | b"security.ima")
        || (key.starts_with(b"user.") && !key.starts_with(b"user.overlay."))
}

struct Packer<'a, W: Write> {
    out: tar::Writer<BufWriter<W>>,
    id_maps: &'a IdMaps,
    overrides: bool,
    /// The first name of each inode that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Buffer,
}

impl<'a, W: Write> Packer<'a, W> {
    fn new(out: W, options: &'a Options<'_>) -> Self {
        Self {
            out: tar::Writer::new(BufWriter::with_capacity(OUTPUT_BUFFER, out)),
            id_maps: &options.id_maps,
            overrides: options.overrides,
            links: HashMap::new(),
            buffer: Buffer::new(256 * 1024),
        }
    }

    fn finish(self) -> Result<W, PackError> {
        let buffered = self.out.finish().map_err(PackError::Write)?;
        let out = buffered.into_inner();
        out.map_err(|error| PackError::Write(error.into_error()))
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), PackError> {
        self.out.entry(entry).map_err(PackError::Write)
    }

    fn tree(&mut self, root: &Dir, lowers: Option<Lowers<'_>>) -> Result<(), PackError> {
        let mut cursor = Cursor::new(root);
        let all = lowers.map(Lowers::all).unwrap_or_default();
        let mut levels = vec![level(root, Path::new(""), lowers, &all)?];
        while let Some(level_here) = levels.last_mut() {
            let next = level_here.next();
            let (Some((name, mut found)), Some(dir)) = (next, cursor.dir()?) else {
                levels.pop();
                cursor.leave();
                continue;
            };
            // What vanishes meanwhile was deleted before it was packed.
            let Some(stat) = dir.stat(&name)? else {
                continue;
            };
            if lowers.is_some() && is_whiteout(&stat) {
                let parent = cursor.path().as_os_str().as_bytes();
                self.whiteout(parent, name.as_bytes(), &stat)?;
                continue;
            }
            let full = names::join(cursor.path().as_os_str().as_bytes(), name.as_bytes());
            if let Some(dir) = cursor.dir()? {
                self.member(dir, &full, &stat)?;
            }
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if !is_dir || !cursor.enter(&name)? {
                continue;
            }
            let path = cursor.path().to_path_buf();
            let Some(below) = cursor.dir()? else {
                continue;
            };
            if lowers.is_some() && is_opaque(below)? {
                found.below.clear();
                if found.stat.is_some() {
                    let stat = self.meant(below, OsStr::new(""), &stat)?;
                    self.opaque(&full, &stat)?;
                }
            }
            levels.push(level(below, &path, lowers, &found.below)?);
        }
        Ok(())
    }

    fn owner(&self, path: &[u8], stat: &Stat) -> Result<(i64, i64), PackError> {
        match self.id_maps.to_container(stat.st_uid, stat.st_gid) {
            Some((uid, gid)) => Ok((uid.into(), gid.into())),
            None => Err(PackError::Unmapped {
                path: OsString::from_vec(path.to_vec()).into(),
                uid: stat.st_uid,
                gid: stat.st_gid,
            }),
        }
    }

    fn whiteout(&mut self, parent: &[u8], last: &[u8], stat: &Stat) -> Result<(), PackError> {
        let name = whiteout_name(parent, last);
        // The kernel makes whiteouts as whoever mounted, not as the container's root.
        let owner = self.id_maps.to_container(stat.st_uid, stat.st_gid);
        let (uid, gid) = owner.unwrap_or_default();
        self.entry(&Entry {
            mode: 0,
            uid: uid.into(),
            gid: gid.into(),
            ..bare(name, Time::from(stat.st_mtime))
        })
    }

    fn meant(&self, dir: &Dir, name: &OsStr, stat: &Stat) -> Result<Stat, PackError> {
        match self.overrides {
            true => Ok(override_stat::meant(dir, name, *stat)?),
            false => Ok(*stat),
        }
    }

    /// The mark that everything lower layers have in the directory is deleted.
    fn opaque(&mut self, dir: &[u8], stat: &Stat) -> Result<(), PackError> {
        let (uid, gid) = self.owner(dir, stat)?;
        let name = names::join(dir, b".wh..wh..opq");
        self.entry(&Entry {
            mode: stat.st_mode & 0o777,
            uid,
            gid,
            ..bare(name, Time::from(0))
        })
    }

    /// Packs one inode, without what is below it.
    fn member(&mut self, dir: &Dir, path: &[u8], stat: &Stat) -> Result<(), PackError> {
        let last = OsStr::from_bytes(names::split(path).1);
        let stat = &self.meant(dir, last, stat)?;
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let kind = match file_type {
            FileType::RegularFile => Kind::Regular,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Fifo => Kind::Fifo,
            _ => return Ok(()),
        };
        let (uid, gid) = self.owner(path, stat)?;
        let mut entry = Entry {
            kind,
            mode: stat.st_mode & 0o7777,
            uid,
            gid,
            ..bare(path.to_vec(), Time::from(stat.st_mtime))
        };
        match kind {
            Kind::Directory => entry.name.push(b'/'),
            Kind::Symlink => {
                let Some(target) = dir.find_link(last)? else {
                    return Ok(());
                };
                entry.link = target.into_os_string().into_vec();
            }
            Kind::CharDevice | Kind::BlockDevice => {
                entry.device = (major(stat.st_rdev).into(), minor(stat.st_rdev).into());
            }
            _ => {}
        }
        let mut keys = dir.attributes(last)?;
        keys.sort_unstable();
        keys.retain(|key| is_packed(key) && !(self.overrides && key == override_stat::KEY));
        for key in keys {
            if let Some(mut value) = dir.attribute(last, &key)? {
                if key == capability::KEY && !self.id_maps.is_identity() {
                    let user = |root| self.id_maps.user_to_container(root);
                    value = capability::shift(value, true, user);
                }
                entry.attributes.push((key, value));
            }
        }
        if kind != Kind::Directory && stat.st_nlink > 1 {
            let inode = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&inode) {
                entry.kind = Kind::HardLink;
                entry.link = first.clone();
                return self.entry(&entry);
            }
            self.links.insert(inode, path.to_vec());
        }
        if kind == Kind::Regular {
            return self.file(dir, last, entry, stat);
        }
        self.entry(&entry)
    }

    fn file(
        &mut self,
        dir: &Dir,
        name: &OsStr,
        mut entry: Entry,
        stat: &Stat,
    ) -> Result<(), PackError> {
        let changed = || PackError::Changed {
            path: dir.path().join(name),
        };
        // It may be something else by now, even a pipe: this does not wait, and the inode tells.
        let mut file = match dir.open_file_in_root(name) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let opened = file.stat()?;
        if (opened.st_dev, opened.st_ino) != (stat.st_dev, stat.st_ino) {
            return Err(changed());
        }
        entry.size = opened.st_size.unsigned_abs();
        self.entry(&entry)?;
        let mut left = entry.size;
        while left > 0 {
            let wanted = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(self.buffer.len());
            let read = file
                .read(&mut self.buffer[..wanted])
                .map_err(|error| sys::Error::new("read", file.path(), error))?;
            if read == 0 {
                return Err(changed());
            }
            left -= read as u64;
            self.out
                .data(&self.buffer[..read])
                .map_err(PackError::Write)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::archive::unpack::{self, Whiteouts, unpack};

    const OVERLAY: Whiteouts = Whiteouts::Overlay {
        user_attributes: false,
    };

    fn place() -> (tempfile::TempDir, Dir) {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        (folder, dir)
    }

    fn names(archive: &[u8]) -> Vec<(String, Kind)> {
        let mut reader = tar::Reader::new(archive);
        let mut names = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            names.push((String::from_utf8(entry.name).unwrap(), entry.kind));
        }
        names
    }

    fn shell(dir: &Dir, script: &str) {
        let status = Command::new("sh")
            .current_dir(dir.path())
            .args(["-ec", script])
            .status();
        assert!(status.unwrap().success());
    }

    #[test]
    fn a_packed_tree_unpacks_to_itself() {
        let (_source_folder, source) = place();
        shell(
            &source,
            "mkdir -p b/deep a; echo hello > b/file; ln b/file a/hard; ln -s nowhere a/link; \
             mkfifo a/fifo; mknod a/null c 1 3; chmod 4711 b/file; chown 3000000:9 b/file; \
             touch -d @1600000000.5 b/file b a; printf x > \"$(printf 'a/\\377')\"; \
             truncate -s 5000000 sparse; chmod 2750 b",
        );
        source.set_attribute("a", b"user.a", b"1").unwrap();
        let archive = pack(&source, Vec::new(), &Options::default()).unwrap();
        assert_eq!(
            archive,
            pack(&source, Vec::new(), &Options::default()).unwrap()
        );
        let (_target_folder, target) = place();
        let options = unpack::Options::new(OVERLAY);
        unpack::<Vec<u8>>(&*archive, &target, &options, None).unwrap();
        let again = pack(&target, Vec::new(), &Options::default()).unwrap();
        assert!(again == archive);
        // What it says to GNU tar.
        let path = target.path().join("archive.tar");
        std::fs::write(&path, &archive).unwrap();
        let output = Command::new("tar").arg("-tf").arg(&path).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
        let listed = String::from_utf8(output.stdout).unwrap();
        let expected = "a/\na/fifo\na/hard\na/link\na/null\na/\\377\nb/\nb/deep/\nb/file\nsparse\n";
        assert_eq!(listed, expected);
    }

    #[test]
    fn marks_of_overlay_become_deletions_where_there_is_something_to_delete() {
        let (_layers_folder, layers) = place();
        shell(
            &layers,
            "mkdir -p far/hidden far/shown near upper/shown upper/hidden upper/new; \
             mknod near/hidden c 0 0; mknod upper/gone c 0 0; mknod upper/shown/x c 0 0; \
             for dir in shown hidden new; do setfattr -n trusted.overlay.opaque -v y upper/$dir; done \
             2>/dev/null || true",
        );
        let upper = layers.open_dir("upper").unwrap();
        for dir in ["shown", "hidden", "new"] {
            let dir = upper.open_dir(dir).unwrap();
            dir.set_attribute("", b"trusted.overlay.opaque", b"y")
                .unwrap();
        }
        let lowers = [
            layers.open_dir("near").unwrap(),
            layers.open_dir("far").unwrap(),
        ];
        let options = Options {
            overlay: Some(&lowers),
            ..Options::default()
        };
        let archive = pack(&upper, Vec::new(), &options).unwrap();
        let expected = [
            (".wh.gone", Kind::Regular),
            ("hidden/", Kind::Directory),
            ("new/", Kind::Directory),
            ("shown/", Kind::Directory),
            ("shown/.wh..wh..opq", Kind::Regular),
            ("shown/.wh.x", Kind::Regular),
        ];
        let expected = expected.map(|(name, kind)| (name.to_owned(), kind));
        assert_eq!(names(&archive), expected);
        let (_target_folder, target) = place();
        let own = unpack::Options::new(OVERLAY);
        unpack::<Vec<u8>>(&*archive, &target, &own, None).unwrap();
        assert!(is_whiteout(&target.stat("gone").unwrap().unwrap()));
        assert!(is_opaque(&target.open_dir("shown").unwrap()).unwrap());
    }

    #[test]
    fn owners_outside_of_the_maps_are_an_error() {
        let (_folder, dir) = place();
        shell(&dir, "touch file; chown 100001:100002 file");
        let range = crate::archive::id_shift::IdRange {
            container: 0,
            host: 100_000,
            size: 10,
        };
        let options = Options {
            id_maps: IdMaps {
                uids: vec![range],
                gids: vec![range],
            },
            ..Options::default()
        };
        let archive = pack(&dir, Vec::new(), &options).unwrap();
        let entry = tar::Reader::new(&*archive).next_entry().unwrap().unwrap();
        assert_eq!((entry.uid, entry.gid), (1, 2));
        shell(&dir, "chown 0:0 file");
        let error = pack(&dir, Vec::new(), &options).unwrap_err();
        assert_eq!(error.to_string(), "the owner 0:0 of file is not mapped");
    }

    #[test]
    fn chosen_changes_are_packed_alone() {
        let (_folder, dir) = place();
        shell(&dir, "mkdir d; touch d/new d/same top");
        let change = |path: &str, kind| Change {
            path: path.into(),
            kind,
        };
        let changes = [
            change("/d", changes::Kind::Modify),
            change("/d/new", changes::Kind::Add),
            change("/d/old", changes::Kind::Delete),
        ];
        let now = Time::from(77);
        let archive = pack_changes(&dir, &changes, now, Vec::new(), &Options::default()).unwrap();
        let expected = ["d/", "d/new", "d/.wh.old"].map(str::to_owned);
        assert_eq!(
            names(&archive)
                .into_iter()
                .map(|(name, _)| name)
                .collect::<Vec<_>>(),
            expected
        );
    }
}
