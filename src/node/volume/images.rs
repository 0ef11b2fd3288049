//! The image that a volume starts from: found in the store, or pulled.
//!
//! A pull outlives the call that asked for it; the call that comes next joins it. A call that can't wait
//! any longer says how far the pull is.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::PullSecret;
use super::attributes::{Attributes, PullPolicy};
use super::error::{Error, Kind};
use super::notices::{ImageNotices, Waiting};
use crate::node::events::{Events, Log};
use crate::node::lanes::Lanes;
use crate::node::metrics::{Metrics, PulledBytes};
use crate::oci::manifest::{Descriptor, ParsePlatformError};
use crate::oci::pull::{Policy, Progress, PullError, PullRequest, Pulled, Puller, Trouble};
use crate::oci::{
    Credentials, CredentialsError, ImageSource, Keyring, ParseReferenceError, Platform, Reference,
};

/// Which image, and how it may be had.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Its reference.
    pub reference: String,
    /// When it is looked for outside the store.
    pub policy: PullPolicy,
    /// For which platform.
    pub platform: Option<String>,
    /// How to log in where it is.
    pub secret: Option<PullSecret>,
    /// Who waits for it, to be told.
    pub waiting: Waiting,
}

impl Wish {
    /// The image that a volume with these attributes starts from, if it does from one.
    pub fn of(
        attributes: &Attributes,
        secret: Option<&PullSecret>,
        waiting: Waiting,
    ) -> Option<Self> {
        Some(Self {
            reference: attributes.image.clone()?,
            policy: attributes.effective_pull_policy(),
            platform: attributes.platform.clone(),
            secret: secret.cloned(),
            waiting,
        })
    }
}

/// An image can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The text is no reference of an image in a registry.
    #[error(transparent)]
    Reference(#[from] ParseReferenceError),
    /// The text is no platform.
    #[error(transparent)]
    Platform(#[from] ParsePlatformError),
    /// The pull secret can't be used.
    #[error("the pull secret")]
    Secret(#[from] CredentialsError),
    /// The node's own logins can't be used.
    #[error("the node's logins")]
    Logins(#[source] CredentialsError),
    /// The store lacks it, and it may not be pulled.
    #[error("it is not in the store of this node, and its pull policy is Never")]
    Absent,
    /// The pull takes longer than the caller waits.
    #[error("the pull goes on, and a retry joins it; so far: {seen}")]
    Pending {
        /// How far it is.
        seen: String,
    },
    /// The pull failed.
    #[error(transparent)]
    Pull(#[from] Arc<PullError>),
}

impl ImageError {
    /// What the caller has to do about it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Reference(_) | Self::Platform(_) | Self::Secret(_) => Kind::Invalid,
            Self::Logins(_) => Kind::Unable,
            Self::Absent => Kind::NotFound,
            Self::Pending { .. } => Kind::Unavailable,
            Self::Pull(error) => error.trouble().into(),
        }
    }

    /// What helps, where the text does not say so already.
    pub fn remedy(&self) -> Option<&'static str> {
        let Self::Pull(error) = self else {
            return match self {
                Self::Secret(_) => Some("it must be of type kubernetes.io/dockerconfigjson"),
                Self::Absent => Some("allow it to be pulled, or bring it to the node"),
                _ => None,
            };
        };
        Some(match error.trouble() {
            Trouble::NotFound => "push it, or correct the image's name",
            Trouble::Unauthenticated => {
                "give the volume a pull secret that the registry accepts: nodePublishSecretRef in a pod, \
                 csi.storage.k8s.io/provisioner-secret-name in a class"
            }
            Trouble::Denied => "let the pull secret's user read the image",
            Trouble::Unavailable => "it is tried again",
            Trouble::Corrupt => "push it again",
            Trouble::Damaged => "the node's store must be repaired by its administrator",
            Trouble::TooLarge => "use a smaller image, or raise the plugin's limit",
            Trouble::NoSpace => "make room in the node's pool",
            Trouble::Unsupported | Trouble::Internal => return None,
        })
    }
}

/// Where images come from.
#[derive(Clone)]
pub struct Images {
    puller: Puller,
    lanes: Lanes,
    metrics: Arc<Metrics>,
    /// How far the pulls under way are, by what they pull.
    seen: Arc<Mutex<HashMap<String, Arc<Seen>>>>,
    events: Arc<dyn Events>,
    logins: Option<PathBuf>,
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Images").finish_non_exhaustive()
    }
}

impl Images {
    /// Images that `puller` brings.
    pub fn new(puller: Puller, lanes: Lanes, metrics: Arc<Metrics>) -> Self {
        Self {
            puller,
            lanes,
            metrics,
            seen: Arc::default(),
            events: Arc::new(Log),
            logins: None,
        }
    }

    /// The same, with a file of logins for volumes whose pull secret has none.
    #[must_use]
    pub fn with_logins(mut self, file: Option<PathBuf>) -> Self {
        self.logins = file;
        self
    }

    /// The same, telling there how pulls go.
    #[must_use]
    pub fn telling(mut self, events: Arc<dyn Events>) -> Self {
        self.events = events;
        self
    }

    /// The ID of the image in the store, pulled first if the policy and its absence ask for it.
    ///
    /// # Errors
    /// When it can't be had, or not before the deadline.
    pub async fn get(&self, wish: Wish, deadline: Instant) -> Result<String, Error> {
        let image = wish.reference.clone();
        let result = self.find_or_pull(wish, deadline).await;
        result.map_err(|failure| match failure {
            Failure::Image(source) => Error::Image { image, source },
            Failure::Other(error) => error,
        })
    }

    async fn find_or_pull(&self, wish: Wish, deadline: Instant) -> Result<String, Failure> {
        let reference: Reference = wish.reference.parse().map_err(ImageError::from)?;
        let platform: Option<Platform> = wish
            .platform
            .map(|text| text.parse())
            .transpose()
            .map_err(ImageError::from)?;
        let credentials = self.credentials(wish.secret.as_ref(), &reference).await?;
        if wish.policy != PullPolicy::Always {
            let puller = self.puller.clone();
            let (reference, platform) = (reference.clone(), platform.clone());
            let find = move || match puller.find_present(&reference, platform.as_ref())? {
                None => Ok(None),
                Some(image) => Ok(Some((puller.is_own(&image.id)?, image.id.clone()))),
            };
            let found = self.lanes.records.run(find).await.map_err(Error::from)?;
            match found.map_err(|error| ImageError::from(Arc::new(error)))? {
                Some((true, image)) => return Ok(image),
                Some((false, image)) => return self.bring(image, &wish.reference, deadline).await,
                None => {}
            }
        }
        if wish.policy == PullPolicy::Never {
            return Err(ImageError::Absent.into());
        }
        let key = reference.to_string();
        let seen = self.seen(&key);
        let request = PullRequest {
            policy: match wish.policy {
                PullPolicy::Always => Policy::Always,
                PullPolicy::IfNotPresent | PullPolicy::Never => Policy::IfNotPresent,
            },
            platform,
            credentials,
            is_own: true,
            progress: Arc::clone(&seen) as Arc<dyn Progress>,
            ..PullRequest::new(ImageSource::Registry(reference.clone()))
        };
        let notices = ImageNotices::new(&self.events, &wish.waiting, &wish.reference);
        notices.pulling();
        // A task of its own: the pull is counted when it ends, whoever still waits.
        let images = self.clone();
        let task = tokio::spawn(async move {
            let start = Instant::now();
            let outcome = images.count(&key, &seen, images.puller.pull(request)).await;
            notices.ended(&outcome, start.elapsed());
            outcome
        });
        self.wait(task, &wish.reference, deadline).await
    }

    /// The login for an image: that of the secret, else that of the node.
    async fn credentials(
        &self,
        secret: Option<&PullSecret>,
        reference: &Reference,
    ) -> Result<Option<Credentials>, Failure> {
        if let Some(secret) = secret {
            let mut keyring = Keyring::default();
            keyring
                .add(secret.expose().as_bytes(), "the pull secret")
                .map_err(ImageError::from)?;
            let found = keyring.find(reference).map_err(ImageError::from)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        let Some(file) = self.logins.clone() else {
            return Ok(None);
        };
        // Read each time: it may be a secret that is mounted, which changes.
        let reference = reference.clone();
        let find = move || Keyring::from_file(&file)?.find(&reference);
        let found = self.lanes.records.run(find).await.map_err(Error::from)?;
        Ok(found.map_err(ImageError::Logins)?)
    }

    /// The image with this ID, which is brought over first if an additional store has it.
    ///
    /// # Errors
    /// When it can't be had, or not before the deadline.
    pub async fn get_present(
        &self,
        id: &str,
        reference: Option<&str>,
        deadline: Instant,
    ) -> Result<String, Error> {
        let image = reference.unwrap_or(id);
        let result = self.make_own(id, image, deadline).await;
        result.map_err(|failure| match failure {
            Failure::Image(source) => Error::Image {
                image: image.to_owned(),
                source,
            },
            Failure::Other(error) => error,
        })
    }

    async fn make_own(&self, id: &str, name: &str, deadline: Instant) -> Result<String, Failure> {
        let puller = self.puller.clone();
        let image = id.to_owned();
        let look = move || puller.is_own(&image);
        let is_own = self.lanes.records.run(look).await.map_err(Error::from)?;
        if is_own.map_err(|error| ImageError::from(Arc::new(error)))? {
            return Ok(id.to_owned());
        }
        self.bring(id.to_owned(), name, deadline).await
    }

    /// A volume must not stand on what another tool may delete.
    async fn bring(&self, id: String, name: &str, deadline: Instant) -> Result<String, Failure> {
        let images = self.clone();
        let task = tokio::spawn(async move {
            let seen = images.seen(&id);
            images.count(&id, &seen, images.puller.bring(&id)).await
        });
        self.wait(task, name, deadline).await
    }

    /// Waits for a pull, but not beyond the deadline.
    async fn wait(
        &self,
        task: JoinHandle<Result<Pulled, ImageError>>,
        name: &str,
        deadline: Instant,
    ) -> Result<String, Failure> {
        match tokio::time::timeout_at(deadline.into(), task).await {
            Ok(Ok(outcome)) => Ok(outcome?.image_id),
            Ok(Err(_)) => {
                Err(Error::Lane(crate::node::lanes::LaneError::Panicked { lane: "pulls" }).into())
            }
            Err(_) => Err(ImageError::Pending {
                seen: self.describe(name),
            }
            .into()),
        }
    }

    /// Counts a pull, once for all who wait for it.
    async fn count(
        &self,
        key: &str,
        seen: &Arc<Seen>,
        pull: impl Future<Output = Result<Pulled, Arc<PullError>>>,
    ) -> Result<Pulled, ImageError> {
        let is_first = seen.waiting.fetch_add(1, Ordering::AcqRel) == 0;
        if is_first {
            self.metrics.pull_started();
        }
        let outcome = pull.await;
        let is_last = seen.waiting.fetch_sub(1, Ordering::AcqRel) == 1;
        if is_last {
            let mut all = self.all_seen();
            if all.get(key).is_some_and(|other| Arc::ptr_eq(other, seen)) {
                all.remove(key);
            }
        }
        if is_first {
            let none = Pulled::default();
            let (word, pulled) = match &outcome {
                Ok(pulled) => ("done", pulled),
                Err(_) => ("failed", &none),
            };
            self.metrics.pull_ended(
                word,
                &PulledBytes {
                    fetched: pulled.bytes_fetched,
                    shared: pulled.brought.shared,
                    copied: pulled.brought.copied,
                },
            );
        }
        Ok(outcome?)
    }

    /// Removes layers of pulls whose retry has not come for so long.
    ///
    /// # Errors
    /// When the store can't be read or saved.
    pub fn collect_unfinished(&self, age: Duration) -> Result<usize, Arc<PullError>> {
        Ok(self.puller.collect_unfinished(age)?)
    }

    fn all_seen(&self) -> MutexGuard<'_, HashMap<String, Arc<Seen>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self, key: &str) -> Arc<Seen> {
        Arc::clone(self.all_seen().entry(key.to_owned()).or_default())
    }

    fn describe(&self, reference: &str) -> String {
        let parsed = reference.parse::<Reference>().map(|name| name.to_string());
        let key = parsed.as_deref().unwrap_or(reference);
        match self.all_seen().get(key) {
            Some(seen) => seen.to_string(),
            None => "about to end".to_owned(),
        }
    }
}

/// Why an image was not got: the image's own trouble, or ours.
enum Failure {
    Image(ImageError),
    Other(Error),
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// How far a pull is.
#[derive(Debug, Default)]
struct Seen {
    waiting: AtomicUsize,
    has_started: AtomicBool,
    layers: AtomicUsize,
    layers_done: AtomicUsize,
    bytes: AtomicU64,
    bytes_done: AtomicU64,
}

impl Progress for Seen {
    fn started(&self) {
        self.has_started.store(true, Ordering::Relaxed);
    }

    fn resolved(&self, _: &str, missing: &[Descriptor], _: usize) {
        let bytes = missing.iter().map(|layer| layer.size).sum();
        self.layers.store(missing.len(), Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    fn advanced(&self, _: &Descriptor, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    fn finished(&self, _: &Descriptor) {
        self.layers_done.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        let megabytes = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64 / 1e6;
        if !self.has_started.load(Ordering::Relaxed) {
            return f.write_str("it waits for other pulls to end");
        }
        if number(&self.layers) == 0 {
            return f.write_str("the registry has not told yet what the image is");
        }
        write!(
            f,
            "{:.1} of {:.1} MB, {} of {} layers",
            megabytes(&self.bytes_done),
            megabytes(&self.bytes),
            number(&self.layers_done),
            number(&self.layers)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_a_pull_is() {
        let seen = Seen::default();
        assert!(seen.to_string().contains("waits for other pulls"));
        seen.started();
        assert!(seen.to_string().contains("has not told yet"));
        let layer = Descriptor::new("layer", crate::digest::Digest::of(b""), 3_000_000);
        seen.resolved("image", &[layer.clone(), layer.clone()], 1);
        seen.advanced(&layer, 1_500_000);
        seen.finished(&layer);
        assert_eq!(seen.to_string(), "1.5 of 6.0 MB, 1 of 2 layers");
    }
}
