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
//! | [`PullRequest`] and its parts in `request` | what is asked, what comes of it |
//! | `image` | what the image is made of |
//! | `unfinished` | layers left for a retry that does not come |
//! | `bring` | images of additional stores that become our own |
//! | `layers` | how one layer is fetched and unpacked |
//! | `assembly` | how layers of an image get into the store |
//! | `error` | [`PullError`] |
//! | `trouble` | [`Trouble`]: what can be done about a failure |

mod assembly;
mod bring;
mod error;
mod image;
mod layers;
mod request;
mod trouble;
mod unfinished;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

pub use error::PullError;
pub use request::{Limits, Policy, Progress, PullRequest, Pulled, PullerOptions};
pub use trouble::Trouble;

use self::image::{Image, LayerPlan};
use self::layers::{Lanes, Task, Work};
use super::credentials::Credentials;
use super::image_config::ImageConfig;
use super::layout::Layout;
use super::manifest::{Descriptor, Platform};
use super::reference::{ImageSource, Reference};
use super::registry::{Registry, Transport};
use super::source::{Source, SourceError};
use crate::archive::unpack::Budget;
use crate::store::{Flags, ImageRecord, Kind, NewImage, Store};

/// How often a pull starts again because somebody deleted what it built upon.
const ATTEMPTS: usize = 3;

/// Two requests with the same key want the same thing with the same right to it.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Pull {
        source: ImageSource,
        policy: Policy,
        platform: Option<Platform>,
        credentials: Option<String>,
        names: Vec<String>,
        is_own: bool,
    },
    /// The image with this ID, from an additional store.
    Bring(String),
}

impl Key {
    fn of(request: &PullRequest) -> Self {
        Self::Pull {
            source: request.source.clone(),
            policy: request.policy,
            platform: request.platform.clone(),
            credentials: request.credentials.as_ref().map(Credentials::fingerprint),
            names: request.names.clone(),
            is_own: request.is_own,
        }
    }
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
    /// How many wait until others have ended.
    waiting: Arc<AtomicUsize>,
    under_way: Mutex<HashMap<Key, Waiting>>,
    /// Layers of images under way, and how many pulls want each.
    wanted: Mutex<HashMap<String, usize>>,
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
            waiting: Arc::default(),
            options,
            under_way: Mutex::default(),
            wanted: Mutex::default(),
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
        let key = Key::of(&request);
        self.join(key, name, move |puller| puller.pull_here(&request))
            .await
    }

    /// True when a pull from this source is under way.
    pub fn is_under_way(&self, source: &ImageSource) -> bool {
        self.under_way()
            .keys()
            .any(|key| matches!(key, Key::Pull { source: other, .. } if other == source))
    }

    /// The count of pulls that wait until others have ended.
    pub fn waiting(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.0.waiting)
    }

    fn under_way(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Waiting>> {
        self.0
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the work under way for this key, which is started if there is none.
    async fn join(
        &self,
        key: Key,
        image: String,
        work: impl FnOnce(&Self) -> Result<Pulled, PullError> + Send + 'static,
    ) -> Outcome {
        let mut waiting = self.start(key, image.clone(), work);
        let outcome = waiting.wait_for(Option::is_some).await;
        match outcome.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            _ => Err(Arc::new(PullError::Abandoned(image))),
        }
    }

    fn start(
        &self,
        key: Key,
        image: String,
        work: impl FnOnce(&Self) -> Result<Pulled, PullError> + Send + 'static,
    ) -> Waiting {
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
            let waiting = &listed.puller.0.waiting;
            waiting.fetch_add(1, Ordering::Relaxed);
            // The semaphore is never closed; without a permit the pull would only be unbounded.
            let permit = pulls.acquire_owned().await.ok();
            waiting.fetch_sub(1, Ordering::Relaxed);
            let (failed, puller) = (sender.clone(), listed.puller.clone());
            let started = std::thread::Builder::new()
                .name("pull".into())
                .spawn(move || {
                    let outcome = work(&puller).map_err(Arc::new);
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
        request.progress.started();
        let name = request.source.to_string();
        if let ImageSource::Registry(reference) = &request.source
            && request.policy != Policy::Always
            && let Some(image) = self.find_present(reference, request.platform.as_ref())?
        {
            if request.is_own && !self.is_own(&image.id)? {
                return self.bring_here(&image.id);
            }
            return Ok(Pulled {
                image_id: image.id.clone(),
                digest: image.digest.get().cloned(),
                names: vec![reference.storage_name()],
                was_present: true,
                ..Pulled::default()
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
        let mut tasks: Vec<Task<'_>> = Vec::new();
        let mut descriptors: Vec<Descriptor> = Vec::new();
        let mut kept = 0_u64;
        let _wanted = self.want(image.layers.iter().map(|layer| layer.id.clone()));
        for plan in &image.layers {
            match self.whereabouts(plan)? {
                Whereabouts::Own { unfinished } => kept = kept.saturating_add(unfinished),
                Whereabouts::Other if !request.is_own => {}
                Whereabouts::Other => tasks.push(Task::Bring {
                    original: plan.id.clone(),
                    id: plan.id.clone(),
                    parent: plan.parent.clone(),
                }),
                Whereabouts::Nowhere => {
                    descriptors.push(plan.descriptor.clone());
                    tasks.push(Task::Fetch { plan, source });
                }
            }
        }
        let present = image.layers.len() - descriptors.len();
        request.progress.resolved(name, &descriptors, present);
        let mut pulled = Pulled {
            image_id: image.id().to_owned(),
            digest: Some(image.digest.clone()),
            names: names.to_vec(),
            layers_fetched: descriptors.len(),
            layers_brought: tasks.len() - descriptors.len(),
            layers_reused: image.layers.len() - tasks.len(),
            ..Pulled::default()
        };
        if tasks.is_empty() && self.is_recorded(image, names)? {
            pulled.was_present = true;
            return Ok(pulled);
        }
        // Layers that an earlier try has left count as if this one had made them.
        let budget = inner.options.limits.unpacked_bytes.saturating_sub(kept);
        let work = self.work(name, budget, request.progress.as_ref());
        let layers = work.make(&tasks, inner.options.lanes)?;
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
            ..NewImage::default()
        });
        if let Err(error) = created {
            let error = error.into();
            work.give_up(&error);
            return Err(error);
        }
        pulled.bytes_fetched = work.fetched.load(Ordering::Relaxed);
        pulled.brought = work.brought();
        Ok(pulled)
    }

    fn work<'a>(&'a self, name: &'a str, budget: u64, progress: &'a dyn Progress) -> Work<'a> {
        let inner = &*self.0;
        Work {
            store: &inner.store,
            name,
            limits: &inner.options.limits,
            lanes: &inner.lanes,
            progress,
            stop: AtomicBool::new(false),
            budget: Arc::new(Budget::new(budget)),
            keep_bytes: inner.options.keep_bytes,
            wanted: &inner.wanted,
            recorded: Mutex::default(),
            fetched: AtomicU64::new(0),
            brought: Mutex::default(),
        }
    }

    /// Where the layer is that the image needs.
    fn whereabouts(&self, plan: &LayerPlan) -> Result<Whereabouts, PullError> {
        let found = self.0.store.find_layer(&plan.id)?;
        Ok(match found {
            Some(layer) if layer.id != plan.id || layer.is_incomplete() => Whereabouts::Nowhere,
            Some(layer) if !layer.is_read_only => Whereabouts::Own {
                unfinished: match layer.flags.find::<String>(Flags::UNFINISHED) {
                    Some(_) => layer.diff_size.unsigned_abs(),
                    None => 0,
                },
            },
            // Its ID says what it is made of only as long as nobody has chosen it.
            Some(layer) if layer.diff_digest.get().is_none_or(|is| *is == plan.diff_id) => {
                Whereabouts::Other
            }
            _ => Whereabouts::Nowhere,
        })
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

/// Which store has a layer.
enum Whereabouts {
    /// This one; and how many bytes an earlier try has left for the image.
    Own {
        unfinished: u64,
    },
    /// An additional one.
    Other,
    Nowhere,
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
