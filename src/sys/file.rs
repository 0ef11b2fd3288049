//! [`File`]: an open regular file that remembers its path for messages.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, Mode, OFlags, Stat, Timespec, Timestamps};

use super::{Error, fault, memory};

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// Inode number.
    pub inode: u64,
    /// Length in bytes.
    pub size: u64,
    /// Modification time, nanoseconds since the epoch.
    pub modified: i128,
}

impl From<&Stat> for FileIdentity {
    fn from(stat: &Stat) -> Self {
        Self {
            inode: stat.st_ino,
            size: stat.st_size.unsigned_abs(),
            modified: i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec),
        }
    }
}

/// How many pieces one call takes: `IOV_MAX`.
const MAX_PIECES: usize = 1024;

/// An open regular file. Writes pass the fault hook, one count each: wrap it in a `BufWriter`.
#[derive(Debug)]
pub struct File {
    fd: OwnedFd,
    path: PathBuf,
}

impl File {
    pub(super) fn new(fd: OwnedFd, path: PathBuf) -> Self {
        Self { fd, path }
    }

    /// Opens the file at `path` for reading, following symbolic links: for what the user names.
    ///
    /// # Errors
    /// When it is missing or can't be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = fs::open(path, flags, Mode::empty())
            .map_err(|error| Error::new("open", path, error))?;
        Ok(Self::new(fd, path.to_path_buf()))
    }

    /// Opens a file that the user named for writing, empty, following symbolic links.
    ///
    /// # Errors
    /// When it can't be created or written.
    pub fn create(path: impl AsRef<Path>, mode: u32) -> Result<Self, Error> {
        let path = path.as_ref();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let fd = fault::change("open", || {
            Ok(fs::open(path, flags, Mode::from_raw_mode(mode))?)
        })
        .map_err(|error| Error::new("open", path, error))?;
        Ok(Self::new(fd, path.to_owned()))
    }

    /// Where it was opened; for messages only.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn fail(&self, verb: &'static str) -> impl FnOnce(io::Error) -> Error {
        let path = self.path.clone();
        move |source| Error::new(verb, path, source)
    }

    /// What the file is now.
    ///
    /// # Errors
    /// When the kernel can't say.
    pub fn stat(&self) -> Result<Stat, Error> {
        fs::fstat(&self.fd).map_err(|error| self.fail("stat")(error.into()))
    }

    /// Inode, size and modification time.
    ///
    /// # Errors
    /// When the kernel can't say.
    pub fn identity(&self) -> Result<FileIdentity, Error> {
        Ok(FileIdentity::from(&self.stat()?))
    }

    /// Reads the whole rest of the file.
    ///
    /// # Errors
    /// When a read fails.
    pub fn read_all(&mut self) -> Result<Vec<u8>, Error> {
        let size = usize::try_from(self.stat()?.st_size).unwrap_or(0);
        let mut bytes = Vec::with_capacity(size + 1);
        memory::populate(&mut bytes);
        loop {
            // One read takes all of it; a second one sees the end.
            let read = rustix::io::retry_on_intr(|| {
                rustix::io::read(&self.fd, rustix::buffer::spare_capacity(&mut bytes))
            })
            .map_err(|error| self.fail("read")(error.into()))?;
            if read == 0 {
                return Ok(bytes);
            }
            if bytes.len() == bytes.capacity() {
                bytes.reserve(bytes.len());
            }
        }
    }

    /// Writes all of `bytes` at `offset`, leaving the position alone.
    ///
    /// # Errors
    /// When a write fails; a part may have been written.
    pub fn write_at(&self, mut bytes: &[u8], mut offset: u64) -> Result<(), Error> {
        while !bytes.is_empty() {
            let written = fault::change("pwrite", || {
                let bytes = &bytes[..fault::writable(bytes.len())];
                Ok(rustix::io::pwrite(&self.fd, bytes, offset)?)
            })
            .map_err(self.fail("write"))?;
            if written == 0 {
                return Err(Error::new("write", &self.path, io::ErrorKind::WriteZero));
            }
            bytes = &bytes[written..];
            offset += written as u64;
        }
        Ok(())
    }

    /// Writes all of the pieces, one after the other.
    ///
    /// # Errors
    /// When a write fails; a part may have been written.
    pub fn write_pieces(&self, pieces: &[&[u8]]) -> Result<(), Error> {
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut rest = slices.as_mut_slice();
        // So that an empty piece at the front is not waited for.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let batch = &rest[..rest.len().min(MAX_PIECES)];
            let written = fault::change("writev", || {
                let first: &[u8] = &batch[0];
                match fault::writable(first.len()) {
                    short if short < first.len() => {
                        Ok(rustix::io::write(&self.fd, &first[..short])?)
                    }
                    _ => Ok(rustix::io::writev(&self.fd, batch)?),
                }
            })
            .map_err(self.fail("write"))?;
            if written == 0 {
                return Err(Error::new("write", &self.path, io::ErrorKind::WriteZero));
            }
            IoSlice::advance_slices(&mut rest, written);
        }
        Ok(())
    }

    /// Reads up to `bytes.len()` bytes at `offset`; fewer only at the end of the file.
    ///
    /// # Errors
    /// When a read fails.
    pub fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize, Error> {
        let mut done = 0;
        while done < bytes.len() {
            let read = rustix::io::retry_on_intr(|| {
                rustix::io::pread(&self.fd, &mut bytes[done..], offset + done as u64)
            })
            .map_err(|error| self.fail("read")(error.into()))?;
            if read == 0 {
                break;
            }
            done += read;
        }
        Ok(done)
    }

    /// Makes the contents durable, not the name.
    ///
    /// # Errors
    /// When the kernel can't; what is on disk is then unknown.
    pub fn sync_data(&self) -> Result<(), Error> {
        if fault::is_left_out("sync-of-files") {
            return Ok(());
        }
        rustix::io::retry_on_intr(|| fs::fdatasync(&self.fd))
            .map_err(|error| self.fail("sync")(error.into()))
    }

    /// Starts writing the contents to disk, and does not wait: when several files are to be synced, the
    /// first sync then pays for all.
    ///
    /// # Errors
    /// When the kernel refuses; [`File::sync_data`] is what makes sure.
    #[allow(unsafe_code, reason = "neither std nor rustix has sync_file_range")]
    pub fn start_writeback(&self) -> Result<(), Error> {
        use std::os::fd::AsRawFd;
        // SAFETY: the descriptor is open for the whole call, which takes no memory of ours.
        let result = unsafe {
            libc::sync_file_range(self.fd.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE)
        };
        match result {
            0 => Ok(()),
            _ => Err(self.fail("start writing")(io::Error::last_os_error())),
        }
    }

    /// Cuts or extends the file to `size` bytes.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_size(&self, size: u64) -> Result<(), Error> {
        fault::change("ftruncate", || Ok(fs::ftruncate(&self.fd, size)?))
            .map_err(self.fail("truncate"))
    }

    /// Reserves blocks for the first `size` bytes; the file has no more contents than before.
    ///
    /// # Errors
    /// When the disk is full or the file system can't.
    pub fn allocate(&self, size: u64) -> Result<(), Error> {
        fault::change("fallocate", || {
            Ok(fs::fallocate(
                &self.fd,
                fs::FallocateFlags::KEEP_SIZE,
                0,
                size,
            )?)
        })
        .map_err(self.fail("allocate"))
    }

    /// Sets permission bits, set-id bits among them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_mode(&self, mode: u32) -> Result<(), Error> {
        fault::change("fchmod", || {
            Ok(fs::fchmod(&self.fd, Mode::from_raw_mode(mode))?)
        })
        .map_err(self.fail("change the mode of"))
    }

    /// Sets owner and group.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_owner(&self, uid: u32, gid: u32) -> Result<(), Error> {
        fault::change("fchown", || {
            Ok(fs::fchown(
                &self.fd,
                Some(rustix::fs::Uid::from_raw(uid)),
                Some(rustix::fs::Gid::from_raw(gid)),
            )?)
        })
        .map_err(self.fail("change the owner of"))
    }

    /// Sets access and modification time.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_times(&self, accessed: Timespec, modified: Timespec) -> Result<(), Error> {
        let times = Timestamps {
            last_access: accessed,
            last_modification: modified,
        };
        fault::change("futimens", || Ok(fs::futimens(&self.fd, &times)?))
            .map_err(self.fail("change the times of"))
    }
}

impl Read for File {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| {
            rustix::io::read(&self.fd, &mut *bytes)
        })?)
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        fault::change("write", || {
            let bytes = &bytes[..fault::writable(bytes.len())];
            Ok(rustix::io::write(&self.fd, bytes)?)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<File> for OwnedFd {
    fn from(file: File) -> Self {
        file.fd
    }
}
