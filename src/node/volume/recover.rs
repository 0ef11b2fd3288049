//! Recovery: after a start, what is published is read from the store and the mount table. And the
//! sweep: an inline volume whose pod went while the node was down is asked for by nobody.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::Error;
use super::handle::is_id;
use super::mounts::{Line, Source};
use super::{Volumes, definition_of, in_store};
use crate::node::chain;
use crate::node::kubernetes::Bound;
use crate::store;

/// What a start found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Volumes in the store.
    pub volumes: usize,
    /// Places where they are published.
    pub targets: usize,
    /// Places of volumes that were left behind, now removed.
    pub removed: usize,
}

impl Volumes {
    /// Finds what is published, and removes what a crash left half done and nobody asks for any more.
    ///
    /// A volume without a target stays: its publish or unpublish was cut short, and the kubelet will
    /// repeat it.
    ///
    /// # Errors
    /// When the store or the mount table can't be read.
    pub async fn recover(self: &Arc<Self>) -> Result<Recovery, Error> {
        let shared = Arc::clone(self);
        self.lanes.records.run(move || shared.find_all()).await?
    }

    /// Deletes inline volumes that are published nowhere and whose pod has had no directory in the
    /// kubelet's for `grace`; `missing` remembers since when. The kubelet keeps a pod's directory until it
    /// has unpublished the pod's volumes, so no unpublish will come for these. Where there is a cluster to
    /// ask, it must not know the pod on this node any more either.
    ///
    /// # Errors
    /// When the store, the kubelet's directory or the pods can't be read; nothing is then deleted.
    pub async fn sweep(
        self: &Arc<Self>,
        missing: &mut HashMap<String, Instant>,
        grace: Duration,
        bound: Option<&Bound>,
    ) -> Result<usize, Error> {
        let shared = Arc::clone(self);
        let mut orphans = self.lanes.records.run(move || shared.orphans()).await??;
        missing.retain(|container, _| orphans.contains_key(container));
        orphans.retain(|container, _| {
            let since = missing
                .entry(container.clone())
                .or_insert_with(Instant::now);
            since.elapsed() >= grace
        });
        if let Some(bound) = bound.filter(|_| !orphans.is_empty()) {
            let pods = bound.pods().await?;
            orphans.retain(|_, pod| !pods.contains(pod));
        }
        let mut deleted = 0;
        for container in orphans.into_keys() {
            // Whoever works on it asks for it.
            let Ok(_turn) = self.gate.enter(&container, "a sweep") else {
                continue;
            };
            let shared = Arc::clone(self);
            let id = container.clone();
            let done = self.lanes.records.run(move || {
                if !shared.live_targets(&id)?.is_empty() {
                    return Ok(false);
                }
                shared.delete_record(&id, "ephemeral")?;
                shared.clear_place(&id)?;
                Ok::<_, Error>(true)
            });
            if done.await?? {
                tracing::info!(volume = container, "deleted: its pod is gone");
                deleted += 1;
            }
        }
        Ok(deleted)
    }

    /// Inline volumes without a target whose pod has no directory, and the UIDs of these pods.
    fn orphans(&self) -> Result<HashMap<String, String>, Error> {
        let containers = self
            .store
            .containers()
            .map_err(in_store("read the containers"))?;
        // Without it this is not the kubelet's directory, or not mounted yet.
        let Some(pods) = self.places.pods()? else {
            return Ok(HashMap::new());
        };
        let mut orphans = HashMap::new();
        for found in containers.iter() {
            let Some(pod) = definition_of(&found.record)
                .filter(|definition| definition.lifecycle == super::Lifecycle::Ephemeral)
                .and_then(|definition| definition.pod)
                .filter(|pod| is_name(&pod.uid))
            else {
                continue;
            };
            if self.index().targets(&found.record.id).is_empty() && pods.stat(&pod.uid)?.is_none() {
                orphans.insert(found.record.id.clone(), pod.uid);
            }
        }
        Ok(orphans)
    }

    fn find_all(&self) -> Result<Recovery, Error> {
        let mut recovery = Recovery::default();
        let containers = self
            .store
            .containers()
            .map_err(in_store("read the containers"))?;
        let mut layers = HashMap::new();
        for found in containers.iter() {
            if let Some(definition) = definition_of(&found.record) {
                let lifecycle = match definition.lifecycle {
                    super::Lifecycle::Ephemeral => "ephemeral",
                    super::Lifecycle::Persistent => "persistent",
                };
                self.metrics.count_volume(lifecycle, 1);
                recovery.volumes += 1;
                layers.insert(found.record.id.clone(), found.record.layer.clone());
            }
        }
        let table = self.mounts.table()?;
        let places = self.home.list()?;
        // A peer may have deleted the container of a published volume: its mount is known all the same.
        for entry in &places {
            if let Some(name) = entry.name.to_str().filter(|name| is_id(name)) {
                layers
                    .entry(name.to_owned())
                    .or_insert_with(|| store::id::of_container_layer(name));
            }
        }
        recovery.targets = self.find_targets(&table, &layers)?;
        for entry in places {
            let Some(name) = entry.name.to_str().filter(|name| is_id(name)) else {
                continue;
            };
            let is_known = containers.find_id(name).is_some();
            if !is_known && self.index().targets(name).is_empty() {
                self.clear_place(name)?;
                recovery.removed += 1;
            }
        }
        // With broken records nothing new is mounted by anybody; what is published stays served.
        if let Err(error) = self.record_mounts(&layers) {
            tracing::warn!(%error, "mounts that a kill left unrecorded stay so");
        }
        match self.undrain_all() {
            Ok(0) => {}
            Ok(volumes) => tracing::info!(volumes, "drained volumes are writable again"),
            // Each is tried again when it is published.
            Err(error) => tracing::warn!(error = %chain(&error), "drained volumes stay read-only"),
        }
        self.metrics.set_targets(recovery.targets);
        Ok(recovery)
    }

    /// Records the mounts of volumes that a kill left unrecorded: a peer that knows nothing of a mount
    /// would mount the same files a second time.
    fn record_mounts(&self, layers: &HashMap<String, String>) -> Result<(), Error> {
        let recorded = self
            .store
            .mount_points()
            .map_err(in_store("read the mounts"))?;
        for (container, layer) in layers {
            let place = self.place(container, layer);
            if recorded.contains_key(layer)
                || !place.starts_with(self.home.path())
                || self.mounted(container, layer)?.is_none()
            {
                continue;
            }
            let Some(definition) = self
                .store
                .peek_container(container)
                .and_then(|record| definition_of(&record))
            else {
                continue;
            };
            // The driver takes over what is mounted there.
            let mounting = self.mounting(container, layer, definition.lifecycle);
            self.store
                .mount_at(container, &place, &mounting.options)
                .map_err(in_store("record the mount of a volume"))?;
        }
        Ok(())
    }

    /// Fills the index. Only mounts on the devices of volumes are looked at more closely: any other below
    /// the kubelet's directory may be a network's, and hang.
    fn find_targets(
        &self,
        table: &[Line],
        layers: &HashMap<String, String>,
    ) -> Result<usize, Error> {
        let mut sources: HashMap<Source, &str> = HashMap::new();
        let mounted: HashSet<&Path> = table.iter().map(|line| line.path.as_path()).collect();
        for (container, layer) in layers {
            let place = self.place(container, layer);
            let is_own_mount = place.starts_with(self.home.path());
            if is_own_mount && !mounted.contains(place.as_path()) {
                continue;
            }
            if let Some(found) = self.mounted(container, layer)? {
                sources.insert(found.source, container);
            }
        }
        let devices: HashSet<_> = sources.keys().map(|source| source.device).collect();
        let by_layer: HashMap<&str, &str> = layers
            .iter()
            .map(|(container, layer)| (layer.as_str(), container.as_str()))
            .collect();
        let below = |line: &&Line| line.path.starts_with(self.places.path());
        for line in table.iter().filter(below) {
            // A volume whose own mount another tool took down is known by its writable directory.
            let by_upper = line
                .upper
                .as_deref()
                .and_then(Path::parent)
                .and_then(Path::file_name)
                .and_then(|layer| by_layer.get(layer.to_str()?))
                .copied();
            if by_upper.is_none() && !devices.contains(&line.device) {
                continue;
            }
            let Some(found) = self.mounts.mounted(&line.path)? else {
                continue;
            };
            let container = sources.get(&found.source).copied().or(by_upper);
            if let Some(container) = container {
                self.index().insert(container, &line.path, found.source);
            }
        }
        Ok(self.index().len())
    }
}

/// One component of a path, as UIDs of pods are.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
