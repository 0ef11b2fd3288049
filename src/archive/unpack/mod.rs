//! Unpacking a layer: one pass over an archive that fills a directory and writes the recipe.
//!
//! Names never lead out of the directory: they are cleaned first, parents are resolved by the kernel with the
//! directory as their root, and last components are never followed. What a layer may not bring (a
//! device that would be a whiteout, overlay's own attributes, owners that don't fit) is refused or left
//! out here, whatever made the archive.
//!
//! | Module | What |
//! |---|---|
//! | `member` | making one member |
//! | `filling` | what files get once they are open, on a thread of its own |
//! | `attributes` | owners and extended attributes |
//! | `forced` | what members are meant to be, where modes and owners are forced |
//! | `directories` | their times at the end, and which the archive leaves out |
//! | `parents` | the directories that members lie in, kept open |
//! | `whiteout` | deletions: kept as overlay's marks, or carried out |

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::Timespec;

use super::id_shift::IdMaps;
use super::names::{self, NameSet};
use super::tar::{self, Entry, Kind, Time};
use super::tar_split;
use crate::sys::{self, Dir};
use filling::Filler;
use parents::Parents;

mod attributes;
mod directories;
mod filling;
mod forced;
mod member;
mod parents;
#[cfg(test)]
mod tests;
mod whiteout;

/// What becomes of the deletions in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whiteouts {
    /// They become overlay's marks: 0/0 devices and the attribute `opaque`.
    Overlay {
        /// The attribute is `user.overlay.opaque` instead of `trusted.overlay.opaque`.
        user_attributes: bool,
    },
    /// They stay files, as they are in the archive: what a mount program, as fuse-overlayfs, reads.
    Files,
    /// They are carried out: the directory holds the whole tree.
    Apply,
}

impl Whiteouts {
    /// True for an attribute that belongs to overlay alone: a layer may not bring it.
    pub(super) fn reserves(self, key: &[u8]) -> bool {
        let uses_user_attributes = matches!(
            self,
            Self::Overlay {
                user_attributes: true,
            }
        );
        key.starts_with(b"trusted.overlay.")
            || self == Self::Files && key.starts_with(b"user.fuseoverlayfs.")
            || uses_user_attributes && key.starts_with(b"user.overlay.")
    }
}

/// What an archive may amount to before it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Members.
    pub entries: u64,
    /// Bytes of all files together, holes among them.
    pub bytes: u64,
    /// Bytes of one name.
    pub path: usize,
}

impl Default for Limits {
    /// Only what the kernel sets: names of at most 4095 bytes.
    fn default() -> Self {
        Self {
            entries: u64::MAX,
            bytes: u64::MAX,
            path: 4095,
        }
    }
}

/// Bytes that several archives may have together, while they are unpacked at the same time.
#[derive(Debug)]
pub struct Budget {
    all: u64,
    left: AtomicU64,
}

impl Budget {
    /// So many bytes for all of them.
    pub fn new(bytes: u64) -> Self {
        Self {
            all: bytes,
            left: AtomicU64::new(bytes),
        }
    }

    /// Takes bytes from it; false when there are not so many left.
    fn spend(&self, bytes: u64) -> bool {
        self.left
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(bytes)
            })
            .is_ok()
    }
}

/// How to unpack.
#[derive(Clone, Debug)]
pub struct Options {
    /// What becomes of deletions.
    pub whiteouts: Whiteouts,
    /// Where the owners in the archive are outside of the container.
    pub id_maps: IdMaps,
    /// What the archive may amount to.
    pub limits: Limits,
    /// What it may amount to together with others.
    pub budget: Option<Arc<Budget>>,
    /// Goes on when an owner can't be set.
    pub ignore_chown_errors: bool,
    /// Leaves out devices and attributes that the kernel refuses, as a user namespace demands.
    pub in_user_namespace: bool,
    /// The mode that all files and directories get; what the archive says of them goes into an attribute
    /// ([`override_stat`]), and their owner is whoever unpacks.
    ///
    /// [`override_stat`]: super::override_stat
    pub force_mask: Option<u32>,
}

impl Options {
    /// No limits beyond the kernel's, owners as the archive says.
    pub fn new(whiteouts: Whiteouts) -> Self {
        Self {
            whiteouts,
            id_maps: IdMaps::default(),
            limits: Limits::default(),
            budget: None,
            ignore_chown_errors: false,
            in_user_namespace: false,
            force_mask: None,
        }
    }
}

/// What was unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of files and of the targets of symbolic links, each inode counted once.
    pub size: u64,
    /// How many members the archive has.
    pub entries: u64,
    /// The users that own members, as the archive says; whiteouts count for nothing.
    pub uids: BTreeSet<u32>,
    /// The groups.
    pub gids: BTreeSet<u32>,
    /// The archive says what the root directory is: mode, owner and time.
    pub has_root: bool,
    /// Extended attributes that the file system does not know, and so were left out.
    pub skipped_attributes: u64,
    /// Directories that were made though the archive has members in them alone, parents first.
    pub implied: Vec<Vec<u8>>,
}

/// Why an archive was not unpacked. What had been made until then stays in the directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// It is no archive, truncated, or can't be read.
    #[error(transparent)]
    Archive(#[from] tar::Error),
    /// A member may not be in a layer.
    #[error("{reason}: {}", String::from_utf8_lossy(name))]
    Forbidden {
        /// Its name.
        name: Vec<u8>,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It amounts to more than is allowed.
    #[error("the archive exceeds the limit of {allowed} {limit}")]
    Limit {
        /// What there is too much of.
        limit: &'static str,
        /// How much is allowed.
        allowed: u64,
    },
    /// Two members have the same name.
    #[error(transparent)]
    Duplicate(#[from] tar_split::DuplicateName),
    /// The directory can't be changed.
    #[error(transparent)]
    System(#[from] sys::Error),
    /// The recipe can't be written.
    #[error("write the tar-split file")]
    Recipe(#[source] io::Error),
}

impl UnpackError {
    /// True when the file system or a quota is full.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::System(error) => error.is_no_space(),
            Self::Recipe(error) => sys::is_no_space(error),
            _ => false,
        }
    }
}

/// Unpacks the uncompressed archive `tar` into `root` and writes its recipe.
///
/// The stream is read to its end. Owners and modes are set whatever the process's umask is. Directories that the
/// archive has members in and no entry for are root's, 0755 and of the time of the first of those members, until
/// [`inherit`](super::inherit) gives them what layers below have there; those that were there keep their times.
///
/// # Errors
/// See [`UnpackError`].
pub fn unpack<W: Write + Send + 'static>(
    tar: impl Read,
    root: &Dir,
    options: &Options,
    recipe: Option<&mut tar_split::Writer<W>>,
) -> Result<Summary, UnpackError> {
    std::thread::scope(|scope| {
        let filler = Filler::new(scope, root, options);
        read(tar, Unpacker::new(root, options, filler)?, recipe)
    })
}

/// The one pass.
fn read<W: Write + Send + 'static>(
    tar: impl Read,
    mut unpacker: Unpacker<'_, '_>,
    mut recipe: Option<&mut tar_split::Writer<W>>,
) -> Result<Summary, UnpackError> {
    let mut reader = tar::Reader::new(tar);
    while let Some(entry) = reader.next_entry()? {
        if let Some(recipe) = &mut recipe {
            recipe.segment(reader.raw()).map_err(UnpackError::Recipe)?;
            // Any number of global headers may have one name; they are in the segments.
            if !recipe.claim(&entry.name) {
                if entry.kind == Kind::GlobalHeader {
                    continue;
                }
                return Err(tar_split::DuplicateName { name: entry.name }.into());
            }
        }
        let mut payload = Payload {
            reader: &mut reader,
            checksum: recipe.is_some().then(tar_split::Checksum::new),
            segment: None,
        };
        let mut raw = |bytes: &[u8]| match &mut recipe {
            Some(recipe) => recipe.segment(bytes),
            None => Ok(()),
        };
        if entry.sparse.is_some() {
            payload.segment = Some(&mut raw);
        }
        unpacker.member(&entry, &mut payload)?;
        // Members that were left out have a payload all the same.
        while !payload.next()?.is_empty() {}
        let checksum = payload.checksum.take();
        if let Some(recipe) = &mut recipe {
            let is_stored = entry.kind == Kind::Regular && entry.sparse.is_none();
            let size = if is_stored { entry.size } else { 0 };
            let checksum = checksum.map(tar_split::Checksum::finish);
            recipe
                .file(&entry.name, size, checksum)
                .map_err(UnpackError::Recipe)?;
        }
    }
    if let Some(recipe) = &mut recipe {
        recipe.segment(reader.raw()).map_err(UnpackError::Recipe)?;
    }
    let mut trailing = Vec::new();
    loop {
        let bytes = reader.trailing()?;
        if recipe.is_some() {
            trailing.extend_from_slice(bytes);
        }
        let is_end = bytes.is_empty();
        // Gathered, as Go does, so that a long tail has few segments.
        let ready = match is_end {
            true => trailing.len(),
            false => trailing.len() - trailing.len() % tar_split::MAX_SEGMENT,
        };
        if let Some(recipe) = &mut recipe {
            recipe
                .segment(&trailing[..ready])
                .map_err(UnpackError::Recipe)?;
        }
        trailing.drain(..ready);
        if is_end {
            break;
        }
    }
    unpacker.finish()
}

/// Where raw bytes go.
type Sink<'a> = dyn FnMut(&[u8]) -> io::Result<()> + 'a;

/// The payload of a member on its way: summed up, or noted raw when it is the stored part of a sparse file.
struct Payload<'a, R> {
    reader: &'a mut tar::Reader<R>,
    checksum: Option<tar_split::Checksum>,
    segment: Option<&'a mut Sink<'a>>,
}

/// A payload without the type of its stream.
trait Bytes {
    /// The next bytes; empty behind the last.
    fn next(&mut self) -> Result<&[u8], UnpackError>;
}

impl<R: Read> Bytes for Payload<'_, R> {
    fn next(&mut self) -> Result<&[u8], UnpackError> {
        let bytes = self.reader.data()?;
        match (&mut self.segment, &mut self.checksum) {
            (Some(segment), _) => segment(bytes).map_err(UnpackError::Recipe)?,
            (None, Some(checksum)) => checksum.update(bytes),
            (None, None) => {}
        }
        Ok(bytes)
    }
}

/// Who the process is to the file system, and what it does to new inodes.
#[derive(Clone, Copy, Debug)]
struct Defaults {
    /// Who owns new inodes; unknown when they get another owner than the process has.
    owner: Option<(u32, u32)>,
    /// The bits that a new inode of mode 0777 has; none when that can't be told.
    mode: u32,
}

/// The state of one run.
struct Unpacker<'scope, 'a> {
    root: &'a Dir,
    options: &'a Options,
    parents: Parents<'a>,
    filler: Filler<'scope, 'a>,
    defaults: Defaults,
    /// What came with this layer; only kept where deletions are carried out.
    unpacked: NameSet,
    bytes: u64,
    summary: Summary,
}

impl<'scope, 'a> Unpacker<'scope, 'a> {
    fn new(
        root: &'a Dir,
        options: &'a Options,
        filler: Filler<'scope, 'a>,
    ) -> Result<Self, UnpackError> {
        let mut defaults = Defaults::probe(root)?;
        if options.whiteouts == Whiteouts::Apply {
            // A directory of another layer may have a default ACL in place of the umask.
            defaults.mode = 0;
        }
        Ok(Self {
            root,
            options,
            parents: Parents::new(root, options)?,
            filler,
            defaults,
            unpacked: NameSet::default(),
            bytes: 0,
            summary: Summary::default(),
        })
    }

    fn member(&mut self, entry: &Entry, payload: &mut dyn Bytes) -> Result<(), UnpackError> {
        self.count(entry)?;
        if entry.kind == Kind::GlobalHeader {
            return Ok(());
        }
        let forbidden = |reason| {
            Err(UnpackError::Forbidden {
                name: entry.name.clone(),
                reason,
            })
        };
        let name = names::confine(&entry.name);
        if entry.name.len() > self.options.limits.path {
            return Err(UnpackError::Limit {
                limit: "bytes of one name",
                allowed: self.options.limits.path as u64,
            });
        }
        if name
            .split(|byte| *byte == b'/')
            .any(|part| part.len() > 255)
        {
            return forbidden("a part of a name is longer than 255 bytes");
        }
        if name.is_empty() {
            if entry.kind != Kind::Directory {
                return forbidden("refusing to act on a non-directory entry as the archive root");
            }
            self.summary.has_root = true;
            return self.root_directory(entry);
        }
        if self.whiteout(entry, &name)? {
            return Ok(());
        }
        self.remember(&name);
        let (parent, last) = names::split(&name);
        let parent = self.parents.open(parent, times(entry))?;
        match entry.kind {
            Kind::Regular => self.file(&parent, last, entry, payload),
            Kind::Directory => self.directory(&parent, &name, entry),
            Kind::Symlink => self.symlink(&parent, last, entry),
            Kind::HardLink => self.hard_link(&parent, last, entry),
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => self.node(&parent, last, entry),
            Kind::Other(_) => forbidden("unhandled tar header type"),
            Kind::GlobalHeader => Ok(()),
        }
    }

    fn count(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        let limits = &self.options.limits;
        self.summary.entries += 1;
        if self.summary.entries > limits.entries {
            return Err(UnpackError::Limit {
                limit: "entries",
                allowed: limits.entries,
            });
        }
        self.bytes = self.bytes.saturating_add(entry.size);
        if self.bytes > limits.bytes {
            return Err(UnpackError::Limit {
                limit: "bytes",
                allowed: limits.bytes,
            });
        }
        if let Some(budget) = &self.options.budget
            && !budget.spend(entry.size)
        {
            return Err(UnpackError::Limit {
                limit: "bytes",
                allowed: budget.all,
            });
        }
        // The last number stands for "no owner" in the kernel.
        let fits = |id: i64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        let (Some(uid), Some(gid)) = (fits(entry.uid), fits(entry.gid)) else {
            return Err(UnpackError::Forbidden {
                name: entry.name.clone(),
                reason: "the user or group ID does not fit",
            });
        };
        // As Go does: a deletion has an owner in the archive, and none in the layer.
        let mut parts = entry.name.rsplit(|byte| *byte == b'/');
        let base = parts.find(|part| !part.is_empty()).unwrap_or_default();
        if !base.starts_with(b".wh.") {
            self.summary.uids.insert(uid);
            self.summary.gids.insert(gid);
        }
        Ok(())
    }

    /// Remembers that `name` and the directories above it came with this layer.
    fn remember(&mut self, name: &[u8]) {
        if self.options.whiteouts != Whiteouts::Apply {
            return;
        }
        let mut name = name;
        while !name.is_empty() && self.unpacked.insert(name) {
            name = names::split(name).0;
        }
    }

    /// Sets the times of directories and gives the summary.
    fn finish(mut self) -> Result<Summary, UnpackError> {
        self.filler.settle()?;
        self.summary.skipped_attributes += self.filler.skipped;
        self.summary.implied = self.parents.directories.finish(self.root)?;
        Ok(self.summary)
    }
}

/// A name as the system calls take it.
fn path(name: &[u8]) -> &std::path::Path {
    use std::os::unix::ffi::OsStrExt;
    std::path::Path::new(std::ffi::OsStr::from_bytes(name))
}

/// Access and modification time of a member; Go never lets a file be read before it was written.
fn times(entry: &Entry) -> directories::Times {
    let accessed = entry.accessed.unwrap_or(entry.modified);
    let timespec = |time: Time| Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    };
    (
        timespec(accessed.max(entry.modified)),
        timespec(entry.modified),
    )
}
