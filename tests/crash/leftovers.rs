//! What must not be left when all volumes are gone.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use serde_json::Value;

use super::support::image::{self, Built};
use super::support::plugin::Settings;
use super::support::scratch::{mounts_below, unmount_below};
use super::support::tool::Tool;

/// States that the peer has checked: it need not look at the same one twice.
#[derive(Debug, Default)]
pub struct Checked(Mutex<HashSet<String>>);

/// No mount, no volume, no layer, no record too many; and the newest peer finds the store in order.
pub fn assert_none(settings: &Settings, image: Option<&Built>, checked: &Checked) {
    let home = settings.graph.join("overlay");
    let root = settings.graph.parent().expect("a parent");
    let mounts: Vec<_> = mounts_below(root)
        .into_iter()
        .filter(|path| *path != home)
        .collect();
    assert!(mounts.is_empty(), "mounts left: {mounts:?}");

    let containers = records(&settings.graph.join("overlay-containers/containers.json"));
    assert!(containers.is_empty(), "containers left: {containers:?}");
    let layers = records(&settings.graph.join("overlay-layers/layers.json"));
    if let Some(built) = image {
        // Whatever a pull that was cut short has left, its retry has taken over or removed.
        assert_eq!(layers.len(), built.diff_ids.len(), "layers: {layers:?}");
    }
    for layer in &layers {
        let is_incomplete = layer["flags"]["incomplete"] == Value::Bool(true);
        assert!(!is_incomplete, "an incomplete layer is left: {layer}");
        let is_unfinished = !layer["flags"]["strata-unfinished"].is_null();
        assert!(!is_unfinished, "an unfinished layer is left: {layer}");
    }
    let mut recorded: Vec<_> = layers
        .iter()
        .map(|layer| layer["id"].as_str().expect("an ID").to_owned())
        .collect();
    recorded.sort();
    let mut on_disk: Vec<_> = names(&home)
        .into_iter()
        .filter(|name| name.len() == 64)
        .collect();
    on_disk.sort();
    assert_eq!(on_disk, recorded, "layer directories are the recorded ones");
    assert_eq!(
        names(&home.join("l")).len(),
        recorded.len(),
        "one short link a layer"
    );
    let mounted = records(&settings.run.join("overlay-layers/mountpoints.json"));
    assert!(mounted.is_empty(), "mount records left: {mounted:?}");
    let left = names(&settings.run.join("volumes"));
    assert!(left.is_empty(), "volumes left: {left:?}");
    let staging = settings.graph.join("strata/staging");
    assert!(
        !has_staged(&staging),
        "staging left below {}",
        staging.display()
    );
    check_by_the_peer(settings, checked);
}

/// Whether anything lies in a staging area.
pub fn has_staged(staging: &Path) -> bool {
    names(staging).iter().any(|name| !name.ends_with(".lock"))
}

fn records(file: &Path) -> Vec<Value> {
    match fs::read(file) {
        Ok(bytes) if bytes.is_empty() => Vec::new(),
        Ok(bytes) => serde_json::from_slice::<Option<Vec<Value>>>(&bytes)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
            .unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).map_or_else(
        |_| Vec::new(),
        |entries| {
            entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        },
    )
}

/// `check` of the newest peer, on a copy: it ends by unmounting everything in its store.
fn check_by_the_peer(settings: &Settings, checked: &Checked) {
    let state = image::hex(state(&settings.graph).as_bytes());
    if !checked.0.lock().unwrap().insert(state) {
        return;
    }
    let copy = settings.graph.with_file_name("copy");
    Tool::new("cp")
        .args(["-a", "--one-file-system"])
        .arg(&settings.graph)
        .arg(&copy)
        .ok();
    Tool::new("containers-storage-newest")
        .arg("--graph")
        .arg(&copy)
        .arg("--run")
        .arg(settings.graph.with_file_name("copy-run"))
        .args(["--storage-driver", "overlay", "check"])
        .ok();
    unmount_below(&copy);
    fs::remove_dir_all(&copy).expect("the copy can be removed");
}

/// The store as text, without what differs from run to run: times, short names, lock tokens.
fn state(graph: &Path) -> String {
    let mut lines = Vec::new();
    let mut folders = vec![graph.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder can be read") {
            let path = entry.expect("an entry").path();
            let data = fs::symlink_metadata(&path).expect("an entry's data");
            let name = path
                .strip_prefix(graph)
                .expect("below")
                .display()
                .to_string();
            if name == "strata" {
                continue;
            }
            if data.is_dir() {
                folders.push(path);
                lines.push(mask(&name));
            } else if name.ends_with(".json") {
                let mut records = records(&path);
                for record in &mut records {
                    record["created"] = Value::Null;
                }
                lines.push(format!("{name} {}", Value::Array(records)));
            } else {
                lines.push(format!("{} {}", mask(&name), data.len()));
            }
        }
    }
    lines.sort();
    lines.join("\n")
}

/// Names of 26 capitals and digits are short names; they are random.
fn mask(name: &str) -> String {
    name.split('/')
        .map(|part| {
            let is_short = part.len() == 26
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
            if is_short { "SHORT" } else { part }
        })
        .collect::<Vec<_>>()
        .join("/")
}
