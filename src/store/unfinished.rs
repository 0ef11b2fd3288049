//! Layers of pulls that are not finished: kept for the retry, found and removed when none comes.
//!
//! Such a layer is whole, and its record carries the flag [`Flags::UNFINISHED`] with the name of the
//! staging area of the process that made it. The image that is made of it takes the flag away. Nothing
//! that anybody uses is removed: whoever builds upon such a layer, a peer too, keeps it by that.

use super::Store;
use std::cell::RefCell;

use super::error::Error;
use super::flags::Flags;
use super::layer::NewLayer;
use super::layer::record::LayerRecord;
use super::layer::stage::StagedLayer;
use super::time::Time;
use super::transaction::{Scope, Transaction};

impl Store {
    /// Adopts staged layers, lowest first, in one durable change. One that is there already is passed
    /// over. Returns the IDs of the others.
    ///
    /// # Errors
    /// When a parent is unknown, or something can't be written. Nothing of them is left.
    pub fn adopt_layers(&self, layers: Vec<(NewLayer, StagedLayer)>) -> Result<Vec<String>, Error> {
        self.inherit_late(
            layers
                .iter()
                .map(|(new, staged)| (new.id.as_deref(), staged)),
        )?;
        // Contents first: the records may say that they are there once they are durable.
        self.sync_contents()?;
        self.write(Scope::LAYERS, move |transaction| {
            transaction.require_durable();
            let mut adopted = Vec::with_capacity(layers.len());
            for (layer, staged) in layers {
                adopted.extend(transaction.adopt_image_layer(layer, &staged)?);
            }
            Ok(adopted)
        })
    }

    /// Removes unfinished layers that nothing stands on, that are older than `seconds`, and whose maker
    /// has ended or is this process; none for which `is_wanted`. Returns their IDs.
    ///
    /// # Errors
    /// When the records can't be read or saved.
    pub fn collect_unfinished(
        &self,
        seconds: i64,
        is_wanted: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<Vec<String>, Error> {
        let layers = self.0.layers.snapshot()?;
        let any = layers.search(Flags::UNFINISHED, |layer| maker(layer).is_some())?;
        if any.is_none() {
            return Ok(Vec::new());
        }
        self.write(Scope::ALL, move |transaction| {
            transaction.collect_unfinished(seconds, &is_wanted)
        })
    }
}

/// The staging area of the process that pulled the layer, when the pull is not finished.
fn maker(layer: &LayerRecord) -> Option<String> {
    layer
        .flags
        .find::<String>(Flags::UNFINISHED)
        .filter(|area| area.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl Transaction<'_> {
    /// Takes the flag from a layer and all below it, as an image is made of them.
    pub(super) fn finish_layers(&mut self, top: &str) -> Result<(), Error> {
        let mut next = top.to_owned();
        while let Some(layer) = self.layers().find_id(&next)? {
            next.clone_from(&layer.parent);
            if maker(&layer).is_some() {
                let mut record = (*layer).clone();
                record.flags.remove(Flags::UNFINISHED);
                self.layers().put(record, 0)?;
            }
        }
        Ok(())
    }

    fn collect_unfinished(
        &mut self,
        seconds: i64,
        is_wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<String>, Error> {
        let newest = Time::now().seconds().saturating_sub(seconds);
        let found = RefCell::new(Vec::new());
        self.layers().search(Flags::UNFINISHED, |layer| {
            if let Some(area) = maker(layer)
                && layer.created.seconds() <= newest
            {
                found.borrow_mut().push((layer.clone(), area));
            }
            false
        })?;
        let mut found = found.into_inner();
        // Children come after their parents.
        found.reverse();
        let mut removed = Vec::new();
        for (layer, area) in found {
            let staging = &self.store.staging;
            if is_wanted(&layer.id)
                || !staging.is_own(&area) && staging.is_alive(&area)?
                || self.check_unused(&layer).is_err()
            {
                continue;
            }
            self.require_durable();
            self.delete_layer_record(&layer.id)?;
            removed.push(layer.id.clone());
        }
        Ok(removed)
    }
}
