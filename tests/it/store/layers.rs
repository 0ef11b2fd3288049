//! Layers: creating, stacking, deleting, diffs.

use std::io::Cursor;

use strata::store::{Error, NewLayer, StageOptions};

use super::a_store;

fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    for (name, contents) in files {
        std::fs::write(folder.path().join(name), contents).unwrap();
    }
    let mut command = std::process::Command::new("tar");
    command.arg("-C").arg(folder.path()).arg("-c");
    command.args(files.iter().map(|(name, _)| name));
    command.output().unwrap().stdout
}

#[test]
fn what_goes_in_as_a_tar_comes_out_byte_for_byte() {
    let store = a_store();
    let source = tar(&[("a", "one"), ("b", "two")]);
    let staged = store
        .stage_layer(None, Cursor::new(source.clone()), &StageOptions::default())
        .unwrap();
    let layer = store
        .create_layer(NewLayer::default(), Some(staged))
        .unwrap();
    let mut out = Vec::new();
    store
        .reopened()
        .diff(&layer.id, None, None, &mut out)
        .unwrap();
    assert_eq!(out, source);
    assert_eq!(layer.diff_size, i64::try_from(source.len()).unwrap());
    assert_eq!(store.read(&format!("graph/vfs/dir/{}/b", layer.id)), "two");
    store.assert_staging_is_empty();
}

#[test]
fn a_layer_that_is_not_what_was_promised_leaves_nothing() {
    let store = a_store();
    let options = StageOptions {
        diff_id: Some(strata::digest::Digest::of(b"other")),
        ..StageOptions::default()
    };
    let error = store
        .stage_layer(None, Cursor::new(tar(&[("a", "one")])), &options)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("the layer's diff ID is sha256:"),
        "{error}"
    );
    store.assert_staging_is_empty();
    assert!(store.layers().unwrap().is_empty());
}

#[test]
fn a_child_begins_with_what_its_parent_has() {
    let store = a_store();
    let staged = store
        .stage_layer(
            None,
            Cursor::new(tar(&[("a", "one")])),
            &StageOptions::default(),
        )
        .unwrap();
    let parent = store
        .create_layer(NewLayer::default(), Some(staged))
        .unwrap();
    let child = store
        .create_layer(
            NewLayer {
                parent: Some(parent.id.clone()),
                ..NewLayer::default()
            },
            None,
        )
        .unwrap();
    assert_eq!(child.parent, parent.id);
    assert_eq!(store.read(&format!("graph/vfs/dir/{}/a", child.id)), "one");
    assert!(matches!(
        store.delete_layer(&parent.id),
        Err(Error::HasChildren)
    ));
    store.delete_layer(&child.id).unwrap();
    store.delete_layer(&parent.id).unwrap();
    assert!(store.reopened().layers().unwrap().is_empty());
    assert!(!store.has(&format!("graph/vfs/dir/{}", parent.id)));
    assert!(!store.has(&format!("graph/vfs-layers/{}.tar-split.gz", parent.id)));
}

#[test]
fn a_parent_must_exist() {
    let store = a_store();
    let new = NewLayer {
        parent: Some("nothing".into()),
        ..NewLayer::default()
    };
    assert!(matches!(
        store.create_layer(new, None),
        Err(Error::ParentUnknown)
    ));
}

#[test]
fn deleting_by_a_prefix_passes_no_check_by() {
    let store = a_store();
    let layer = store.with_image("image", "name");
    assert!(matches!(
        store.delete_layer(&layer[..6]),
        Err(Error::LayerUsedByImage(_))
    ));
}

#[test]
fn ids_that_are_no_path_component_are_refused() {
    let store = a_store();
    for id in ["", "..", "a/b"] {
        let new = NewLayer {
            id: Some(id.into()),
            ..NewLayer::default()
        };
        assert!(
            matches!(store.create_layer(new, None), Err(Error::InvalidId(_))),
            "{id}"
        );
    }
}
