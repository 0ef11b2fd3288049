//! Copying a file or a tree into another tree, as what it shall be called there.
//!
//! Paths are resolved with the trees as roots: no link leads out of either.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::FileType;

use super::changes::{self, Change, Tree};
use super::id_shift::IdMaps;
use super::pack::{self, PackError};
use super::pipe::{self, Broken};
use super::retime::{RewriteError, rewrite};
use super::tar::{Entry, Time};
use super::unpack::{self, UnpackError, Whiteouts, unpack};
use crate::sys::{self, Dir};

/// Why something was not copied. A part of it may have been.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// A file would take the place of a directory.
    #[error("cannot overwrite directory {} with non-directory", .0.display())]
    IsDirectory(PathBuf),
    /// A directory would take the place of something else.
    #[error("cannot overwrite non-directory {} with directory", .0.display())]
    IsNoDirectory(PathBuf),
    /// The ID maps of one of the trees have no place for the owner.
    #[error("the owner {uid}:{gid} of {} is not mapped", path.display())]
    Unmapped {
        /// What it owns, or shall own.
        path: PathBuf,
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
    },
    /// The source can't be read.
    #[error(transparent)]
    Read(PackError),
    /// What was read can't be passed on.
    #[error(transparent)]
    Pass(RewriteError),
    /// The target can't be written.
    #[error(transparent)]
    Write(UnpackError),
    /// The system failed.
    #[error(transparent)]
    System(#[from] sys::Error),
    /// There is no pipe or thread left.
    #[error("start a stream")]
    Stream(#[source] io::Error),
}

impl From<Broken<Self, Self>> for CopyError {
    fn from(broken: Broken<Self, Self>) -> Self {
        match broken {
            Broken::Pipe(error) => Self::Stream(error),
            Broken::Writer(error) | Broken::Reader(error) => error,
        }
    }
}

/// The owner of all that is copied, as the container has it that the target is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// Copies `from` in `source` to `to` in `target`, the directories above which are made when they are missing.
///
/// What a directory has is added to a directory that is there. Owners, modes, times and attributes are
/// copied too, but for the owners when there is an `owner`. Owners go from where the source has a container's IDs to where the
/// target has them; the directories above that are made are the container's root's.
///
/// # Errors
/// See [`CopyError`].
pub fn copy(
    source: &Tree<'_>,
    from: &Path,
    target: &Tree<'_>,
    to: &Path,
    owner: Option<Owner>,
) -> Result<(), CopyError> {
    match source.dir.open_dir_in_root(from) {
        Ok(dir) => {
            let id_maps = source.id_maps.clone();
            copy_tree(&Tree { dir: &dir, id_maps }, target, to, owner)
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            copy_file(source, from, target, to, owner)
        }
        Err(error) => Err(error.into()),
    }
}

fn copy_tree(
    source: &Tree<'_>,
    target: &Tree<'_>,
    to: &Path,
    owner: Option<Owner>,
) -> Result<(), CopyError> {
    let stat = source.dir.stat_self()?;
    let (dir, is_new) = ensure(target, to)?;
    if is_new {
        let (uid, gid) = match owner {
            Some(Owner { uid, gid }) => (uid, gid),
            None => {
                let (uid, gid) = (stat.st_uid, stat.st_gid);
                let inside = source.id_maps.to_container(uid, gid);
                inside.ok_or_else(|| unmapped(to, uid, gid))?
            }
        };
        let outside = target.id_maps.to_host(uid, gid);
        let (uid, gid) = outside.ok_or_else(|| unmapped(to, uid, gid))?;
        dir.set_owner("", uid, gid)?;
        dir.set_mode(stat.st_mode & 0o7777)?;
    }
    let options = options(source, owner);
    let write = |out: &mut dyn Write| {
        pack::pack(source.dir, out, &options)
            .map(drop)
            .map_err(CopyError::Read)
    };
    transfer(write, &dir, &target.id_maps, |entry| {
        set_owner(entry, owner)
    })
}

fn unmapped(path: &Path, uid: u32, gid: u32) -> CopyError {
    CopyError::Unmapped {
        path: path.to_owned(),
        uid,
        gid,
    }
}

/// How the source is packed: whose it was does not matter where all of it gets one owner.
fn options(source: &Tree<'_>, owner: Option<Owner>) -> pack::Options<'static> {
    pack::Options {
        id_maps: match owner {
            None => source.id_maps.clone(),
            Some(_) => IdMaps::default(),
        },
        ..pack::Options::default()
    }
}

fn copy_file(
    source: &Tree<'_>,
    from: &Path,
    target: &Tree<'_>,
    to: &Path,
    owner: Option<Owner>,
) -> Result<(), CopyError> {
    let (Some(old), Some(new)) = (from.file_name(), to.file_name()) else {
        return Err(CopyError::IsDirectory(to.to_owned()));
    };
    let options = options(source, owner);
    let source = source
        .dir
        .open_dir_in_root(from.parent().unwrap_or(Path::new("")))?;
    let (dir, _) = ensure(target, to.parent().unwrap_or(Path::new("")))?;
    let is_directory = dir
        .stat(new)?
        .is_some_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir());
    if is_directory {
        return Err(CopyError::IsDirectory(to.to_owned()));
    }
    let change = [Change {
        path: Path::new("/").join(old),
        kind: changes::Kind::Add,
    }];
    let write = |out: &mut dyn Write| {
        pack::pack_changes(&source, &change, Time::default(), out, &options)
            .map(drop)
            .map_err(CopyError::Read)
    };
    transfer(write, &dir, &target.id_maps, |entry| {
        entry.name = new.as_bytes().to_vec();
        set_owner(entry, owner);
    })
}

fn set_owner(entry: &mut Entry, owner: Option<Owner>) {
    if let Some(Owner { uid, gid }) = owner {
        entry.uid = uid.into();
        entry.gid = gid.into();
    }
}

/// Unpacks into `dir` what `write` packs, with each member changed.
fn transfer(
    write: impl FnOnce(&mut dyn Write) -> Result<(), CopyError> + Send,
    dir: &Dir,
    maps: &IdMaps,
    change: impl FnMut(&mut Entry) + Send,
) -> Result<(), CopyError> {
    let changed = |out: &mut dyn Write| -> Result<(), CopyError> {
        let read = |archive: &mut (dyn Read + Send)| {
            rewrite(archive, change, out).map_err(CopyError::Pass)
        };
        pipe::run(write, read)?;
        Ok(())
    };
    let read = |archive: &mut (dyn Read + Send)| {
        let options = unpack::Options {
            id_maps: maps.clone(),
            ..unpack::Options::new(Whiteouts::Apply)
        };
        unpack::<Vec<u8>>(archive, dir, &options, None).map_err(CopyError::Write)
    };
    pipe::run(changed, read)?;
    Ok(())
}

/// The directory `path` in `tree`, made with those above when it is missing; whether it was.
fn ensure(tree: &Tree<'_>, path: &Path) -> Result<(Dir, bool), CopyError> {
    let root = tree.dir;
    let owner = tree.id_maps.to_host(0, 0);
    let owner = owner.filter(|_| !tree.id_maps.is_identity());
    let open = |path: &Path| match root.open_dir_in_root(path) {
        Ok(dir) => Ok(Some(dir)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(CopyError::IsNoDirectory(path.to_owned()))
        }
        Err(error) => Err(error.into()),
    };
    if let Some(dir) = open(path)? {
        return Ok((dir, false));
    }
    let mut here = root.try_clone()?;
    let mut done = PathBuf::new();
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        // Resolved when what lies before it is opened.
        Component::ParentDir => Some(OsStr::new("..")),
        _ => None,
    });
    for name in names {
        done.push(name);
        here = match open(&done)? {
            Some(dir) => dir,
            None => {
                here.create_dir(name, 0o755)?;
                if let Some((uid, gid)) = owner {
                    here.set_owner(name, uid, gid)?;
                }
                here.open_dir(name)?
            }
        };
    }
    Ok((here, true))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn shell(dir: &Dir, script: &str) -> String {
        let output = Command::new("sh")
            .current_dir(dir.path())
            .args(["-ec", script])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn tree(dir: &Dir) -> Tree<'_> {
        let id_maps = IdMaps::default();
        Tree { dir, id_maps }
    }

    fn place() -> (tempfile::TempDir, Dir) {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        (folder, dir)
    }

    #[test]
    fn files_and_trees_become_what_they_shall_be_called() {
        let (_source_folder, source) = place();
        let (_folder, target) = place();
        shell(
            &source,
            "mkdir -m 750 d; echo x > d/file; chmod 4711 d/file; touch -d @5 d/file; ln d/file d/hard; \
             ln -s file d/link; chown 7:8 d",
        );
        shell(
            &target,
            "mkdir there; echo old > there/kept; echo old > there/file",
        );
        let copy = |from: &str, to: &str, owner: Option<Owner>| {
            let (from, to) = (Path::new(from), Path::new(to));
            copy(&tree(&source), from, &tree(&target), to, owner)
        };
        copy("d/file", "new/deep/name", None).unwrap();
        copy("/d", "tree", None).unwrap();
        copy("d", "/there", Some(Owner { uid: 3, gid: 4 })).unwrap();
        let listed = shell(
            &target,
            "find . -mindepth 1 -printf '%p %y %m %U:%G %n\\n' | sort; stat -c %Y new/deep/name; cat there/file",
        );
        assert_eq!(
            listed,
            "./new d 755 0:0 3\n./new/deep d 755 0:0 2\n./new/deep/name f 4711 0:0 1\n\
             ./there d 755 0:0 2\n./there/file f 4711 3:4 2\n./there/hard f 4711 3:4 2\n\
             ./there/kept f 644 0:0 1\n./there/link l 777 3:4 1\n\
             ./tree d 750 7:8 2\n./tree/file f 4711 0:0 2\n./tree/hard f 4711 0:0 2\n\
             ./tree/link l 777 0:0 1\n5\nx\n"
        );
        let fails = |from: &str, to: &str| copy(from, to, None).unwrap_err().to_string();
        assert!(fails("d/file", "there").contains("overwrite directory"));
        assert!(fails("d", "there/kept").contains("overwrite non-directory"));
        assert!(fails("nothing", "x").contains("nothing"));
    }

    #[test]
    fn links_lead_nowhere_out_of_the_trees() {
        let (folder, root) = place();
        shell(
            &root,
            "mkdir in out; echo secret > out/file; ln -s /out in/link; ln -s ../out in/up",
        );
        let inner = root.open_dir("in").unwrap();
        let (_target_folder, target) = place();
        for from in ["link/file", "up/file", "../out/file"] {
            let from = Path::new(from);
            copy(&tree(&inner), from, &tree(&target), Path::new("x"), None).unwrap_err();
        }
        let (from, to) = (Path::new(""), Path::new("link/new"));
        copy(&tree(&target), from, &tree(&inner), to, None).unwrap_err();
        assert!(!folder.path().join("out/new").exists());
    }
}
