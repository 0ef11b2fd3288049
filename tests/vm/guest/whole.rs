//! Whether a store is whole: its records lead somewhere, its directories are recorded, and the peer agrees.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::node::Node;
use crate::support::plugin::Settings;
use crate::support::scratch::unmount_below;
use crate::support::tool::Tool;

/// Every record can be read and leads to records that are there; every claim that was acknowledged is among them, and
/// no other.
pub fn assert_records(node: &Node) {
    let list = |command: &str| records(&node.strata(&[command, "--json"]).json());
    let (layers, images, containers) = (list("layers"), list("images"), list("containers"));
    let known: BTreeSet<_> = layers.iter().map(|layer| text(layer, "id")).collect();
    let leads = |record: &Value, field: &str| {
        let aim = text(record, field);
        assert!(
            aim.is_empty() || known.contains(&aim),
            "{field} leads nowhere: {record}"
        );
    };
    for layer in &layers {
        leads(layer, "parent");
    }
    for image in &images {
        leads(image, "layer");
    }
    for container in &containers {
        leads(container, "layer");
    }
    let all = Value::from(containers).to_string();
    for claim in &node.ledger.claims {
        let id = claim.volume.rsplit('.').next().expect("a handle's ID");
        assert!(
            claim.is_going || all.contains(id),
            "{} was acknowledged, and is not in the store: {all}",
            claim.name
        );
    }
    for image in node
        .ledger
        .pulls
        .iter()
        .filter_map(|pull| pull.image.as_ref())
    {
        assert!(
            images.iter().any(|record| text(record, "id") == *image),
            "the pull of {image} was acknowledged, and it is not in the store"
        );
    }
}

/// With no plugin running and after `gc`: what is in the directories is what is recorded, and somebody needs it.
pub fn assert_nothing_too_much(node: &Node) {
    node.strata(&["gc"]);
    node.strata(&["check"]);
    let list = |command: &str| records(&node.strata(&[command, "--json"]).json());
    let (layers, images, containers) = (list("layers"), list("images"), list("containers"));
    assert_eq!(
        containers.len(),
        node.ledger.claims.len(),
        "one container a claim: {containers:?}"
    );
    let recorded: BTreeSet<_> = layers.iter().map(|layer| text(layer, "id")).collect();
    let others = images.iter().chain(&containers);
    let others = others.map(|record| text(record, "id")).collect();
    assert_directories(&node.settings, &recorded, &others);
    let mut needed: BTreeSet<_> = images
        .iter()
        .chain(&containers)
        .map(|record| text(record, "layer"))
        .collect();
    // Twice as many rounds as a chain is long would do; as many as there are layers surely do.
    for _ in 0..layers.len() {
        for layer in &layers {
            if needed.contains(&text(layer, "id")) {
                needed.insert(text(layer, "parent"));
            }
        }
    }
    needed.remove("");
    assert_eq!(recorded, needed, "no layer is there that nothing stands on");
}

/// What is in the store's directories is of these layers, and of these images and containers.
pub fn assert_directories(store: &Settings, layers: &BTreeSet<String>, others: &BTreeSet<String>) {
    let home = store.graph.join("overlay");
    let on_disk: BTreeSet<_> = names(&home)
        .into_iter()
        .filter(|name| name.len() == 64)
        .collect();
    assert_eq!(on_disk, *layers, "layer directories are the recorded ones");
    assert_eq!(
        names(&home.join("l")).len(),
        layers.len(),
        "one short link a layer"
    );
    let staging: Vec<_> = names(&store.graph.join("strata/staging"))
        .into_iter()
        .filter(|name| !name.ends_with(".lock"))
        .collect();
    assert!(staging.is_empty(), "staging left: {staging:?}");
    for folder in ["overlay-containers", "overlay-images"] {
        let stray: Vec<_> = names(&store.graph.join(folder))
            .into_iter()
            .filter(|name| name.len() == 64 && !others.contains(name))
            .collect();
        assert!(stray.is_empty(), "data of nothing in {folder}: {stray:?}");
    }
}

/// `check` of the newest peer on a copy: it ends by unmounting everything in its store.
pub fn assert_checked_by_the_peer(store: &Settings) {
    let copy = store.graph.with_file_name("copy");
    Tool::new("cp")
        .args(["-a", "--reflink=auto", "--one-file-system"])
        .arg(&store.graph)
        .arg(&copy)
        .ok();
    Tool::new("containers-storage-newest")
        .arg("--graph")
        .arg(&copy)
        .arg("--run")
        .arg(store.run.with_extension("copy"))
        .args(["--storage-driver", "overlay", "check"])
        .ok();
    unmount_below(&copy);
    fs::remove_dir_all(&copy).expect("the copy can be removed");
}

fn records(list: &Value) -> Vec<Value> {
    list.as_array().cloned().unwrap_or_default()
}

fn text(record: &Value, field: &str) -> String {
    record[field].as_str().unwrap_or_default().to_owned()
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
