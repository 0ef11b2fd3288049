//! Replacing a file atomically: write aside, sync, rename over.

use std::io::Write;
use std::path::Path;

use super::{Dir, Error, FileIdentity};

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

impl Dir {
    /// Replaces `name` by a file of mode 0600 with these contents.
    ///
    /// The contents are written to `.tmp-<name>-<random>` in the same directory, synced as
    /// `durability` asks, and renamed over `name`: a reader sees the old or the new file.
    ///
    /// # Errors
    /// When a step fails; the old file is then untouched, and the temporary one is removed.
    pub fn replace(
        &self,
        name: impl AsRef<Path>,
        contents: &[u8],
        durability: Durability,
    ) -> Result<FileIdentity, Error> {
        let name = name.as_ref();
        let temporary = format!(".tmp-{}-{:016x}", name.display(), super::dir::random_u64());
        let result = self
            .write_aside(temporary.as_ref(), contents, durability)
            .and_then(|identity| {
                self.rename(&temporary, self, name)?;
                Ok(identity)
            });
        let identity = match result {
            Ok(identity) => identity,
            Err(error) => {
                // The first error is the one to report; a left-over name is harmless garbage.
                drop(self.remove_file(&temporary));
                return Err(error);
            }
        };
        if durability == Durability::Durable {
            self.sync()?;
        }
        Ok(identity)
    }

    fn write_aside(
        &self,
        name: &Path,
        contents: &[u8],
        durability: Durability,
    ) -> Result<FileIdentity, Error> {
        let mut file = self.create_file(name, 0o600)?;
        file.write_all(contents)
            .map_err(|error| Error::new("write", self.path().join(name), error))?;
        if durability != Durability::None {
            file.sync_data()?;
        }
        file.identity()
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
}
