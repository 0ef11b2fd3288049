//! What users are told about the image of a volume, at its pod.

use std::sync::Arc;
use std::time::Duration;

use super::attributes::Pod;
use super::images::ImageError;
use crate::node::chain;
use crate::node::events::{Event, Events, IMAGE_PULL_FAILED, IMAGE_PULLED, IMAGE_PULLING};
use crate::oci::pull::Pulled;

/// A volume that waits for an image, with the pod that waits for the volume.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The volume's handle.
    pub volume: String,
    /// The pod, when it is known.
    pub pod: Option<Pod>,
}

/// Tells how far the pull of an image is that a volume waits for.
#[derive(Clone, Debug)]
pub(super) struct ImageNotices {
    events: Arc<dyn Events>,
    waiting: Waiting,
    image: String,
}

impl ImageNotices {
    /// Tells about `image`.
    pub fn new(events: &Arc<dyn Events>, waiting: &Waiting, image: &str) -> Self {
        Self {
            events: Arc::clone(events),
            waiting: waiting.clone(),
            image: image.to_owned(),
        }
    }

    /// It is fetched.
    pub fn pulling(&self) {
        let text = format!("pulling image {} for a volume", self.image);
        self.tell(IMAGE_PULLING, false, &text);
    }

    /// Its pull has ended.
    pub fn ended(&self, outcome: &Result<Pulled, ImageError>, took: Duration) {
        let image = &self.image;
        match outcome {
            // The registry was asked, and nothing is new.
            Ok(pulled) if pulled.was_present => {}
            Ok(pulled) => {
                let text = format!(
                    "pulled image {image} for a volume: {} in {:.1} s",
                    size(pulled.bytes_fetched),
                    took.as_secs_f64()
                );
                self.tell(IMAGE_PULLED, false, &text);
            }
            Err(error) => {
                let mut text = format!("image {image}: {}", chain(error));
                if let Some(remedy) = error.remedy() {
                    text = format!("{text}; {remedy}");
                }
                self.tell(IMAGE_PULL_FAILED, true, &text);
            }
        }
    }

    fn tell(&self, reason: &'static str, is_warning: bool, message: &str) {
        self.events.report(&Event {
            reason,
            is_warning,
            volume: &self.waiting.volume,
            pod: self.waiting.pod.as_ref(),
            message,
        });
    }
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let sizes = [7, 1_500, 12_345_678, 4_000_000_000].map(size);
        assert_eq!(sizes, ["7 B", "1.5 kB", "12.3 MB", "4.0 GB"]);
    }
}
