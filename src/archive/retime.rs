//! Rewriting the headers of an archive's members, their times above all: what makes two builds of the same files equal.

use std::io::{self, Read, Write};

use super::tar::{self, Entry, Time};

/// What becomes of the time of each member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Times {
    /// It stays.
    #[default]
    Kept,
    /// All get this one.
    Set(Time),
    /// Those after this one get this one.
    AtMost(Time),
}

/// Why an archive was not rewritten. A part may have been written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RewriteError {
    /// It can't be read.
    #[error(transparent)]
    Archive(#[from] tar::Error),
    /// The new one can't be written.
    #[error("write the archive")]
    Write(#[source] io::Error),
}

impl Times {
    fn apply(self, time: Time) -> Time {
        match self {
            Self::Kept => time,
            Self::Set(new) => new,
            Self::AtMost(last) => time.min(last),
        }
    }
}

/// Copies an archive of our own [`tar::Writer`], with other times.
///
/// # Errors
/// See [`RewriteError`].
pub fn retime<W: Write>(archive: impl Read, times: Times, out: W) -> Result<W, RewriteError> {
    rewrite(
        archive,
        |entry| entry.modified = times.apply(entry.modified),
        out,
    )
}

/// Copies an archive of our own [`tar::Writer`], with each member's header changed, but for its size.
///
/// # Errors
/// See [`RewriteError`].
pub fn rewrite<W: Write>(
    archive: impl Read,
    mut change: impl FnMut(&mut Entry),
    out: W,
) -> Result<W, RewriteError> {
    let mut reader = tar::Reader::new(archive);
    let mut writer = tar::Writer::new(out);
    while let Some(mut entry) = reader.next_entry()? {
        change(&mut entry);
        writer.entry(&entry).map_err(RewriteError::Write)?;
        loop {
            let data = reader.data()?;
            if data.is_empty() {
                break;
            }
            writer.data(data).map_err(RewriteError::Write)?;
        }
    }
    // What sends the archive has to come to its end.
    while !reader.trailing()?.is_empty() {}
    writer.finish().map_err(RewriteError::Write)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tar::Kind;

    fn archive(modified: &[Time]) -> Vec<u8> {
        let mut writer = tar::Writer::new(Vec::new());
        for (number, modified) in modified.iter().enumerate() {
            let entry = Entry {
                kind: Kind::Regular,
                name: format!("{}{number}", "long/".repeat(40)).into_bytes(),
                link: Vec::new(),
                mode: 0o4755,
                uid: 3_000_000,
                gid: 9,
                size: 700,
                modified: *modified,
                accessed: None,
                device: (0, 0),
                attributes: vec![(b"user.a".to_vec(), b"1".to_vec())],
                sparse: None,
            };
            writer.entry(&entry).unwrap();
            writer.data(&[7; 700]).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn only_the_times_change() {
        let [early, late, limit] = [5, 900, 100].map(Time::from);
        let old = archive(&[early, late]);
        let rewrite = |times| retime(&*old, times, Vec::new()).unwrap();
        assert_eq!(rewrite(Times::Kept), old);
        assert_eq!(rewrite(Times::Set(limit)), archive(&[limit, limit]));
        assert_eq!(rewrite(Times::AtMost(limit)), archive(&[early, limit]));
        let cut = &old[..old.len() - 1500];
        assert!(retime(cut, Times::Kept, Vec::new()).is_err());
    }
}
