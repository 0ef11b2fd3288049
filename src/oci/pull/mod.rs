//! [`Puller`]: brings images into the store.
//!
//! ```text
//! resolve ── manifest, config ──┬── layer: fetch, verify, unpack ──┐
//!            (what is it?)      ├── layer: …  a few at once        ├── adopt all in one change
//!                               └── layer: in the store already ───┘
//! ```
//!
//! | File | What |
//! |---|---|
//! | `image` | what the image is made of |
//! | `layers` | the threads that fetch and unpack |
//! | `error` | [`PullError`], and the [`Trouble`] that it means |

mod error;
mod image;
mod layers;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

pub use error::{PullError, Trouble};

use self::image::{Image, LayerPlan};
use self::layers::{Lanes, Work};
use super::credentials::Credentials;
use super::image_config::ImageConfig;
use super::layout::Layout;
use super::manifest::{Descriptor, Platform};
use super::reference::{ImageSource, Reference};
use super::registry::{Registry, Transport};
use super::source::{Source, SourceError};
use crate::digest::Digest;
use crate::store::{ImageRecord, Kind, NewImage, Store};

/// How often a pull starts again because somebody deleted what it built upon.
const ATTEMPTS: usize = 3;

/// When an image is fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Always ask the source; layers that the store has are not fetched.
    Always,
    /// Only if the store has no image of that name. Layouts and archives are always read.
    #[default]
    IfNotPresent,
    /// Not at all.
    Never,
}

/// What an image may amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Layers: the kernel mounts no more than 500 over each other.
    pub layers: usize,
    /// Bytes of one blob.
    pub blob_bytes: u64,
    /// Bytes of all files of the image.
    pub unpacked_bytes: u64,
    /// Members of one layer.
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            layers: 400,
            blob_bytes: 64 << 30,
            unpacked_bytes: 128 << 30,
            entries: 10_000_000,
        }
    }
}

/// How to pull.
#[derive(Clone, Debug)]
pub struct PullerOptions {
    /// What an image may amount to.
    pub limits: Limits,
    /// Layers that are in work at once, of all pulls together.
    pub lanes: usize,
    /// Pulls that are under way at once; more wait.
    pub pulls: usize,
    /// Where compressed archives are decompressed to.
    pub spool: PathBuf,
}

impl Default for PullerOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            lanes: 4,
            pulls: 4,
            spool: "/var/tmp".into(),
        }
    }
}

/// Is told how a pull goes on, by several threads.
pub trait Progress: Send + Sync {
    /// The image is known, and which of its layers have to be fetched.
    fn resolved(&self, image: &str, missing: &[Descriptor], present: usize);
    /// So many more bytes of a layer are read.
    fn advanced(&self, layer: &Descriptor, bytes: u64);
    /// A layer is unpacked.
    fn finished(&self, layer: &Descriptor);
}

/// Hears nothing.
impl Progress for () {
    fn resolved(&self, _: &str, _: &[Descriptor], _: usize) {}
    fn advanced(&self, _: &Descriptor, _: u64) {}
    fn finished(&self, _: &Descriptor) {}
}

/// What to pull.
#[derive(Clone)]
pub struct PullRequest {
    /// From where.
    pub source: ImageSource,
    /// When to fetch.
    pub policy: Policy,
    /// For which platform; this host's when not said.
    pub platform: Option<Platform>,
    /// The login for the registry.
    pub credentials: Option<Credentials>,
    /// Names for the image instead of the usual one.
    pub names: Vec<String>,
    /// Who is told.
    pub progress: Arc<dyn Progress>,
}

impl PullRequest {
    /// The image for this host, when it is not present, without a login, unobserved.
    pub fn new(source: ImageSource) -> Self {
        Self {
            source,
            policy: Policy::default(),
            platform: None,
            credentials: None,
            names: Vec::new(),
            progress: Arc::new(()),
        }
    }

    /// Two requests with the same key want the same thing with the same right to it.
    fn key(&self) -> Key {
        Key {
            source: self.source.clone(),
            policy: self.policy,
            platform: self.platform.clone(),
            credentials: self.credentials.as_ref().map(Credentials::fingerprint),
            names: self.names.clone(),
        }
    }
}

/// What was pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The image's ID in the store.
    pub image_id: String,
    /// Digest of what the name led to: of the index, if it was one.
    pub digest: Option<Digest>,
    /// The names that the image has from this pull.
    pub names: Vec<String>,
    /// Layers that were fetched.
    pub layers_fetched: usize,
    /// Layers that the store had.
    pub layers_reused: usize,
    /// Bytes of layers that came from the source.
    pub bytes_fetched: u64,
    /// True when nothing in the store had to change.
    pub was_present: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    source: ImageSource,
    policy: Policy,
    platform: Option<Platform>,
    credentials: Option<String>,
    names: Vec<String>,
}

type Outcome = Result<Pulled, Arc<PullError>>;
type Waiting = watch::Receiver<Option<Outcome>>;

/// Brings images into a store. Clones share their limits and the pulls under way.
#[derive(Clone)]
pub struct Puller(Arc<Inner>);

struct Inner {
    store: Store,
    runtime: Handle,
    transport: Transport,
    options: PullerOptions,
    lanes: Lanes,
    pulls: Arc<Semaphore>,
    under_way: Mutex<HashMap<Key, Waiting>>,
}

impl Puller {
    /// The runtime must have threads of its own, for registries are read on it while others block.
    pub fn new(
        store: Store,
        runtime: Handle,
        transport: Transport,
        options: PullerOptions,
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            runtime,
            transport,
            lanes: Lanes::new(options.lanes),
            pulls: Arc::new(Semaphore::new(options.pulls.max(1))),
            options,
            under_way: Mutex::new(HashMap::new()),
        }))
    }

    /// Pulls an image in the background and waits for it.
    ///
    /// A pull of the same image with the same login that is under way is joined. The pull goes on
    /// when the caller stops waiting.
    ///
    /// # Errors
    /// See [`PullError`]; everyone who waits gets the same one.
    pub async fn pull(&self, request: PullRequest) -> Outcome {
        let name = request.source.to_string();
        let mut waiting = self.join(request);
        let outcome = waiting.wait_for(Option::is_some).await;
        match outcome.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            _ => Err(Arc::new(PullError::Abandoned(name))),
        }
    }

    /// True when a pull from this source is under way.
    pub fn is_under_way(&self, source: &ImageSource) -> bool {
        self.under_way().keys().any(|key| key.source == *source)
    }

    fn under_way(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Waiting>> {
        self.0
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The pull under way for this request, which is started if there is none.
    fn join(&self, request: PullRequest) -> Waiting {
        let key = request.key();
        let mut under_way = self.under_way();
        if let Some(waiting) = under_way.get(&key) {
            return waiting.clone();
        }
        let (sender, waiting) = watch::channel(None);
        under_way.insert(key.clone(), waiting.clone());
        drop(under_way);
        let listed = Listed {
            puller: self.clone(),
            key,
        };
        self.0.runtime.spawn(async move {
            let pulls = Arc::clone(&listed.puller.0.pulls);
            // The semaphore is never closed; without a permit the pull would only be unbounded.
            let permit = pulls.acquire_owned().await.ok();
            let image = request.source.to_string();
            let (failed, puller) = (sender.clone(), listed.puller.clone());
            let started = std::thread::Builder::new()
                .name("pull".into())
                .spawn(move || {
                    let outcome = puller.pull_here(&request).map_err(Arc::new);
                    // Out of the list first: who comes now starts anew.
                    drop((listed, permit));
                    sender.send_replace(Some(outcome));
                });
            if let Err(source) = started {
                failed.send_replace(Some(Err(Arc::new(PullError::Thread { image, source }))));
            }
        });
        waiting
    }

    /// Pulls an image on this thread, which must not be one of a runtime.
    ///
    /// # Errors
    /// See [`PullError`].
    pub fn pull_here(&self, request: &PullRequest) -> Result<Pulled, PullError> {
        let name = request.source.to_string();
        if let ImageSource::Registry(reference) = &request.source
            && request.policy != Policy::Always
            && let Some(image) = self.find_present(reference, request.platform.as_ref())?
        {
            return Ok(Pulled {
                image_id: image.id.clone(),
                digest: image.digest.clone(),
                names: vec![reference.storage_name()],
                layers_fetched: 0,
                layers_reused: 0,
                bytes_fetched: 0,
                was_present: true,
            });
        }
        if request.policy == Policy::Never {
            return Err(PullError::Absent(name));
        }
        let (source, names) = self.open(request)?;
        let platform = request.platform.clone().unwrap_or_else(Platform::host);
        let image = Image::fetch(source.as_ref(), &name, &platform)?;
        self.check_limits(&image)?;
        let mut attempts = 1;
        loop {
            let result = self.store_image(request, source.as_ref(), &name, &names, &image);
            match result {
                Err(error) if attempts < ATTEMPTS && error::is_worth_another_try(&error) => {
                    attempts += 1;
                }
                result => return result,
            }
        }
    }

    /// The image that the store has under this reference, for `platform` if that is given.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn find_present(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
    ) -> Result<Option<Arc<ImageRecord>>, PullError> {
        let store = &self.0.store;
        let found = match reference.digest() {
            None => store
                .find_image(&reference.storage_name())?
                .map(|found| found.record),
            Some(digest) => {
                let prefixes = [":", "@"].map(|mark| reference.without_target() + mark);
                let is_of_repository =
                    |name: &String| prefixes.iter().any(|prefix| name.starts_with(prefix));
                store
                    .images()?
                    .iter()
                    .find(|image| {
                        image.digests().contains(&digest)
                            && image.names.iter().any(is_of_repository)
                    })
                    .map(|found| found.record)
            }
        };
        let Some(image) = found else {
            return Ok(None);
        };
        let has_layers = image.layer.is_empty() || self.has_layer(&image.layer)?;
        let fits = match platform {
            // Pulled for another platform on purpose, it must not be taken for this host's.
            None => self.is_for(&image, &Platform::host(), true)?,
            Some(platform) => self.is_for(&image, platform, false)?,
        };
        Ok((has_layers && fits).then_some(image))
    }

    /// True when the image's configuration says that it is for `platform`; `unsaid` when it has none.
    fn is_for(
        &self,
        image: &ImageRecord,
        platform: &Platform,
        unsaid: bool,
    ) -> Result<bool, PullError> {
        let key = format!("sha256:{}", image.id);
        if !image.big_data_names.contains(&key) {
            return Ok(unsaid);
        }
        let bytes = self.0.store.big_data(Kind::Image, &image.id, &key)?;
        Ok(ImageConfig::parse(&bytes).is_ok_and(|config| platform.accepts(&config.platform)))
    }

    fn has_layer(&self, id: &str) -> Result<bool, PullError> {
        let found = self.0.store.find_layer(id)?;
        Ok(found.is_some_and(|layer| layer.id == id && !layer.is_incomplete()))
    }

    /// Opens the source, and tells under which names its image is kept.
    fn open(&self, request: &PullRequest) -> Result<(Box<dyn Source>, Vec<String>), PullError> {
        let inner = &*self.0;
        let (source, name): (Box<dyn Source>, Option<String>) = match &request.source {
            ImageSource::Registry(reference) => {
                let registry = Registry::new(
                    inner.runtime.clone(),
                    inner.transport.clone(),
                    reference.clone(),
                    request.credentials.clone(),
                )?;
                (Box::new(registry), Some(reference.storage_name()))
            }
            ImageSource::Layout { dir, name } => {
                let layout = Layout::open(dir, name.as_deref())?;
                let name = layout_name(dir, layout.ref_name());
                (Box::new(layout), name)
            }
            ImageSource::Archive { file, name } => {
                let limit = inner.options.limits.unpacked_bytes;
                let spool = &inner.options.spool;
                let layout = Layout::open_archive(file, name.as_deref(), spool, limit)?;
                let name = layout_name(file, layout.ref_name());
                (Box::new(layout), name)
            }
        };
        let names = match request.names.as_slice() {
            [] => name.into_iter().collect(),
            given => given.to_vec(),
        };
        Ok((source, names))
    }

    fn check_limits(&self, image: &Image) -> Result<(), PullError> {
        let limits = &self.0.options.limits;
        if image.layers.len() > limits.layers {
            let detail = format!("at most {} are allowed", limits.layers);
            let what = format!("an image of {} layers", image.layers.len());
            return Err(SourceError::Unsupported { what, detail }.into());
        }
        let sizes = image.layers.iter().map(|layer| &layer.descriptor);
        match sizes.max_by_key(|descriptor| descriptor.size) {
            Some(largest) if largest.size > limits.blob_bytes => Err(SourceError::TooLarge {
                what: format!("the layer {}", largest.digest),
                size: largest.size,
                limit: limits.blob_bytes,
            }
            .into()),
            _ => Ok(()),
        }
    }

    /// Stages the layers that are missing, and records everything.
    fn store_image(
        &self,
        request: &PullRequest,
        source: &dyn Source,
        name: &str,
        names: &[String],
        image: &Image,
    ) -> Result<Pulled, PullError> {
        let inner = &*self.0;
        let mut missing: Vec<LayerPlan> = Vec::new();
        for layer in &image.layers {
            if !self.has_layer(&layer.id)? {
                missing.push(layer.clone());
            }
        }
        let descriptors: Vec<Descriptor> =
            missing.iter().map(|plan| plan.descriptor.clone()).collect();
        let present = image.layers.len() - missing.len();
        request.progress.resolved(name, &descriptors, present);
        let mut pulled = Pulled {
            image_id: image.id().to_owned(),
            digest: Some(image.digest.clone()),
            names: names.to_vec(),
            layers_fetched: missing.len(),
            layers_reused: present,
            bytes_fetched: 0,
            was_present: false,
        };
        if missing.is_empty() && self.is_recorded(image, names)? {
            pulled.was_present = true;
            return Ok(pulled);
        }
        let work = Work {
            store: &inner.store,
            source,
            name,
            limits: &inner.options.limits,
            lanes: &inner.lanes,
            progress: request.progress.as_ref(),
            stop: AtomicBool::new(false),
            budget: AtomicU64::new(inner.options.limits.unpacked_bytes),
            fetched: AtomicU64::new(0),
        };
        let is_side_by_side = inner.store.driver().stages_without_parent();
        let layers = if is_side_by_side {
            work.stage(&missing, inner.options.lanes)?
        } else {
            work.create_in_order(&missing)?;
            Vec::new()
        };
        let created = inner.store.create_image(NewImage {
            id: Some(image.id().to_owned()),
            names: names.to_vec(),
            steal_names: true,
            layer: image.layers.last().map(|layer| layer.id.clone()),
            metadata: image.metadata(),
            created: image.created(),
            digest: Some(image.digest.clone()),
            big_data: image.big_data(),
            layers,
            extend: true,
        });
        if let Err(error) = created {
            if !is_side_by_side {
                work.undo(&missing);
            }
            return Err(error.into());
        }
        pulled.bytes_fetched = work.fetched.load(Ordering::Relaxed);
        Ok(pulled)
    }

    /// True when the store's own record of the image says all that this pull would make it say.
    fn is_recorded(&self, image: &Image, names: &[String]) -> Result<bool, PullError> {
        let found = self.0.store.find_image(image.id())?;
        Ok(found.is_some_and(|found| {
            let digests = found.digests();
            !found.is_read_only
                && found.id == image.id()
                && image.digests().all(|digest| digests.contains(&digest))
                && names.iter().all(|name| found.names.contains(name))
        }))
    }
}

/// Takes a pull out of the list when it is over, also by a panic.
struct Listed {
    puller: Puller,
    key: Key,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.puller.under_way().remove(&self.key);
    }
}

/// The name of an image from a layout: its own if it is a whole one, else `localhost/` and the name
/// of the directory or file, with the layout's name as tag.
fn layout_name(path: &std::path::Path, ref_name: Option<&str>) -> Option<String> {
    if let Some(name) = ref_name
        && name.contains('/')
        && let Ok(reference) = name.parse::<Reference>()
    {
        return Some(reference.storage_name());
    }
    let stem = match path.file_name()?.to_str()? {
        file if path.extension().is_some_and(|extension| extension == "tar") => {
            file.strip_suffix(".tar")?
        }
        file => file,
    };
    let tag = ref_name.unwrap_or("latest");
    format!("localhost/{stem}:{tag}")
        .parse::<Reference>()
        .ok()
        .map(|reference| reference.storage_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_from_layouts_get_a_name() {
        let name = |path: &str, ref_name: Option<&str>| layout_name(path.as_ref(), ref_name);
        assert_eq!(name("/a/web", Some("v1")).unwrap(), "localhost/web:v1");
        assert_eq!(name("web.tar", None).unwrap(), "localhost/web:latest");
        assert_eq!(
            name("/a/web", Some("quay.io/x/y:1")).unwrap(),
            "quay.io/x/y:1"
        );
        assert_eq!(name("/a/Web", None), None);
    }
}
