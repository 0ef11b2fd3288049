//! Who owns the folders above a mapped layer's mount: IDs that the mapping would have to cover.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::fs::{lstat, stat};
use serde::Serialize;

use super::definition::{Definition, MANY, Run};
use super::failure::{FAILED, Failure, Outcome};
use super::grammar::Given;
use super::output::{self, Output};
use crate::store::id_map::IdMap;
use crate::store::{Error, Kind, LayerRecord, Store};
use crate::sys;

/// The commands of this file.
pub(super) const COMMANDS: &[Definition] = &[
    Definition::peer(
        "layer-parent-owners",
        "List owners above a mounted layer that its ID mapping lacks",
        Run::InStore(|store, given, output| list(Kind::Layer, store, given, output)),
    )
    .operands("layerNameOrID [...]", 1, MANY)
    .flags(&[output::JSON]),
    Definition::peer(
        "container-parent-owners",
        "List owners above a mounted container that its ID mapping lacks",
        Run::InStore(|store, given, output| list(Kind::Container, store, given, output)),
    )
    .operands("containerNameOrID [...]", 1, MANY)
    .flags(&[output::JSON]),
];

/// Owners in the peer's JSON: `null` when there are none.
#[derive(Debug, Serialize)]
struct Owners<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    #[serde(rename = "UIDs")]
    uids: Option<Vec<u32>>,
    #[serde(rename = "GIDs")]
    gids: Option<Vec<u32>>,
}

/// `layer-parent-owners` and `container-parent-owners`. What is not found is passed over; the first that is not mounted
/// ends it, as the peer.
fn list(kind: Kind, store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let layers = store.layers()?;
    let containers = store.containers()?;
    let mut code = 0;
    for key in &given.operands {
        let layer = match kind {
            Kind::Container => containers
                .find(key)
                .map(|container| (container.id.clone(), container.layer.clone())),
            Kind::Layer | Kind::Image => Some((String::new(), key.clone())),
        };
        let found = layer.and_then(|(id, key)| Some((id, layers.find(&key)?)));
        let Some((id, layer)) = found else {
            code = FAILED;
            continue;
        };
        let id = if id.is_empty() { &layer.id } else { &id };
        let (uids, gids) = owners(store, &layer).map_err(|failure| {
            let title = match kind {
                Kind::Container => "ContainerParentOwner",
                Kind::Layer | Kind::Image => "LayerParentOwner",
            };
            Failure::new(format!("{title}: {}", failure.text()))
        })?;
        if given.has("json") {
            let some = |ids: Vec<u32>| Some(ids).filter(|ids| !ids.is_empty());
            output.json(&Owners {
                id,
                uids: some(uids),
                gids: some(gids),
            })?;
            continue;
        }
        output.line(format_args!("ID: {id}"))?;
        for (title, ids) in [("UIDs", uids), ("GIDs", gids)] {
            if kind == Kind::Container || !ids.is_empty() {
                let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
                output.line(format_args!("{title}: [{}]", ids.join(" ")))?;
            }
        }
    }
    Ok(code)
}

fn owners(store: &Store, layer: &LayerRecord) -> Result<(Vec<u32>, Vec<u32>), Failure> {
    if layer.uid_map.is_empty() && layer.gid_map.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let point = store.mount_point(&layer.id)?.ok_or(Error::NotMounted)?;
    let (mut uids, mut gids) = (BTreeSet::new(), BTreeSet::new());
    for folder in folders(&point) {
        // A folder behind a symbolic link counts, and so does the link.
        for stat in [stat(&folder), lstat(&folder)] {
            let stat = stat.map_err(|error| sys::Error::new("stat", &folder, error))?;
            uids.insert(stat.st_uid);
            gids.insert(stat.st_gid);
        }
    }
    let uncovered = |ids: BTreeSet<u32>, maps: &[IdMap]| {
        ids.into_iter()
            .filter(|id| !maps.is_empty() && !maps.iter().any(|map| covers(map, *id)))
            .collect()
    };
    Ok((
        uncovered(uids, &layer.uid_map),
        uncovered(gids, &layer.gid_map),
    ))
}

/// The folders above a path, but for the root, which everybody passes.
fn folders(path: &Path) -> Vec<PathBuf> {
    let above = path.ancestors().skip(1);
    let inner = above.filter(|folder| folder.parent().is_some());
    inner.map(Path::to_path_buf).collect()
}

fn covers(map: &IdMap, id: u32) -> bool {
    id.checked_sub(map.host_id)
        .is_some_and(|offset| offset < map.size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_covers_its_host_range() {
        let map = IdMap {
            container_id: 0,
            host_id: 100,
            size: 10,
        };
        assert!(covers(&map, 100) && covers(&map, 109));
        assert!(!covers(&map, 99) && !covers(&map, 110));
        assert_eq!(
            folders(Path::new("/a/b/c")),
            [Path::new("/a/b"), Path::new("/a")]
        );
    }
}
