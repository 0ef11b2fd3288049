//! Spare files: where the next contents of a record file are written.
//!
//! Beside each record file lies a spare: the contents before the last save, with room to grow. A save makes the spare
//! say what is new, which writes little of a large file, syncs it, and has the two change names. The blocks of a
//! spare are never free, so that no writing pod can take them: a full disk never stops a delete, as what that leaves
//! fits. (A ballast file that is released when needed does not do: the pod is faster.)
//!
//! A spare is written in place, so what is on disk must not know it as the record file any more. Between the change
//! of names and the sync of their folder it has another name, [`Place::exchanged`], and nobody writes it.

use super::table_file::Place;
use crate::sys::{Dir, Durability, Error, File, FileIdentity, StagedFile};

/// Spares grow in steps of this many bytes, and have at least half of it more than their file.
const STEP: u64 = 128 * 1024;

/// Contents of this size take longer to write than a folder to sync.
const LARGE: u64 = 256 * 1024;

/// New contents of a record file, written and not visible yet. Dropped, they never are.
#[derive(Debug)]
pub enum Staged<'a> {
    /// In a file of their own.
    Beside(&'a Place, StagedFile<'a>),
    /// In the spare.
    Spare(Spare<'a>),
}

/// The spare of a record file, under the name that says that nobody else may write it.
#[derive(Debug)]
pub struct Spare<'a> {
    place: &'a Place,
    spares: &'a Dir,
    file: File,
    is_published: bool,
}

fn size(contents: &[&[u8]]) -> u64 {
    contents.iter().map(|piece| piece.len() as u64).sum()
}

/// Writes new contents for the record file: into the spare, unless that would take longer than a new file.
///
/// LOCKS: the table's, exclusive.
///
/// # Errors
/// When neither way works; the record file is untouched.
pub fn stage<'a>(
    place: &'a Place,
    contents: &[&[u8]],
    durability: Durability,
) -> Result<Staged<'a>, Error> {
    let len = size(contents);
    if len >= LARGE || place.exchanged_is_settled(durability)? {
        let wanted = len + STEP / 2;
        if let Some(spare) = Spare::take(place, wanted, durability)? {
            return spare.write(contents);
        }
    }
    match place.dir.stage_file(place.name, contents) {
        Ok(staged) => Ok(Staged::Beside(place, staged)),
        Err(error) if error.is_no_space() => stage_on_full_disk(place, contents, durability, error),
        Err(error) => Err(error),
    }
}

/// Writes new contents into the spare, if they fit: nothing else does, as `full` says.
///
/// # Errors
/// `full`, when they don't fit.
pub fn stage_on_full_disk<'a>(
    place: &'a Place,
    contents: &[&[u8]],
    durability: Durability,
    full: Error,
) -> Result<Staged<'a>, Error> {
    match Spare::take(place, size(contents), durability)? {
        Some(spare) => spare.write(contents),
        None => Err(full),
    }
}

impl Staged<'_> {
    /// Starts writing the contents to disk without waiting.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn start_writeback(&self) -> Result<(), Error> {
        match self {
            Self::Beside(_, staged) => staged.start_writeback(),
            Self::Spare(spare) => spare.file.start_writeback(),
        }
    }

    /// Syncs the contents as `durability` asks and makes them those of the record file.
    ///
    /// # Errors
    /// When a step fails; the record file is then untouched.
    pub fn publish(self, durability: Durability) -> Result<FileIdentity, Error> {
        match self {
            Self::Beside(place, staged) => staged.publish(place.name, durability),
            Self::Spare(spare) => spare.publish(durability),
        }
    }
}

impl<'a> Spare<'a> {
    /// The spare, if it has room for `len` bytes, and after the sync of a folder if that must be. One that somebody
    /// has a second name for, a copy of the store made of links, is left to them.
    fn take(place: &'a Place, len: u64, durability: Durability) -> Result<Option<Self>, Error> {
        let Some(spares) = &place.spares else {
            return Ok(None);
        };
        if !place.exchanged_is_settled(durability)? {
            place.dir.sync()?;
            place.settle()?;
        }
        let room = |stat: &rustix::fs::Stat| stat.st_blocks.unsigned_abs() * 512;
        match spares.stat(place.name)? {
            Some(stat) if stat.st_nlink != 1 => {
                spares.remove_file(place.name)?;
                return Ok(None);
            }
            Some(stat) if room(&stat) >= len => {}
            _ => return Ok(None),
        }
        let file = spares.ensure_file(place.name, 0o600)?;
        spares.rename(place.name, spares, place.exchanged())?;
        // From here on a drop gives it its name back.
        Ok(Some(Self {
            place,
            spares,
            file,
            is_published: false,
        }))
    }

    fn write(self, contents: &[&[u8]]) -> Result<Staged<'a>, Error> {
        self.file.patch(contents)?;
        Ok(Staged::Spare(self))
    }

    fn publish(mut self, durability: Durability) -> Result<FileIdentity, Error> {
        if durability != Durability::None {
            self.file.sync_data()?;
        }
        let identity = self.file.identity()?;
        let Place { dir, name, .. } = self.place;
        let exchanged = self.place.exchanged();
        match self.spares.exchange(&exchanged, dir, name) {
            // No record file yet, or a file system that can't exchange.
            Err(error) if error.is_not_found() || error.errno() == Some(libc::EINVAL) => {
                self.spares.rename(&exchanged, dir, name)?;
            }
            result => result?,
        }
        self.is_published = true;
        match durability {
            Durability::None => self.place.settle()?,
            Durability::Atomic => {}
            Durability::Durable => {
                dir.sync()?;
                self.place.settle()?;
            }
        }
        Ok(identity)
    }
}

impl Drop for Spare<'_> {
    fn drop(&mut self) {
        if !self.is_published {
            // It was never the record file. An error is on its way; the worst is a sync for nothing.
            drop(self.place.settle());
        }
    }
}

impl Place {
    /// The name that its spare has from before it is written until what is on disk can't take it for the record file.
    fn exchanged(&self) -> String {
        format!("{}.exchanged", self.name)
    }

    /// Whether the spare, if there is one, may be written.
    fn exchanged_is_settled(&self, durability: Durability) -> Result<bool, Error> {
        match &self.spares {
            Some(spares) if durability != Durability::None => {
                Ok(spares.stat(self.exchanged())?.is_none())
            }
            _ => Ok(true),
        }
    }

    /// Says that what is on disk knows the record file by now, and that its spare may be written.
    ///
    /// # Errors
    /// When the kernel refuses to rename; the spare is then not used.
    pub fn settle(&self) -> Result<(), Error> {
        let Some(spares) = &self.spares else {
            return Ok(());
        };
        match spares.rename(self.exchanged(), spares, self.name) {
            Err(error) if error.is_not_found() => Ok(()),
            result => result,
        }
    }

    /// Makes sure, after a save of `len` bytes, that the spare has room for what the record file may become. A failure
    /// is only logged: the disk is full, and the change itself is saved. What the spare has by then is kept.
    pub fn keep_spare(&self, len: u64) {
        let Some(spares) = &self.spares else {
            return;
        };
        let exchanged = self.exchanged();
        let name = match spares.stat(&exchanged) {
            Ok(Some(_)) => exchanged,
            _ => self.name.to_owned(),
        };
        let room = match spares.stat(&name) {
            Ok(Some(stat)) => stat.st_blocks.unsigned_abs() * 512,
            _ => 0,
        };
        // Refilled a step early, so that a growing file costs an allocation only now and then.
        if room >= len + STEP / 2 {
            return;
        }
        let wanted = (len * 3 / 2).div_ceil(STEP) * STEP + STEP;
        let filled = spares
            .ensure_file(&name, 0o600)
            .and_then(|file| file.allocate(wanted));
        if let Err(error) = filled {
            tracing::warn!(file = self.name, %error, "little room is set aside for a full disk");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record file with a spare that has room.
    fn place() -> (tempfile::TempDir, Place) {
        let folder = tempfile::tempdir().unwrap();
        let root = Dir::open(folder.path()).unwrap();
        let place = Place {
            dir: root.ensure_dir("records", 0o700).unwrap(),
            name: "records.json",
            spares: Some(root.ensure_dir("spare", 0o700).unwrap()),
        };
        place.keep_spare(0);
        (folder, place)
    }

    fn save(place: &Place, contents: &[u8], durability: Durability) -> bool {
        let staged = stage(place, &[contents], durability).unwrap();
        let is_spare = matches!(staged, Staged::Spare(_));
        let identity = staged.publish(durability).unwrap();
        place.keep_spare(identity.size);
        assert!(place.dir.read(place.name).unwrap() == contents);
        is_spare
    }

    #[test]
    fn what_the_disk_may_know_as_the_record_file_is_not_written() {
        let (_folder, place) = place();
        for contents in [&b"[1]"[..], b"[1,2]", b"[2]"] {
            assert!(save(&place, contents, Durability::Durable));
        }
        assert!(save(&place, b"[3]", Durability::Atomic));
        // Nothing has told yet that the exchange is on disk.
        let spare = place.spares.as_ref().unwrap();
        assert_eq!(spare.read(place.exchanged()).unwrap(), b"[2]");
        assert!(!save(&place, b"[4]", Durability::Atomic));
        assert_eq!(spare.read(place.exchanged()).unwrap(), b"[2]");
        place.dir.sync().unwrap();
        place.settle().unwrap();
        assert!(save(&place, b"[5]", Durability::Atomic));
        // A large one is worth a sync.
        let large = vec![b' '; LARGE as usize];
        assert!(
            !save(&place, &large, Durability::Atomic),
            "there is no room"
        );
        assert!(save(&place, &large, Durability::Atomic));
    }

    #[test]
    fn contents_that_are_not_published_change_nothing() {
        let (_folder, place) = place();
        save(&place, b"[1]", Durability::Durable);
        drop(stage(&place, &[b"[2]"], Durability::Durable).unwrap());
        assert_eq!(place.dir.read(place.name).unwrap(), b"[1]");
        assert!(save(&place, b"[3]", Durability::Durable));
    }

    #[test]
    fn a_spare_with_a_second_name_is_left_alone() {
        let (folder, place) = place();
        save(&place, b"[1]", Durability::Durable);
        let copy = folder.path().join("copy.json");
        std::fs::hard_link(folder.path().join("records/records.json"), &copy).unwrap();
        save(&place, b"[2]", Durability::Durable);
        assert!(!save(&place, b"[3]", Durability::Durable));
        assert!(
            save(&place, b"[4]", Durability::Durable),
            "it has a new one"
        );
        assert_eq!(std::fs::read(copy).unwrap(), b"[1]");
    }

    #[test]
    fn the_spare_has_room_for_more_than_its_file() {
        let (_folder, place) = place();
        for len in [10, 200_000, 2_000_000, 1_000_000, 3] {
            save(&place, &vec![b'x'; len], Durability::Durable);
            let spare = place.spares.as_ref().unwrap().stat(place.name).unwrap();
            assert!(spare.unwrap().st_blocks as u64 * 512 >= len as u64 + STEP / 2);
        }
    }
}
