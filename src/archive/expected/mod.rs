//! [`Expected`]: what a tree must be after archives were unpacked into it, and how it differs.
//!
//! Contents are for checksums; here it is what headers say: which names there are, and their kind, owner, mode, size and
//! time. What no header says, as the owner of a directory that an archive implies, is not looked at.
//!
//! | File | What |
//! |---|---|
//! | `compare` | a tree against it |

mod compare;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use rustix::fs::FileType;

use super::names;
use super::tar::{Entry, Kind};
pub use compare::Found;

/// As the kernel: more links on one path are a loop.
const MAX_LINKS: usize = 40;

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

/// What deletions have left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletions {
    /// What they delete is gone.
    Applied,
    /// Overlay's marks: 0/0 devices, and attributes of directories.
    Marks,
    /// These or files that are called as the deletions in archives, as mount programs read both.
    MarksOrFiles,
}

/// Which parts of the headers hold for the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holds {
    /// What deletions have left.
    pub deletions: Deletions,
    /// Owners are those of the headers.
    pub owners: bool,
    /// Times are; not where files of several layers are one.
    pub times: bool,
    /// Files are what [`override_stat`](super::override_stat) says that they are meant to be. Links, which have no such attribute, have any
    /// owner.
    pub overrides: bool,
}

/// What a tree must be.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    names: BTreeMap<Vec<u8>, Attributes>,
    /// Directories of which nothing below may show through.
    opaque: BTreeSet<Vec<u8>>,
    /// What the same archive deletes and brings: the deletion is about what lies below, and its file may be there.
    deleted_below: BTreeSet<Vec<u8>>,
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
        if let Some(deleted) = last.strip_prefix(b".wh.") {
            return self.delete(parent, deleted, holds);
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
            modified: Some(entry.modified.seconds).filter(|_| holds.times),
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
            self.opaque.remove(&name);
        }
        self.put(name, attributes);
    }

    fn put(&mut self, name: Vec<u8>, attributes: Attributes) {
        let old = self.names.insert(name.clone(), attributes);
        if old.is_some_and(|old| old.what == What::Whiteout) {
            self.deleted_below.insert(name);
        }
    }

    /// A deletion: of one name, or of all that earlier archives have in `parent`.
    fn delete(&mut self, parent: &[u8], name: &[u8], holds: Holds) {
        if name.starts_with(b".wh.") {
            // Marks other than that of an opaque directory are old tools' own.
            match holds.deletions {
                _ if name != b".wh..opq" => {}
                Deletions::Applied => self.remove_below(parent, self.layers),
                Deletions::Marks | Deletions::MarksOrFiles => {
                    self.opaque.insert(parent.to_vec());
                }
            }
            return self.imply(parent);
        }
        let name = names::join(parent, name);
        self.imply(parent);
        if holds.deletions == Deletions::Applied {
            self.remove_below(&name, self.layers);
            let is_older = |found: &Attributes| found.layer < self.layers;
            if self.names.get(&name).is_some_and(is_older) {
                self.names.remove(&name);
            }
            return;
        }
        match self.names.get(&name).map(|found| found.what) {
            None | Some(What::Whiteout) => {
                let whiteout = Attributes::unsaid(What::Whiteout, self.layers);
                self.names.insert(name, whiteout);
            }
            // It came with this archive, and a deletion is about what lies below.
            Some(what) => {
                if what == What::Is(FileType::Directory) {
                    self.opaque.insert(name.clone());
                }
                self.deleted_below.insert(name);
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
                self.put(name.to_vec(), Attributes::unsaid(directory, self.layers));
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
}
