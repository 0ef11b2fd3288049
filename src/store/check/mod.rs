//! Whether a store is whole: its records, the blobs beside them, and the contents of its layers.
//!
//! | File | What |
//! |---|---|
//! | [`problem`] | [`Problem`]: one thing that is wrong |
//! | `contents` | layers against what came in |
//! | `repair` | the removal of what is damaged |
//!
//! Nothing is locked for long and nothing is unmounted: what changes meanwhile is looked at once more before
//! it is told.

mod contents;
pub mod problem;
mod repair;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

pub use problem::Problem;
pub use repair::{RepairError, RepairOptions};

use super::error::{Error, Kind};
use super::{
    ContainerRecord, Found, ImageRecord, LayerRecord, Layers, RecordedDigest, Store, Time, View,
};

/// What to look for.
#[derive(Clone, Copy, Debug)]
pub struct CheckOptions {
    /// Layers that nobody uses are a problem when they are older than this.
    pub unused_for: Duration,
    /// Whether the files of layers are compared with what their archives say of them, beside checksums.
    pub compares_files: bool,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self {
            unused_for: Duration::from_secs(24 * 60 * 60),
            compares_files: true,
        }
    }
}

/// What is wrong, by ID. Damage of a layer is told of the images on it too, and of their containers.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The store's own layers, and directories of the driver without a record.
    pub layers: BTreeMap<String, Vec<Problem>>,
    /// Layers of additional stores.
    pub read_only_layers: BTreeMap<String, Vec<Problem>>,
    /// The store's own images.
    pub images: BTreeMap<String, Vec<Problem>>,
    /// Images of additional stores.
    pub read_only_images: BTreeMap<String, Vec<Problem>>,
    /// Containers.
    pub containers: BTreeMap<String, Vec<Problem>>,
}

impl Report {
    /// True when nothing is wrong.
    pub fn is_clean(&self) -> bool {
        [
            &self.layers,
            &self.read_only_layers,
            &self.images,
            &self.read_only_images,
            &self.containers,
        ]
        .iter()
        .all(|part| part.is_empty())
    }
}

fn note(part: &mut BTreeMap<String, Vec<Problem>>, id: &str, problems: Vec<Problem>) {
    if !problems.is_empty() {
        part.entry(id.to_owned()).or_default().extend(problems);
    }
}

impl Store {
    /// Looks for damage. It reads every file of every layer.
    ///
    /// # Errors
    /// When the records can't be read at all.
    pub fn check(&self, options: &CheckOptions) -> Result<Report, Error> {
        let layers = self.layers()?;
        let images = self.images()?;
        let containers = self.containers()?;
        let used = used_layers(&layers, &images, &containers);
        let mut report = Report::default();
        let mut seen = HashSet::new();
        for layer in layers.iter() {
            // What the store has itself hides what additional stores have under the same ID.
            if !seen.insert(layer.id.clone()) {
                continue;
            }
            let mut problems = self.check_layer(&layers, &layer, options)?;
            if !layer.is_read_only && !used.contains(&layer.id) && is_old(&layer, options) {
                problems.push(Problem::Unused(layer.id.clone()));
            }
            // What was deleted meanwhile is no damage.
            let is_gone = !problems.is_empty() && self.find_layer(&layer.id)?.is_none();
            if !is_gone {
                let part = match layer.is_read_only {
                    true => &mut report.read_only_layers,
                    false => &mut report.layers,
                };
                note(part, &layer.id, told_of(layer.is_read_only, problems));
            }
        }
        for id in self.unrecorded_layers()? {
            note(
                &mut report.layers,
                &id,
                vec![Problem::Unrecorded(id.clone())],
            );
        }
        let mut seen = HashSet::new();
        for image in images.iter() {
            if !seen.insert(image.id.clone()) {
                continue;
            }
            let problems = self.check_image(&layers, &image, &report)?;
            let part = match image.is_read_only {
                true => &mut report.read_only_images,
                false => &mut report.images,
            };
            note(part, &image.id, problems);
        }
        for container in containers.iter() {
            let problems = self.check_container(&layers, &images, &container, &report)?;
            note(&mut report.containers, &container.id, problems);
        }
        Ok(report)
    }

    fn check_layer(
        &self,
        layers: &Layers,
        layer: &Found<LayerRecord>,
        options: &CheckOptions,
    ) -> Result<Vec<Problem>, Error> {
        let id = &layer.id;
        let mut problems = Vec::new();
        for key in &layer.big_data_names {
            if self.data_size(Kind::Layer, id, key)?.is_none() {
                problems.push(Problem::LayerDataMissing(id.clone(), key.clone()));
            }
        }
        for (what, digest) in [
            ("the digest of its blob", &layer.compressed_diff_digest),
            ("its digest", &layer.diff_digest),
            ("the digest of its table of contents", &layer.toc_digest),
        ] {
            problems.extend(not_a_digest(Kind::Layer, id, what, digest));
        }
        if !layer.parent.is_empty() && layers.find_id(&layer.parent).is_none() {
            problems.push(Problem::LayerMissing(layer.parent.clone()));
            return Ok(problems);
        }
        if let Err(error) = self.driver().content(id) {
            problems.push(Problem::LayerUnreadable(id.clone(), error.to_string()));
            return Ok(problems);
        }
        if layer.diff_digest.get().is_some() {
            problems.extend(self.check_contents(layers, layer, options.compares_files));
        }
        if let Err(error) = self.driver().check_below(id) {
            problems.push(Problem::LayerUnreadable(id.clone(), error.to_string()));
        }
        Ok(problems)
    }

    /// The size of a data item; `None` when it is not there.
    fn data_size(&self, kind: Kind, id: &str, key: &str) -> Result<Option<u64>, Error> {
        match self.big_data(kind, id, key) {
            Ok(bytes) => Ok(Some(bytes.len() as u64)),
            Err(Error::NoBigData { .. } | Error::BigDataName) => Ok(None),
            // Deleted meanwhile.
            Err(Error::Unknown(_)) => Ok(Some(0)),
            Err(error) => Err(error),
        }
    }

    /// Directories of the driver without a record, judged under the lock of layers.
    fn unrecorded_layers(&self) -> Result<Vec<String>, Error> {
        let driver = self.driver();
        let mut found = self.0.layers.read(|table| -> Result<Vec<String>, Error> {
            let elsewhere = self.0.volatile_layers_elsewhere()?;
            let mut ids = driver.list()?;
            ids.retain(|id| table.find_id(id).is_none() && !elsewhere.contains(id));
            Ok(ids)
        })??;
        found.sort();
        Ok(found)
    }

    fn check_image(
        &self,
        layers: &Layers,
        image: &Found<ImageRecord>,
        report: &Report,
    ) -> Result<Vec<Problem>, Error> {
        let mut problems = Vec::new();
        let mut own = Vec::new();
        for top in image.top_layers() {
            let mut next = top.to_owned();
            let mut seen = HashSet::new();
            while !next.is_empty() && seen.insert(next.clone()) {
                let Some(layer) = layers.find_id(&next) else {
                    own.push(Problem::ImageLayerMissing(image.id.clone(), next));
                    break;
                };
                problems.extend(report.of_layer(&next).iter().cloned());
                next.clone_from(&layer.parent);
            }
        }
        for key in &image.big_data_names {
            let found = self.data_size(Kind::Image, &image.id, key)?;
            let recorded = image.big_data_sizes.get(key);
            let (id, key) = (image.id.clone(), key.clone());
            match (found, recorded) {
                (None, _) => own.push(Problem::ImageDataMissing(id, key)),
                (Some(found), Some(size)) if found != size.unsigned_abs() => {
                    own.push(Problem::ImageDataSize(id, key));
                }
                _ => {}
            }
        }
        own.extend(not_a_digest(
            Kind::Image,
            &image.id,
            "its digest",
            &image.digest,
        ));
        own.extend(bad_digests(Kind::Image, &image.id, &image.big_data_digests));
        problems.extend(told_of(image.is_read_only, own));
        let is_gone = !problems.is_empty() && self.find_image(&image.id)?.is_none();
        Ok(if is_gone { Vec::new() } else { problems })
    }

    fn check_container(
        &self,
        layers: &Layers,
        images: &View<ImageRecord>,
        container: &ContainerRecord,
        report: &Report,
    ) -> Result<Vec<Problem>, Error> {
        let mut problems = Vec::new();
        let id = &container.id;
        if !container.image.is_empty() {
            match images.find_id(&container.image) {
                None => problems.push(Problem::ImageMissing(container.image.clone())),
                Some(image) => problems.extend(report.of_image(&image.id).iter().cloned()),
            }
        }
        match layers.find_id(&container.layer) {
            None => problems.push(Problem::ContainerLayerMissing(
                id.clone(),
                container.layer.clone(),
            )),
            Some(layer) => {
                for problem in report.of_layer(&layer.id) {
                    // What lies below is the image's, and told already.
                    if problem.layer() == Some(&layer.id) {
                        problems.push(problem.clone());
                    }
                }
            }
        }
        for key in &container.big_data_names {
            let found = self.data_size(Kind::Container, id, key)?;
            let recorded = container.big_data_sizes.get(key);
            match (found, recorded) {
                (None, _) => problems.push(Problem::ContainerDataMissing(id.clone(), key.clone())),
                (Some(found), Some(size)) if found != size.unsigned_abs() => {
                    problems.push(Problem::ContainerDataSize(id.clone(), key.clone()));
                }
                _ => {}
            }
        }
        problems.extend(bad_digests(
            Kind::Container,
            id,
            &container.big_data_digests,
        ));
        let is_gone = !problems.is_empty() && self.find_container(id)?.is_none();
        Ok(if is_gone { Vec::new() } else { problems })
    }
}

/// Problems of something in an additional store are told as such, wherever they are told.
fn told_of(is_read_only: bool, problems: Vec<Problem>) -> Vec<Problem> {
    match is_read_only {
        true => problems
            .into_iter()
            .map(|problem| Problem::ReadOnly(Box::new(problem)))
            .collect(),
        false => problems,
    }
}

impl Report {
    fn of_layer(&self, id: &str) -> &[Problem] {
        let found = self
            .layers
            .get(id)
            .or_else(|| self.read_only_layers.get(id));
        found.map_or(&[], Vec::as_slice)
    }

    fn of_image(&self, id: &str) -> &[Problem] {
        let found = self
            .images
            .get(id)
            .or_else(|| self.read_only_images.get(id));
        found.map_or(&[], Vec::as_slice)
    }
}

/// What a record says in the place of a digest, when it says something.
fn not_a_digest(kind: Kind, id: &str, what: &str, recorded: &RecordedDigest) -> Option<Problem> {
    let is_wrong = recorded.get().is_none() && !recorded.is_none();
    is_wrong.then(|| Problem::NotADigest {
        kind,
        id: id.to_owned(),
        what: what.to_owned(),
        text: recorded.as_str().to_owned(),
    })
}

/// Those of data items: an empty one is no digest either.
fn bad_digests<'a>(
    kind: Kind,
    id: &'a str,
    digests: &'a BTreeMap<String, RecordedDigest>,
) -> impl Iterator<Item = Problem> + 'a {
    let bad = digests.iter().filter(|(_, digest)| digest.get().is_none());
    bad.map(move |(key, digest)| Problem::NotADigest {
        kind,
        id: id.to_owned(),
        what: format!("the digest of data item {key:?}"),
        text: digest.as_str().to_owned(),
    })
}

/// The layers that images and containers stand on.
fn used_layers(
    layers: &Layers,
    images: &View<ImageRecord>,
    containers: &View<ContainerRecord>,
) -> HashSet<String> {
    let tops = images
        .iter()
        .flat_map(|image| image.top_layers().map(str::to_owned).collect::<Vec<_>>())
        .chain(containers.iter().map(|container| container.layer.clone()));
    let mut used = HashSet::new();
    for top in tops {
        let mut next = top;
        while !next.is_empty() && !used.contains(&next) {
            let parent = layers.find_id(&next).map(|layer| layer.parent.clone());
            used.insert(next);
            next = parent.unwrap_or_default();
        }
    }
    used
}

fn is_old(layer: &LayerRecord, options: &CheckOptions) -> bool {
    if layer.created.is_unset() {
        return true;
    }
    let nanoseconds = |time: Time| {
        i128::from(time.seconds()) * 1_000_000_000 + i128::from(time.subsecond_nanoseconds())
    };
    let age = nanoseconds(Time::now()) - nanoseconds(layer.created);
    age >= options.unused_for.as_nanos().cast_signed()
}
