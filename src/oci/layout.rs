//! OCI image layouts as a [`Source`]: `oci:DIR[:NAME]` and `oci-archive:FILE[:NAME]`.
//!
//! An archive is a tar of a layout. Its members are looked up by their place in the file; a
//! compressed one is first decompressed into an unnamed file.

use std::collections::HashMap;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::manifest::{Descriptor, LARGEST_MANIFEST, media_type};
use super::source::{BlobReader, Resolved, Source, SourceError, VerifyingReader, read_bounded};
use crate::archive::compression::{self, Compression};
use crate::archive::tar;
use crate::sys::{self, Buffer, Dir, File};

/// Under which annotation an index keeps the name of an image.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
pub(super) const INDEX: &str = "index.json";
/// The most members that an archive may have: a layout needs one a blob.
const MOST_MEMBERS: usize = 100_000;

/// An image in a layout.
#[derive(Debug)]
pub struct Layout {
    files: Files,
    /// What the user named, for messages.
    origin: String,
    image: Descriptor,
}

/// Where the layout's files are.
#[derive(Debug)]
enum Files {
    Directory(PathBuf),
    Archive {
        file: Arc<File>,
        /// Offset and size of each regular member.
        members: HashMap<Vec<u8>, (u64, u64)>,
    },
}

#[derive(Deserialize)]
struct RawIndex {
    manifests: Vec<Descriptor>,
}

impl Layout {
    /// Opens the layout in the directory `dir` and finds the image `name` in it: the only one when
    /// there is no name.
    ///
    /// # Errors
    /// When it is no layout, or has no such image, or several and no name is given.
    pub fn open(dir: &Path, name: Option<&str>) -> Result<Self, SourceError> {
        let origin = format!("oci:{}", dir.display());
        Self::find(Files::Directory(dir.to_path_buf()), origin, name)
    }

    /// Opens the layout in the tar file `path`. A compressed one is decompressed into an unnamed
    /// file in `spool`, up to `limit` bytes.
    ///
    /// # Errors
    /// As [`Layout::open`], and when the archive is malformed or too large.
    pub fn open_archive(
        path: &Path,
        name: Option<&str>,
        spool: &Path,
        limit: u64,
    ) -> Result<Self, SourceError> {
        let origin = format!("oci-archive:{}", path.display());
        let file = plain_file(path, spool, limit, &origin)?;
        let members = list_members(&file, &origin)?;
        let file = Arc::new(file);
        Self::find(Files::Archive { file, members }, origin, name)
    }

    fn find(files: Files, origin: String, name: Option<&str>) -> Result<Self, SourceError> {
        let Some(reader) = files.open(INDEX)? else {
            return Err(SourceError::NotFound {
                what: format!("an OCI image layout ({INDEX}) in {origin}"),
            });
        };
        let what = format!("{INDEX} of {origin}");
        let bytes = read_bounded(reader, &what, LARGEST_MANIFEST)?;
        let index: RawIndex =
            serde_json::from_slice(&bytes).map_err(|error| SourceError::corrupt(&what, error))?;
        let names: Vec<&str> = index
            .manifests
            .iter()
            .filter_map(|entry| entry.annotation(REF_NAME))
            .collect();
        let offered = match names.as_slice() {
            [] => "its images have no names".to_owned(),
            some => format!("there is {}", some.join(", ")),
        };
        let image = match (name, index.manifests.as_slice()) {
            (None, [only]) => only.clone(),
            (None, []) => {
                return Err(SourceError::NotFound {
                    what: format!("an image in {origin}"),
                });
            }
            (None, several) => {
                return Err(SourceError::NotFound {
                    what: format!(
                        "the only image in {origin}: it has {}, name one as {origin}:NAME ({offered})",
                        several.len()
                    ),
                });
            }
            (Some(name), entries) => entries
                .iter()
                .find(|entry| entry.annotation(REF_NAME) == Some(name))
                .ok_or_else(|| SourceError::NotFound {
                    what: format!("the image {name:?} in {origin} ({offered})"),
                })?
                .clone(),
        };
        Ok(Self {
            files,
            origin,
            image,
        })
    }

    /// The name that the layout itself gives the image.
    pub fn ref_name(&self) -> Option<&str> {
        self.image.annotation(REF_NAME)
    }
}

impl Source for Layout {
    fn resolve(&self) -> Result<Resolved, SourceError> {
        self.manifest(&self.image)
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Resolved, SourceError> {
        let what = format!("the manifest {} of {}", descriptor.digest, self.origin);
        let reader = VerifyingReader::new(self.blob(descriptor)?, descriptor);
        let bytes = read_bounded(reader, &what, LARGEST_MANIFEST)?;
        let media_type = match descriptor.media_type.as_str() {
            // Some writers call every entry of the top index a manifest without saying which.
            "" => media_type::OCI_MANIFEST.to_owned(),
            known => known.to_owned(),
        };
        Ok(Resolved {
            bytes,
            digest: descriptor.digest.clone(),
            media_type,
        })
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<BlobReader, SourceError> {
        let digest = &descriptor.digest;
        let path = format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex());
        let missing = || SourceError::NotFound {
            what: format!("the blob {digest} in {}", self.origin),
        };
        let reader = self.files.open(&path)?.ok_or_else(missing)?;
        Ok(Box::new(Sized {
            inner: reader,
            what: format!("the blob {digest} of {}", self.origin),
            size: descriptor.size,
            count: 0,
        }))
    }
}

impl Files {
    fn open(&self, name: &str) -> Result<Option<BlobReader>, SourceError> {
        match self {
            Self::Directory(dir) => match File::open(dir.join(name)) {
                Ok(file) => Ok(Some(Box::new(file))),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error.into()),
            },
            Self::Archive { file, members } => {
                let member = members.get(name.as_bytes());
                Ok(member.map(|&(offset, size)| {
                    let file = Arc::clone(file);
                    Box::new(Member {
                        file,
                        offset,
                        end: offset + size,
                    }) as BlobReader
                }))
            }
        }
    }
}

/// Fails unless the stream has its size.
struct Sized<R> {
    inner: R,
    what: String,
    size: u64,
    count: u64,
}

impl<R: Read> Read for Sized<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.count += read as u64;
        let is_short = read == 0 && !bytes.is_empty() && self.count < self.size;
        if is_short || self.count > self.size {
            let many = if is_short { "only" } else { "more than" };
            let count = if is_short { self.count } else { self.size };
            let detail = format!("it has {many} {count} bytes, {} are promised", self.size);
            return Err(SourceError::corrupt(&self.what, detail).into());
        }
        Ok(read)
    }
}

/// A part of a file, read without moving the file's position.
struct Member {
    file: Arc<File>,
    offset: u64,
    end: u64,
}

impl Read for Member {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
        let wanted = bytes.len().min(left);
        let read = self.file.read_at(&mut bytes[..wanted], self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// The archive itself when it is not compressed, else its plain form in an unnamed file.
fn plain_file(path: &Path, spool: &Path, limit: u64, origin: &str) -> Result<File, SourceError> {
    let corrupt = |error: io::Error| SourceError::corrupt(origin, error);
    let file = File::open(path)?;
    let mut start = [0; 16];
    let read = file.read_at(&mut start, 0)?;
    if compression::detect(&start[..read]) == Compression::None {
        return Ok(file);
    }
    let (_, mut decoder) = compression::decoder(file).map_err(corrupt)?;
    let mut plain = Dir::open(spool)?.create_unnamed_file(0o600)?;
    let mut buffer = Buffer::new(256 * 1024);
    let mut size = 0;
    loop {
        let read = match decoder.read(&mut buffer) {
            Ok(0) => return Ok(plain),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(corrupt(error)),
        };
        size += read as u64;
        if size > limit {
            return Err(SourceError::TooLarge {
                what: format!("{origin}, decompressed,"),
                size,
                limit,
            });
        }
        plain
            .write_all(&buffer[..read])
            .map_err(|error| sys::Error::new("write", spool, error))?;
    }
}

fn list_members(file: &File, origin: &str) -> Result<HashMap<Vec<u8>, (u64, u64)>, SourceError> {
    let corrupt = |error: tar::Error| SourceError::corrupt(origin, error);
    let size = file.stat()?.st_size.unsigned_abs();
    let mut reader = tar::Reader::new(FromStart { file, offset: 0 });
    let mut members = HashMap::new();
    while let Some(entry) = reader.next_entry().map_err(corrupt)? {
        if entry.kind == tar::Kind::Regular && entry.sparse.is_none() {
            let name = entry.name.strip_prefix(b"./").unwrap_or(&entry.name);
            let at = reader.offset();
            if at.checked_add(entry.size).is_none_or(|end| end > size) {
                return Err(SourceError::corrupt(
                    origin,
                    "a member ends behind the file",
                ));
            }
            members.insert(name.to_vec(), (at, entry.size));
        }
        if members.len() > MOST_MEMBERS {
            return Err(SourceError::corrupt(
                origin,
                format_args!("it has more than {MOST_MEMBERS} members"),
            ));
        }
        while !reader.data().map_err(corrupt)?.is_empty() {}
    }
    Ok(members)
}

struct FromStart<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(bytes, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn write_layout(dir: &Path, names: &[Option<&str>]) -> Descriptor {
        let blob = b"a manifest";
        let digest = Digest::of(blob);
        std::fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        std::fs::write(dir.join("blobs/sha256").join(digest.hex()), blob).unwrap();
        let entries: Vec<String> = names
            .iter()
            .map(|name| {
                let annotations = match name {
                    Some(name) => format!(r#","annotations":{{"{REF_NAME}":"{name}"}}"#),
                    None => String::new(),
                };
                format!(
                    r#"{{"mediaType":"{}","digest":"{digest}","size":{}{annotations}}}"#,
                    media_type::OCI_MANIFEST,
                    blob.len()
                )
            })
            .collect();
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
            entries.join(",")
        );
        std::fs::write(dir.join(INDEX), index).unwrap();
        Descriptor::new(media_type::OCI_MANIFEST, digest, blob.len() as u64)
    }

    fn pack(dir: &Path, compress: bool) -> Vec<u8> {
        let mut archive = Vec::new();
        let mut add = |name: &str| {
            let bytes = std::fs::read(dir.join(name)).unwrap();
            let mut block = [0u8; 512];
            block[..name.len()].copy_from_slice(name.as_bytes());
            block[100..107].copy_from_slice(b"0000644");
            block[124..135].copy_from_slice(format!("{:011o}", bytes.len()).as_bytes());
            block[148..156].copy_from_slice(b"        ");
            block[156] = b'0';
            block[257..265].copy_from_slice(b"ustar\x0000");
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            archive.extend_from_slice(&block);
            archive.extend_from_slice(&bytes);
            archive.resize(archive.len().next_multiple_of(512), 0);
        };
        let digest = Digest::of(b"a manifest");
        add(&format!("blobs/sha256/{}", digest.hex()));
        add(INDEX);
        archive.resize(archive.len() + 1024, 0);
        if compress {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&archive).unwrap();
            archive = encoder.finish().unwrap();
        }
        archive
    }

    #[test]
    fn an_image_is_found_by_its_name_or_alone() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: Option<&str>| Layout::open(folder.path(), name);
        assert!(matches!(open(None), Err(SourceError::NotFound { .. })));
        write_layout(folder.path(), &[None]);
        assert_eq!(open(None).unwrap().resolve().unwrap().bytes, b"a manifest");
        write_layout(folder.path(), &[Some("one"), Some("two")]);
        assert_eq!(open(Some("two")).unwrap().ref_name(), Some("two"));
        for (name, expected) in [(None, "has 2"), (Some("three"), "one, two")] {
            let error = open(name).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn damaged_blobs_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let descriptor = write_layout(folder.path(), &[None]);
        let blob = folder
            .path()
            .join("blobs/sha256")
            .join(descriptor.digest.hex());
        let layout = Layout::open(folder.path(), None).unwrap();
        for bytes in [&b"a manifesT"[..], b"a mani", b"a manifest and more"] {
            std::fs::write(&blob, bytes).unwrap();
            let error = layout.resolve().unwrap_err();
            assert!(matches!(error, SourceError::Corrupt { .. }), "{error}");
        }
        std::fs::remove_file(&blob).unwrap();
        let error = layout.resolve().unwrap_err();
        assert!(matches!(error, SourceError::NotFound { .. }), "{error}");
    }

    #[test]
    fn archives_are_read_plain_and_compressed() {
        let folder = tempfile::tempdir().unwrap();
        write_layout(folder.path(), &[Some("x")]);
        for compress in [false, true] {
            let file = folder.path().join("archive.tar");
            std::fs::write(&file, pack(folder.path(), compress)).unwrap();
            let open = |limit| Layout::open_archive(&file, Some("x"), folder.path(), limit);
            assert_eq!(
                open(1 << 20).unwrap().resolve().unwrap().bytes,
                b"a manifest"
            );
            assert_eq!(open(1000).is_err(), compress);
        }
        let cut = &pack(folder.path(), false)[..700];
        let file = folder.path().join("cut.tar");
        std::fs::write(&file, cut).unwrap();
        assert!(Layout::open_archive(&file, None, folder.path(), 1 << 20).is_err());
    }
}
