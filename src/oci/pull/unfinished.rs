//! Layers that a pull has left for its retry, and which of them nobody waits for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Puller;
use super::error::PullError;
use super::layers::lock;

/// Layers of a pull under way: not to be removed.
pub(super) struct Wanted<'a> {
    all: &'a Mutex<HashMap<String, usize>>,
    layers: Vec<String>,
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        let mut all = lock(self.all);
        for layer in &self.layers {
            if let Some(count) = all.get_mut(layer) {
                *count -= 1;
                if *count == 0 {
                    all.remove(layer);
                }
            }
        }
    }
}

impl Puller {
    /// Keeps the layers from being removed as unfinished, as long as the result lives.
    pub(super) fn want(&self, layers: impl Iterator<Item = String>) -> Wanted<'_> {
        let layers: Vec<String> = layers.collect();
        let mut all = lock(&self.0.wanted);
        for layer in &layers {
            *all.entry(layer.clone()).or_default() += 1;
        }
        drop(all);
        Wanted {
            all: &self.0.wanted,
            layers,
        }
    }

    /// Removes layers that pulls left for a retry that did not come for so long; returns how many. None
    /// of a pull under way, in this process or another.
    ///
    /// # Errors
    /// When the store can't be read or saved.
    pub fn collect_unfinished(&self, age: Duration) -> Result<usize, PullError> {
        let inner = Arc::clone(&self.0);
        let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        let removed = self.0.store.collect_unfinished(seconds, move |layer| {
            lock(&inner.wanted).contains_key(layer)
        })?;
        Ok(removed.len())
    }
}
