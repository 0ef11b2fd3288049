//! What no test may leave on the node: mounts, containers and layers of the store, folders of pods.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::cluster::{folder, list, wait_for, wait_until_none};

/// The store, as the node sees it.
const GRAPH: &str = "/var/lib/strata";

/// UIDs of pods whose folders were still there when their test had ended, each with the test. The kubelet clears them
/// away every two seconds, which each test would wait for: the next one looks for those, and `scripts/run-e2e` for what
/// is there after the last; it finds the tests' names in a file.
static ENDED: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

/// Waits until nothing is left of this test, and no folder of a pod of those before.
///
/// # Panics
/// With what is still there in the end.
pub fn assert_none(test: &str) {
    let before = std::mem::take(&mut *ENDED.lock().unwrap_or_else(PoisonError::into_inner));
    let mut pods = Vec::new();
    wait_until_none("left behind", || {
        pods = ended_pods();
        let mut left = [mounts(), containers(), folders(), layers()].concat();
        for (uid, test) in before.iter().filter(|(uid, _)| pods.contains(uid)) {
            left.push(format!("folder of pod {uid}, of {test}"));
        }
        left
    });
    let ended: Vec<_> = pods.into_iter().map(|uid| (uid, test.to_owned())).collect();
    let mut lines = String::new();
    for (uid, test) in &ended {
        lines.push_str(&format!("{uid} {test}\n"));
    }
    fs::write(folder().join("ended-pods"), lines).expect("a file in the cluster's folder");
    *ENDED.lock().unwrap_or_else(PoisonError::into_inner) = ended;
}

/// Volumes in the mount tables of the node and of every process that has one of its own: what only the plugin's
/// container still sees keeps the volume, too.
pub fn mounts() -> Vec<String> {
    let mut tables = BTreeSet::new();
    let mut found = BTreeSet::new();
    for process in fs::read_dir("/proc").expect("processes") {
        let process = process.expect("an entry").path();
        // Whatever can't be read has ended, or is no process.
        let Ok(namespace) = fs::read_link(process.join("ns/mnt")) else {
            continue;
        };
        if tables.contains(&namespace) {
            continue;
        }
        let Ok(table) = fs::read_to_string(process.join("mountinfo")) else {
            continue;
        };
        tables.insert(namespace);
        let of_volumes = table.lines().filter(|line| {
            line.contains("/kubernetes.io~csi/") || line.contains("/run/strata/volumes/")
        });
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        found.extend(of_volumes.map(|line| format!("mount seen by {}: {line}", name.trim())));
    }
    found.into_iter().collect()
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

/// Folders of volumes, with a record or without, and whatever is being made.
fn folders() -> Vec<String> {
    let entries = |place: &str| -> Vec<_> {
        let entries = fs::read_dir(place).into_iter().flatten();
        entries
            .map(|entry| entry.expect("an entry").path())
            .collect()
    };
    let mut found = entries("/run/strata/volumes");
    let mut containers = entries("/var/lib/strata/overlay-containers");
    // Beside the folders lie the records.
    containers.retain(|path| path.is_dir());
    found.extend(containers);
    let mut staged = entries("/var/lib/strata/strata/staging");
    // Those of living processes, and one for a full disk.
    staged.retain(|path| path.extension().is_none_or(|extension| extension != "lock"));
    found.extend(staged);
    found
        .iter()
        .map(|path| path.display().to_string())
        .collect()
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

/// UIDs of pods that are no more and whose folders are still there.
fn ended_pods() -> Vec<String> {
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
        .collect()
}

/// Waits until the store has `count` volumes.
pub fn wait_for_volumes(count: usize) {
    wait_for(&format!("{count} volumes"), || {
        (containers().len() == count).then_some(())
    });
}
