//! Where the blocks of files lie, and files that share theirs: `FIEMAP` and `FIDEDUPERANGE`.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

use super::{Dir, Error, File, fault};

/// `_IOWR('f', 11, struct fiemap)`.
const FIEMAP: libc::Ioctl = 0xc020_660b_u32 as libc::Ioctl;
/// `_IOWR(0x94, 54, struct file_dedupe_range)`.
const FIDEDUPERANGE: libc::Ioctl = 0xc018_9436_u32 as libc::Ioctl;

/// The extent is the file's last one.
const LAST: u32 = 0x1;
/// It has no place of its own yet, or lies inside a block of metadata.
const UNPLACED: u32 = 0x2 | 0x4 | 0x200;
/// Other files have it too.
const SHARED: u32 = 0x2000;

/// So many extents are asked for at once.
const EXTENTS: usize = 128;

/// The kernel compares at most this much in one call on some file systems.
const RANGE: u64 = 16 << 20;

/// A stretch of a disk that several files have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SharedExtent {
    /// The first byte, on the disk of the file system.
    pub start: u64,
    /// How many.
    pub length: u64,
}

/// What became of the wish that two files share their blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// So many bytes are shared now.
    Shared(u64),
    /// The contents differ, or one of them is in use in a way that forbids it.
    Differs,
    /// The file system shares no blocks.
    Unsupported,
}

/// File systems whose files can share blocks: xfs, btrfs, bcachefs, OCFS2.
const SHARING: [u32; 4] = [0x5846_5342, 0x9123_683e, 0xca45_1a4e, 0x7461_636f];

impl Dir {
    /// True when files here may share blocks, so that it is worth asking.
    ///
    /// # Errors
    /// When the kernel can't say.
    pub fn may_share_blocks(&self) -> Result<bool, Error> {
        let found = rustix::fs::fstatfs(self.as_fd());
        let found = found.map_err(|error| Error::new("stat", self.path(), error))?;
        // The numbers are 32 bits wide wherever the kernel's type is wider.
        Ok(SHARING.contains(&(found.f_type as u32)))
    }
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved: [u64; 2],
    flags: u32,
    more_reserved: [u32; 3],
}

#[repr(C)]
struct Request {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [Extent; EXTENTS],
}

#[repr(C)]
struct Range {
    source_offset: u64,
    length: u64,
    count: u16,
    reserved: u16,
    more_reserved: u32,
    target: i64,
    target_offset: u64,
    done: u64,
    status: i32,
    last_reserved: u32,
}

/// True for what a file system or device says that can't do this.
fn is_unsupported(errno: Option<Errno>) -> bool {
    matches!(
        errno,
        Some(Errno::OPNOTSUPP | Errno::NOTTY | Errno::XDEV | Errno::NOSYS)
    )
}

impl File {
    /// The stretches of the file that other files have too; none where the file system shares no blocks.
    ///
    /// # Errors
    /// When the kernel can't say.
    #[allow(unsafe_code, reason = "neither std nor rustix has this ioctl")]
    pub fn shared_extents(&self) -> Result<Vec<SharedExtent>, Error> {
        let mut found = Vec::new();
        let mut start = 0;
        loop {
            let mut request = Request {
                start,
                length: u64::MAX - start,
                flags: 0,
                mapped: 0,
                count: EXTENTS as u32,
                reserved: 0,
                extents: [Extent::default(); EXTENTS],
            };
            // SAFETY: the request says how many extents have room in it, and both outlive the call.
            let result = unsafe { libc::ioctl(self.as_fd().as_raw_fd(), FIEMAP, &raw mut request) };
            if result == -1 {
                let error = io::Error::last_os_error();
                if is_unsupported(Errno::from_io_error(&error)) {
                    return Ok(found);
                }
                return Err(Error::new("map the blocks of", self.path(), error));
            }
            let mapped = usize::try_from(request.mapped).unwrap_or(0).min(EXTENTS);
            let Some(last) = request.extents[..mapped].last() else {
                return Ok(found);
            };
            let shared = request.extents[..mapped]
                .iter()
                .filter(|extent| extent.flags & SHARED != 0 && extent.flags & UNPLACED == 0);
            found.extend(shared.map(|extent| SharedExtent {
                start: extent.physical,
                length: extent.length,
            }));
            start = last.logical.saturating_add(last.length);
            if last.flags & LAST != 0 || start == u64::MAX {
                return Ok(found);
            }
        }
    }

    /// Lets `other` have the blocks of this file instead of its own, `size` bytes from the start, where the
    /// contents are equal: the kernel compares them.
    ///
    /// # Errors
    /// When the kernel can't; nothing changes for readers.
    #[allow(unsafe_code, reason = "neither std nor rustix has this ioctl")]
    pub fn share_with(&self, other: &Self, size: u64) -> Result<Sharing, Error> {
        let mut offset = 0;
        while offset < size {
            let mut range = Range {
                source_offset: offset,
                length: RANGE.min(size - offset),
                count: 1,
                reserved: 0,
                more_reserved: 0,
                target: i64::from(other.as_fd().as_raw_fd()),
                target_offset: offset,
                done: 0,
                status: 0,
                last_reserved: 0,
            };
            let called = fault::change("ioctl", || {
                // SAFETY: the range has room for one target, as it says, and outlives the call.
                let result =
                    unsafe { libc::ioctl(self.as_fd().as_raw_fd(), FIDEDUPERANGE, &raw mut range) };
                if result == -1 {
                    return Err(io::Error::last_os_error());
                }
                Ok(())
            });
            let errno = match &called {
                Ok(()) if range.status < 0 => Some(Errno::from_raw_os_error(-range.status)),
                Ok(()) => None,
                Err(error) => Errno::from_io_error(error),
            };
            match errno {
                None if range.status == 0 && range.done > 0 => offset += range.done,
                // 1 is FILE_DEDUPE_RANGE_DIFFERS.
                None => return Ok(Sharing::Differs),
                errno if is_unsupported(errno) => return Ok(Sharing::Unsupported),
                // A swap file, one that is locked against changes, or one without a place on the disk.
                Some(Errno::TXTBSY | Errno::PERM | Errno::INVAL) => return Ok(Sharing::Differs),
                Some(errno) => return Err(Error::new("share blocks with", other.path(), errno)),
            }
        }
        Ok(Sharing::Shared(offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<Extent>(), 56);
        assert_eq!(size_of::<Request>(), 32 + 56 * EXTENTS);
        assert_eq!(size_of::<Range>(), 24 + 32);
    }

    #[test]
    fn files_that_nobody_shares_have_no_shared_extents() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        for (name, size) in [("empty", 0_usize), ("full", 300_000)] {
            dir.create_file(name, 0o600)
                .unwrap()
                .write_at(&vec![7; size], 0)
                .unwrap();
            let file = dir.open_file(name).unwrap();
            assert_eq!(file.shared_extents().unwrap(), []);
        }
        let (one, other) = (
            dir.open_file("full").unwrap(),
            dir.open_file("empty").unwrap(),
        );
        // Whether the file system can share or not, different files never do.
        assert_ne!(
            one.share_with(&other, 300_000).unwrap(),
            Sharing::Shared(300_000)
        );
    }
}
