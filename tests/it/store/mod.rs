//! The store through its public API, with the driver that needs no privileges.

mod choosing;
mod containers;
mod damage;
mod images;
mod layers;
mod names;
mod sharing;
mod split;
mod transient;

use std::path::Path;

use strata::store::{BigDataItem, Config, NewContainer, NewImage, NewLayer, Store};

/// A store in a folder of its own, removed with it.
pub struct TestStore {
    pub folder: tempfile::TempDir,
    pub store: Store,
}

impl std::ops::Deref for TestStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

pub fn a_store() -> TestStore {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    TestStore { folder, store }
}

/// Opens the store in `folder`, as another process would.
pub fn open(folder: &Path) -> Store {
    Store::open(Config {
        driver: Some("vfs".into()),
        ..Config::in_roots(folder.join("graph"), folder.join("run"))
    })
    .unwrap()
}

impl TestStore {
    /// A second handle that shares nothing in memory with the first.
    pub fn reopened(&self) -> Store {
        open(self.folder.path())
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(path)).unwrap()
    }

    pub fn has(&self, path: &str) -> bool {
        self.folder.path().join(path).symlink_metadata().is_ok()
    }

    /// An image `name` of one empty layer; returns the layer's ID.
    pub fn with_image(&self, id: &str, name: &str) -> String {
        let layer = self.create_layer(
            NewLayer {
                is_read_only: true,
                ..NewLayer::default()
            },
            None,
        );
        let layer = layer.unwrap().id.clone();
        self.create_image(NewImage {
            id: Some(id.into()),
            names: vec![name.into()],
            layer: Some(layer.clone()),
            big_data: vec![BigDataItem::new("manifest", "{}")],
            ..NewImage::default()
        })
        .unwrap();
        layer
    }

    pub fn with_container(&self, id: &str, image: &str) {
        self.create_container(NewContainer {
            id: Some(id.into()),
            image: Some(image.into()),
            ..NewContainer::default()
        })
        .unwrap();
    }

    /// Nothing is left of what was being made or deleted.
    pub fn assert_staging_is_empty(&self) {
        let staging = self.folder.path().join("graph/strata/staging");
        for entry in std::fs::read_dir(staging).unwrap() {
            let path = entry.unwrap().path();
            assert!(
                path.extension() == Some("lock".as_ref()),
                "{}",
                path.display()
            );
        }
    }
}
