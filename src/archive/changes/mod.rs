//! What differs between two trees, or between an overlay layer and the layers below it.
//!
//! | Module | What |
//! |---|---|
//! | `trees` | two trees, compared as they are |
//! | `overlay` | an overlay layer, by its own tree and the names in those below |
//! | `sizes` | how many bytes a tree, or what changed in it, amounts to |

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use rustix::fs::{FileType, Stat};

use crate::sys::{Dir, Error};

mod overlay;
mod sizes;
mod trees;

pub use overlay::overlay;
pub use sizes::{size, size_of};
pub use trees::{Tree, between};

/// How a path differs; the numbers are those of Go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// It is in both and differs, or something below it does.
    Modify = 0,
    /// It is only in the new tree.
    Add = 1,
    /// It is only in the old tree.
    Delete = 2,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Modify => "C",
            Self::Add => "A",
            Self::Delete => "D",
        })
    }
}

/// One path that differs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    /// The path, absolute in the tree.
    pub path: PathBuf,
    /// How it differs.
    pub kind: Kind,
}

/// Displays as `C /path`.
impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.kind, self.path.display())
    }
}

fn sorted(dir: &Dir) -> Result<Vec<OsString>, Error> {
    let mut names: Vec<OsString> = dir.list()?.into_iter().map(|entry| entry.name).collect();
    names.sort_unstable();
    Ok(names)
}

fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Equal, or as equal as a file system without nanoseconds leaves them.
fn is_same_time(old: &Stat, new: &Stat) -> bool {
    old.st_mtime == new.st_mtime
        && (old.st_mtime_nsec == new.st_mtime_nsec
            || old.st_mtime_nsec == 0
            || new.st_mtime_nsec == 0)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn place(script: &str) -> (tempfile::TempDir, Dir) {
        let folder = tempfile::tempdir().unwrap();
        let status = Command::new("sh")
            .current_dir(folder.path())
            .args(["-ec", script])
            .status();
        assert!(status.unwrap().success());
        let dir = Dir::open(folder.path()).unwrap();
        (folder, dir)
    }

    fn text(changes: &[Change]) -> Vec<String> {
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn two_trees_are_compared_by_what_a_reader_sees() {
        let (_folder, dir) = place(
            "mkdir -p old/a/deep old/b/gone old/same; echo 1 > old/a/deep/file; echo 2 > old/kept; \
             echo 3 > old/b/gone/x; ln -s one old/link; echo 4 > old/kind; echo 5 > old/owner; \
             find old -exec touch -hd @1000.5 {} +; cp -a old new; \
             echo 11 > new/a/deep/file; rm -r new/b/gone; ln -sfn two new/link; \
             rm new/kind; mkdir new/kind; touch -d @1000.5 new/a new/b; touch new/kind/x; chown 5 new/owner; mkdir new/z; \
             touch new/z/z; touch -hd @1000.5 new/link; touch -d @2000 new/same new/a/deep; \
             ln old/kept new/hard; touch -d @1000 new/kept",
        );
        let (old, new) = (dir.open_dir("old").unwrap(), dir.open_dir("new").unwrap());
        let changes = between(Some(&Tree::new(&old)), &Tree::new(&new)).unwrap();
        let expected = [
            "C /a",
            "C /a/deep",
            "C /a/deep/file",
            "C /b",
            "D /b/gone",
            "A /hard",
            "C /kind",
            "A /kind/x",
            "C /link",
            "C /owner",
            "C /same",
            "A /z",
            "A /z/z",
        ];
        assert_eq!(text(&changes), expected);
        assert_eq!(size_of(&new, &changes).unwrap(), 3 + 2 + 3 + 2);
        assert_eq!(between(None, &Tree::new(&new)).unwrap().len(), 13);
        assert_eq!(
            between(Some(&Tree::new(&new)), &Tree::new(&new)).unwrap(),
            []
        );
    }

    #[test]
    fn attributes_count_as_contents() {
        let (_folder, dir) = place("mkdir old new; touch -d @1 old/f new/f");
        let (old, new) = (dir.open_dir("old").unwrap(), dir.open_dir("new").unwrap());
        let compare = || between(Some(&Tree::new(&old)), &Tree::new(&new)).unwrap();
        assert_eq!(compare(), []);
        new.set_attribute("f", b"user.a", b"1").unwrap();
        assert_eq!(text(&compare()), ["C /f"]);
        old.set_attribute("f", b"user.a", b"1").unwrap();
        assert_eq!(compare(), []);
    }

    #[test]
    fn an_overlay_layer_is_compared_without_a_mount() {
        let (_folder, dir) = place(
            "mkdir -p far/d/e far/gone far/o near upper/d/e upper/new upper/o upper/gone; \
             touch far/d/e/f far/d/untouched far/x upper/d/e/f upper/d/e/g upper/o/n; \
             mknod near/gone c 0 0; mknod upper/x c 0 0; touch -d @5 far/d upper/d far/d/e upper/d/e",
        );
        let upper = dir.open_dir("upper").unwrap();
        let opaque = upper.open_dir("o").unwrap();
        opaque
            .set_attribute("", b"trusted.overlay.opaque", b"y")
            .unwrap();
        let lowers = [dir.open_dir("near").unwrap(), dir.open_dir("far").unwrap()];
        let changes = overlay(&upper, &lowers).unwrap();
        let expected = [
            "C /d/e/f", "C /d", "C /d/e", "A /d/e/g", "A /gone", "A /new", "D /o", "A /o/n", "D /x",
        ];
        assert_eq!(text(&changes), expected);
    }

    #[test]
    fn sizes_count_each_inode_once() {
        let (_folder, dir) = place("mkdir d; echo hello > d/f; ln d/f g; ln -s abc l");
        assert_eq!(size(&dir).unwrap(), 9);
    }
}
