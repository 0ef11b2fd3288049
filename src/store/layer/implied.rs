//! Directories that a layer's archive has members in and no entry for: they are as those of the layers below.
//!
//! Layers of an image are unpacked side by side. One whose parent was not in the store then gets this just before both
//! are adopted, under no lock.

use crate::archive::id_shift::Shift;
use crate::store::driver::Below;
use crate::store::error::Error;
use crate::store::layer::stage::{CONTENTS, StagedLayer};
use crate::store::{Inner, Store};
use crate::sys::Dir;

impl Inner {
    /// Finishes the directory in `at` of a staged layer whose parent is in the store.
    pub(in crate::store) fn inherit(
        &self,
        at: &Dir,
        implied: &[Vec<u8>],
        staged: &StagedLayer,
    ) -> Result<(), Error> {
        if implied.is_empty() {
            return Ok(());
        }
        let below = Below {
            layer: staged.parent.as_deref(),
            shift: staged.shift.clone(),
            ..Below::default()
        };
        Ok(self.driver.inherit(at, implied, &below)?)
    }
}

impl Store {
    /// Finishes those of the layers, lowest first and with their IDs, whose parents were not in the store when they
    /// were unpacked: before they are adopted together.
    pub(in crate::store) fn inherit_late<'a>(
        &self,
        layers: impl IntoIterator<Item = (Option<&'a str>, &'a StagedLayer)>,
    ) -> Result<(), Error> {
        let layers: Vec<_> = layers.into_iter().collect();
        for (_, staged) in &layers {
            let Some(measured) = staged
                .measured
                .as_ref()
                .filter(|_| staged.parent_comes_later)
            else {
                continue;
            };
            if measured.implied.is_empty() {
                continue;
            }
            let mut prepared = Vec::new();
            let mut next = staged.parent.as_deref();
            while let Some(id) = next
                && let Some((_, below)) = layers.iter().find(|(known, _)| *known == Some(id))
            {
                prepared.push(below.dir()?.open_dir(CONTENTS)?);
                next = below.parent.as_deref();
            }
            if let Some(parent) = next
                && self
                    .find_layer(parent)?
                    .is_none_or(|found| found.id != parent)
            {
                return Err(Error::ParentUnknown);
            }
            let below = Below {
                prepared: &prepared,
                layer: next,
                shift: Shift::default(),
            };
            let at = staged.dir()?.open_dir(CONTENTS)?;
            self.driver().inherit(&at, &measured.implied, &below)?;
        }
        Ok(())
    }
}
