//! The mount table of this thread, `/proc/thread-self/mountinfo`.
//!
//! It says what is mounted, not what is visible: a mount may hide another. Use it to find mounts, and
//! [`super::mount::place`] to decide about one.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::{Dir, Error};

/// One mount. Names are bytes as the kernel has them, its octal escapes undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Number of the mount, as `statx` gives it.
    pub id: u64,
    /// Number of the mount that it lies in.
    pub parent: u64,
    /// Major number of the file system's device.
    pub major: u32,
    /// Minor number of it.
    pub minor: u32,
    /// What of the file system is mounted.
    pub root: PathBuf,
    /// Where, seen from the root of this process.
    pub mount_point: PathBuf,
    /// Options of this mount.
    pub options: OsString,
    /// Whether mounts in it appear in other name spaces too.
    pub is_shared: bool,
    /// Type of the file system.
    pub fs_type: OsString,
    /// What was given as its source.
    pub source: OsString,
    /// Options of the file system, as the kernel wrote them: see [`Line::super_option`].
    pub super_options: Vec<u8>,
}

impl Line {
    /// The value of an option of the file system, `upperdir` for one.
    pub fn super_option(&self, name: &str) -> Option<OsString> {
        self.options_called(name).next().map(unescape)
    }

    /// The paths in the options of the file system that are called so: one in each, or several with colons between.
    pub fn super_paths(&self, name: &str) -> Vec<PathBuf> {
        // Colons within a path are escaped as well.
        self.options_called(name)
            .flat_map(|value| value.split(|byte| *byte == b':'))
            .map(|path| PathBuf::from(unescape(path)))
            .collect()
    }

    fn options_called<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        // Commas within a value are escaped, so the text is split before escapes are undone.
        self.super_options
            .split(|byte| *byte == b',')
            .filter_map(|option| option.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    }
}

/// Reads the mount table.
///
/// # Errors
/// When it can't be read.
pub fn read() -> Result<Vec<Line>, Error> {
    // The thread's, which may have left the process' mounts. The path is a link, followed by this way to open only.
    let bytes = Dir::open("/proc/thread-self")?.read("mountinfo")?;
    Ok(parse(&bytes))
}

/// Parses a mount table; lines that are not understood are left out.
pub fn parse(table: &[u8]) -> Vec<Line> {
    table
        .split(|byte| *byte == b'\n')
        .filter_map(parse_line)
        .collect()
}

/// `id parent major:minor root mount-point options [tag]... - type source super-options`
fn parse_line(line: &[u8]) -> Option<Line> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let mut device = fields.next()?.split(|byte| *byte == b':');
    let (major, minor) = (number(device.next()?)?, number(device.next()?)?);
    let root = unescape(fields.next()?).into();
    let mount_point = unescape(fields.next()?).into();
    let options = unescape(fields.next()?);
    let mut is_shared = false;
    fields.find(|field| {
        is_shared |= field.starts_with(b"shared:");
        *field == b"-"
    })?;
    Some(Line {
        id,
        parent,
        major,
        minor,
        root,
        mount_point,
        options,
        is_shared,
        fs_type: unescape(fields.next()?),
        source: unescape(fields.next()?),
        super_options: fields.next().unwrap_or_default().to_vec(),
    })
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Undoes `\ooo`, which the kernel writes for blanks and backslashes.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        match (byte, after) {
            (
                b'\\',
                [
                    a @ b'0'..=b'3',
                    b @ b'0'..=b'7',
                    c @ b'0'..=b'7',
                    after @ ..,
                ],
            ) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes)
}

/// The mounts at `path` or below it, in the order of the table.
pub fn below<'a>(table: &'a [Line], path: &Path) -> impl DoubleEndedIterator<Item = &'a Line> {
    let path = path.to_path_buf();
    table
        .iter()
        .filter(move |entry| entry.mount_point.starts_with(&path))
}

/// The mount that an absolute path lies in: the last one of the table among the deepest.
pub fn around<'a>(table: &'a [Line], path: &Path) -> Option<&'a Line> {
    table
        .iter()
        .filter(|line| path.starts_with(&line.mount_point))
        .max_by_key(|line| line.mount_point.as_os_str().len())
}

/// The mounts that show something of the directory `path`, in whole or in part, wherever they are; with the path of
/// it in the directory. `path` is absolute and without links.
pub fn shown_of<'a>(table: &'a [Line], path: &Path) -> impl Iterator<Item = (&'a Line, &'a Path)> {
    let place = around(table, path).and_then(|line| {
        let inside = path.strip_prefix(&line.mount_point).ok()?;
        Some(((line.major, line.minor), line.root.join(inside)))
    });
    table.iter().filter_map(move |line| {
        let (device, root) = place.as_ref()?;
        let rest = line.root.strip_prefix(root).ok()?;
        ((line.major, line.minor) == *device).then_some((line, rest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_gives_all_its_fields() {
        let table = parse(
            b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n\
              torn line\n\
              40 36 0:41 / /a\\040b\\134c\xff rw,nodev - overlay overlay rw,lowerdir=/l\\072x:/m,upperdir=/u\\054v\n",
        );
        assert_eq!(table.len(), 2);
        let [first, second] = &table[..] else {
            unreachable!()
        };
        assert_eq!((first.id, first.parent), (36, 35));
        assert_eq!((first.major, first.minor), (98, 0));
        assert_eq!(first.root, Path::new("/mnt1"));
        assert_eq!(first.mount_point, Path::new("/mnt2"));
        assert_eq!(first.options, "rw,noatime");
        assert!(first.is_shared && !second.is_shared);
        assert_eq!(first.fs_type, "ext3");
        assert_eq!(first.source, "/dev/root");
        assert_eq!(first.super_option("errors").unwrap(), "continue");
        let odd = OsString::from_vec(b"/a b\\c\xff".to_vec());
        assert_eq!(second.mount_point, PathBuf::from(&odd));
        assert_eq!(second.super_option("upperdir").unwrap(), "/u,v");
        assert_eq!(below(&table, Path::new(&odd)).count(), 1);
        assert_eq!(below(&table, Path::new("/mnt")).count(), 0);
        let around = |path: &str| around(&table, Path::new(path)).map(|line| line.id);
        assert_eq!(around("/mnt2/a"), Some(36));
        assert_eq!(around("/mnt20"), None);
    }

    #[test]
    fn what_shows_a_directory_is_found_by_what_is_mounted() {
        let table = parse(
            b"1 0 8:1 / / rw - ext4 /dev/a rw\n\
              2 1 8:2 /sub /data rw - ext4 /dev/b rw\n\
              3 1 8:2 /sub/home/one/diff /elsewhere rw - ext4 /dev/b rw\n\
              4 1 8:1 /data/home/two /other rw - ext4 /dev/a rw\n\
              5 2 8:2 /sub/home /data/home rw - ext4 /dev/b rw\n\
              6 1 0:9 / /o rw - overlay o rw,lowerdir+=/a\\072b,lowerdir+=/c,lowerdir=d:e\n",
        );
        let shown: Vec<_> = shown_of(&table, Path::new("/data/home"))
            .map(|(line, rest)| (line.id, rest.to_str().unwrap()))
            .collect();
        assert_eq!(shown, [(3, "one/diff"), (5, "")]);
        let paths = |name: &str| table[5].super_paths(name);
        assert_eq!(paths("lowerdir+"), [Path::new("/a:b"), Path::new("/c")]);
        assert_eq!(paths("lowerdir"), [Path::new("d"), Path::new("e")]);
    }

    #[test]
    fn the_own_table_has_a_root() {
        let table = read().unwrap();
        assert!(
            table
                .iter()
                .any(|entry| entry.mount_point == Path::new("/"))
        );
    }
}
