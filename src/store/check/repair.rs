//! The removal of what is damaged, from the top down: containers, images, layers.

use std::collections::BTreeMap;

use super::Report;
use super::problem::Problem;
use crate::store::driver::DriverError;
use crate::store::error::{Error, Kind};
use crate::store::transaction::Scope;
use crate::store::{Layers, Store};

/// What may be removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairOptions {
    /// Damaged containers, with what was written in them.
    pub removes_containers: bool,
}

/// Something damaged that could not be removed.
#[derive(Debug, thiserror::Error)]
#[error("deleting {kind} {id}")]
pub struct RepairError {
    /// What it is.
    pub kind: Kind,
    /// Its ID.
    pub id: String,
    /// Why it stays.
    #[source]
    pub source: Error,
}

impl Store {
    /// Removes what `report` tells of, as far as it is the store's own; what can't be removed is returned.
    ///
    /// # Errors
    /// When the records can't be read.
    pub fn repair(
        &self,
        report: &Report,
        options: RepairOptions,
    ) -> Result<Vec<RepairError>, Error> {
        let mut failed = Vec::new();
        let mut attempt = |kind: Kind, id: &str, result: Result<(), Error>| {
            let is_gone = matches!(result, Err(Error::NotA { .. } | Error::Unknown(_)));
            if let Err(source) = result
                && !is_gone
            {
                failed.push(RepairError {
                    kind,
                    id: id.to_owned(),
                    source,
                });
            }
        };
        if options.removes_containers {
            for id in report.containers.keys() {
                attempt(Kind::Container, id, self.delete_container(id));
            }
        }
        for id in report.images.keys() {
            attempt(Kind::Image, id, self.delete_image(id, true).map(drop));
        }
        let layers = self.layers()?;
        let depths: BTreeMap<&String, usize> = report
            .layers
            .keys()
            .map(|id| (id, depth(&layers, id)))
            .collect();
        let mut ids: Vec<&String> = report.layers.keys().collect();
        // Children before what they stand on.
        ids.sort_by_key(|id| std::cmp::Reverse(depths[id]));
        for id in ids {
            let is_unrecorded =
                |problem: &Problem| matches!(problem, Problem::Unrecorded(found) if found == id);
            let result = match report.layers[id].iter().any(is_unrecorded) {
                true => self.discard_unrecorded(id),
                false => self.delete_layer(id),
            };
            attempt(Kind::Layer, id, result);
        }
        Ok(failed)
    }

    /// Removes a directory of the driver, unless it has got a record, or is used.
    fn discard_unrecorded(&self, id: &str) -> Result<(), Error> {
        let id = id.to_owned();
        self.write(Scope::LAYERS, move |transaction| {
            if transaction.layers().find_id(&id)?.is_some() {
                return Ok(());
            }
            if transaction
                .used_layers(std::slice::from_ref(&id))?
                .contains(&id)
            {
                return Err(DriverError::Mounted(id).into());
            }
            transaction.discard_layer(&id)
        })
    }
}

/// How many layers a layer stands on.
fn depth(layers: &Layers, id: &str) -> usize {
    let mut depth = 0;
    let mut next = layers.find_id(id).map(|layer| layer.parent.clone());
    while let Some(layer) = next.and_then(|id| layers.find_id(&id)) {
        depth += 1;
        if depth > layers.len() {
            break;
        }
        next = Some(layer.parent.clone());
    }
    depth
}
