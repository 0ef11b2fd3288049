//! Stores whose images have a root of their own, here on another file system.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use strata::archive::compression::Compression;
use strata::store::StageOptions;
use strata::store::error::Kind;
use strata::store::{
    BigDataItem, Config, ContainerRecord, Error, NewContainer, NewImage, NewLayer, Store,
};

struct Split {
    graph: tempfile::TempDir,
    /// In memory: renames from one to the other fail.
    images: tempfile::TempDir,
}

impl Split {
    fn new() -> Self {
        Self {
            graph: tempfile::tempdir().unwrap(),
            images: tempfile::tempdir_in("/dev/shm").unwrap(),
        }
    }

    fn open(&self, image_store: Option<&Path>) -> Store {
        Store::open(Config {
            driver: Some("vfs".into()),
            image_store: image_store.map(Path::to_owned),
            ..Config::in_roots(
                self.graph.path().join("graph"),
                self.graph.path().join("run"),
            )
        })
        .unwrap()
    }

    fn split(&self) -> Store {
        self.open(Some(&self.in_images("")))
    }

    fn in_graph(&self, path: &str) -> PathBuf {
        self.graph.path().join("graph").join(path)
    }

    fn in_images(&self, path: &str) -> PathBuf {
        self.images.path().join("images").join(path)
    }
}

/// A tar of one file.
fn archive(name: &str) -> Vec<u8> {
    let mut builder = tar_of(name);
    builder.extend([0; 1024]);
    builder
}

fn tar_of(name: &str) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(b"0000644\0");
    header[108..116].copy_from_slice(b"0000000\0");
    header[116..124].copy_from_slice(b"0000000\0");
    header[124..136].copy_from_slice(b"00000000004\0");
    header[136..148].copy_from_slice(b"00000000000\0");
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header.extend(b"text");
    header.resize(1024, 0);
    header
}

/// A layer of an image, filled from a tar.
fn image_layer(store: &Store, parent: Option<&str>, name: &str) -> String {
    let staged = store
        .stage_layer(parent, &archive(name)[..], &StageOptions::default())
        .unwrap();
    let new = NewLayer {
        parent: parent.map(str::to_owned),
        is_read_only: true,
        ..NewLayer::default()
    };
    store.create_layer(new, Some(staged)).unwrap().id.clone()
}

fn image(store: &Store, name: &str, layer: &str) -> String {
    let new = NewImage {
        names: vec![name.to_owned()],
        layer: Some(layer.to_owned()),
        big_data: vec![BigDataItem::new("note", b"first".to_vec())],
        ..NewImage::default()
    };
    store.create_image(new).unwrap().id.clone()
}

fn container(store: &Store, image: &str) -> Arc<ContainerRecord> {
    let new = NewContainer {
        image: Some(image.into()),
        ..NewContainer::default()
    };
    store.create_container(new).unwrap()
}

#[test]
fn images_go_to_their_own_root_and_containers_stay() {
    let place = Split::new();
    let store = place.split();
    let base = image_layer(&store, None, "file");
    let id = image(&store, "a", &base);
    let container = container(&store, "a");
    let written = store
        .create_layer(
            NewLayer {
                parent: Some(base.clone()),
                ..NewLayer::default()
            },
            None,
        )
        .unwrap();
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
    let records = read(place.in_images("vfs-layers/layers.json"));
    assert!(records.contains(&base) && !records.contains(&written.id));
    let records = read(place.in_graph("vfs-layers/layers.json"));
    assert!(records.contains(&written.id) && records.contains(&container.layer));
    assert!(!records.contains(&format!(r#""id":"{base}""#)));
    assert!(read(place.in_images("vfs-images/images.json")).contains(&id));
    assert!(!place.in_graph("vfs-images/images.json").exists());
    assert_eq!(
        read(place.in_images("vfs/dir").join(&base).join("file")),
        "text"
    );
    for layer in [&container.layer, &written.id] {
        assert_eq!(
            read(place.in_graph("vfs/dir").join(layer).join("file")),
            "text"
        );
    }
    // What belongs to layers otherwise is in the graph root, wherever the layer is.
    assert!(
        place
            .in_graph(&format!("vfs-layers/{base}.tar-split.gz"))
            .exists()
    );
    assert_eq!(
        read(place.in_images("vfs-images").join(&id).join("note")),
        "first"
    );

    let again = place.split();
    let item = BigDataItem::new("note", b"second".to_vec());
    again.set_big_data(Kind::Image, "a", item).unwrap();
    assert_eq!(store.big_data(Kind::Image, "a", "note").unwrap(), b"second");
    let mut tar = Vec::new();
    again
        .diff(&base, None, Some(Compression::None), &mut tar)
        .unwrap();
    assert_eq!(tar, archive("file"));
    assert!(matches!(again.delete_layer(&base), Err(Error::HasChildren)));

    again.delete_container(&container.id).unwrap();
    again.delete_layer(&written.id).unwrap();
    again.delete_image("a", true).unwrap();
    assert!(store.layers().unwrap().is_empty() && store.images().unwrap().is_empty());
    for left in [
        place.in_images("vfs/dir"),
        place.in_graph("vfs/dir"),
        place.in_images("strata/staging"),
    ] {
        let left = std::fs::read_dir(left).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert!(
            left.iter()
                .all(|name| name.to_str().unwrap().ends_with(".lock")),
            "{left:?}"
        );
    }
    assert!(!place.in_images("vfs-images").join(&id).exists());
}

#[test]
fn images_of_before_the_split_are_seen_and_deleted() {
    let place = Split::new();
    let before = place.open(None);
    let base = image_layer(&before, None, "file");
    let id = image(&before, "old", &base);
    drop(before);
    let store = place.split();
    let child = image_layer(&store, Some(&base), "more");
    image(&store, "new", &child);
    let child_path = place.in_images("vfs/dir").join(&child);
    assert!(child_path.join("file").exists() && child_path.join("more").exists());
    assert_eq!(store.images().unwrap().len(), 2);
    let item = BigDataItem::new("note", b"second".to_vec());
    store.set_big_data(Kind::Image, "old", item).unwrap();
    let note = place.in_graph("vfs-images").join(&id).join("note");
    assert_eq!(std::fs::read(&note).unwrap(), b"second");
    // Who opens it unsplit finds that one alone.
    assert_eq!(place.open(None).images().unwrap().len(), 1);
    store.delete_image("new", true).unwrap();
    store.delete_image("old", true).unwrap();
    assert!(!note.exists());
    assert!(place.open(None).images().unwrap().is_empty());
    assert!(store.layers().unwrap().is_empty());
}

#[test]
fn what_a_crash_left_in_either_root_is_garbage() {
    let place = Split::new();
    let store = place.split();
    let base = image_layer(&store, None, "file");
    for home in [place.in_images("vfs/dir"), place.in_graph("vfs/dir")] {
        std::fs::create_dir(home.join("ab".repeat(32))).unwrap();
    }
    let garbage = store.collect_garbage().unwrap();
    assert!(garbage.layers.contains(&"ab".repeat(32)));
    store.collect_garbage().unwrap();
    for home in [place.in_images("vfs/dir"), place.in_graph("vfs/dir")] {
        assert!(!home.join("ab".repeat(32)).exists(), "{}", home.display());
    }
    assert!(place.in_images("vfs/dir").join(base).exists());
}

/// A kill in the middle of a save once left a file in the image root's `vfs-layers` for good: no layer has data there.
#[test]
fn what_a_save_left_that_was_cut_short_is_garbage_in_every_folder() {
    let place = Split::new();
    let store = place.split();
    image(&store, "a", &image_layer(&store, None, "file"));
    let folders = [
        place.in_images("vfs-layers"),
        place.in_images("vfs-images"),
        place.in_graph("vfs-layers"),
        place.in_graph("vfs-images"),
        place.in_graph("vfs-containers"),
        place.graph.path().join("run/vfs-layers"),
    ];
    let files = folders.map(|folder| folder.join(".tmp-layers.json-0011223344556677"));
    for file in &files {
        std::fs::write(file, "[{").unwrap();
    }
    let mut garbage = store.collect_garbage().unwrap();
    garbage.data.sort();
    let mut expected = files.clone().map(|file| file.to_str().unwrap().to_owned());
    expected.sort();
    assert_eq!(garbage.data, expected);
    assert!(!files.iter().any(|file| file.exists()));
    assert_eq!(store.collect_garbage().unwrap(), Default::default());
    assert_eq!(store.images().unwrap().len(), 1);
}

#[test]
fn one_root_can_not_be_both() {
    let place = Split::new();
    let config = Config {
        driver: Some("vfs".into()),
        image_store: Some(place.in_graph("")),
        ..Config::in_roots(place.in_graph(""), place.graph.path().join("run"))
    };
    let error = Store::open(config).unwrap_err().to_string();
    assert!(error.contains("a split store has two"), "{error}");
}

#[test]
fn a_backup_is_split_where_it_comes_to() {
    let from = Split::new();
    let store = from.open(None);
    let base = image_layer(&store, None, "file");
    store
        .set_big_data(
            Kind::Layer,
            &base,
            BigDataItem::new("key", b"of it".to_vec()),
        )
        .unwrap();
    let id = image(&store, "a", &base);
    let container = container(&store, "a");
    let mut backup = Vec::new();
    store.export(&mut backup).unwrap();

    let place = Split::new();
    let store = place.split();
    store.import(&backup[..]).unwrap();
    assert!(place.in_images("vfs/dir").join(&base).exists());
    assert!(
        place
            .in_images("vfs-images")
            .join(&id)
            .join("note")
            .exists()
    );
    // A layer of the images' root could not be written to.
    assert!(place.in_graph("vfs/dir").join(&container.layer).exists());
    assert_eq!(store.big_data(Kind::Layer, &base, "key").unwrap(), b"of it");
    let mut tar = Vec::new();
    store
        .diff(&base, None, Some(Compression::None), &mut tar)
        .unwrap();
    assert_eq!(tar, archive("file"));
    let again = store.import(&backup[..]).unwrap();
    assert_eq!((again.new.layers, again.present.layers), (0, 2));
}
