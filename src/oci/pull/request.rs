//! What is asked of a [`Puller`](super::Puller), within which limits, and what comes of it.

use std::path::PathBuf;
use std::sync::Arc;

use crate::digest::Digest;
use crate::oci::credentials::Credentials;
use crate::oci::manifest::{Descriptor, Platform};
use crate::oci::reference::ImageSource;
use crate::sys::tree::Copied;

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
    /// So many bytes of complete layers may be lost when the process is killed; more are kept for the
    /// retry.
    pub keep_bytes: u64,
    /// Where compressed archives are decompressed to.
    pub spool: PathBuf,
}

impl Default for PullerOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            lanes: 4,
            pulls: 4,
            keep_bytes: 16 << 20,
            spool: "/var/tmp".into(),
        }
    }
}

/// Is told how a pull goes on, by several threads.
pub trait Progress: Send + Sync {
    /// It waits for other pulls no longer.
    fn started(&self) {}
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
    /// The image must be the store's own: what an additional store has of it is brought over.
    pub is_own: bool,
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
            is_own: false,
            progress: Arc::new(()),
        }
    }
}

/// What was pulled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// Layers that were brought from an additional store.
    pub layers_brought: usize,
    /// Bytes of layers that came from the source.
    pub bytes_fetched: u64,
    /// Bytes of the files that were brought from an additional store.
    pub brought: Copied,
    /// True when nothing in the store had to change.
    pub was_present: bool,
}
