//! [`Events`]: what the owner of a pod should know of its volumes, beyond an answer to a call.

use std::fmt;

use super::volume::attributes::Pod;

/// A volume's files could not be kept over a reboot: it starts as its image.
pub const STARTED_ANEW: &str = "VolumeStartedAnew";
/// A volume's files were kept over a reboot.
pub const KEPT: &str = "VolumeKept";
/// The image of a volume is not on the node and is fetched.
pub const IMAGE_PULLING: &str = "VolumeImagePulling";
/// The image of a volume was fetched.
pub const IMAGE_PULLED: &str = "VolumeImagePulled";
/// The image of a volume can't be had.
pub const IMAGE_PULL_FAILED: &str = "VolumeImagePullFailed";

/// Something that happened to a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// One of the constants here; people and programs look for it, so it never changes.
    pub reason: &'static str,
    /// Whether somebody has lost something or has to do something.
    pub is_warning: bool,
    /// The volume's handle.
    pub volume: &'a str,
    /// The pod that has it, when that is known.
    pub pod: Option<&'a Pod>,
    /// A sentence for people.
    pub message: &'a str,
}

/// Who is told. May be called on any thread and must not block.
pub trait Events: fmt::Debug + Send + Sync {
    /// Takes an event.
    fn report(&self, event: &Event<'_>);
}

/// Writes events to the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Log;

impl Events for Log {
    fn report(&self, event: &Event<'_>) {
        let (namespace, pod) = event
            .pod
            .map_or(("", ""), |pod| (pod.namespace.as_str(), pod.name.as_str()));
        let Event {
            reason,
            volume,
            message,
            ..
        } = event;
        if event.is_warning {
            tracing::warn!(reason, volume, namespace, pod, "{message}");
        } else {
            tracing::info!(reason, volume, namespace, pod, "{message}");
        }
    }
}
