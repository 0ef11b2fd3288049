//! Stores whose containers end with the boot.

use std::path::Path;

use strata::store::{Config, NewContainer, Store};

use super::{TestStore, a_store};

fn transient(folder: &Path) -> Store {
    Store::open(Config {
        driver: Some("vfs".into()),
        is_transient: true,
        ..Config::in_roots(folder.join("graph"), folder.join("run"))
    })
    .unwrap()
}

/// An ordinary store with an image, and the same store opened as transient, with a container.
fn both() -> (TestStore, Store) {
    let store = a_store();
    store.with_image("image-1", "a");
    let other = transient(store.folder.path());
    let new = NewContainer {
        id: Some("c".into()),
        names: vec!["name".into()],
        image: Some("a".into()),
        is_durable: true,
        userdata: vec![("file".into(), b"x".to_vec())],
        ..NewContainer::default()
    };
    other.create_container(new).unwrap();
    (store, other)
}

#[test]
fn a_container_is_recorded_in_the_run_root_alone() {
    let (store, other) = both();
    let found = other.find_container("name").unwrap().unwrap();
    assert!(found.flags.is_set("Volatile"));
    let record = store.read("run/vfs-containers/volatile-containers.json");
    assert!(record.contains(r#""id":"c""#), "{record}");
    let record = store.read("run/vfs-layers/volatile-layers.json");
    assert!(record.contains(&found.layer), "{record}");
    assert!(store.has("run/vfs-containers/containers.lock"));
    for path in [
        "vfs-containers/containers.json",
        "vfs-layers/volatile-layers.json",
    ] {
        assert!(!store.has(&format!("graph/{path}")), "{path}");
    }
    // Its files are where those of every container are.
    assert_eq!(store.read("graph/vfs-containers/c/userdata/file"), "x");
    // Another process sees it; who opens the store as usual does not.
    let again = transient(store.folder.path());
    assert_eq!(again.containers().unwrap().len(), 1);
    assert!(store.containers().unwrap().is_empty());
    again.delete_container("c").unwrap();
    assert!(other.containers().unwrap().is_empty());
    assert!(!store.has(&format!("graph/vfs/dir/{}", found.layer)));
}

#[test]
fn what_either_side_has_is_no_garbage_to_the_other() {
    let (store, other) = both();
    let volatile = NewContainer {
        id: Some("v".into()),
        image: Some("a".into()),
        is_volatile: true,
        in_volatile_files: true,
        ..NewContainer::default()
    };
    let kept = store.create_container(volatile).unwrap();
    assert!(store.collect_garbage().unwrap().layers.is_empty());
    assert!(other.collect_garbage().unwrap().layers.is_empty());
    assert!(store.has(&format!("graph/vfs/dir/{}", kept.layer)));
    let layer = other.find_container("c").unwrap().unwrap().layer.clone();
    assert!(store.has(&format!("graph/vfs/dir/{layer}")));
}

#[test]
fn a_boot_ends_the_containers_and_leaves_their_layers_to_gc() {
    let (store, other) = both();
    let layer = other.find_container("c").unwrap().unwrap().layer.clone();
    drop(other);
    std::fs::remove_dir_all(store.folder.path().join("run")).unwrap();
    let other = transient(store.folder.path());
    assert!(other.containers().unwrap().is_empty());
    assert_eq!(other.images().unwrap().len(), 1);
    let garbage = other.collect_garbage().unwrap();
    assert_eq!(garbage.layers, [layer]);
}
