//! Images from layouts, and from and to a registry that misbehaves on demand.

mod kept;
mod layouts;
mod lonely;
mod other_stores;
mod platforms;
mod push;
mod registry;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use strata::digest::Digest;
use strata::oci::manifest::Descriptor;
use strata::oci::pull::{Progress, PullerOptions, Trouble};
use strata::oci::{
    ImageSource, PullError, PullRequest, Pulled, Puller, RegistryOptions, Transport,
};
use strata::store::{Config, Store};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::support::image;

/// A store of its own with a puller.
struct World {
    folder: TempDir,
    store: Store,
    runtime: Runtime,
    puller: Puller,
}

impl World {
    fn new(driver: &str) -> Self {
        Self::with(driver, PullerOptions::default())
    }

    fn with(driver: &str, options: PullerOptions) -> Self {
        Self::configured(driver, options, Config::in_roots("", ""))
    }

    fn configured(driver: &str, options: PullerOptions, mut config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        config.graph_root = folder.path().join("graph");
        config.run_root = folder.path().join("run");
        config.driver = Some(driver.to_owned());
        let store = Store::open(config).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let transport = Transport::new(RegistryOptions {
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_millis(20),
            connect_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_millis(500),
            least_bytes: 1000,
            least_window: Duration::from_secs(1),
            ..RegistryOptions::default()
        });
        let spool = folder.path().to_path_buf();
        let options = PullerOptions { spool, ..options };
        let puller = Puller::new(store.clone(), runtime.handle().clone(), transport, options);
        Self {
            folder,
            store,
            runtime,
            puller,
        }
    }

    fn pull(&self, source: &str) -> Result<Pulled, PullError> {
        self.puller.pull_here(&request(source))
    }

    /// What a failed pull must leave of itself: nothing.
    #[track_caller]
    fn assert_empty(&self) {
        assert_eq!(self.store.images().unwrap().iter().count(), 0);
        assert_eq!(self.store.layers().unwrap().iter().count(), 0);
        let staging = self.folder.path().join("graph/strata/staging");
        for entry in std::fs::read_dir(staging).unwrap() {
            let path = entry.unwrap().path();
            assert!(path.extension() == Some("lock".as_ref()), "{path:?}");
        }
    }

    #[track_caller]
    fn assert_fails(&self, source: &str, trouble: Trouble) -> String {
        let error = self.pull(source).unwrap_err();
        let text = chain(&error);
        assert_eq!(error.trouble(), trouble, "{text}");
        self.assert_empty();
        text
    }
}

fn request(source: &str) -> PullRequest {
    PullRequest::new(source.parse::<ImageSource>().unwrap())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

/// Remembers what a pull told of itself.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Progress for Heard {
    fn resolved(&self, _image: &str, missing: &[Descriptor], present: usize) {
        let text = format!("{} missing, {present} present", missing.len());
        self.0.lock().unwrap().push(text);
    }

    fn advanced(&self, _layer: &Descriptor, _bytes: u64) {}

    fn finished(&self, layer: &Descriptor) {
        self.0.lock().unwrap().push(layer.digest.to_string());
    }
}

fn listening(request: &mut PullRequest) -> Arc<Heard> {
    let heard = Arc::new(Heard::default());
    request.progress = heard.clone();
    heard
}

fn digest(text: &str) -> Digest {
    text.parse().unwrap()
}

fn three_layers() -> Vec<image::Layer> {
    use image::{Compression, Layer};
    // Bytes that do not compress, so that streams can be cut in the middle.
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    })
    .take(600_000)
    .collect();
    vec![
        Layer::new()
            .dir("etc")
            .file("etc/name", "base\n")
            .file("noise", noise),
        Layer::new()
            .compression(Compression::Zstd)
            .file("etc/second", "two\n"),
        Layer::new()
            .compression(Compression::None)
            .whiteout("etc/name")
            .file("third", "three\n"),
    ]
}
