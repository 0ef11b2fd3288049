//! Which layers of the home are mounted, by the mount table: as the layer that is written, as one below, or as what is
//! bound somewhere.

use std::collections::HashSet;
use std::path::Path;

use super::Overlay;
use super::layout::{self, LINKS, MAPPED};
use crate::store::driver::DriverError;
use crate::sys::mount_table::{self, Line};

/// Options of overlays that name directories.
const OPTIONS: [&str; 5] = ["upperdir", "workdir", "lowerdir", "lowerdir+", "datadir+"];

impl Overlay {
    /// The layers that the mounts of a table name. What an overlay has below may be named by numbers that say nothing; it is
    /// told by what is in the home of the layers above.
    pub(super) fn layers_in(&self, table: &[Line]) -> Result<HashSet<String>, DriverError> {
        let real = self.home.real_path()?;
        let inside = |path: &Path| {
            let rest = path.strip_prefix(self.home.path());
            let rest = rest.or_else(|_| path.strip_prefix(&real));
            rest.ok().map(Path::to_path_buf)
        };
        let mut found = HashSet::new();
        for line in table {
            let place = inside(&line.mount_point);
            if let Some(place) = &place
                && !is_helper(place)
            {
                found.extend(self.layer_at(place)?);
            }
            if line.fs_type != "overlay" {
                continue;
            }
            for path in OPTIONS.iter().flat_map(|name| line.super_paths(name)) {
                let path = match path.is_absolute() {
                    true => inside(&path),
                    // Peers mount from within the home where the options are too long.
                    false => place.is_some().then_some(path),
                };
                if let Some(path) = path {
                    found.extend(self.layer_at(&path)?);
                }
            }
        }
        for (line, rest) in mount_table::shown_of(table, &real) {
            if !inside(&line.mount_point).is_some_and(|place| is_helper(&place)) {
                found.extend(self.layer_at(rest)?);
            }
        }
        Ok(found)
    }

    /// The layer that a path in the home belongs to.
    fn layer_at(&self, path: &Path) -> Result<Option<String>, DriverError> {
        let mut names = path.iter().filter_map(|name| name.to_str());
        Ok(match (names.next(), names.next()) {
            (Some(LINKS), Some(short)) if layout::is_short_name(short) => {
                layout::follow(&self.home, short)?
            }
            (Some(id), _) if layout::is_layer_name(id) => Some(id.to_owned()),
            _ => None,
        })
    }
}

/// True for a place in a layer's directory that is mounted only for an overlay's sake, which names it; one without such an
/// overlay is what somebody who died has left.
fn is_helper(place: &Path) -> bool {
    place.iter().nth(1).is_some_and(|name| name == MAPPED)
}
