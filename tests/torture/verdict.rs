//! Whether the store is in the end what the plans lead to: by the records, by both checks, and on the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::lane::Lane;
use super::plan::{CONTAINER, Expected, IMAGE, Object};
use super::scene::Scene;
use super::support::scratch::{mounts_below, unmount_below};
use super::support::tool::Tool;

/// What is wrong.
pub fn complaints(scene: &Scene, expected: &Expected) -> Vec<String> {
    let mut all = Vec::new();
    let lanes = [&scene.strata, &scene.newest, &scene.old];
    // What killed processes left half done is garbage, and garbage can be removed.
    all.extend(scene.strata.ok(&["gc"]).err());
    for lane in lanes {
        if let Err(complaint) = records(scene, lane, expected, &mut all) {
            all.push(complaint);
        }
    }
    data(lanes, expected, &mut all);
    if let Err(complaint) = mounts(scene, expected, &mut all) {
        all.push(complaint);
    }
    checks(scene, &mut all);
    if all.is_empty()
        && let Err(complaint) = take_down(scene, expected, &mut all)
    {
        all.push(complaint);
    }
    all
}

fn list(lane: &Lane, kind: &str) -> Result<BTreeMap<String, Value>, String> {
    let ended = lane.ok(&[kind, "--json"])?;
    let value: Option<Vec<Value>> = serde_json::from_slice(&ended.out)
        .map_err(|error| format!("{}: {kind}: {error}", lane.name))?;
    Ok(value
        .unwrap_or_default()
        .into_iter()
        .map(|record| (record["id"].as_str().unwrap_or_default().to_owned(), record))
        .collect())
}

fn names(record: &Value) -> BTreeSet<String> {
    record["names"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn compare<'a>(
    what: &str,
    found: impl Iterator<Item = &'a String>,
    wanted: &BTreeSet<String>,
    all: &mut Vec<String>,
) {
    let found: BTreeSet<_> = found.cloned().collect();
    let lost: Vec<_> = wanted.difference(&found).collect();
    let left: Vec<_> = found.difference(wanted).collect();
    if !lost.is_empty() || !left.is_empty() {
        all.push(format!(
            "{what}: of {} lost {lost:?}, too many {left:?}",
            wanted.len()
        ));
    }
}

/// All records that `lane` lists are those that were acknowledged.
fn records(
    scene: &Scene,
    lane: &Lane,
    expected: &Expected,
    all: &mut Vec<String>,
) -> Result<(), String> {
    let (layers, images, containers) = (
        list(lane, "layers")?,
        list(lane, "images")?,
        list(lane, "containers")?,
    );
    let shared = find(&containers, CONTAINER)?;
    let mut wanted: BTreeSet<_> = expected.layers.keys().cloned().collect();
    for image in [&scene.built.id, &scene.podmans.id] {
        let mut layer = images.get(image).map(|record| &record["layer"]);
        while let Some(id) = layer.and_then(Value::as_str) {
            wanted.insert(id.to_owned());
            layer = layers.get(id).map(|record| &record["parent"]);
        }
    }
    for container in containers.values() {
        wanted.extend(container["layer"].as_str().map(str::to_owned));
    }
    let name = |kind: &str| format!("{}: {kind}", lane.name);
    compare(&name("layers"), layers.keys(), &wanted, all);
    for (id, (parent, _)) in &expected.layers {
        let found = layers.get(id).and_then(|record| record["parent"].as_str());
        if found.is_some_and(|found| found != parent) {
            all.push(format!("{}: layer {id} lies over {found:?}", lane.name));
        }
    }
    let mut wanted: BTreeSet<_> = expected.images.keys().cloned().collect();
    wanted.extend([scene.built.id.clone(), scene.podmans.id.clone()]);
    compare(&name("images"), images.keys(), &wanted, all);
    let mut wanted: BTreeSet<_> = expected.containers.keys().cloned().collect();
    wanted.extend(shared["id"].as_str().map(str::to_owned));
    compare(&name("containers"), containers.keys(), &wanted, all);

    for (id, object) in &expected.images {
        if let Some(record) = images.get(id) {
            compare_names(lane, id, record, &object.names, all);
        }
    }
    for (id, object) in &expected.containers {
        if let Some(record) = containers.get(id) {
            compare_names(lane, id, record, &object.names, all);
            let metadata = record["metadata"].as_str().unwrap_or_default();
            if metadata != object.metadata {
                all.push(format!("{}: {id} has the metadata {metadata:?}", lane.name));
            }
            let image = record["image"].as_str().unwrap_or_default();
            let wanted = if object.over == IMAGE {
                &scene.built.id
            } else {
                &object.over
            };
            if image != wanted {
                all.push(format!("{}: {id} is of the image {image}", lane.name));
            }
        }
    }
    let mut wanted = expected.shared_names.clone();
    wanted.insert(IMAGE.to_owned());
    if let Some(record) = images.get(&scene.built.id) {
        compare_names(lane, IMAGE, record, &wanted, all);
    }
    Ok(())
}

/// All data is what was set last, whoever of `lanes` reads it.
fn data(lanes: [&Lane; 3], expected: &Expected, all: &mut Vec<String>) {
    let data = expected.containers.iter().flat_map(|(id, object)| {
        let items = object.data.iter();
        items.map(move |(key, value)| ("get-container-data", id.as_str(), key, value))
    });
    let image = expected.shared_image_data.iter();
    let container = expected.shared_container_data.iter();
    let data = data
        .chain(image.map(|(key, value)| ("get-image-data", IMAGE, key, value)))
        .chain(container.map(|(key, value)| ("get-container-data", CONTAINER, key, value)));
    for (number, (command, object, key, value)) in data.enumerate() {
        let lane = lanes[number % lanes.len()];
        match lane.ok(&[command, object, key]) {
            Ok(ended) if ended.text() == *value => {}
            Ok(ended) => all.push(format!(
                "{}: {object}: {key} is {:.40}, not {value:.40}",
                lane.name,
                ended.text()
            )),
            Err(complaint) => all.push(complaint),
        }
    }
}

fn find<'a>(containers: &'a BTreeMap<String, Value>, name: &str) -> Result<&'a Value, String> {
    containers
        .values()
        .find(|record| names(record).contains(name))
        .ok_or_else(|| format!("{name} is lost"))
}

fn compare_names(
    lane: &Lane,
    id: &str,
    record: &Value,
    wanted: &BTreeSet<String>,
    all: &mut Vec<String>,
) {
    let found = names(record);
    let what = format!("{}: names of {id}", lane.name);
    compare(&what, found.iter(), wanted, all);
}

fn containers<'a>(expected: &'a Expected, shared: &'a Object) -> Vec<(&'a str, &'a Object)> {
    let own = expected.containers.iter();
    own.map(|(id, object)| (id.as_str(), object))
        .chain([(CONTAINER, shared)])
        .collect()
}

/// Counts of mounts, and the mounts themselves.
fn mounts(scene: &Scene, expected: &Expected, all: &mut Vec<String>) -> Result<(), String> {
    let records = list(&scene.strata, "containers")?;
    let file = scene.settings.run.join("overlay-layers/mountpoints.json");
    let text = fs::read(&file).unwrap_or_default();
    let counted: Vec<Value> = match text.is_empty() {
        true => Vec::new(),
        false => serde_json::from_slice::<Option<Vec<Value>>>(&text)
            .map_err(|error| format!("{}: {error}", file.display()))?
            .unwrap_or_default(),
    };
    let there: BTreeSet<PathBuf> = mounts_below(&scene.settings.graph).into_iter().collect();
    let shared = Object {
        mounts: expected.shared_mounts,
        ..Object::default()
    };
    for (id, object) in containers(expected, &shared) {
        let record = match records.get(id) {
            Some(record) => record,
            None => find(&records, id)?,
        };
        let layer = record["layer"].as_str().unwrap_or_default();
        let counts: Vec<_> = counted
            .iter()
            .filter(|mount| mount["id"] == layer)
            .map(|mount| mount["count"].as_u64().unwrap_or_default() as usize)
            .collect();
        let wanted = if object.mounts > 0 {
            vec![object.mounts]
        } else {
            Vec::new()
        };
        if counts != wanted {
            all.push(format!("{id}: mounts {counts:?}, not {wanted:?}"));
        }
        let place = scene
            .settings
            .graph
            .join("overlay")
            .join(layer)
            .join("merged");
        if there.contains(&place) != (object.mounts > 0) {
            all.push(format!(
                "{id} is mounted at {}: {}",
                place.display(),
                object.mounts == 0
            ));
        }
    }
    Ok(())
}

/// Both checks, of a copy: the peer's ends by unmounting all.
fn checks(scene: &Scene, all: &mut Vec<String>) {
    let graph = &scene.settings.graph;
    let home = graph.join("overlay");
    let copy = scene.scratch.path().join("copy");
    Tool::new("cp")
        .args(["-a", "--one-file-system"])
        .arg(graph)
        .arg(&copy)
        .ok();
    // The home is bound over itself, which is another file system to cp.
    Tool::new("cp")
        .args(["-a", "--one-file-system"])
        .arg(home.join("."))
        .arg(copy.join("overlay"))
        .ok();
    for lane in [&scene.strata, &scene.newest] {
        let mut lane = lane.clone();
        lane.arguments = Vec::new();
        let run = scene.scratch.path().join("copy-run");
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        lane.arguments.extend(["--graph".into(), text(&copy)]);
        lane.arguments.extend(["--run".into(), text(&run)]);
        lane.arguments
            .extend(["--storage-driver".into(), "overlay".into()]);
        all.extend(lane.ok(&["check"]).err());
        unmount_below(&copy);
    }
    drop(fs::remove_dir_all(&copy));
    let listed = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect::<BTreeSet<_>>()
    };
    let staged: Vec<_> = listed(&graph.join("strata/staging"))
        .into_iter()
        .filter(|name| !name.ends_with(".lock"))
        .collect();
    if !staged.is_empty() {
        all.push(format!("left in the staging area: {staged:?}"));
    }
    let layers = list(&scene.strata, "layers").unwrap_or_default();
    let on_disk: BTreeSet<_> = listed(&home)
        .into_iter()
        .filter(|name| name.len() == 64)
        .collect();
    let recorded = layers.keys().cloned().collect();
    compare("directories of layers", on_disk.iter(), &recorded, all);
    let links = listed(&home.join("l")).len();
    if links != recorded.len() {
        all.push(format!("{links} short links for {} layers", recorded.len()));
    }
}

/// What was written is read, by whoever mounts it; and mounts end when they should.
fn take_down(scene: &Scene, expected: &Expected, all: &mut Vec<String>) -> Result<(), String> {
    let shared = Object {
        mounts: expected.shared_mounts,
        ..Object::default()
    };
    let lanes = [&scene.strata, &scene.newest, &scene.old];
    for (number, (id, object)) in containers(expected, &shared).into_iter().enumerate() {
        let place = lanes[number % 3].ok(&["mount", id])?.text();
        let note = fs::read_to_string(Path::new(&place).join("note")).ok();
        if note != object.note {
            all.push(format!("{id} says {note:?}, not {:?}", object.note));
        }
        for left in (0..=object.mounts).rev() {
            let said = lanes[(number + left) % 3].ok(&["unmount", id])?.text();
            if said.contains("unmounted") != (left == 0) {
                all.push(format!("{id}: with {left} more mounts: {said:?}"));
            }
        }
    }
    Ok(())
}
