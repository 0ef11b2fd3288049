//! Images: names, big data, deleting.

use strata::digest::Digest;
use strata::store::{BigDataItem, Error, Kind, NewImage};

use super::a_store;

#[test]
fn an_image_is_found_by_id_name_prefix_and_its_big_data_is_read_back() {
    let store = a_store();
    let layer = store.with_image("image-1", "example.org/a:1");
    let other = store.reopened();
    let images = other.images().unwrap();
    for key in ["image-1", "example.org/a:1", "ima"] {
        assert_eq!(images.find(key).unwrap().id, "image-1", "{key}");
    }
    let image = images.find("image-1").unwrap();
    assert_eq!(image.layer, layer);
    assert_eq!(image.digest, Some(Digest::of(b"{}")));
    assert_eq!(
        other.big_data(Kind::Image, "image-1", "manifest").unwrap(),
        b"{}"
    );
    assert_eq!(
        other
            .big_data_size(Kind::Image, "image-1", "manifest")
            .unwrap(),
        2
    );
    let missing = other.big_data(Kind::Image, "image-1", "nothing");
    assert!(matches!(missing, Err(Error::NoBigData { .. })));
}

#[test]
fn big_data_is_replaced_in_place() {
    let store = a_store();
    store.with_image("image-1", "a");
    for text in ["one", "three"] {
        let item = BigDataItem::new("key:1", text);
        store.set_big_data(Kind::Image, "a", item).unwrap();
    }
    let other = store.reopened();
    assert_eq!(other.big_data(Kind::Image, "a", "key:1").unwrap(), b"three");
    assert_eq!(
        other.list_big_data(Kind::Image, "a").unwrap(),
        ["manifest", "key:1"]
    );
    store.assert_staging_is_empty();
}

#[test]
fn a_taken_id_and_a_taken_name_are_refused() {
    let store = a_store();
    store.with_image("image-1", "a");
    let again = NewImage {
        id: Some("image-1".into()),
        ..NewImage::default()
    };
    assert!(matches!(store.create_image(again), Err(Error::DuplicateId)));
    let named = NewImage {
        names: vec!["a".into()],
        ..NewImage::default()
    };
    assert!(matches!(
        store.create_image(named),
        Err(Error::DuplicateName { .. })
    ));
    assert_eq!(store.reopened().images().unwrap().len(), 1);
}

#[test]
fn deleting_an_image_takes_the_layers_that_only_it_uses() {
    let store = a_store();
    let layer = store.with_image("image-1", "a");
    store
        .create_image(NewImage {
            id: Some("image-2".into()),
            layer: Some(layer.clone()),
            ..NewImage::default()
        })
        .unwrap();
    assert!(store.delete_image("a", true).unwrap().layers.is_empty());
    assert_eq!(
        store.delete_image("image-2", false).unwrap().layers,
        std::slice::from_ref(&layer)
    );
    assert_eq!(store.delete_image("image-2", true).unwrap().layers, [layer]);
    let other = store.reopened();
    assert!(other.images().unwrap().is_empty() && other.layers().unwrap().is_empty());
    assert!(!store.has("graph/vfs-images/image-1"));
}

#[test]
fn an_image_that_a_container_uses_is_kept() {
    let store = a_store();
    store.with_image("image-1", "a");
    store.with_container("c", "a");
    assert!(matches!(
        store.delete_image("a", true),
        Err(Error::ImageUsedByContainer(_))
    ));
    store.delete_container("c").unwrap();
    store.delete_image("a", true).unwrap();
}

#[test]
fn extending_an_image_replaces_none_of_its_blobs() {
    let store = a_store();
    let image = |items: &[(&str, &str)]| NewImage {
        id: Some("image-1".into()),
        big_data: items
            .iter()
            .map(|(key, text)| BigDataItem::new(*key, *text))
            .collect(),
        extend: true,
        ..NewImage::default()
    };
    let first = store
        .create_image(image(&[("manifest", "one"), ("manifest-1", "one")]))
        .unwrap();
    std::fs::remove_file(store.folder.path().join(format!(
        "graph/vfs-images/image-1/{}",
        strata::store::big_data::file_name("manifest-1").unwrap()
    )))
    .unwrap();
    let more = [
        ("manifest", "two"),
        ("manifest-1", "one"),
        ("manifest-2", "two"),
    ];
    let second = store.create_image(image(&more)).unwrap();
    let read = |key| store.big_data(Kind::Image, "image-1", key).unwrap();
    assert_eq!(read("manifest"), b"one");
    assert_eq!(read("manifest-1"), b"one");
    assert_eq!(read("manifest-2"), b"two");
    assert_eq!(second.digest, first.digest);
    for (key, digest) in &second.big_data_digests {
        assert_eq!(digest.get(), Some(&Digest::of(&read(key))), "{key}");
    }
    assert_eq!(second.digests().len(), 2);
    store.assert_staging_is_empty();
}
