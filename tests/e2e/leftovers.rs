//! What no test may leave on the node: mounts, containers and layers of the store, folders of pods.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::cluster::{list, wait_for};

/// The store, as the node sees it.
const GRAPH: &str = "/var/lib/strata";

/// Folders of pods that had ended when the last test did. The kubelet clears them away every two seconds, which each
/// test would wait for: the next one looks for those, and `scripts/run-e2e` for those of the last.
static ENDED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Waits until nothing is left.
///
/// # Panics
/// With what is still there in the end.
pub fn assert_none() {
    let mut ended = ENDED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut left = Vec::new();
    let end = std::time::Instant::now() + super::cluster::PATIENCE;
    while std::time::Instant::now() < end {
        let pods = pods();
        left = [mounts(), containers(), folders(), layers()].concat();
        left.extend(ended.iter().filter(|folder| pods.contains(folder)).cloned());
        if left.is_empty() {
            *ended = pods;
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    panic!("left behind: {left:#?}");
}

/// Volumes in the node's mount table.
pub fn mounts() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("the mount table");
    table
        .lines()
        .filter(|line| {
            line.contains("/kubernetes.io~csi/") || line.contains("/run/strata/volumes/")
        })
        .map(str::to_owned)
        .collect()
}

fn records(file: &str) -> Vec<Value> {
    let path = Path::new(GRAPH).join(file);
    let Ok(text) = fs::read_to_string(&path) else {
        return Vec::new();
    };
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn names(records: &[Value], key: &str) -> BTreeSet<String> {
    let name = |record: &Value| record[key].as_str().map(str::to_owned);
    records.iter().filter_map(name).collect()
}

/// Volumes in the store.
pub fn containers() -> Vec<String> {
    names(&records("overlay-containers/containers.json"), "id")
        .into_iter()
        .map(|id| format!("container {id}"))
        .collect()
}

/// Folders of volumes, with a record or without, and what is being made.
fn folders() -> Vec<String> {
    let places = [
        "/run/strata/volumes",
        "/var/lib/strata/overlay-containers",
        "/var/lib/strata/strata/staging",
    ];
    let folders = |place: &str| -> Vec<String> {
        fs::read_dir(place)
            .into_iter()
            .flatten()
            .map(|entry| entry.expect("an entry"))
            .filter(|entry| entry.path().is_dir())
            .map(|entry| format!("folder {}", entry.path().display()))
            .collect()
    };
    places.iter().flat_map(|place| folders(place)).collect()
}

/// Layers that no image needs: records, and directories without a record.
fn layers() -> Vec<String> {
    let layers = records("overlay-layers/layers.json");
    let mut wanted = names(&records("overlay-images/images.json"), "layer");
    loop {
        let parents = layers
            .iter()
            .filter(|layer| layer["id"].as_str().is_some_and(|id| wanted.contains(id)))
            .filter_map(|layer| layer["parent"].as_str().map(str::to_owned))
            .collect::<Vec<_>>();
        let before = wanted.len();
        wanted.extend(parents);
        if wanted.len() == before {
            break;
        }
    }
    let mut found = names(&layers, "id");
    for entry in fs::read_dir(Path::new(GRAPH).join("overlay"))
        .into_iter()
        .flatten()
    {
        let name = entry.expect("an entry").file_name();
        let name = name.to_string_lossy();
        // Layers have 64 hex digits; beside them lie the driver's own files.
        if name.len() == 64 {
            found.insert(name.into_owned());
        }
    }
    found
        .difference(&wanted)
        .map(|id| format!("layer {id}"))
        .collect()
}

/// Folders of pods that are no more.
fn pods() -> Vec<String> {
    let living = list(&["pods", "--all-namespaces"]);
    let living = living
        .iter()
        .filter_map(|pod| pod["metadata"]["uid"].as_str())
        .collect::<BTreeSet<_>>();
    fs::read_dir("/var/lib/kubelet/pods")
        .expect("the kubelet's folder of pods")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|uid| !living.contains(uid.as_str()))
        .map(|uid| format!("pod folder {uid}"))
        .collect()
}

/// Waits until the store has `count` volumes.
pub fn wait_for_volumes(count: usize) {
    wait_for(&format!("{count} volumes"), || {
        (containers().len() == count).then_some(())
    });
}
