//! OCI image layouts as a [`Destination`]: `oci:DIR[:NAME]` and `oci-archive:FILE[:NAME]`.
//!
//! A directory keeps the images that it has: blobs are added, and the index is replaced at the end.
//! An archive is written anew, from a layout that is gathered beside it.

use std::io::{self, BufWriter, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::destination::{Content, Destination, HashingWriter};
use super::layout::{INDEX, REF_NAME};
use super::manifest::Descriptor;
use super::source::{Resolved, SourceError};
use crate::archive::tar;
use crate::digest::Digest;
use crate::sys::dir::random_u64;
use crate::sys::record_lock::{Access, RecordLock};
use crate::sys::{self, Buffer, Dir, Durability};

const MARK: &str = "oci-layout";
const MARK_TEXT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const BLOBS: &str = "blobs/sha256";
/// Files and directories of a layout are for everybody.
const FILE_MODE: u32 = 0o644;
const DIR_MODE: u32 = 0o755;
const BUFFER: usize = 256 * 1024;
/// What the name of a file begins with that has no other yet.
const TEMPORARY: &str = ".tmp-";

/// An image on its way into a layout in a directory.
#[derive(Debug)]
pub struct LayoutWriter {
    dir: Dir,
    blobs: Dir,
    name: Option<String>,
}

impl LayoutWriter {
    /// Opens the layout in the directory `path`, which is made when it is missing, for an image that
    /// shall be called `name` in it.
    ///
    /// # Errors
    /// When the directory is something else, or can't be written.
    pub fn open(path: &Path, name: Option<&str>) -> Result<Self, SourceError> {
        let dir = Dir::open_or_create(&absolute(path)?, DIR_MODE)?;
        let is_layout = dir.stat(MARK)?.is_some() || dir.stat(INDEX)?.is_some();
        if !is_layout && dir.list()?.iter().any(|entry| !is_temporary(entry)) {
            return Err(SourceError::unsupported(
                format_args!("oci:{}", path.display()),
                "the directory has other files and no image layout: name a new one",
            ));
        }
        if dir.stat(MARK)?.is_none() {
            dir.create_whole(MARK, MARK_TEXT, FILE_MODE)?;
        }
        dir.ensure_dir("blobs", DIR_MODE)?;
        let blobs = dir.ensure_dir(BLOBS, DIR_MODE)?;
        Ok(Self {
            dir,
            blobs,
            name: name.map(str::to_owned),
        })
    }

    /// Writes a blob without a name, so that a kill leaves nothing, and then names it by its digest.
    fn put(&self, content: &Content<'_>) -> Result<(Digest, u64), SourceError> {
        let temporary = Temporary {
            dir: &self.blobs,
            name: format!("{TEMPORARY}{:016x}", random_u64()),
        };
        let (file, has_name) = match self.blobs.create_unnamed_file(FILE_MODE) {
            Ok(file) => (file, false),
            // Network file systems have no unnamed files.
            Err(_) => (self.blobs.create_file(&temporary.name, FILE_MODE)?, true),
        };
        let path = file.path().to_owned();
        let fail = |error: io::Error| sys::Error::new("write", &path, error);
        let mut out = HashingWriter::new(BufWriter::with_capacity(BUFFER, file));
        content(&mut out).map_err(fail)?;
        let (digest, size, out) = out.finish();
        let file = out.into_inner().map_err(|error| fail(error.into_error()))?;
        file.sync_data()?;
        if !has_name {
            self.blobs.link_file(&file, &temporary.name)?;
        }
        self.blobs
            .rename(&temporary.name, &self.blobs, digest.hex())?;
        Ok((digest, size))
    }

    /// Lists the manifest in the index, in the place of one with the same name.
    fn list(&self, manifest: &Resolved) -> Result<(), SourceError> {
        // Others that write into this layout wait; its own files serve as lock.
        let lock = RecordLock::acquire(&self.dir, MARK, Access::Exclusive)?;
        let origin = self.dir.path().join(INDEX);
        let mut index: Value = match self.dir.find(INDEX)? {
            None => json!({ "schemaVersion": 2 }),
            Some(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| SourceError::corrupt(origin.display(), error))?,
        };
        let Some(object) = index.as_object_mut() else {
            return Err(SourceError::corrupt(origin.display(), "it is no object"));
        };
        let entries = object.entry("manifests").or_insert_with(|| json!([]));
        let Some(entries) = entries.as_array_mut() else {
            return Err(SourceError::corrupt(
                origin.display(),
                "its manifests are no list",
            ));
        };
        let name_of = |entry: &Value| {
            let name = entry.get("annotations").and_then(|all| all.get(REF_NAME));
            name.and_then(Value::as_str).map(str::to_owned)
        };
        let digest = manifest.digest.as_str();
        entries.retain(|entry| {
            let found = name_of(entry);
            let is_same = entry.get("digest").and_then(Value::as_str) == Some(digest);
            match &self.name {
                Some(name) => found.as_ref() != Some(name) && !(found.is_none() && is_same),
                None => found.is_some() || !is_same,
            }
        });
        let mut entry = json!({
            "mediaType": manifest.media_type,
            "digest": digest,
            "size": manifest.bytes.len(),
        });
        if let Some(name) = &self.name {
            entry["annotations"] = json!({ REF_NAME: name });
        }
        entries.push(entry);
        self.dir
            .replace(INDEX, index.to_string().as_bytes(), Durability::Durable)?;
        self.dir.set_mode_of(INDEX, FILE_MODE)?;
        drop(lock);
        Ok(())
    }
}

impl Destination for LayoutWriter {
    fn takes_docker(&self) -> bool {
        false
    }

    fn has_blob(&self, blob: &Descriptor) -> Result<bool, SourceError> {
        let path = format!("{}/{}", blob.digest.algorithm().as_str(), blob.digest.hex());
        let found = self.dir.stat(Path::new("blobs").join(path))?;
        Ok(found.is_some_and(|stat| stat.st_size.unsigned_abs() == blob.size))
    }

    fn put_blob(&self, _: &str, content: &Content<'_>) -> Result<(Digest, u64), SourceError> {
        self.put(content)
    }

    fn put_bytes(&self, digest: &Digest, bytes: &[u8]) -> Result<(), SourceError> {
        let blob = Descriptor::new("", digest.clone(), bytes.len() as u64);
        if self.has_blob(&blob)? {
            return Ok(());
        }
        self.put(&|out| out.write_all(bytes)).map(drop)
    }

    fn publish(&self, manifest: &Resolved) -> Result<(), SourceError> {
        self.put_bytes(&manifest.digest, &manifest.bytes)?;
        self.blobs.sync()?;
        self.list(manifest)
    }
}

/// An image on its way into a layout in a tar file.
#[derive(Debug)]
pub struct ArchiveWriter {
    layout: LayoutWriter,
    /// Where the archive will be.
    folder: Dir,
    file: PathBuf,
    gathered: String,
}

impl ArchiveWriter {
    /// Begins an archive at `path`, whose image shall be called `name` in it. A file that is there is
    /// replaced at the end.
    ///
    /// # Errors
    /// When its directory can't be written.
    pub fn create(path: &Path, name: Option<&str>) -> Result<Self, SourceError> {
        let path = absolute(path)?;
        let (Some(parent), Some(file)) = (path.parent(), path.file_name()) else {
            return Err(SourceError::unsupported(
                format_args!("oci-archive:{}", path.display()),
                "it names no file",
            ));
        };
        let folder = Dir::open(parent)?;
        let gathered = format!("{TEMPORARY}{}-{:016x}", file.display(), random_u64());
        folder.create_dir(&gathered, 0o700)?;
        let made = LayoutWriter::open(&folder.path().join(&gathered), name);
        let layout = match made {
            Ok(layout) => layout,
            Err(error) => {
                drop(folder.remove_tree(&gathered));
                return Err(error);
            }
        };
        Ok(Self {
            layout,
            folder,
            file: file.into(),
            gathered,
        })
    }

    /// Packs the gathered layout: its mark and index first, so that a stream can be read as it comes.
    fn pack(&self) -> Result<(), SourceError> {
        let temporary = Temporary {
            dir: &self.folder,
            name: format!("{TEMPORARY}{}-{:016x}", self.file.display(), random_u64()),
        };
        let file = self.folder.create_file(&temporary.name, FILE_MODE)?;
        let path = file.path().to_owned();
        let fail = |error: io::Error| sys::Error::new("write", &path, error);
        let mut out = tar::Writer::new(BufWriter::with_capacity(BUFFER, file));
        let mut names: Vec<_> = self.layout.blobs.list()?;
        names.sort_by(|a, b| a.name.cmp(&b.name));
        let blobs = names
            .iter()
            .map(|entry| format!("{BLOBS}/{}", entry.name.display()));
        let files = [MARK.to_owned(), INDEX.to_owned()].into_iter();
        for name in ["blobs/", "blobs/sha256/"] {
            out.entry(&member(tar::Kind::Directory, name, 0))
                .map_err(fail)?;
        }
        for name in files.chain(blobs) {
            let mut file = self.layout.dir.open_file(&name)?;
            let size = file.stat()?.st_size.unsigned_abs();
            out.entry(&member(tar::Kind::Regular, &name, size))
                .map_err(fail)?;
            let mut buffer = Buffer::new(BUFFER);
            loop {
                let read = file
                    .read(&mut buffer)
                    .map_err(|error| sys::Error::new("read", file.path(), error))?;
                if read == 0 {
                    break;
                }
                out.data(&buffer[..read]).map_err(fail)?;
            }
        }
        let out = out.finish().map_err(fail)?;
        let file = out.into_inner().map_err(|error| fail(error.into_error()))?;
        file.sync_data()?;
        self.folder
            .rename(&temporary.name, &self.folder, &self.file)?;
        Ok(self.folder.sync()?)
    }
}

impl Destination for ArchiveWriter {
    fn takes_docker(&self) -> bool {
        self.layout.takes_docker()
    }

    fn has_blob(&self, blob: &Descriptor) -> Result<bool, SourceError> {
        self.layout.has_blob(blob)
    }

    fn put_blob(&self, what: &str, content: &Content<'_>) -> Result<(Digest, u64), SourceError> {
        self.layout.put_blob(what, content)
    }

    fn put_bytes(&self, digest: &Digest, bytes: &[u8]) -> Result<(), SourceError> {
        self.layout.put_bytes(digest, bytes)
    }

    fn publish(&self, manifest: &Resolved) -> Result<(), SourceError> {
        self.layout.publish(manifest)?;
        self.pack()
    }
}

impl Drop for ArchiveWriter {
    fn drop(&mut self) {
        if let Err(error) = self.folder.remove_tree(&self.gathered) {
            tracing::warn!(%error, "what was gathered for an archive could not be removed");
        }
    }
}

/// A file that is removed unless it was renamed.
struct Temporary<'a> {
    dir: &'a Dir,
    name: String,
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.dir.remove_file_if_found(&self.name) {
            tracing::warn!(%error, "a half-written file could not be removed");
        }
    }
}

/// True for what a push that was killed may have left: no file of anybody's.
fn is_temporary(entry: &sys::Entry) -> bool {
    entry.name.as_bytes().starts_with(TEMPORARY.as_bytes())
}

fn absolute(path: &Path) -> Result<PathBuf, sys::Error> {
    std::path::absolute(path).map_err(|error| sys::Error::new("find", path, error))
}

fn member(kind: tar::Kind, name: &str, size: u64) -> tar::Entry {
    tar::Entry {
        kind,
        name: name.as_bytes().to_vec(),
        link: Vec::new(),
        mode: match kind {
            tar::Kind::Directory => DIR_MODE,
            _ => FILE_MODE,
        },
        uid: 0,
        gid: 0,
        size,
        modified: tar::Time::default(),
        accessed: None,
        device: (0, 0),
        attributes: Vec::new(),
        sparse: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Layout;
    use crate::oci::manifest::media_type;
    use crate::oci::source::Source;

    fn manifest(text: &str) -> Resolved {
        Resolved {
            bytes: text.as_bytes().to_vec(),
            digest: Digest::of(text.as_bytes()),
            media_type: media_type::OCI_MANIFEST.to_owned(),
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_layout_keeps_its_images_and_a_name_leads_to_the_last_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/layout");
        let push = |name: Option<&str>, text: &str| {
            let writer = LayoutWriter::open(&path, name).unwrap();
            writer.publish(&manifest(text)).unwrap();
        };
        push(Some("a"), "one");
        push(Some("b"), "two");
        push(Some("a"), "three");
        let read = |name: Option<&str>| Layout::open(&path, name).unwrap().resolve().unwrap().bytes;
        assert_eq!(read(Some("a")), b"three");
        assert_eq!(read(Some("b")), b"two");
        push(None, "four");
        push(None, "four");
        let index: Value =
            serde_json::from_slice(&std::fs::read(path.join(INDEX)).unwrap()).unwrap();
        assert_eq!(index["manifests"].as_array().unwrap().len(), 3);
        assert_eq!(names(&path), ["blobs", "index.json", "oci-layout"]);
        assert_eq!(names(&path.join(BLOBS)).len(), 4);
    }

    #[test]
    fn a_blob_that_fails_leaves_nothing_and_a_strange_directory_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layout");
        let writer = LayoutWriter::open(&path, None).unwrap();
        let failing = |out: &mut dyn io::Write| {
            out.write_all(b"half")?;
            Err(io::Error::other("no more"))
        };
        assert!(writer.put_blob("x", &failing).is_err());
        assert!(names(&path.join(BLOBS)).is_empty());
        let (digest, size) = writer.put_blob("x", &|out| out.write_all(b"all")).unwrap();
        let blob = Descriptor::new("", digest, size);
        assert!(writer.has_blob(&blob).unwrap());
        assert!(!writer.has_blob(&Descriptor { size: 4, ..blob }).unwrap());

        // A push that was killed before there was a mark once made the directory a strange one.
        let begun = folder.path().join("begun");
        std::fs::create_dir(&begun).unwrap();
        std::fs::write(begun.join(".tmp-oci-layout-0011223344556677"), "{").unwrap();
        LayoutWriter::open(&begun, None).unwrap();
        assert_eq!(std::fs::read(begun.join(MARK)).unwrap(), MARK_TEXT);

        std::fs::write(folder.path().join("file"), "x").unwrap();
        let error = LayoutWriter::open(folder.path(), None).unwrap_err();
        assert!(error.to_string().contains("other files"), "{error}");
        assert_eq!(names(folder.path()), ["begun", "file", "layout"]);
    }

    #[test]
    fn an_archive_is_there_when_it_is_whole_and_equal_images_give_equal_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = ["one.tar", "two.tar"].map(|name| folder.path().join(name));
        for file in [&one, &two] {
            let writer = ArchiveWriter::create(file, Some("x")).unwrap();
            writer.put_blob("x", &|out| out.write_all(b"all")).unwrap();
            assert!(!file.exists());
            writer.publish(&manifest("one")).unwrap();
        }
        assert_eq!(names(folder.path()), ["one.tar", "two.tar"]);
        assert_eq!(std::fs::read(&one).unwrap(), std::fs::read(&two).unwrap());
        let layout = Layout::open_archive(&one, Some("x"), folder.path(), 0).unwrap();
        assert_eq!(layout.resolve().unwrap().bytes, b"one");
        drop(ArchiveWriter::create(&one, None).unwrap());
        assert_eq!(names(folder.path()), ["one.tar", "two.tar"]);
    }
}
