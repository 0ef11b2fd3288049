//! Images of additional stores become the store's own before a volume stands on them.

use std::fs;
use std::path::Path;

use strata::archive::compression::Compression;
use strata::oci::pull::{Policy, PullerOptions};
use strata::store::{Config, Kind, Store};

use super::{World, image, request, three_layers};

/// Another tool's store with the image, and a world that reads it.
struct Beside {
    other: Store,
    other_root: tempfile::TempDir,
    world: World,
    built: image::Built,
    source: String,
}

impl Beside {
    fn new(driver: &str) -> Self {
        let other = World::new(driver);
        let layout = other.folder.path().join("web");
        let built = image::write_layout(&layout, "v1", &three_layers());
        let source = format!("oci:{}:v1", layout.display());
        let mut request = request(&source);
        request.names = vec![
            "registry.test/web:v1".to_owned(),
            "registry.test/web:v2".to_owned(),
        ];
        other.puller.pull_here(&request).unwrap();
        let mut config = Config::in_roots("", "");
        config.additional_image_stores = vec![other.folder.path().join("graph")];
        let world = World::configured(driver, PullerOptions::default(), config);
        Self {
            other: other.store.clone(),
            other_root: other.folder,
            world,
            built,
            source,
        }
    }

    fn top(&self) -> String {
        let image = self.world.store.find_image(&self.built.id).unwrap();
        image.unwrap().layer.clone()
    }

    fn assert_is_own(&self) {
        let store = &self.world.store;
        let image = store.find_image("registry.test/web:v1").unwrap().unwrap();
        assert!(!image.is_read_only && store.is_whole(&image.layer).unwrap());
        assert_eq!(image.id, self.built.id);
        let other = self.other.find_image(&self.built.id).unwrap().unwrap();
        assert_eq!(image.big_data_digests, other.big_data_digests);
        assert_eq!(image.digest, other.digest);
        let manifest = store.big_data(Kind::Image, &image.id, "manifest").unwrap();
        assert_eq!(manifest, self.built.manifest);
        let chain = store.ancestry(&image.layer).unwrap();
        assert_eq!(chain.len(), self.built.diff_ids.len());
        for (layer, diff_id) in chain.iter().zip(&self.built.diff_ids) {
            assert!(!layer.is_read_only);
            let mut stream = Vec::new();
            store
                .diff(&layer.id, None, Some(Compression::None), &mut stream)
                .unwrap();
            assert_eq!(&image::digest(&stream), diff_id, "the diff is byte-exact");
            let original = self.other.find_layer(&layer.id).unwrap().unwrap();
            assert_eq!(layer.compressed_size, original.compressed_size);
            assert_eq!(layer.compression, original.compression);
            assert_eq!(layer.uids, original.uids);
        }
    }
}

#[test]
fn an_image_of_another_store_is_brought_whole_and_once() {
    for driver in ["vfs", "overlay"] {
        let beside = Beside::new(driver);
        let puller = &beside.world.puller;
        assert!(!puller.is_own(&beside.built.id).unwrap());
        let pulled = puller.bring_here(&beside.built.id).unwrap();
        assert_eq!((pulled.layers_brought, pulled.layers_reused), (3, 0));
        assert!(pulled.brought.shared + pulled.brought.copied >= 600_000);
        assert_eq!(pulled.names.len(), 2);
        assert!(puller.is_own(&beside.built.id).unwrap());
        beside.assert_is_own();
        let again = puller.bring_here(&beside.built.id).unwrap();
        assert_eq!((again.layers_brought, again.layers_reused), (0, 3));
        // Nothing of it stands on the other store any more.
        fs::remove_dir_all(beside.other_root.path().join("graph").join(driver)).unwrap();
        let content = beside.world.store.driver().content(&beside.top()).unwrap();
        assert_eq!(content.read("third").unwrap(), b"three\n");
    }
}

#[test]
fn a_pull_for_a_volume_copies_what_another_store_has() {
    for driver in ["vfs", "overlay"] {
        let beside = Beside::new(driver);
        // Without its layers the layout could not be read.
        let blobs = Path::new(beside.source.split(':').nth(1).unwrap()).join("blobs");
        for digest in &beside.built.layer_digests {
            fs::remove_file(blobs.join(digest.replace(':', "/"))).unwrap();
        }
        let mut request = request(&beside.source);
        request.policy = Policy::Always;
        request.names = vec!["registry.test/web:v1".to_owned()];
        let pulled = beside.world.puller.pull_here(&request).unwrap();
        assert_eq!((pulled.layers_brought, pulled.layers_reused), (0, 3));
        assert!(!beside.world.store.is_whole(&beside.top()).unwrap());
        request.is_own = true;
        let pulled = beside.world.puller.pull_here(&request).unwrap();
        assert_eq!((pulled.layers_brought, pulled.layers_fetched), (3, 0));
        beside.assert_is_own();
    }
}

#[test]
fn layers_that_are_ours_under_another_id_are_reused() {
    let beside = Beside::new("overlay");
    let store = &beside.world.store;
    let lowest = store.ancestry(&beside.top()).unwrap()[0].clone();
    let mut stream = Vec::new();
    beside
        .other
        .diff(&lowest.id, None, None, &mut stream)
        .unwrap();
    let staged = store
        .stage_layer(
            None,
            stream.as_slice(),
            &strata::store::StageOptions::default(),
        )
        .unwrap();
    let twin = store
        .create_layer(strata::store::NewLayer::default(), Some(staged))
        .unwrap();
    let pulled = beside.world.puller.bring_here(&beside.built.id).unwrap();
    assert_eq!((pulled.layers_brought, pulled.layers_reused), (2, 1));
    let chain = store.ancestry(&beside.top()).unwrap();
    assert_eq!(chain[0].id, twin.id);
    assert!(store.is_whole(&beside.top()).unwrap());
}

#[test]
fn calls_that_bring_the_same_image_share_the_work() {
    let beside = Beside::new("overlay");
    let puller = &beside.world.puller;
    let id = beside.built.id.clone();
    beside.world.runtime.block_on(async {
        let first = puller.bring(&id);
        let second = puller.bring(&id);
        let (first, second) = tokio::join!(first, second);
        assert_eq!(first.unwrap(), second.unwrap());
    });
    beside.assert_is_own();
}

#[test]
fn an_image_that_another_tool_deletes_meanwhile_leaves_nothing() {
    let beside = Beside::new("overlay");
    // Known to this process when its tool deletes it.
    let top = beside.top();
    beside.other.delete_image(&beside.built.id, true).unwrap();
    let error = beside.world.store.stage_copy(&top, None).unwrap_err();
    assert!(matches!(error, strata::store::Error::Changed(Kind::Layer)));
    let error = beside
        .world
        .puller
        .bring_here(&beside.built.id)
        .unwrap_err();
    assert_eq!(error.trouble(), strata::oci::pull::Trouble::Unavailable);
    beside.world.assert_empty();
}
