//! Damaged stores: refused, or put right; never made worse.

use strata::store::Error;

use super::a_store;

#[test]
fn a_broken_table_is_refused_and_left_as_it_is() {
    for broken in [
        "[{\"id\":\"a\"",
        "[{\"id\":\"\"}]",
        "[{\"id\":\"../x\"}]",
        "{}",
    ] {
        let store = a_store();
        store.with_container("c", "");
        let path = store.folder.path().join("graph/vfs-layers/layers.json");
        std::fs::write(&path, broken).unwrap();
        let other = store.reopened();
        assert!(
            matches!(other.layers(), Err(Error::Load { .. })),
            "{broken}"
        );
        assert!(
            matches!(other.delete_container("c"), Err(Error::Load { .. })),
            "{broken}"
        );
        assert!(matches!(other.wipe(), Err(Error::Load { .. })), "{broken}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), broken);
        let contents = store.folder.path().join("graph/vfs/dir");
        assert_eq!(std::fs::read_dir(contents).unwrap().count(), 1);
    }
}

#[test]
fn a_layer_that_a_dead_peer_left_incomplete_is_deleted() {
    let store = a_store();
    store.with_image("image-1", "a");
    let path = store.folder.path().join("graph/vfs-layers/layers.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let half = r#",{"id":"half","created":"2026-01-01T00:00:00Z","flags":{"incomplete":true}}]"#;
    std::fs::write(&path, text.replace("}]", &format!("}}{half}"))).unwrap();
    std::fs::create_dir(store.folder.path().join("graph/vfs/dir/half")).unwrap();
    assert_eq!(store.layers().unwrap().len(), 1);
    assert!(!store.has("graph/vfs/dir/half"));
    assert!(!store.read("graph/vfs-layers/layers.json").contains("half"));
}

#[test]
fn keys_of_newer_peers_survive_our_changes() {
    let store = a_store();
    let layer = store.with_image("image-1", "a");
    let path = store.folder.path().join("graph/vfs-layers/layers.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let future = r#"{"future":{"a":[1,2]},"id""#;
    std::fs::write(&path, text.replace(r#"{"id""#, future)).unwrap();
    store.set_names(&layer, &["n".to_owned()]).unwrap();
    assert!(
        store
            .read("graph/vfs-layers/layers.json")
            .contains(r#""future":{"a":[1,2]}"#)
    );
}

#[test]
fn garbage_is_what_no_record_points_at() {
    let store = a_store();
    store.with_container("c", "");
    let orphan = "a".repeat(64);
    let root = store.folder.path().join("graph");
    std::fs::create_dir(root.join("vfs/dir").join(&orphan)).unwrap();
    std::fs::create_dir(root.join("vfs-images").join(&orphan)).unwrap();
    std::fs::write(root.join(format!("vfs-layers/{orphan}.tar-split.gz")), "x").unwrap();
    let garbage = store.collect_garbage().unwrap();
    assert_eq!(garbage.layers, [orphan]);
    assert_eq!(garbage.data.len(), 1, "{garbage:?}");
    assert_eq!(store.containers().unwrap().len(), 1);
    assert_eq!(store.collect_garbage().unwrap(), Default::default());
    store.assert_staging_is_empty();
}
