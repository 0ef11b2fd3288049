//! What must not be left when all volumes are gone.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use serde_json::Value;

use super::copying;
use super::support::image::{self, Built};
use super::support::plugin::Settings;
use super::support::scratch::{mounts_below, unmount_below};
use super::support::tool::{self, Tool};

/// States that the peer has checked, and what it said: it need not look at the same one twice.
#[derive(Debug, Default)]
pub struct Checked(Mutex<HashMap<String, Vec<String>>>);

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

/// No directory is the upper one of two overlays: the kernel lets it be, and they would tear each other's files.
pub fn assert_uppers_mounted_once(settings: &Settings) {
    let root = settings.graph.parent().expect("a parent");
    let root = root.to_str().expect("UTF-8");
    let table = fs::read_to_string("/proc/self/mountinfo").expect("the mount table can be read");
    let mut devices = HashMap::<&str, HashSet<&str>>::new();
    for line in table.lines().filter(|line| line.contains(root)) {
        // Mounts of one overlay have one device number.
        let device = line.split(' ').nth(2).expect("a device number");
        let mut options = line.split([' ', ',']);
        let upper = options.find_map(|option| option.strip_prefix("upperdir="));
        if let Some(upper) = upper {
            devices.entry(upper).or_default().insert(device);
        }
    }
    for (upper, devices) in devices {
        assert_eq!(
            devices.len(),
            1,
            "{upper} is the upper directory of {devices:?}"
        );
    }
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
pub fn check_by_the_peer(settings: &Settings, checked: &Checked) {
    let complaints = complaints(settings, checked);
    assert!(complaints.is_empty(), "the peer finds {complaints:#?}");
}

/// The same where somebody has just died: what no record points at may lie about.
pub fn check_remains_by_the_peer(settings: &Settings, checked: &Checked) {
    let mut complaints = complaints(settings, checked);
    complaints.retain(|line| !line.ends_with("storage driver not accounted for"));
    assert!(complaints.is_empty(), "the peer finds {complaints:#?}");
}

fn complaints(settings: &Settings, checked: &Checked) -> Vec<String> {
    let state = image::hex(states(settings).as_bytes());
    if let Some(known) = checked.0.lock().unwrap().get(&state) {
        return known.clone();
    }
    let mut copy = settings.clone();
    // Where more stores are read, the copy is checked without them.
    copy.storage_options.clear();
    copy.graph = settings.graph.with_file_name("copy");
    copy.run = settings.graph.with_file_name("copy-run");
    let images = settings.image_store.as_ref();
    copy.image_store = images.map(|images| images.with_file_name("copy"));
    for (root, copy) in settings.roots().zip(copy.roots()) {
        copying::tree(root, copy);
    }
    let is_btrfs = settings.storage_driver == "btrfs";
    // The newest peer is built without btrfs, and the oldest has no check.
    let checker = match is_btrfs {
        true => settings.binary.clone(),
        false => tool::find("containers-storage-newest"),
    };
    let ran = Tool::at(&checker)
        .args(copy.store_arguments())
        .arg("check")
        .output();
    if is_btrfs {
        for kind in ["layers", "images", "containers"] {
            Tool::new("containers-storage")
                .args(copy.store_arguments())
                .args([kind, "--json"])
                .ok();
        }
    }
    for root in copy.roots().chain([copy.run.as_path()]) {
        unmount_below(root);
        fs::remove_dir_all(root).expect("a copy can be removed");
    }
    // Of each object a line of its own, and indented what is wrong with it.
    let text = ran.text();
    let indented = text.lines().filter(|line| line.starts_with(' '));
    let complaints: Vec<_> = indented.map(|line| line.trim().to_owned()).collect();
    assert_eq!(ran.code == 0, complaints.is_empty(), "{ran}");
    checked.0.lock().unwrap().insert(state, complaints.clone());
    complaints
}

/// All roots of the store as text.
fn states(settings: &Settings) -> String {
    let states: Vec<_> = settings.roots().map(state).collect();
    states.join("\n\n")
}

/// A root of the store as text, without what differs from run to run: times, short names, lock tokens.
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
                // An empty list and no file are the same.
                if records.is_empty() {
                    continue;
                }
                lines.push(format!("{name} {}", Value::Array(records)));
            } else if name.ends_with(".lock") {
                // Nobody has written under it yet, or it has a token.
                lines.push(name);
            } else {
                lines.push(format!("{} {}", mask(&name), data.len()));
            }
        }
    }
    lines.sort();
    lines.join("\n")
}

/// The state of a store and of its mounts; IDs that are not one digit over and over were drawn by chance.
pub fn named_state(settings: &Settings) -> String {
    let listed = listed_data(settings);
    let mut lines = Vec::new();
    for (number, root) in settings.roots().enumerate() {
        let text = state(root);
        // Bytes that no record names are nobody's data, whether a dead process or a failed one left them.
        let known = text.lines().filter(|line| {
            let name = line.split(' ').next().unwrap_or_default();
            let parts: Vec<_> = name.split('/').collect();
            let is_of_object = parts.len() > 1 && parts[0].contains('-') && parts[1].len() == 64;
            !is_of_object || listed.contains(name)
        });
        let mark = ["", "images: "][number];
        lines.extend(known.map(|line| format!("{mark}{line}")));
    }
    let layers = format!("{}-layers/mountpoints.json", settings.storage_driver);
    let mounts = records(&settings.run.join(layers));
    lines.extend(
        mounts
            .iter()
            .map(|mount| format!("mount {} {}", mount["id"], mount["count"])),
    );
    let homes = settings.roots();
    let homes: Vec<_> = homes
        .map(|root| root.join(&settings.storage_driver))
        .collect();
    for folder in settings.folders() {
        let mounted = mounts_below(folder).into_iter();
        let mounted = mounted.filter(|path| !homes.contains(path));
        lines.extend(mounted.map(|path| format!("mounted {}", path.display())));
        let folder = folder.to_str().expect("UTF-8");
        for line in &mut lines {
            *line = line.replace(folder, "ROOT");
        }
    }
    let lines = lines.iter();
    let mut named: Vec<_> = lines.map(|line| mask_drawn_ids(line)).collect();
    named.sort();
    named.join("\n")
}

/// The files of the big data that records list.
fn listed_data(settings: &Settings) -> HashSet<String> {
    let mut listed = HashSet::new();
    for kind in ["layers", "images", "containers"] {
        let folder = format!("{}-{kind}", settings.storage_driver);
        let files = settings.roots().map(|root| root.join(&folder));
        for record in files.flat_map(|folder| records(&folder.join(format!("{kind}.json")))) {
            let id = record["id"].as_str().unwrap_or_default();
            let keys = record["big-data-names"].as_array();
            for key in keys.into_iter().flatten().filter_map(Value::as_str) {
                let name = strata::store::big_data::file_name(key).expect("a key");
                listed.insert(format!("{folder}/{id}/{name}"));
            }
        }
    }
    listed
}

/// Replaces runs of 64 hex digits that are not all the same.
fn mask_drawn_ids(line: &str) -> String {
    let mut masked = String::new();
    let mut run = String::new();
    for letter in line.chars().chain(['\n']) {
        if letter.is_ascii_hexdigit() {
            run.push(letter);
            continue;
        }
        let first = run.chars().next();
        if run.len() == 64 && run.chars().any(|other| Some(other) != first) {
            masked.push_str("DRAWN");
        } else {
            masked.push_str(&run);
        }
        run.clear();
        masked.push(letter);
    }
    masked.trim_end().to_owned()
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
