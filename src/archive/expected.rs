//! [`Expected`]: what a tree must be after archives were unpacked into it, and how it differs.
//!
//! Contents are for checksums; here it is what headers say: which names there are, and their kind, owner, mode, size and
//! time. What no header says, as the owner of a directory that an archive implies, is not looked at.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Stat};

use super::lowers::is_whiteout;
use super::names;
use super::override_stat;
use super::tar::{Entry, Kind};
use crate::sys::{Cursor, Dir, Error};

/// As the kernel: more links on one path are a loop.
const MAX_LINKS: usize = 40;

/// With what the name of a deletion begins in an archive.
const MARK: &[u8] = b".wh.";

/// What must be under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Attributes {
    what: What,
    uid: Option<i64>,
    gid: Option<i64>,
    mode: Option<u32>,
    size: Option<u64>,
    modified: Option<i64>,
    /// Where a symbolic link points.
    target: Vec<u8>,
    /// Which archive it is from.
    layer: usize,
}

/// What is under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Whiteout,
    Is(FileType),
    /// Something: which hard link's target it is, no archive says.
    Anything,
}

/// Which parts of the headers hold for the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holds {
    /// Deletions leave overlay's marks; else what they delete is gone.
    pub whiteouts: bool,
    /// Owners are those of the headers.
    pub owners: bool,
    /// Files are what [`override_stat`] says that they are meant to be. Links, which have no such attribute, have any
    /// owner.
    pub overrides: bool,
}

/// What a tree must be.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    names: BTreeMap<Vec<u8>, Attributes>,
    /// What archives call their deletions.
    marks: HashSet<Vec<u8>>,
    layers: usize,
}

impl Expected {
    /// Begins another archive over those before: its deletions are for what they brought.
    pub fn begin_archive(&mut self) {
        self.layers += 1;
    }

    /// Takes in a member of the archive.
    pub fn add(&mut self, entry: &Entry, holds: Holds) {
        let what = match entry.kind {
            Kind::Regular => What::Is(FileType::RegularFile),
            Kind::HardLink => What::Anything,
            Kind::Symlink => What::Is(FileType::Symlink),
            Kind::CharDevice => What::Is(FileType::CharacterDevice),
            Kind::BlockDevice => What::Is(FileType::BlockDevice),
            Kind::Directory => What::Is(FileType::Directory),
            Kind::Fifo => What::Is(FileType::Fifo),
            Kind::GlobalHeader | Kind::Other(_) => return,
        };
        let name = self.resolve(&names::confine(&entry.name));
        let (parent, last) = names::split(&name);
        if name.is_empty() {
            return;
        }
        if let Some(deleted) = last.strip_prefix(MARK) {
            self.delete(parent, deleted, holds);
            if holds.whiteouts {
                self.marks.insert(name);
            }
            return;
        }
        self.imply(parent);
        let is_link = what == What::Is(FileType::Symlink);
        let has_owner = holds.owners && !(holds.overrides && is_link);
        let mut attributes = Attributes {
            what,
            uid: Some(entry.uid).filter(|_| has_owner),
            gid: Some(entry.gid).filter(|_| has_owner),
            // The kernel has no modes of links.
            mode: Some(entry.mode & 0o7777).filter(|_| !is_link),
            size: Some(entry.size).filter(|_| entry.kind == Kind::Regular),
            modified: Some(entry.modified.seconds),
            target: entry.link.clone(),
            layer: self.layers,
        };
        if entry.kind == Kind::HardLink {
            let target = self.resolve(&names::confine(&entry.link));
            attributes = match self.names.get(&target) {
                Some(first) => Attributes {
                    layer: self.layers,
                    ..first.clone()
                },
                None => Attributes::unsaid(What::Anything, self.layers),
            };
        }
        if what != What::Is(FileType::Directory) {
            self.remove_below(&name, usize::MAX);
        }
        self.names.insert(name, attributes);
    }

    /// A deletion: of one name, or of all that earlier archives have in `parent`.
    fn delete(&mut self, parent: &[u8], name: &[u8], holds: Holds) {
        if name.starts_with(MARK) {
            // Marks other than that of an opaque directory are old tools' own.
            if name == b".wh..opq" && !holds.whiteouts {
                self.remove_below(parent, self.layers);
            }
            return self.imply(parent);
        }
        let name = names::join(parent, name);
        self.imply(parent);
        if holds.whiteouts {
            self.names
                .insert(name, Attributes::unsaid(What::Whiteout, self.layers));
        } else {
            self.remove_below(&name, self.layers);
            let is_older = |found: &Attributes| found.layer < self.layers;
            if self.names.get(&name).is_some_and(is_older) {
                self.names.remove(&name);
            }
        }
    }

    /// What is below `name` and from an archive before `layer` goes.
    fn remove_below(&mut self, name: &[u8], layer: usize) {
        let mut prefix = name.to_vec();
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        let below = self.names.range(prefix.clone()..);
        let gone: Vec<Vec<u8>> = below
            .take_while(|(found, _)| found.starts_with(&prefix))
            .filter(|(_, attributes)| attributes.layer < layer)
            .map(|(found, _)| found.clone())
            .collect();
        for name in gone {
            self.names.remove(&name);
        }
    }

    /// The directories above a member are there, though the archive may not say what they are; it
    /// changes their time.
    fn imply(&mut self, name: &[u8]) {
        if name.is_empty() {
            return;
        }
        match self.names.get_mut(name) {
            Some(known) if known.what == What::Is(FileType::Directory) => {
                if known.layer < self.layers {
                    known.modified = None;
                }
            }
            _ => {
                let directory = What::Is(FileType::Directory);
                self.names
                    .insert(name.to_vec(), Attributes::unsaid(directory, self.layers));
                self.imply(names::split(name).0);
            }
        }
    }

    /// The name without symbolic links among its parents.
    fn resolve(&self, name: &[u8]) -> Vec<u8> {
        let mut name = name.to_vec();
        for _ in 0..MAX_LINKS {
            let ends = name.iter().enumerate().filter(|(_, byte)| **byte == b'/');
            let link = ends.map(|(end, _)| end).find_map(|end| {
                let found = self.names.get(&name[..end])?;
                (found.what == What::Is(FileType::Symlink)).then_some((end, found))
            });
            let Some((end, link)) = link else {
                break;
            };
            let from: &[u8] = match link.target.starts_with(b"/") {
                true => b"",
                false => names::split(&name[..end]).0,
            };
            let whole = [from, b"/", &link.target, &name[end..]].concat();
            name = names::confine(&whole);
        }
        name
    }

    /// True for a deletion that is a file as in its archive, which peers with a mount program make of it; its mark of
    /// overlay's is then none of what is `left`.
    fn is_mark(&self, name: &[u8], left: &mut BTreeMap<&[u8], &Attributes>) -> bool {
        if !self.marks.contains(name) {
            return false;
        }
        let (parent, mark) = names::split(name);
        let deleted = names::join(parent, mark.strip_prefix(MARK).unwrap_or_default());
        let found = left.get(deleted.as_slice());
        if found.is_some_and(|found| found.what == What::Whiteout) {
            left.remove(deleted.as_slice());
        }
        true
    }

    /// How `root` differs, a line each: `-/name` is missing, `+/name` is too many, `/name(mode:0644￫0600)` is another.
    ///
    /// # Errors
    /// When the tree can't be read.
    pub fn compare(&self, root: &Dir, holds: Holds) -> Result<Vec<String>, Error> {
        let mut lines = Vec::new();
        let mut left: BTreeMap<&[u8], &Attributes> = self
            .names
            .iter()
            .map(|(name, attributes)| (name.as_slice(), attributes))
            .collect();
        let mut cursor = Cursor::new(root);
        let mut levels = vec![names_in(root)?];
        while let Some(level) = levels.last_mut() {
            let next = level.next();
            let (Some(last), Some(dir)) = (next, cursor.dir()?) else {
                levels.pop();
                cursor.leave();
                continue;
            };
            let Some(mut stat) = dir.stat(&last)? else {
                continue;
            };
            if holds.overrides {
                stat = override_stat::meant(dir, &last, stat)?;
            }
            let name = names::join(cursor.path().as_os_str().as_bytes(), last.as_bytes());
            if self.is_mark(&name, &mut left) {
                continue;
            }
            let Some(expected) = left.remove(name.as_slice()) else {
                lines.push(format!("+{}", shown(&name)));
                continue;
            };
            let changes = expected.compare(&stat);
            if !changes.is_empty() {
                lines.push(format!("{}({})", shown(&name), changes.join(",")));
            }
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory
                && cursor.enter(&last)?
            {
                let below = match cursor.dir()? {
                    Some(dir) => names_in(dir)?,
                    None => Vec::new().into_iter(),
                };
                levels.push(below);
            }
        }
        let mut missing: Vec<&[u8]> = Vec::new();
        for name in left.into_keys() {
            let is_told = |above: &&[u8]| {
                name.strip_prefix(*above)
                    .is_some_and(|rest| rest.starts_with(b"/"))
            };
            if missing.last().is_some_and(is_told) {
                continue;
            }
            lines.push(format!("-{}", shown(name)));
            missing.push(name);
        }
        Ok(lines)
    }
}

fn names_in(dir: &Dir) -> Result<std::vec::IntoIter<std::ffi::OsString>, Error> {
    let mut names: Vec<_> = dir.list()?.into_iter().map(|entry| entry.name).collect();
    names.sort_unstable();
    Ok(names.into_iter())
}

fn shown(name: &[u8]) -> String {
    format!("/{}", OsStr::from_bytes(name).display())
}

impl Attributes {
    /// Something of which no header says more.
    fn unsaid(what: What, layer: usize) -> Self {
        Self {
            what,
            uid: None,
            gid: None,
            mode: None,
            size: None,
            modified: None,
            target: Vec::new(),
            layer,
        }
    }

    /// What differs, in the peer's words.
    fn compare(&self, stat: &Stat) -> Vec<String> {
        let mut changes = Vec::new();
        let found = FileType::from_raw_mode(stat.st_mode);
        let expected = match self.what {
            What::Whiteout if is_whiteout(stat) => return changes,
            What::Whiteout => "whiteout",
            What::Is(kind) if kind == found => "",
            What::Is(kind) => word(kind),
            What::Anything => "",
        };
        if !expected.is_empty() {
            changes.push(format!("filetype:{expected}￫{}", word(found)));
            return changes;
        }
        let mut compare = |what: &str, old: Option<i64>, new: i64, show: fn(i64) -> String| {
            if let Some(old) = old
                && old != new
            {
                changes.push(format!("{what}:{}￫{}", show(old), show(new)));
            }
        };
        let plain = |number: i64| number.to_string();
        compare("uid", self.uid, stat.st_uid.into(), plain);
        compare("gid", self.gid, stat.st_gid.into(), plain);
        let size = self.size.and_then(|size| i64::try_from(size).ok());
        compare("size", size, stat.st_size, plain);
        let mode = i64::from(stat.st_mode & 0o7777);
        compare("mode", self.mode.map(i64::from), mode, |mode| {
            format!("{mode:04o}")
        });
        compare("mtime", self.modified, stat.st_mtime, |time| {
            format!("{time:#x}")
        });
        changes
    }
}

fn word(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "regular",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        FileType::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::archive::pack;
    use crate::archive::tar::Reader;
    use crate::archive::unpack::{self, Whiteouts, unpack};

    const HOLDS: Holds = Holds {
        whiteouts: false,
        owners: true,
        overrides: false,
    };

    fn shell(dir: &Dir, script: &str) {
        let mut command = Command::new("sh");
        let status = command
            .current_dir(dir.path())
            .args(["-ec", script])
            .status();
        assert!(status.unwrap().success());
    }

    fn place() -> (tempfile::TempDir, Dir) {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        (folder, dir)
    }

    fn take_in(expected: &mut Expected, archive: &[u8], holds: Holds) {
        expected.begin_archive();
        let mut reader = Reader::new(archive);
        while let Some(entry) = reader.next_entry().unwrap() {
            expected.add(&entry, holds);
        }
    }

    #[test]
    fn an_unpacked_tree_is_as_expected_and_each_change_is_told() {
        let (_source_folder, source) = place();
        shell(
            &source,
            "mkdir -p a/deep b; echo x > a/file; ln a/file b/hard; ln -s file a/link; mkfifo b/fifo; \
             chmod 4711 a/file; touch -d @1600000000 a/file a/deep",
        );
        let archive = pack::pack(&source, Vec::new(), &pack::Options::default()).unwrap();
        let (_folder, target) = place();
        let options = unpack::Options::new(Whiteouts::Apply);
        unpack::<Vec<u8>>(&*archive, &target, &options, None).unwrap();
        let mut expected = Expected::default();
        take_in(&mut expected, &archive, HOLDS);
        assert_eq!(
            expected.compare(&target, HOLDS).unwrap(),
            Vec::<String>::new()
        );
        shell(
            &target,
            "chmod 600 a/file; chown 5:6 b; rm -r a/deep; rm a/link; mkdir a/link; touch a/more; \
             touch -d @5 a b/fifo; touch -d @1600000000 a/file",
        );
        let told = expected.compare(&target, HOLDS).unwrap();
        let time_of = |name: &str| source.stat(name).unwrap().unwrap().st_mtime;
        assert_eq!(
            told,
            [
                format!("/a(mtime:{:#x}￫0x5)", time_of("a")),
                "/a/file(mode:4711￫0600)".to_owned(),
                "/a/link(filetype:symlink￫directory)".to_owned(),
                "+/a/more".to_owned(),
                "/b(uid:0￫5,gid:0￫6)".to_owned(),
                format!("/b/fifo(mtime:{:#x}￫0x5)", time_of("b/fifo")),
                "/b/hard(mode:4711￫0600)".to_owned(),
                "-/a/deep".to_owned(),
            ]
        );
    }

    #[test]
    fn archives_over_each_other_leave_what_the_last_one_says() {
        let (_first_folder, first) = place();
        shell(
            &first,
            "mkdir -p a/b c; echo 1 > a/b/old; echo 2 > c/gone; echo 3 > c/kept",
        );
        let first = pack::pack(&first, Vec::new(), &pack::Options::default()).unwrap();
        let (_second_folder, second) = place();
        shell(
            &second,
            "mkdir -p a/b c; touch c/.wh.gone a/b/.wh..wh..opq; echo 4 > a/b/new",
        );
        let second = pack::pack(&second, Vec::new(), &pack::Options::default()).unwrap();
        let (_folder, target) = place();
        let options = unpack::Options::new(Whiteouts::Apply);
        let mut expected = Expected::default();
        for archive in [&first, &second] {
            unpack::<Vec<u8>>(&**archive, &target, &options, None).unwrap();
            take_in(&mut expected, archive, HOLDS);
        }
        assert_eq!(
            expected.compare(&target, HOLDS).unwrap(),
            Vec::<String>::new()
        );
        let found: Vec<_> = expected.names.keys().map(|name| shown(name)).collect();
        assert_eq!(found, ["/a", "/a/b", "/a/b/new", "/c", "/c/kept"]);
    }

    /// What containers-storage leaves where it has a mount program.
    #[test]
    fn deletions_may_be_the_files_that_archives_have() {
        let holds = Holds {
            whiteouts: true,
            ..HOLDS
        };
        let (_folder, source) = place();
        shell(&source, "mkdir a b; touch a/.wh.gone b/.wh..wh..opq b/new");
        let archive = pack::pack(&source, Vec::new(), &pack::Options::default()).unwrap();
        let mut expected = Expected::default();
        take_in(&mut expected, &archive, holds);
        assert_eq!(
            expected.compare(&source, holds).unwrap(),
            Vec::<String>::new()
        );
        shell(
            &source,
            "rm a/.wh.gone; touch a/.wh.other b/.wh.new; touch -r b/new a",
        );
        let told = expected.compare(&source, holds).unwrap();
        let told: Vec<_> = told.iter().filter(|line| !line.contains("mtime")).collect();
        assert_eq!(told, ["+/a/.wh.other", "+/b/.wh.new", "-/a/gone"]);
    }
}
