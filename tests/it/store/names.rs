//! Names and metadata across the kinds.

use strata::store::{Error, Kind};

use super::a_store;

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn a_name_that_is_set_is_taken_from_its_owner() {
    let store = a_store();
    store.with_image("image-1", "a");
    store.with_image("image-2", "b");
    store.add_names("image-2", &strings(&["c", "a"])).unwrap();
    let other = store.reopened();
    assert_eq!(other.names("image-2").unwrap(), strings(&["c", "a", "b"]));
    assert!(other.names("image-1").unwrap().is_empty());
    assert_eq!(
        other.remove_names("image-2", &strings(&["c"])).unwrap(),
        strings(&["a", "b"])
    );
    assert_eq!(
        other.set_names("image-2", &strings(&["x"])).unwrap(),
        strings(&["x"])
    );
    let image = other.images().unwrap().find("x").unwrap();
    assert_eq!(image.names_history, strings(&["x", "b", "a", "c"]));
}

#[test]
fn a_layer_and_an_image_may_share_a_name_and_the_layer_comes_first() {
    let store = a_store();
    let layer = store.with_image("image-1", "a");
    store.set_names(&layer, &strings(&["a"])).unwrap();
    assert_eq!(store.lookup("a").unwrap(), (Kind::Layer, layer));
}

#[test]
fn metadata_is_kept_for_every_kind_and_needs_something_to_keep_it() {
    let store = a_store();
    let layer = store.with_image("image-1", "a");
    store.with_container("c", "a");
    for key in [layer.as_str(), "image-1", "c"] {
        store.set_metadata(key, "<text>").unwrap();
        assert_eq!(store.reopened().metadata(key).unwrap(), "<text>");
    }
    assert!(matches!(
        store.set_metadata("nothing", "x"),
        Err(Error::NotAnId)
    ));
    assert!(
        store
            .read("graph/vfs-images/images.json")
            .contains(r"\u003ctext\u003e")
    );
}
