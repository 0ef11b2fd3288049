//! Where layers have their containers' IDs: [`Owners`] from records, and which maps something new gets.

use std::sync::Arc;

use super::container::record::ContainerRecord;
use super::driver::{Base, Driver, DriverKind, Owners, Side};
use super::error::{Error, Kind};
use super::id_map::IdMappings;
use super::layer::record::LayerRecord;
use super::transaction::Transaction;
use super::{Inner, Store};
use crate::archive::id_shift::IdMaps;

impl LayerRecord {
    /// Where its own contents have the IDs of containers.
    pub fn mappings(&self) -> IdMappings {
        IdMappings {
            uids: self.uid_map.clone(),
            gids: self.gid_map.clone(),
        }
    }

    pub(super) fn is_mapped(&self) -> bool {
        !self.uid_map.is_empty() || !self.gid_map.is_empty()
    }
}

impl ContainerRecord {
    /// The mappings of its user name space.
    pub fn mappings(&self) -> IdMappings {
        IdMappings {
            uids: self.uid_map.clone(),
            gids: self.gid_map.clone(),
        }
    }
}

/// Where `layer` and those below have the IDs, when the layer has them as `own` says.
fn owners(
    driver: &dyn Driver,
    layer: &LayerRecord,
    own: &IdMappings,
    mut find: impl FnMut(&str) -> Result<Option<Arc<LayerRecord>>, Error>,
) -> Result<Owners, Error> {
    let mut mappings = |id: &str| -> Result<IdMappings, Error> {
        Ok(find(id)?.map(|layer| layer.mappings()).unwrap_or_default())
    };
    let below = match &*layer.parent {
        "" => IdMappings::default(),
        parent => mappings(parent)?,
    };
    if own.is_empty() && below.is_empty() {
        return Ok(Owners::default());
    }
    let mut layers = 0;
    let lowers = driver.lowers(&layer.id)?;
    // A copy has a parent by its record alone.
    let is_copy = lowers.is_empty() && !layer.parent.is_empty();
    let is_written = layer.diff_digest.get().is_none() && !is_copy;
    for id in lowers {
        if mappings(&id)? != below {
            break;
        }
        layers += 1;
    }
    Ok(Owners {
        own: own.into(),
        below: (&below).into(),
        layers,
        is_written,
    })
}

impl Inner {
    /// The layer with this ID in an additional store.
    fn find_in_others(&self, id: &str) -> Result<Option<Arc<LayerRecord>>, Error> {
        for other in &self.others {
            let found = other.layers.find(id)?.filter(|found| found.id == id);
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// True when this process knows that the layer's own contents have the host's IDs, without a look at the disk.
    pub(super) fn knows_unmapped(&self, id: &str) -> bool {
        self.layers
            .peek_id(id)
            .is_some_and(|layer| !layer.is_mapped())
    }

    /// The maps that the contents of a new layer get, when its user wants `wanted`: none where mounts can show those.
    pub(super) fn stored(&self, wanted: &IdMappings) -> Result<IdMappings, Error> {
        if wanted.is_empty() || self.driver.shows_other_owners(&wanted.into())? {
            return Ok(IdMappings::default());
        }
        Ok(wanted.clone())
    }
}

impl Transaction<'_> {
    /// Where a layer and those below have the IDs; `maps` are the container's, by default the layer's own.
    pub(super) fn owners(&mut self, layer: &str, maps: &IdMappings) -> Result<Owners, Error> {
        let Some(record) = self.layers().find_id(layer)? else {
            return Ok(Owners::default());
        };
        let own = if maps.is_empty() {
            record.mappings()
        } else {
            maps.clone()
        };
        let store = self.store;
        owners(store.driver.as_ref(), &record, &own, |id| {
            match self.layers().find_id(id)? {
                Some(found) => Ok(Some(found)),
                None => store.find_in_others(id),
            }
        })
    }
}

impl Store {
    /// A layer to be copied or compared.
    pub(super) fn side(&self, layer: &LayerRecord) -> Result<Side, Error> {
        let mut own = layer.mappings();
        if own.is_empty() && layer.diff_digest.get().is_none() {
            // Peers before 1.64 record the maps with the container alone.
            own = self
                .find_container(&layer.id)?
                .filter(|container| container.layer == layer.id)
                .map(|container| container.mappings())
                .unwrap_or_default();
        }
        let owners = owners(self.driver(), layer, &own, |id| {
            Ok(self.find_layer(id)?.map(|found| found.record))
        })?;
        Ok(Side {
            id: layer.id.clone(),
            owners,
        })
    }

    /// Where a mount of a container, or of a layer, by its ID or name shows the container's IDs.
    ///
    /// # Errors
    /// When nothing has the key, or the records can't be read.
    pub fn shown_maps(&self, key: &str) -> Result<IdMaps, Error> {
        if let Some(container) = self.find_container(key)? {
            let maps = container.mappings();
            if !maps.is_empty() {
                return Ok((&maps).into());
            }
            return match self.find_layer(&container.layer)? {
                Some(layer) => Ok(self.side(&layer)?.owners.own),
                None => Ok(IdMaps::default()),
            };
        }
        let layer = self.find_layer(key)?.ok_or(Error::Unknown(Kind::Layer))?;
        Ok(self.side(&layer)?.owners.own)
    }

    /// A layer, and what it is compared with: its parent.
    ///
    /// # Errors
    /// When the records can't be read.
    pub fn comparison(&self, layer: &LayerRecord) -> Result<(Side, Base), Error> {
        let side = self.side(layer)?;
        // Only an overlay knows what is below, and one that was copied for other owners knows something else.
        if self.driver().kind() == DriverKind::Overlay {
            let nearest = self.driver().lowers(&layer.id)?.into_iter().next();
            if nearest.unwrap_or_default() == layer.parent {
                return Ok((side, Base::Below));
            }
        }
        let base = match &*layer.parent {
            "" => Base::Nothing,
            parent => match self.find_layer(parent)? {
                Some(parent) => Base::Layer(self.side(&parent)?),
                None => Base::Below,
            },
        };
        Ok((side, base))
    }
}
