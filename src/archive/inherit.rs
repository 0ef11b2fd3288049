//! Directories that a layer's archive left out look as those below them do.
//!
//! An archive may have `tmp/file` and nothing about `tmp/`. The directory that the file is in would hide the one of the
//! layers below, with its sticky bit and its owner, though nobody meant to change it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::FileType;

use super::Whiteouts;
use super::id_shift::Shift;
use super::lowers::{Lowers, is_opaque, is_opaque_to_programs};
use super::names;
use super::override_stat;
use crate::sys::{Dir, Error, tree};

/// How it is done.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the layer's deletions are; overlay's own attributes stay where they are.
    pub whiteouts: Whiteouts,
    /// From the owners of the layers below to those of this one.
    pub shift: Shift,
    /// Goes on when an owner can't be set.
    pub ignore_chown_errors: bool,
    /// The mode that the directories have on disk, whatever they are meant to be.
    pub force_mask: Option<u32>,
}

impl Options {
    fn apply(&self, from: &Dir, to: &Dir) -> Result<(), Error> {
        let stat = from.stat_self()?;
        if let Some(mask) = self.force_mask {
            let forced = (mask, &self.shift);
            return override_stat::describe(from, to, OsStr::new(""), &stat, forced, |key| {
                self.whiteouts.reserves(key)
            });
        }
        let (user, group) = (self.shift.user(stat.st_uid), self.shift.group(stat.st_gid));
        match to.set_owner("", user, group) {
            Err(error) if self.ignore_chown_errors => {
                tracing::warn!(%error, "a directory that a layer implies is not of the owner below");
            }
            result => result?,
        }
        tree::describe(from, to, OsStr::new(""), &stat, |key, value| {
            (!self.whiteouts.reserves(key)).then(|| self.shift.attribute(key, value))
        })
    }
}

/// Gives the directories `implied` of an overlay layer's contents the owner, mode, attributes and times that a reader
/// finds there in `lowers`, nearest first. Where nothing is below they stay as they are.
///
/// # Errors
/// When a directory can't be read or changed.
pub fn inherit(
    contents: &Dir,
    implied: &[Vec<u8>],
    lowers: &[Dir],
    options: &Options,
) -> Result<(), Error> {
    let lowers = Lowers {
        dirs: lowers,
        has_files: options.whiteouts == Whiteouts::Files,
    };
    // Where the last name has led: each step, and which layers have a directory there.
    let mut way: Vec<(&[u8], Vec<usize>)> = Vec::new();
    for name in implied {
        let steps: Vec<&[u8]> = name.split(|byte| *byte == b'/').collect();
        let common = way
            .iter()
            .zip(&steps)
            .take_while(|((known, _), step)| known == *step);
        let common = common.count();
        way.truncate(common);
        let mut here = steps[..common].join(&b'/');
        for step in &steps[common..] {
            let above = match way.last() {
                None => lowers.all(),
                Some((_, below)) => below.clone(),
            };
            let below = if above.is_empty() || hides_lowers(contents, &here, lowers.has_files)? {
                Vec::new()
            } else {
                let last = OsStr::from_bytes(step).to_owned();
                below(lowers, &here, &above, last)?
            };
            way.push((step, below));
            here = names::join(&here, step);
        }
        let Some(nearest) = way.last().and_then(|(_, below)| below.first()) else {
            continue;
        };
        let path = path(name);
        let (Some(to), Some(from)) = (
            contents.find_dir(path)?,
            lowers.dirs[*nearest].find_dir(path)?,
        ) else {
            continue;
        };
        options.apply(&from, &to)?;
    }
    Ok(())
}

/// Which layers have a directory `last` in the directory `path` that a reader finds.
fn below(
    lowers: Lowers<'_>,
    here: &[u8],
    above: &[usize],
    last: OsString,
) -> Result<Vec<usize>, Error> {
    let found = lowers.find(path(here), above, &[last])?.pop();
    Ok(found
        .filter(|found| {
            found
                .stat
                .is_some_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir())
        })
        .map(|found| found.below)
        .unwrap_or_default())
}

/// True when nothing of what is below the layer's own directory shows through.
fn hides_lowers(contents: &Dir, name: &[u8], has_files: bool) -> Result<bool, Error> {
    if name.is_empty() {
        return Ok(false);
    }
    match contents.find_dir(path(name))? {
        Some(dir) if has_files => is_opaque_to_programs(&dir),
        Some(dir) => is_opaque(&dir),
        None => Ok(true),
    }
}

fn path(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::process::Command;

    use super::*;
    use crate::archive::id_shift::{IdMaps, IdRange};
    use crate::archive::unpack::{self, unpack};

    const OVERLAY: Whiteouts = Whiteouts::Overlay {
        user_attributes: false,
    };

    fn shell(dir: &Path, script: &str) {
        let mut command = Command::new("sh");
        let status = command.current_dir(dir).args(["-ec", script]).status();
        assert!(status.unwrap().success(), "{script}");
    }

    /// A folder with a directory for each layer.
    struct Place {
        folder: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self { folder }
        }

        fn layer(&self, name: &str, script: &str) -> Dir {
            let path = self.folder.path().join(name);
            std::fs::create_dir(&path).unwrap();
            shell(&path, script);
            Dir::open(path).unwrap()
        }

        /// A layer of the members that GNU tar makes of `names`, in a tree that `script` makes.
        fn unpacked(
            &self,
            script: &str,
            names: &str,
            options: &unpack::Options,
        ) -> (Dir, Vec<Vec<u8>>) {
            self.layer("source", script);
            shell(
                self.folder.path(),
                &format!("tar -cf archive -C source {names}"),
            );
            let archive = std::fs::read(self.folder.path().join("archive")).unwrap();
            let upper = self.layer("upper", "true");
            let summary = unpack::<Vec<u8>>(&*archive, &upper, options, None).unwrap();
            (upper, summary.implied)
        }

        /// Mode, owner and time in seconds of a name in the upper layer.
        fn seen(&self, name: &str) -> (u32, (u32, u32), i64) {
            let path = self.folder.path().join("upper").join(name);
            let found = std::fs::symlink_metadata(path).unwrap();
            (
                found.mode() & 0o7777,
                (found.uid(), found.gid()),
                found.mtime(),
            )
        }
    }

    fn options() -> Options {
        Options {
            whiteouts: OVERLAY,
            shift: Shift::default(),
            ignore_chown_errors: false,
            force_mask: None,
        }
    }

    fn names(names: &[&str]) -> Vec<Vec<u8>> {
        names.iter().map(|name| name.as_bytes().to_vec()).collect()
    }

    #[test]
    fn a_directory_without_an_entry_is_as_below_it() {
        let place = Place::new();
        let lowest = place.layer(
            "lowest",
            "mkdir -m 1777 tmp; mkdir -m 750 -p srv srv/deep; chown 5:6 srv; \
             touch -d @1000000000 tmp srv/deep srv",
        );
        for (key, value) in [("user.a", "1"), ("trusted.overlay.opaque", "y")] {
            let (key, value) = (key.as_bytes(), value.as_bytes());
            lowest.set_attribute("srv", key, value).unwrap();
        }
        let middle = place.layer("middle", "mkdir -m 700 tmp; touch -d @1100000000 tmp");
        let (upper, implied) = place.unpacked(
            "mkdir -p tmp srv/deep new/below; touch tmp/file srv/deep/.wh.gone; \
             touch -d @1200000000 new/below/file",
            "tmp/file srv/deep/.wh.gone new/below/file",
            &unpack::Options::new(OVERLAY),
        );
        assert_eq!(
            implied,
            names(&["new", "new/below", "srv", "srv/deep", "tmp"])
        );
        inherit(&upper, &implied, &[middle, lowest], &options()).unwrap();
        assert_eq!(place.seen("tmp"), (0o700, (0, 0), 1_100_000_000));
        assert_eq!(place.seen("srv"), (0o750, (5, 6), 1_000_000_000));
        assert_eq!(place.seen("srv/deep"), (0o750, (0, 0), 1_000_000_000));
        // Nothing is below: it is root's, and as old as what it was made for.
        for name in ["new", "new/below"] {
            assert_eq!(place.seen(name), (0o755, (0, 0), 1_200_000_000), "{name}");
        }
        let srv = upper.open_dir("srv").unwrap();
        assert_eq!(srv.attribute("", b"user.a").unwrap().unwrap(), b"1");
        let opaque = srv.attribute("", b"trusted.overlay.opaque").unwrap();
        assert_eq!(opaque, None);
    }

    #[test]
    fn what_is_deleted_or_hidden_on_the_way_is_not_below() {
        let place = Place::new();
        let lowest = place.layer(
            "lowest",
            "mkdir -p -m 700 gone/x opaque/x file own/x; chmod 700 gone opaque own",
        );
        let middle = place.layer("middle", "mknod gone c 0 0; mkdir opaque; touch file");
        middle
            .set_attribute("opaque", b"trusted.overlay.opaque", b"y")
            .unwrap();
        let (upper, implied) = place.unpacked(
            "mkdir -p gone/x opaque/x file own/x; touch gone/x/1 opaque/x/1 file/1 own/.wh..wh..opq own/x/1",
            "gone/x/1 opaque/x/1 file/1 own/.wh..wh..opq own/x/1",
            &unpack::Options::new(OVERLAY),
        );
        inherit(&upper, &implied, &[middle, lowest], &options()).unwrap();
        let mode = |name: &str| place.seen(name).0;
        let modes = [
            "gone", "gone/x", "opaque", "opaque/x", "file", "own", "own/x",
        ]
        .map(mode);
        assert_eq!(modes, [0o755, 0o755, 0o755, 0o755, 0o755, 0o700, 0o755]);
        assert!(is_opaque(&upper.open_dir("own").unwrap()).unwrap());
    }

    #[test]
    fn owners_below_are_moved_to_the_layers_own() {
        let place = Place::new();
        let lower = place.layer("lower", "mkdir a; chown 3:4 a");
        let range = IdRange {
            container: 0,
            host: 100_000,
            size: 10,
        };
        let maps = IdMaps {
            uids: vec![range],
            gids: vec![range],
        };
        let (upper, implied) = place.unpacked(
            "mkdir a b; touch a/1 b/1",
            "a/1 b/1",
            &unpack::Options {
                id_maps: maps.clone(),
                ..unpack::Options::new(OVERLAY)
            },
        );
        let options = Options {
            shift: Shift {
                from: IdMaps::default(),
                to: maps,
            },
            ..options()
        };
        inherit(&upper, &implied, &[lower], &options).unwrap();
        assert_eq!(place.seen("a").1, (100_003, 100_004));
        assert_eq!(place.seen("b").1, (100_000, 100_000));
    }

    #[test]
    fn a_directory_that_is_there_keeps_its_times() {
        for whiteouts in [OVERLAY, Whiteouts::Apply] {
            let place = Place::new();
            let upper = place.layer(
                "tree",
                "mkdir -p -m 700 a/b c; touch c/gone; ln -s a/b link; touch -d @1000000000 a/b a c .",
            );
            shell(
                place.folder.path(),
                "mkdir -p s/a/b/new s/c s/link; touch s/a/b/1 s/c/.wh.gone s/link/2; \
                 touch -d @1300000000 s/a/b/new; \
                 tar --no-recursion -cf archive -C s a/b/1 a/b/new c/.wh.gone link/2",
            );
            let archive = std::fs::read(place.folder.path().join("archive")).unwrap();
            let options = unpack::Options::new(whiteouts);
            let summary = unpack::<Vec<u8>>(&*archive, &upper, &options, None).unwrap();
            assert_eq!(summary.implied, names(&[]));
            for name in ["", "a", "a/b", "c"] {
                let found = std::fs::metadata(upper.path().join(name)).unwrap();
                assert_eq!(found.mtime(), 1_000_000_000, "{name}");
            }
            let kept = std::fs::metadata(upper.path().join("a/b")).unwrap();
            assert_eq!(kept.mode() & 0o7777, 0o700);
            let new = std::fs::metadata(upper.path().join("a/b/new")).unwrap();
            assert_eq!(new.mtime(), 1_300_000_000);
        }
    }
}
