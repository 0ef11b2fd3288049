//! Containers: creating, deleting, what a retry finds, mount counts.

use strata::store::driver::MountOptions;
use strata::store::{BigDataItem, Error, Kind, NewContainer};

use super::a_store;

#[test]
fn a_container_has_a_layer_on_its_image_and_goes_with_it() {
    let store = a_store();
    let top = store.with_image("image-1", "a");
    let container = store
        .create_container(NewContainer {
            names: vec!["n".into()],
            image: Some("a".into()),
            big_data: vec![BigDataItem::new("k", "v")],
            userdata: vec![("file".into(), b"x".to_vec())],
            ..NewContainer::default()
        })
        .unwrap();
    let other = store.reopened();
    let layers = other.layers().unwrap();
    assert_eq!(layers.find(&container.layer).unwrap().parent, top);
    assert_eq!(other.big_data(Kind::Container, "n", "k").unwrap(), b"v");
    let userdata = format!("graph/vfs-containers/{}/userdata/file", container.id);
    assert_eq!(store.read(&userdata), "x");
    other.delete_container("n").unwrap();
    assert!(store.containers().unwrap().is_empty());
    assert_eq!(store.layers().unwrap().len(), 1);
    assert!(!store.has(&format!("graph/vfs-containers/{}", container.id)));
    assert!(!store.has(&format!("graph/vfs/dir/{}", container.layer)));
    store.assert_staging_is_empty();
}

#[test]
fn what_a_crash_left_of_the_layer_is_replaced() {
    let store = a_store();
    store.with_container("c", "");
    let layer = store.containers().unwrap().find("c").unwrap().layer.clone();
    // As after a crash between the two saves: the layer is recorded, the container is not.
    std::fs::write(
        store
            .folder
            .path()
            .join("graph/vfs-containers/containers.json"),
        "[]",
    )
    .unwrap();
    let left = store
        .folder
        .path()
        .join("graph/vfs/dir")
        .join(&layer)
        .join("left");
    std::fs::write(&left, "x").unwrap();
    let other = store.reopened();
    other
        .create_container(NewContainer {
            id: Some("c".into()),
            ..Default::default()
        })
        .unwrap();
    assert_eq!(other.layers().unwrap().len(), 1);
    assert!(left.symlink_metadata().is_err());
}

#[test]
fn a_taken_id_and_an_unknown_image_are_refused() {
    let store = a_store();
    store.with_container("c", "");
    let again = NewContainer {
        id: Some("c".into()),
        ..Default::default()
    };
    assert!(matches!(
        store.create_container(again),
        Err(Error::DuplicateId)
    ));
    let unknown = NewContainer {
        image: Some("nothing".into()),
        ..Default::default()
    };
    let refused = store.create_container(unknown);
    assert!(
        matches!(refused, Err(Error::Unknown(Kind::Image))),
        "{refused:?}"
    );
    assert_eq!(store.reopened().layers().unwrap().len(), 1);
    store.assert_staging_is_empty();
}

#[test]
fn mounts_are_counted_and_the_last_one_ends_them() {
    let store = a_store();
    store.with_container("c", "");
    let options = MountOptions::default();
    let path = store.mount("c", &options).unwrap();
    assert_eq!(store.reopened().mount("c", &options).unwrap(), path);
    assert_eq!(store.mounted("c").unwrap(), 2);
    assert!(matches!(store.shutdown(false), Err(Error::StillMounted)));
    assert!(store.unmount("c", false).unwrap());
    assert!(!store.reopened().unmount("c", false).unwrap());
    assert_eq!(store.mounted("c").unwrap(), 0);
    assert_eq!(store.read("run/vfs-layers/mountpoints.json"), "[]");
    assert!(!store.unmount("c", false).unwrap());
    store.shutdown(false).unwrap();
}

#[test]
fn deleting_everything_leaves_empty_tables() {
    let store = a_store();
    store.with_image("image-1", "a");
    store.with_container("c", "a");
    store.wipe().unwrap();
    for kind in ["layers", "images", "containers"] {
        assert_eq!(store.read(&format!("graph/vfs-{kind}/{kind}.json")), "[]");
    }
    assert_eq!(
        std::fs::read_dir(store.folder.path().join("graph/vfs/dir"))
            .unwrap()
            .count(),
        0
    );
}
