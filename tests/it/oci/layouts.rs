//! Pulls from OCI layouts, and what is in the store afterwards.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use strata::oci::Platform;
use strata::oci::manifest::Descriptor;
use strata::oci::pull::{Limits, Policy, Progress, PullerOptions, Trouble};
use strata::store::{Kind, NewLayer, Store};

use super::image::{self, Compression, Layer};
use super::{World, digest, listening, request, three_layers};

#[test]
fn an_image_is_stored_as_containers_image_stores_it() {
    for driver in ["vfs", "overlay"] {
        let world = World::new(driver);
        let layout = world.folder.path().join("web");
        let built = image::write_layout(&layout, "v1", &three_layers());
        let pulled = world.pull(&format!("oci:{}:v1", layout.display())).unwrap();
        assert_eq!(pulled.image_id, built.id);
        assert_eq!((pulled.layers_fetched, pulled.layers_reused), (3, 0));

        let record = world.store.find_image("localhost/web:v1").unwrap().unwrap();
        assert_eq!(record.id, built.id);
        assert_eq!(record.created.to_string(), "2024-01-01T00:00:00Z");
        assert_eq!(record.digest, Some(digest(&built.manifest_digest)));
        let config = format!("sha256:{}", built.id);
        let by_digest = format!("manifest-{}", built.manifest_digest);
        let signatures = by_digest.replace("manifest-sha256:", "signature-");
        let keys = [&*config, &by_digest, "manifest", &signatures];
        assert_eq!(record.big_data_names, keys);
        let read = |key: &str| world.store.big_data(Kind::Image, &built.id, key).unwrap();
        assert_eq!(read("manifest"), built.manifest);
        assert_eq!(read(&by_digest), built.manifest);
        assert_eq!(image::digest(&read(&config)), config);

        let mut below = String::new();
        for (number, diff_id) in built.diff_ids.iter().enumerate() {
            let hex = diff_id.trim_start_matches("sha256:");
            let id = match number {
                0 => hex.to_owned(),
                _ => image::hex(format!("{below}+{hex}").as_bytes()),
            };
            let layer = world.store.find_layer(&id).unwrap().unwrap();
            assert_eq!(layer.parent, below);
            assert_eq!(layer.diff_digest, Some(digest(diff_id)));
            let blob = digest(&built.layer_digests[number]);
            assert_eq!(layer.compressed_diff_digest, Some(blob));
            assert_eq!(layer.compression, [2, 4, 0][number]);
            below = id;
        }
        assert_eq!(record.layer, below);
    }
}

#[test]
fn layers_that_the_store_has_are_not_read_again() {
    for driver in ["vfs", "overlay"] {
        let world = World::new(driver);
        let layers = three_layers();
        let base = world.folder.path().join("base");
        image::write_layout(&base, "x", &layers[..2]);
        world.pull(&format!("oci:{}", base.display())).unwrap();
        let more = world.folder.path().join("more");
        let built = image::write_layout(&more, "x", &layers);
        // Without their blobs, the first two could not be read anyway.
        for digest in &built.layer_digests[..2] {
            fs::remove_file(more.join("blobs").join(digest.replace(':', "/"))).unwrap();
        }
        let mut request = request(&format!("oci:{}", more.display()));
        let heard = listening(&mut request);
        let pulled = world.puller.pull_here(&request).unwrap();
        assert_eq!((pulled.layers_fetched, pulled.layers_reused), (1, 2));
        assert!(!pulled.was_present);
        let heard = std::mem::take(&mut *heard.0.lock().unwrap());
        assert_eq!(heard, ["1 missing, 2 present", &built.layer_digests[2]]);
        let again = world.puller.pull_here(&request).unwrap();
        assert!(again.was_present);
    }
}

/// Makes a layer when the pull that it listens to has staged its own, as a pull of another image would.
struct Overtaking {
    store: Store,
    id: String,
}

impl Progress for Overtaking {
    fn resolved(&self, _image: &str, _missing: &[Descriptor], _present: usize) {}

    fn advanced(&self, _layer: &Descriptor, _bytes: u64) {}

    fn finished(&self, _layer: &Descriptor) {
        let id = Some(self.id.clone());
        let new = NewLayer {
            id,
            ..NewLayer::default()
        };
        self.store.create_layer(new, None).unwrap();
    }
}

#[test]
fn a_failed_pull_leaves_what_another_one_has_made() {
    let world = World::new("vfs");
    let layout = world.folder.path().join("web");
    let built = image::write_layout(&layout, "x", &three_layers());
    let lost = layout
        .join("blobs")
        .join(built.layer_digests[1].replace(':', "/"));
    fs::remove_file(lost).unwrap();
    let mut request = request(&format!("oci:{}", layout.display()));
    // The lowest layer's ID is the hex of its diff ID.
    let id = digest(&built.diff_ids[0]).hex().to_owned();
    request.progress = Arc::new(Overtaking {
        store: world.store.clone(),
        id: id.clone(),
    });
    world.puller.pull_here(&request).unwrap_err();
    let layers = world.store.layers().unwrap();
    assert_eq!(
        layers
            .iter()
            .map(|layer| layer.id.clone())
            .collect::<Vec<_>>(),
        [id]
    );
}

#[test]
fn a_moved_name_goes_to_the_new_image() {
    let world = World::new("vfs");
    let layout = world.folder.path().join("web");
    let source = format!("oci:{}", layout.display());
    let old = image::write_layout(&layout, "x", &[Layer::new().file("a", "old")]);
    world.pull(&source).unwrap();
    let new = image::write_layout(&layout, "x", &[Layer::new().file("a", "new")]);
    world.pull(&source).unwrap();
    let found = world.store.find_image("localhost/web:x").unwrap().unwrap();
    assert_eq!(found.id, new.id);
    let old = world.store.find_image(&old.id).unwrap().unwrap();
    assert!(old.names.is_empty());
}

#[test]
fn archives_are_pulled_like_directories() {
    let world = World::new("vfs");
    let layout = world.folder.path().join("layout");
    let built = image::write_layout(&layout, "v1", &three_layers());
    for (flags, file) in [("-cf", "plain.tar"), ("-czf", "packed.tar")] {
        let file = world.folder.path().join(file);
        let made = Command::new("tar")
            .arg(flags)
            .arg(&file)
            .arg("-C")
            .arg(&layout)
            .arg(".")
            .status();
        assert!(made.unwrap().success());
        let pulled = world
            .pull(&format!("oci-archive:{}", file.display()))
            .unwrap();
        assert_eq!(pulled.image_id, built.id);
    }
    assert!(
        world
            .store
            .find_image("localhost/packed:v1")
            .unwrap()
            .is_some()
    );
}

#[test]
fn an_index_is_kept_beside_the_manifest_for_the_platform() {
    let world = World::new("vfs");
    let layout = world.folder.path().join("web");
    let built = image::write_layout(&layout, "x", &three_layers());
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            { "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1,
              "digest": image::digest(b"other"), "platform": { "os": "linux", "architecture": "s390x" } },
            { "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": built.manifest.len(),
              "digest": built.manifest_digest, "platform": { "os": "linux", "architecture": "amd64" } },
        ],
    })
    .to_string();
    let index_digest = image::digest(index.as_bytes());
    fs::write(
        layout.join("blobs").join(index_digest.replace(':', "/")),
        &index,
    )
    .unwrap();
    let top = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [{ "mediaType": "application/vnd.oci.image.index.v1+json",
            "digest": index_digest, "size": index.len() }],
    });
    fs::write(layout.join("index.json"), top.to_string()).unwrap();
    let source = format!("oci:{}", layout.display());
    let amd64: Platform = "linux/amd64".parse().unwrap();
    let mut wanted = request(&source);
    wanted.platform = Some(amd64);
    let pulled = world.puller.pull_here(&wanted).unwrap();
    assert_eq!(pulled.digest, Some(digest(&index_digest)));
    let record = world.store.find_image(&built.id).unwrap().unwrap();
    let key = format!("manifest-{index_digest}");
    assert_eq!(
        world.store.big_data(Kind::Image, &built.id, &key).unwrap(),
        index.as_bytes()
    );
    assert_eq!(
        world
            .store
            .big_data(Kind::Image, &built.id, "manifest")
            .unwrap(),
        built.manifest
    );
    assert!(record.digests().contains(&&digest(&index_digest)));
    assert!(record.digests().contains(&&digest(&built.manifest_digest)));

    wanted.platform = Some("linux/arm64".parse().unwrap());
    let error = world.puller.pull_here(&wanted).unwrap_err();
    assert_eq!(error.trouble(), Trouble::NotFound);
    assert!(
        error.to_string().contains("linux/s390x, linux/amd64"),
        "{error}"
    );
}

#[test]
fn what_is_wrong_with_an_image_is_said_and_nothing_is_left() {
    for driver in ["vfs", "overlay"] {
        let world = World::new(driver);
        let layout = world.folder.path().join("web");
        let source = format!("oci:{}", layout.display());
        let built = image::write_layout(&layout, "x", &three_layers());
        let blob = |digest: &str| layout.join("blobs").join(digest.replace(':', "/"));
        let last = blob(&built.layer_digests[2]);
        let good = fs::read(&last).unwrap();

        let mut flipped = good.clone();
        flipped[520] ^= 1;
        for bad in [
            flipped,
            good[..good.len() - 1].to_vec(),
            [&*good, b"x"].concat(),
        ] {
            fs::write(&last, bad).unwrap();
            world.assert_fails(&source, Trouble::Corrupt);
        }
        fs::remove_file(&last).unwrap();
        let text = world.assert_fails(&source, Trouble::NotFound);
        assert!(text.contains(&built.layer_digests[2]), "{text}");
        fs::write(&last, good).unwrap();

        let mut other = request(&source);
        other.platform = Some("linux/arm64".parse().unwrap());
        let error = world.puller.pull_here(&other).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("linux/amd64, not for linux/arm64"),
            "{error}"
        );
        world.assert_empty();

        other.platform = None;
        other.policy = Policy::Never;
        let error = world.puller.pull_here(&other).unwrap_err();
        assert_eq!(error.trouble(), Trouble::NotFound);
        world.pull(&source).unwrap();
    }
}

#[test]
fn members_that_leave_the_layer_stay_inside_or_are_refused() {
    const NAME: &str = "owned-by-a-layer";
    let within = |below: &str| format!("{below}{NAME}");
    let evil = [
        (
            Layer::new()
                .symlink("out", "/tmp")
                .file(&within("out/"), "x"),
            Ok(within("tmp/")),
        ),
        (Layer::new().file(&within("../../"), "x"), Ok(within(""))),
        (Layer::new().file(&within("/tmp/"), "x"), Ok(within("tmp/"))),
        (
            Layer::new().hard_link(NAME, "../../../../etc/passwd"),
            Err(Trouble::Corrupt),
        ),
        (
            Layer::new().member(NAME, b'3', 0o644, &[], ""),
            Err(Trouble::Corrupt),
        ),
    ];
    for (layer, expected) in evil {
        let world = World::new("overlay");
        let layout = world.folder.path().join("web");
        image::write_layout(&layout, "x", &[layer]);
        let pulled = world.pull(&format!("oci:{}", layout.display()));
        let found: Vec<_> = named(world.folder.path(), NAME);
        match (pulled, expected) {
            (Ok(pulled), Ok(place)) => {
                let image = world.store.find_image(&pulled.image_id).unwrap().unwrap();
                let root = world.folder.path().join("graph/overlay").join(&image.layer);
                assert_eq!(found, [root.join("diff").join(place)]);
            }
            (Err(error), Err(trouble)) => {
                assert_eq!(error.trouble(), trouble, "{error:?}");
                assert!(found.is_empty(), "{found:?}");
                world.assert_empty();
            }
            (pulled, expected) => panic!("{pulled:?}, not {expected:?}"),
        }
        for outside in ["/", "/tmp"] {
            assert!(!std::path::Path::new(outside).join(NAME).exists());
        }
    }
}

/// Everything of this name below a folder.
fn named(folder: &std::path::Path, name: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() == name {
            found.push(entry.path());
        }
        if entry.file_type().unwrap().is_dir() {
            found.extend(named(&entry.path(), name));
        }
    }
    found
}

#[test]
fn limits_hold() {
    let limits = Limits {
        unpacked_bytes: 500_000,
        ..Limits::default()
    };
    let few = Limits {
        layers: 2,
        ..Limits::default()
    };
    let small = Limits {
        blob_bytes: 1000,
        ..Limits::default()
    };
    let members = Limits {
        entries: 1,
        ..Limits::default()
    };
    for (limits, trouble) in [
        (limits, Trouble::TooLarge),
        (few, Trouble::Unsupported),
        (small, Trouble::TooLarge),
        (members, Trouble::TooLarge),
    ] {
        let world = World::with(
            "vfs",
            PullerOptions {
                limits,
                ..PullerOptions::default()
            },
        );
        let layout = world.folder.path().join("web");
        image::write_layout(&layout, "x", &three_layers());
        world.assert_fails(&format!("oci:{}", layout.display()), trouble);
    }
}

/// One at a time, whatever the number of lanes; and all of them in the end.
#[test]
fn layers_that_need_much_memory_wait_for_each_other_and_come() {
    for driver in ["vfs", "overlay"] {
        let world = World::new(driver);
        let layout = world.folder.path().join("long");
        let layers: Vec<_> = (0..6)
            .map(|number| {
                Layer::new()
                    .compression(Compression::ZstdLong)
                    .file(&format!("file-{number}"), vec![number; 2 << 20])
            })
            .collect();
        let built = image::write_layout(&layout, "x", &layers);
        let pulled = world.pull(&format!("oci:{}:x", layout.display())).unwrap();
        assert_eq!(pulled.image_id, built.id);
        assert_eq!(pulled.layers_fetched, layers.len());
    }
}
