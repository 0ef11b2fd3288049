//! Named blobs beside a record: their files, sizes and digests.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::error::{Error, Kind};
use super::replacing::{Intent, Listing};
use super::transaction::{Scope, Transaction};
use super::{BigDataItem, RecordedDigest, Store};
use crate::digest::Digest;

/// The file that holds the item `key`: the key itself if it is made of `a`-`z`, `0`-`9` and `.`, but for its last letter,
/// which may be any, as the peer has it; else `=` and its base64. A slash at the end of that leads to the same file.
///
/// # Errors
/// When that is no single path component: such an item could not be stored.
pub fn file_name(key: &str) -> Result<String, Error> {
    let is_plain = |letter: char| matches!(letter, 'a'..='z' | '0'..='9' | '.');
    let rest = key.trim_start_matches(is_plain);
    let name = if rest.chars().nth(1).is_none() {
        key.to_owned()
    } else {
        let mut name = format!("={}", STANDARD.encode(key));
        if name.ends_with('/') {
            name.pop();
        }
        name
    };
    if matches!(name.as_str(), "" | "." | "..") || name.contains('/') || name.len() > 255 {
        return Err(Error::BigDataName);
    }
    Ok(name)
}

/// What a record says of its big data.
struct Listed {
    id: String,
    keys: Vec<String>,
    size: Option<i64>,
    digest: Option<Digest>,
    /// Which store's folders hold the files: 0 for our own, else the number of the additional one.
    store: usize,
}

fn digest_of(digests: &BTreeMap<String, RecordedDigest>, key: &str) -> Option<Digest> {
    digests.get(key).and_then(RecordedDigest::get).cloned()
}

impl Store {
    fn listed(&self, kind: Kind, object: &str, key: &str) -> Result<Listed, Error> {
        let unknown = || Error::Unknown(kind);
        match kind {
            Kind::Layer => {
                let layer = self.find_layer(object)?.ok_or_else(unknown)?;
                let store = self.store_of(layer.is_read_only, kind, &layer.id)?;
                let keys = layer.big_data_names.clone();
                Ok(Listed {
                    id: layer.id.clone(),
                    keys,
                    size: None,
                    digest: None,
                    store,
                })
            }
            Kind::Image => {
                let image = self.find_image(object)?.ok_or_else(unknown)?;
                let store = self.store_of(image.is_read_only, kind, &image.id)?;
                Ok(Listed {
                    id: image.id.clone(),
                    keys: image.big_data_names.clone(),
                    size: image.big_data_sizes.get(key).copied(),
                    digest: digest_of(&image.big_data_digests, key),
                    store,
                })
            }
            Kind::Container => {
                let container = self.find_container(object)?.ok_or_else(unknown)?;
                Ok(Listed {
                    id: container.id.clone(),
                    keys: container.big_data_names.clone(),
                    size: container.big_data_sizes.get(key).copied(),
                    digest: digest_of(&container.big_data_digests, key),
                    store: 0,
                })
            }
        }
    }

    fn store_of(&self, is_read_only: bool, kind: Kind, id: &str) -> Result<usize, Error> {
        if !is_read_only {
            return Ok(0);
        }
        for (number, other) in self.0.others.iter().enumerate() {
            let has_it = match kind {
                Kind::Layer => other.layers.has(id)?,
                Kind::Image => match &other.images {
                    Some(images) => images.has(id)?,
                    None => false,
                },
                Kind::Container => false,
            };
            if has_it {
                return Ok(number + 1);
            }
        }
        Err(Error::Unknown(kind))
    }

    /// The keys of an object's big data, in the order in which they came.
    ///
    /// # Errors
    /// When the object is unknown.
    pub fn list_big_data(&self, kind: Kind, object: &str) -> Result<Vec<String>, Error> {
        Ok(self.listed(kind, object, "")?.keys)
    }

    /// The bytes of one item.
    ///
    /// # Errors
    /// When the object or the item is unknown, or can't be read.
    pub fn big_data(&self, kind: Kind, object: &str, key: &str) -> Result<Vec<u8>, Error> {
        let listed = self.listed(kind, object, key)?;
        let inner = &self.0;
        let home = match (kind, listed.store) {
            (Kind::Layer, 0) => inner.layers.dir(),
            (Kind::Image, 0) => inner.images.dir_of(&listed.id),
            (Kind::Container, _) => inner.containers.dir(),
            (Kind::Layer, other) => inner.others[other - 1].layers.dir(),
            (Kind::Image, other) => match &inner.others[other - 1].images {
                Some(images) => images.dir(),
                None => return Err(Error::Unknown(kind)),
            },
        };
        let bytes = match home.find_dir(&listed.id)? {
            Some(dir) => dir.find(file_name(key)?)?,
            None => None,
        };
        bytes.ok_or_else(|| Error::NoBigData {
            kind,
            key: key.to_owned(),
        })
    }

    /// The size of one item in bytes.
    ///
    /// # Errors
    /// When the object or the item is unknown.
    pub fn big_data_size(&self, kind: Kind, object: &str, key: &str) -> Result<u64, Error> {
        match self.listed(kind, object, key)?.size {
            Some(size) => Ok(size.unsigned_abs()),
            None => match self.big_data(kind, object, key) {
                Ok(bytes) => Ok(bytes.len() as u64),
                Err(Error::NoBigData { .. }) => Err(Error::SizeUnknown),
                Err(error) => Err(error),
            },
        }
    }

    /// The recorded digest of one item.
    ///
    /// # Errors
    /// When the object is unknown, or no digest is recorded.
    pub fn big_data_digest(&self, kind: Kind, object: &str, key: &str) -> Result<Digest, Error> {
        self.listed(kind, object, key)?
            .digest
            .ok_or(Error::DigestUnknown)
    }

    /// Stores an item, replacing one with the same key: see [`super::replacing`].
    ///
    /// # Errors
    /// When the object is unknown or an additional store's, the key can't name a file, or it can't be
    /// written.
    pub fn set_big_data(&self, kind: Kind, object: &str, item: BigDataItem) -> Result<(), Error> {
        let name = file_name(&item.key)?;
        let staging = match kind {
            Kind::Image => self.0.staging_beside(self.0.images.dir()),
            _ => &self.0.staging,
        };
        let entry = staging.entry()?;
        entry
            .create_dir()?
            .write_new(&name, &item.bytes, 0o600)?
            .sync_data()?;
        let object = object.to_owned();
        let saved = self.write(Scope::of(kind), move |transaction| {
            transaction.require_durable();
            let id = transaction.id_of(kind, &object)?;
            let new = Listing {
                size: Some(item.bytes.len() as i64),
                digest: Some(item.recorded_digest().into()),
            };
            let key = &item.key;
            let at = match transaction.listing(kind, &id, key)? {
                None => usize::MAX,
                Some((at, old)) => {
                    if kind != Kind::Layer && old != new {
                        let intent = Intent {
                            id: id.clone(),
                            key: key.clone(),
                            at,
                            old,
                            new: new.clone(),
                            sha256: Digest::of(&item.bytes),
                        };
                        transaction.begin_replacement(kind, &intent)?;
                    }
                    at
                }
            };
            let home = transaction.store.data_home(kind, &id);
            transaction.put_file(&entry, &name, home.ensure_dir(&id, 0o700)?)?;
            transaction.set_listing(kind, &id, (key, at), Some(&new))
        });
        if saved.is_err()
            && let Err(error) = self.finish_replacements()
        {
            tracing::warn!(%error, "data that could not be replaced may not be listed until the store is opened again");
        }
        saved
    }
}

impl Transaction<'_> {
    /// The ID of the object that `key` finds.
    fn id_of(&mut self, kind: Kind, key: &str) -> Result<String, Error> {
        let id = match kind {
            Kind::Layer => self.layers().find(key)?.map(|layer| layer.id.clone()),
            Kind::Image => self.images().find(key)?.map(|image| image.id.clone()),
            Kind::Container => self.containers().find(key)?.map(|found| found.id.clone()),
        };
        id.ok_or(Error::Unknown(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_go_uses() {
        assert_eq!(file_name("manifest").unwrap(), "manifest");
        assert!(
            file_name("manifest-sha256:00")
                .unwrap()
                .starts_with("=bWFuaWZlc3Qtc2hhMjU2Oj")
        );
        // Go's loop takes no notice of the last letter.
        for plain in ["=", "itemA", "a-", "Ä", "ab="] {
            assert_eq!(file_name(plain).unwrap(), plain);
        }
        assert_eq!(file_name("Some").unwrap(), "=U29tZQ==");
        assert_eq!(file_name("???").unwrap(), "=Pz8");
        for bad in ["", ".", "..", "????", "a/", &"x".repeat(300)] {
            assert!(file_name(bad).is_err(), "{bad:?}");
        }
    }
}
