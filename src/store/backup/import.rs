//! Reading a backup, and putting it into a store.

use std::io::{self, Read};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::members::Members;
use super::{BackupError, Counts, END, HEAD, Head, Sum, VERSION};
use crate::archive::compression;
use crate::archive::unpack::{self, Whiteouts};
use crate::digest::{Algorithm, HashingReader};
use crate::store::driver::PrepareOptions;
use crate::store::id_map::IdMappings;
use crate::store::layer::stage::{RECIPE, StagedLayer};
use crate::store::staging::Entry;
use crate::store::transaction::Scope;
use crate::store::{
    ContainerRecord, Error, ImageRecord, Kind, LayerRecord, Record, StageOptions, Store,
};
use crate::sys::Dir;

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// What is new.
    pub new: Counts,
    /// What the store had already.
    pub present: Counts,
}

impl Store {
    /// Puts what a backup has into the store. Each object is verified before it is there, whole or not at all. What
    /// the store has already, by ID and record, is passed over: an import that was broken off goes on when it is begun
    /// again.
    ///
    /// # Errors
    /// See [`BackupError`]. What came before stays.
    pub fn import(&self, backup: impl Read + Send) -> Result<Imported, BackupError> {
        let (_, plain) = compression::decoder(backup).map_err(BackupError::Decode)?;
        let mut members = Members::new(plain);
        let mut done = Imported::default();
        let head: Head = json(&members.small(HEAD)?, HEAD)?;
        if head.version != VERSION {
            return Err(BackupError::Version(head.version));
        }
        let mut found = Counts::default();
        loop {
            let next = members.peek()?;
            if next == END {
                break;
            }
            let kind = next.split('/').next().unwrap_or_default();
            let (is_new, counts) = match kind {
                "layers" => {
                    let is_new = self.import_layer(&mut members, found.layers, &head)?;
                    found.layers += 1;
                    (is_new, Kind::Layer)
                }
                "images" => {
                    let is_new = self.import_image(&mut members, found.images)?;
                    found.images += 1;
                    (is_new, Kind::Image)
                }
                "containers" => {
                    let is_new = self.import_container(&mut members, found.containers)?;
                    found.containers += 1;
                    (is_new, Kind::Container)
                }
                other => {
                    return Err(BackupError::Foreign(format!(
                        "{other:?} is none of its parts"
                    )));
                }
            };
            let side = match is_new {
                true => &mut done.new,
                false => &mut done.present,
            };
            match counts {
                Kind::Layer => side.layers += 1,
                Kind::Image => side.images += 1,
                Kind::Container => side.containers += 1,
            }
        }
        let expected: Counts = json(&members.small(END)?, END)?;
        if expected != found {
            return Err(BackupError::Foreign("parts are missing".to_owned()));
        }
        Ok(done)
    }

    fn import_layer<R: Read + Send>(
        &self,
        members: &mut Members<R>,
        number: u64,
        head: &Head,
    ) -> Result<bool, BackupError> {
        let prefix = format!("layers/{number}");
        let name = format!("{prefix}/record.json");
        let record: LayerRecord = json(&members.small(&name)?, &name)?;
        let is_present = is_present(&record, Kind::Layer, self.layers()?.find_id(&record.id))?;
        let data = self.import_directory(members, &prefix, is_present, self.0.layers.dir())?;
        let mut stream =
            HashingReader::new(members.stream(&format!("{prefix}/diff")), Algorithm::Sha256);
        let staged = if is_present {
            io::copy(&mut stream, &mut io::sink()).map_err(BackupError::Decode)?;
            None
        } else {
            let options = StageOptions {
                diff_id: record.diff_digest.get().cloned(),
                ..StageOptions::default()
            };
            let staged = self.stage_recorded(&record, head)?;
            let staged = self.fill(staged, &mut stream, &options);
            let staged = staged.map_err(|error| BackupError::Store(error.into()))?;
            // What follows the end of an archive belongs to the sum.
            io::copy(&mut stream, &mut io::sink()).map_err(BackupError::Decode)?;
            Some(staged)
        };
        let (digest, size, _) = stream.finish();
        let name = format!("{prefix}/sum.json");
        let sum: Sum = json(&members.small(&name)?, &name)?;
        if sum.digest != digest.as_str() || sum.size != size {
            return Err(BackupError::Damaged {
                kind: Kind::Layer,
                id: record.id,
                what: format!("its contents are {digest}, and were {}", sum.digest),
            });
        }
        let Some(mut staged) = staged else {
            return Ok(false);
        };
        let dir = staged.dir()?;
        if record.diff_digest.get().is_none() {
            // It will change, and then a recipe of what it was would be wrong.
            dir.remove_file_if_found(RECIPE)?;
        }
        staged.measured = None;
        staged.original = Some(Arc::new(record.clone()));
        self.sync_contents()?;
        self.write(Scope::LAYERS, move |transaction| {
            transaction.require_durable();
            let layer = transaction.adopt_layer(&staged, record, 0)?;
            match &data {
                Some(data) => transaction.adopt_directory(data, Kind::Layer, &layer.id),
                None => Ok(()),
            }
        })?;
        Ok(true)
    }

    /// Prepares the layer `record` without contents. These get the owners that its record has them with: whatever the
    /// driver would choose for a new layer, peers and mounts go by that.
    fn stage_recorded(&self, record: &LayerRecord, head: &Head) -> Result<StagedLayer, Error> {
        let parent = match &*record.parent {
            "" => None,
            parent => {
                let found = self.find_layer(parent)?.filter(|found| found.id == parent);
                Some(found.ok_or(Error::ParentUnknown)?.record)
            }
        };
        let of_container = head.mapped.get(&record.id);
        let mut mappings = record.mappings();
        if let Some(maps) = of_container.filter(|_| mappings.is_empty()) {
            // Peers before 1.64 record the maps with the container alone.
            mappings = IdMappings {
                uids: maps.uidmap.clone(),
                gids: maps.gidmap.clone(),
            };
        }
        let options = PrepareOptions {
            // What has no digest is written to: in a split store it is not among what images have.
            read_write: record.diff_digest.get().is_none(),
            durable: true,
            ..PrepareOptions::default()
        };
        let is_shown = of_container.is_some()
            && parent.as_ref().is_none_or(|parent| !parent.is_mapped())
            && self.driver().shows_other_owners(&(&mappings).into())?;
        if is_shown {
            let parent = parent.as_ref().map(|parent| &*parent.id);
            let mut staged = self.0.stage_empty(parent, &options)?;
            if !self.driver().writes_as_below() {
                staged.shift.to = (&mappings).into();
            }
            staged.mappings = mappings;
            return Ok(staged);
        }
        let parent = parent
            .as_deref()
            .map(|parent| self.side(parent))
            .transpose()?;
        self.0.stage_mapped(parent.as_ref(), mappings, options)
    }

    fn import_image<R: Read>(
        &self,
        members: &mut Members<R>,
        number: u64,
    ) -> Result<bool, BackupError> {
        let prefix = format!("images/{number}");
        let name = format!("{prefix}/record.json");
        let record: ImageRecord = json(&members.small(&name)?, &name)?;
        let is_present = is_present(&record, Kind::Image, self.images()?.find_id(&record.id))?;
        let files = self.import_directory(members, &prefix, is_present, self.0.images.dir())?;
        if is_present {
            return Ok(false);
        }
        self.sync_contents()?;
        let scope = Scope::LAYERS.union(Scope::IMAGES);
        self.write(scope, move |transaction| {
            transaction.require_durable();
            if transaction.images().has(&record.id) {
                return Err(Error::DuplicateId);
            }
            for name in &record.names {
                if let Some(owner) = transaction.images().owner_of(name) {
                    return Err(duplicate_name(Kind::Image, name, owner));
                }
            }
            if let Some(entry) = &files {
                transaction.adopt_directory(entry, Kind::Image, &record.id)?;
            }
            transaction.images().put(record, 0)
        })?;
        Ok(true)
    }

    fn import_container<R: Read>(
        &self,
        members: &mut Members<R>,
        number: u64,
    ) -> Result<bool, BackupError> {
        let prefix = format!("containers/{number}");
        let name = format!("{prefix}/record.json");
        let record: ContainerRecord = json(&members.small(&name)?, &name)?;
        let found = self.containers()?.find_id(&record.id);
        let is_present = is_present(&record, Kind::Container, found)?;
        let home = self.0.containers.dir();
        let files = self.import_directory(members, &prefix, is_present, home)?;
        if is_present {
            return Ok(false);
        }
        self.sync_contents()?;
        self.write(Scope::ALL, move |transaction| {
            transaction.require_durable();
            if transaction.containers().has(&record.id) {
                return Err(Error::DuplicateId);
            }
            for name in &record.names {
                if let Some(owner) = transaction.containers().owner_of(name) {
                    return Err(duplicate_name(Kind::Container, name, owner));
                }
            }
            if !transaction.layers().has(&record.layer) {
                return Err(Error::Unknown(Kind::Layer));
            }
            if let Some(entry) = &files {
                transaction.adopt_directory(entry, Kind::Container, &record.id)?;
            }
            transaction.containers().put(record, 0)
        })?;
        Ok(true)
    }

    /// Unpacks the directory of an object, if the backup has one, or reads over it. It will be moved to `home`.
    fn import_directory<R: Read>(
        &self,
        members: &mut Members<R>,
        prefix: &str,
        is_present: bool,
        home: &Dir,
    ) -> Result<Option<Entry>, BackupError> {
        let prefix = format!("{prefix}/directory");
        if members.peek()? != format!("{prefix}.0") {
            return Ok(None);
        }
        let mut stream = members.stream(&prefix);
        if is_present {
            io::copy(&mut stream, &mut io::sink()).map_err(BackupError::Decode)?;
            return Ok(None);
        }
        let staging = self.0.staging_beside(home);
        let entry = staging.entry().map_err(Error::from)?;
        let dir: Dir = entry.create_dir()?;
        let options = unpack::Options::new(Whiteouts::Apply);
        unpack::unpack(
            &mut stream,
            &dir,
            &options,
            None::<&mut crate::archive::tar_split::Writer<Vec<u8>>>,
        )
        .map_err(|error| BackupError::Store(crate::store::StageError::Unpack(error).into()))?;
        io::copy(&mut stream, &mut io::sink()).map_err(BackupError::Decode)?;
        Ok(Some(entry))
    }
}

/// Whether the store has a record already; another one with its ID is an error.
fn is_present<R: Record + Serialize>(
    record: &R,
    kind: Kind,
    found: Option<crate::store::Found<R>>,
) -> Result<bool, BackupError> {
    let Some(found) = found.filter(|found| !found.is_read_only) else {
        return Ok(false);
    };
    let text = |record: &R| serde_json::to_string(record).ok();
    if text(record) == text(&found.record) {
        return Ok(true);
    }
    Err(BackupError::Conflict {
        kind,
        id: record.id().to_owned(),
    })
}

fn duplicate_name(kind: Kind, name: &str, owner: String) -> Error {
    Error::DuplicateName {
        kind,
        name: name.to_owned(),
        owner,
    }
}

fn json<T: DeserializeOwned>(bytes: &[u8], name: &str) -> Result<T, BackupError> {
    serde_json::from_slice(bytes).map_err(|error| {
        BackupError::Foreign(format!("{name:?} is not what it should be: {error}"))
    })
}
