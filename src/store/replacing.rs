//! An item of big data that takes the place of another: a file and the record that has its size and digest can't change at
//! once, and the peer's check complains of a file that is not as its record says.
//!
//! Under the lock of their kind:
//!
//! 1. an [`Intent`] is written: the item, what its record says of it, and what it is to say;
//! 2. the record is saved without the item;
//! 3. the file is replaced;
//! 4. the record is saved with the item;
//! 5. the intent is removed.
//!
//! Who dies in between leaves an item that is not listed, which contradicts nothing. Who opens the store next finds the
//! intent, and lists the item again as its file then is: the old one or the new one. Each step is durable before the next.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::{Error, Kind};
use super::image_root::move_file;
use super::staging::Entry;
use super::table::ParseTableError;
use super::transaction::{Scope, Transaction};
use super::{ContainerRecord, ImageRecord, Inner, RecordedDigest, Store};
use crate::digest::Digest;
use crate::sys::{Dir, Durability};

/// What a record says of one item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listing {
    pub(super) size: Option<i64>,
    pub(super) digest: Option<RecordedDigest>,
}

/// One item that is about to replace another.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Intent {
    pub(super) id: String,
    pub(super) key: String,
    /// Its place in the list of keys.
    pub(super) at: usize,
    pub(super) old: Listing,
    pub(super) new: Listing,
    /// Of the new file; what is recorded may be another.
    pub(super) sha256: Digest,
}

/// Where in the graph root the intent for one kind lies; its kind's lock guards it.
fn path(kind: Kind) -> String {
    format!("strata/replacing-{kind}")
}

/// The big data in a record.
struct Items<'a> {
    names: &'a mut Vec<String>,
    sizes: &'a mut BTreeMap<String, i64>,
    digests: &'a mut BTreeMap<String, RecordedDigest>,
}

impl<'a> Items<'a> {
    fn of_image(image: &'a mut ImageRecord) -> Self {
        Self {
            names: &mut image.big_data_names,
            sizes: &mut image.big_data_sizes,
            digests: &mut image.big_data_digests,
        }
    }

    fn of_container(container: &'a mut ContainerRecord) -> Self {
        Self {
            names: &mut container.big_data_names,
            sizes: &mut container.big_data_sizes,
            digests: &mut container.big_data_digests,
        }
    }

    /// Says `listing` of the item, or nothing. A new one gets the place `at`.
    fn set(&mut self, key: &str, at: usize, listing: Option<&Listing>) {
        match listing {
            None => self.names.retain(|name| name != key),
            Some(_) if self.names.iter().any(|name| name == key) => {}
            Some(_) => self.names.insert(at.min(self.names.len()), key.to_owned()),
        }
        set(self.sizes, key, listing.and_then(|listing| listing.size));
        let digest = listing.and_then(|listing| listing.digest.clone());
        set(self.digests, key, digest);
    }
}

fn set<V>(map: &mut BTreeMap<String, V>, key: &str, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key.to_owned(), value)),
        None => drop(map.remove(key)),
    }
}

impl Inner {
    /// The folder in which objects of this kind have theirs, with their big data.
    pub(super) fn data_home(&self, kind: Kind, id: &str) -> &Dir {
        match kind {
            Kind::Layer => self.layers.dir(),
            Kind::Image => self.images.dir_of(id),
            Kind::Container => self.containers.dir(),
        }
    }
}

impl Scope {
    /// What guards the records of a kind.
    pub(super) fn of(kind: Kind) -> Self {
        match kind {
            Kind::Layer => Self::LAYERS,
            Kind::Image => Self::IMAGES,
            Kind::Container => Self::CONTAINERS,
        }
    }
}

impl Store {
    /// Ends what processes that died have begun: see the module.
    ///
    /// # Errors
    /// When a record can't be read or saved, or an intent can't be read.
    pub(super) fn finish_replacements(&self) -> Result<(), Error> {
        for kind in [Kind::Image, Kind::Container] {
            if self.0.graph.stat(path(kind))?.is_some() {
                self.write(Scope::of(kind), move |transaction| {
                    transaction.finish_replacement(kind)
                })?;
            }
        }
        Ok(())
    }
}

impl Transaction<'_> {
    /// The place of an item in the list of keys, and what else the record says of it. `None` when the object is not there,
    /// or lists no such item.
    pub(super) fn listing(
        &mut self,
        kind: Kind,
        id: &str,
        key: &str,
    ) -> Result<Option<(usize, Listing)>, Error> {
        let (names, size, digest) = match kind {
            Kind::Layer => match self.layers().find_id(id)? {
                Some(layer) => (layer.big_data_names.clone(), None, None),
                None => return Ok(None),
            },
            Kind::Image => match self.images().find_id(id)? {
                Some(image) => (
                    image.big_data_names.clone(),
                    image.big_data_sizes.get(key).copied(),
                    image.big_data_digests.get(key).cloned(),
                ),
                None => return Ok(None),
            },
            Kind::Container => match self.containers().find_id(id)? {
                Some(container) => (
                    container.big_data_names.clone(),
                    container.big_data_sizes.get(key).copied(),
                    container.big_data_digests.get(key).cloned(),
                ),
                None => return Ok(None),
            },
        };
        let at = names.iter().position(|name| name == key);
        Ok(at.map(|at| (at, Listing { size, digest })))
    }

    /// Makes the record say `listing` of an item, or nothing.
    pub(super) fn set_listing(
        &mut self,
        kind: Kind,
        id: &str,
        (key, at): (&str, usize),
        listing: Option<&Listing>,
    ) -> Result<(), Error> {
        match kind {
            Kind::Layer => {
                let found = self.layers().find_id(id)?;
                let mut layer = Arc::unwrap_or_clone(found.ok_or(Error::Unknown(kind))?);
                // Sizes and digests of layers' data are not recorded.
                let (mut sizes, mut digests) = (BTreeMap::new(), BTreeMap::new());
                let mut items = Items {
                    names: &mut layer.big_data_names,
                    sizes: &mut sizes,
                    digests: &mut digests,
                };
                items.set(key, at, listing);
                self.layers().put(layer, 0)
            }
            Kind::Image => {
                let found = self.images().find_id(id)?;
                let mut image = Arc::unwrap_or_clone(found.ok_or(Error::Unknown(kind))?);
                Items::of_image(&mut image).set(key, at, listing);
                if listing.is_some() {
                    image.settle_digest();
                }
                self.images().put(image, 0)
            }
            Kind::Container => {
                let found = self.containers().find_id(id)?;
                let mut container = Arc::unwrap_or_clone(found.ok_or(Error::Unknown(kind))?);
                Items::of_container(&mut container).set(key, at, listing);
                self.containers().put(container, 0)
            }
        }
    }

    /// Steps 1 and 2.
    pub(super) fn begin_replacement(&mut self, kind: Kind, intent: &Intent) -> Result<(), Error> {
        self.finish_replacement(kind)?;
        // There is one intent: what an earlier one was for is done by now, also on disk.
        self.save()?;
        let text = serde_json::to_vec(intent).map_err(|error| broken(self.store, kind, error))?;
        let graph = &self.store.graph;
        let own = graph.open_dir("strata")?;
        let name = path(kind);
        let (_, name) = name.split_once('/').unwrap_or_default();
        own.replace(name, &text, Durability::Durable)?;
        self.set_listing(kind, &intent.id, (&intent.key, intent.at), None)?;
        self.save()?;
        self.remove_intent_after_save(kind);
        Ok(())
    }

    /// Lists the item of an intent as its file is.
    pub(super) fn finish_replacement(&mut self, kind: Kind) -> Result<(), Error> {
        let Some(text) = self.store.graph.find(path(kind))? else {
            return Ok(());
        };
        let intent: Intent =
            serde_json::from_slice(&text).map_err(|error| broken(self.store, kind, error))?;
        let Intent { id, key, at, .. } = &intent;
        if let Some(listing) = self.what_holds(kind, &intent)? {
            tracing::info!(
                id,
                key,
                "the replacement of data that was cut short is ended"
            );
            // Saved even if the record says so already: it may not be durable yet, and the intent goes.
            self.set_listing(kind, id, (key, *at), Some(&listing))?;
            self.require_durable();
        }
        self.remove_intent_after_save(kind);
        Ok(())
    }

    /// What the record is to say; `None` where it is right whatever it says.
    fn what_holds(&mut self, kind: Kind, intent: &Intent) -> Result<Option<Listing>, Error> {
        let has_object = match kind {
            Kind::Layer => false,
            Kind::Image => self.images().has(&intent.id),
            Kind::Container => self.containers().has(&intent.id),
        };
        let home = self.store.data_home(kind, &intent.id);
        let dir = match has_object {
            true => home.find_dir(&intent.id)?,
            false => None,
        };
        let file = match dir {
            Some(dir) => dir.find(super::big_data::file_name(&intent.key)?)?,
            None => None,
        };
        let Some(bytes) = file else { return Ok(None) };
        let Intent { old, new, .. } = intent;
        let found = if Digest::of(&bytes) == intent.sha256 {
            new
        } else if old.size.is_none_or(|size| size == bytes.len() as i64) {
            old
        } else {
            // Somebody else's.
            return Ok(None);
        };
        // A peer may have replaced it since: what it recorded is right.
        let is_ours = match self.listing(kind, &intent.id, &intent.key)? {
            None => true,
            Some((_, listed)) => listed == *old || listed == *new,
        };
        Ok(is_ours.then(|| found.clone()))
    }

    fn remove_intent_after_save(&mut self, kind: Kind) {
        self.after_save(move |transaction| {
            let removed = transaction.store.graph.remove_file_if_found(path(kind));
            if let Err(error) = removed {
                // It says what holds already: whoever opens the store next removes it.
                tracing::warn!(%error, "an intent stays though it is carried out");
            }
            Ok(())
        });
    }

    /// Puts a staged file in its place, durably; a change that fails puts back what was there.
    pub(super) fn put_file(&mut self, staged: &Entry, name: &str, to: Dir) -> Result<(), Error> {
        let kept = self.store.staging_beside(&to).entry()?;
        let has_old = match kept.folder().hard_link(kept.name(), &to, name) {
            Ok(()) => true,
            Err(error) if error.is_not_found() => false,
            Err(error) => return Err(error.into()),
        };
        let from = staged.folder().open_dir(staged.name())?;
        let (place, file) = (to.try_clone()?, name.to_owned());
        self.on_roll_back(move || {
            if has_old {
                kept.folder().rename(kept.name(), &place, &file)?;
            } else {
                place.remove_file_if_found(&file)?;
            }
            Ok(place.sync()?)
        });
        move_file(&from, name, &to, name)?;
        Ok(to.sync()?)
    }
}

fn broken(store: &Inner, kind: Kind, error: serde_json::Error) -> Error {
    Error::Load {
        path: store.graph.path().join(path(kind)),
        source: Arc::new(ParseTableError::Record(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::store::{BigDataItem, Config, NewImage};

    fn open(folder: &Path) -> Store {
        Store::open(Config {
            driver: Some("vfs".into()),
            ..Config::in_roots(folder.join("graph"), folder.join("run"))
        })
        .unwrap()
    }

    /// Copies a store as it lies on disk in the midst of a change: as whoever dies then leaves it.
    fn copy(from: &Path, to: &Path) {
        let from = Dir::open(from).unwrap();
        from.walk(|met| {
            let path = to.join(met.below).join(&met.name);
            match met.stat.st_mode & libc::S_IFMT {
                libc::S_IFDIR => std::fs::create_dir_all(&path).unwrap(),
                _ => drop(std::fs::copy(
                    from.path().join(met.below).join(&met.name),
                    &path,
                )),
            }
            Ok::<_, Error>(())
        })
        .unwrap();
    }

    /// A set of data once was the new file with the old record, after a kill: the peer's check complained.
    #[test]
    fn data_that_a_dead_process_was_replacing_is_the_old_or_the_new() {
        let folders: [_; 3] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
        let [place, before, after] = folders.each_ref().map(|folder| folder.path().to_owned());
        let store = open(&place);
        let item = |text: &str| BigDataItem::new("b", text);
        store
            .create_image(NewImage {
                id: Some("image".into()),
                big_data: ["a", "b", "c"]
                    .map(|key| BigDataItem::new(key, "old"))
                    .into(),
                ..NewImage::default()
            })
            .unwrap();
        let (from, to) = (place.clone(), [before.clone(), after.clone()]);
        let entry = store.0.staging.entry().unwrap();
        entry
            .create_dir()
            .unwrap()
            .write_new("b", b"newer", 0o600)
            .unwrap();
        store
            .write(Scope::IMAGES, move |transaction| {
                transaction.require_durable();
                let (at, old) = transaction.listing(Kind::Image, "image", "b")?.unwrap();
                let new = Listing {
                    size: Some(5),
                    digest: Some(item("newer").recorded_digest().into()),
                };
                let intent = Intent {
                    id: "image".into(),
                    key: "b".into(),
                    at,
                    old,
                    new: new.clone(),
                    sha256: Digest::of(b"newer"),
                };
                transaction.begin_replacement(Kind::Image, &intent)?;
                copy(&from, &to[0]);
                let home = transaction.store.images.dir().open_dir("image")?;
                transaction.put_file(&entry, "b", home)?;
                copy(&from, &to[1]);
                transaction.set_listing(Kind::Image, "image", ("b", at), Some(&new))
            })
            .unwrap();
        for (folder, text) in [(&before, "old"), (&after, "newer"), (&place, "newer")] {
            for _ in 0..2 {
                let store = open(folder);
                let keys = store.list_big_data(Kind::Image, "image").unwrap();
                assert_eq!(keys, ["a", "b", "c"]);
                let found = store.big_data(Kind::Image, "image", "b").unwrap();
                assert_eq!(found, text.as_bytes());
                let size = store.big_data_size(Kind::Image, "image", "b").unwrap();
                assert_eq!(size, text.len() as u64);
                let digest = store.big_data_digest(Kind::Image, "image", "b").unwrap();
                assert_eq!(digest, Digest::of(text.as_bytes()));
                let intent = store.0.graph.stat(path(Kind::Image)).unwrap();
                assert!(intent.is_none(), "the intent is carried out");
            }
        }
    }

    #[test]
    fn an_item_that_is_listed_again_keeps_its_place() {
        let mut image = ImageRecord::default();
        let listing = |size| Listing {
            size: Some(size),
            digest: Some(Digest::of(b"x").into()),
        };
        let mut items = Items::of_image(&mut image);
        for key in ["a", "b", "c"] {
            items.set(key, usize::MAX, Some(&listing(1)));
        }
        items.set("b", 1, None);
        assert_eq!(*items.names, ["a", "c"]);
        assert_eq!(items.sizes.len() + items.digests.len(), 4);
        items.set("b", 1, Some(&listing(2)));
        items.set("b", 7, Some(&listing(3)));
        assert_eq!(image.big_data_names, ["a", "b", "c"]);
        assert_eq!(image.big_data_sizes["b"], 3);
    }
}
