//! Replacing a file atomically: write aside, sync, rename over.

use std::path::Path;

use super::{Dir, Error, File, FileIdentity};

/// What must survive a loss of power once the call has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Nothing: for the run root, whose contents end with the boot.
    None,
    /// Either the old or the new contents, never an empty or torn file.
    Atomic,
    /// The new contents.
    Durable,
}

/// New contents of a file, written aside and not visible yet. Dropped instead of published, they are
/// removed.
#[derive(Debug)]
pub struct StagedFile<'a> {
    dir: &'a Dir,
    temporary: String,
    file: File,
    is_published: bool,
}

impl StagedFile<'_> {
    /// Starts writing the contents to disk without waiting: what is synced next pays for both.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn start_writeback(&self) -> Result<(), Error> {
        self.file.start_writeback()
    }

    /// Syncs the contents as `durability` asks and renames them over `name`.
    ///
    /// # Errors
    /// When a step fails; the old file is then untouched.
    pub fn publish(
        mut self,
        name: impl AsRef<Path>,
        durability: Durability,
    ) -> Result<FileIdentity, Error> {
        if durability != Durability::None {
            self.file.sync_data()?;
        }
        let identity = self.file.identity()?;
        self.dir.rename(&self.temporary, self.dir, name)?;
        self.is_published = true;
        if durability == Durability::Durable {
            self.dir.sync()?;
        }
        Ok(identity)
    }
}

impl Drop for StagedFile<'_> {
    fn drop(&mut self) {
        if !self.is_published {
            // Another error is on its way; a left-over name is garbage that is found later.
            drop(self.dir.remove_file(&self.temporary));
        }
    }
}

impl Dir {
    /// Writes new contents for the file `name`, of mode 0600, to `.tmp-<name>-<random>` beside it: the
    /// pieces one after the other.
    ///
    /// # Errors
    /// When they can't be written; nothing is then left.
    pub fn stage_file(
        &self,
        name: impl AsRef<Path>,
        contents: &[&[u8]],
    ) -> Result<StagedFile<'_>, Error> {
        let temporary = format!(
            ".tmp-{}-{:016x}",
            name.as_ref().display(),
            super::dir::random_u64()
        );
        let file = self.create_file(&temporary, 0o600)?;
        let staged = StagedFile {
            dir: self,
            temporary,
            file,
            is_published: false,
        };
        staged.file.write_pieces(contents)?;
        Ok(staged)
    }

    /// Replaces `name` by a file of mode 0600 with these contents, synced as `durability` asks: a reader
    /// sees the old or the new file.
    ///
    /// # Errors
    /// When a step fails; the old file is then untouched, and nothing else is left.
    pub fn replace(
        &self,
        name: impl AsRef<Path>,
        contents: &[u8],
        durability: Durability,
    ) -> Result<FileIdentity, Error> {
        let name = name.as_ref();
        self.stage_file(name, &[contents])?
            .publish(name, durability)
    }

    /// Makes the file `name`, which nobody sees before it is whole: of this mode, with these contents, which survive a loss
    /// of power if the name does. One that is there by then stays. A kill leaves nothing else, but on file systems without
    /// unnamed files, as network ones, where this is [`Dir::replace`].
    ///
    /// # Errors
    /// When a step fails; nothing is then left.
    pub fn create_whole(
        &self,
        name: impl AsRef<Path>,
        contents: &[u8],
        mode: u32,
    ) -> Result<(), Error> {
        let name = name.as_ref();
        let Ok(file) = self.create_unnamed_file(mode) else {
            // Another failure than that there are none is met here as well.
            self.replace(name, contents, Durability::Atomic)?;
            return self.set_mode_of(name, mode);
        };
        file.write_pieces(&[contents])?;
        // The umask had a say in it.
        file.set_mode(mode)?;
        file.sync_data()?;
        match self.link_file(&file, name) {
            Err(error) if error.is_already_exists() => Ok(()),
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_has_the_new_contents_and_leaves_no_temporary_one() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        dir.replace("a.json", b"[]", Durability::Durable).unwrap();
        let identity = dir.replace("a.json", b"[1]", Durability::Atomic).unwrap();
        assert_eq!(dir.read("a.json").unwrap(), b"[1]");
        assert_eq!(
            identity,
            dir.open_file("a.json").unwrap().identity().unwrap()
        );
        assert_eq!(dir.list().unwrap().len(), 1);
    }

    #[test]
    fn a_file_is_made_as_a_whole_unless_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        for contents in [&b"one"[..], b"two"] {
            dir.create_whole("file", contents, 0o666).unwrap();
        }
        assert_eq!(dir.read("file").unwrap(), b"one");
        assert_eq!(
            dir.stat("file").unwrap().unwrap().st_mode & 0o7777,
            0o666,
            "whatever the umask"
        );
        assert_eq!(dir.list().unwrap().len(), 1);
    }

    #[test]
    fn any_number_of_pieces_is_written_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let pieces: Vec<&[u8]> = (0..5000).map(|n| [&b""[..], b"one", b"2"][n % 3]).collect();
        for pieces in [&pieces[..], &pieces[..1], &[]] {
            let staged = dir.stage_file("file", pieces).unwrap();
            staged.publish("file", Durability::None).unwrap();
            assert_eq!(dir.read("file").unwrap(), pieces.concat());
        }
    }
}
