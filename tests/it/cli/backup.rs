//! `export` and `import`: a store as one stream, and back.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use super::{Sandbox, strata};
use crate::support::scratch::Scratch;
use crate::support::tool::{self, Tool};

/// Layers with data, an image with blobs, and a container with changes.
fn a_store() -> Sandbox {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("source")).unwrap();
    let source = sandbox.path("source");
    // More than one piece of the stream.
    sandbox.file("source/big", vec![7; 5 << 20]);
    let item = sandbox.file("item", "an item\n");
    sandbox.ok(&["applydiff-using-staging-dir", "base", &source]);
    sandbox.ok(&["add-names", "-n", "ground", "base"]);
    sandbox.ok(&["set-layer-data", "-f", &item, "base", "key"]);
    sandbox.ok(&["create-layer", "-i", "top", "base"]);
    sandbox.ok(&["create-image", "-i", "i1", "-n", "localhost/one", "top"]);
    sandbox.ok(&["set-image-data", "-f", &item, "i1", "manifest"]);
    sandbox.ok(&["create-container", "-i", "c1", "-n", "shop", "i1"]);
    sandbox.ok(&["set-container-data", "-f", &item, "c1", "key"]);
    sandbox.ok(&["copy", &item, "c1:/changed"]);
    sandbox
}

/// Everything that lists say.
fn records(sandbox: &Sandbox) -> String {
    ["layers", "images", "containers"]
        .map(|kind| sandbox.ok(&[kind, "--json"]))
        .concat()
}

#[test]
fn a_store_that_was_wiped_comes_back() {
    let sandbox = a_store();
    let before = records(&sandbox);
    let file = sandbox.path("backup.tar");
    assert_eq!(
        sandbox.ok(&["export", "--file", &file]),
        "3 layers, 1 image, 1 container\n"
    );
    let counts = "{\"layers\":3,\"images\":1,\"containers\":1}\n";
    assert_eq!(sandbox.run(&["export", "--json"]).err, counts);
    sandbox.ok(&["wipe"]);
    assert_eq!(
        sandbox.ok(&["import", "--file", &file]),
        "3 layers, 1 image, 1 container\n"
    );
    assert_eq!(records(&sandbox), before);
    assert_eq!(sandbox.ok(&["get-layer-data", "base", "key"]), "an item\n");
    assert_eq!(
        sandbox.ok(&["get-image-data", "i1", "manifest"]),
        "an item\n"
    );
    assert_eq!(
        sandbox.ok(&["get-container-data", "c1", "key"]),
        "an item\n"
    );
    let mounted = sandbox.ok(&["mount", "c1"]);
    let file_of_it = format!("{}/changed", mounted.trim());
    assert_eq!(fs::read_to_string(file_of_it).unwrap(), "an item\n");
    sandbox.ok(&["check"]);
    // Again: nothing is new.
    assert_eq!(
        sandbox.ok(&["import", "-f", &file, "--json"]),
        "{\"layers\":0,\"images\":0,\"containers\":0,\
         \"present\":{\"layers\":3,\"images\":1,\"containers\":1}}\n"
    );
}

#[test]
fn a_backup_that_is_cut_or_damaged_is_refused() {
    let sandbox = a_store();
    let file = sandbox.path("backup.tar");
    sandbox.ok(&["export", "--file", &file]);
    let whole = fs::read(&file).unwrap();
    for (number, length) in [
        0,
        100,
        512,
        3000,
        1 << 20,
        whole.len() - 3000,
        whole.len() - 1530,
    ]
    .into_iter()
    .enumerate()
    {
        let (graph, run) = (format!("g{number}"), format!("r{number}"));
        let cut = sandbox.file("cut.tar", &whole[..length]);
        let ran = strata(&[
            "--graph",
            &sandbox.path(&graph),
            "--run",
            &sandbox.path(&run),
            "--storage-driver",
            "vfs",
            "import",
            "--file",
            &cut,
        ]);
        assert_eq!((ran.code, &*ran.out), (1, ""), "{length}: {}", ran.err);
        assert!(
            ran.err.contains("read the backup") || ran.err.contains("unexpected EOF"),
            "{length}: {}",
            ran.err
        );
    }
    // One byte of a file in a layer.
    let mut flipped = whole.clone();
    let at = flipped
        .windows(64)
        .position(|bytes| bytes == [7; 64])
        .unwrap();
    flipped[at + 10] ^= 1;
    let damaged = sandbox.file("damaged.tar", &flipped);
    sandbox.ok(&["wipe"]);
    let error = sandbox.fails(&["import", "--file", &damaged]);
    assert!(error.contains("diff ID"), "{error}");
    assert_eq!(sandbox.ok(&["layers"]), "");
    let junk = sandbox.file("junk", "junk");
    let error = sandbox.fails(&["import", "--file", &junk]);
    assert!(error.starts_with("read the backup: "), "{error}");
    let other = sandbox.file("other.tar", "");
    let error = sandbox.fails(&["import", "--file", &other]);
    assert_eq!(error, "read the backup: unexpected EOF\n");
}

#[test]
fn an_import_that_was_broken_off_goes_on() {
    let sandbox = a_store();
    let before = records(&sandbox);
    let file = sandbox.path("backup.tar");
    sandbox.ok(&["export", "--file", &file]);
    let whole = fs::read(&file).unwrap();
    let cut = sandbox.file("cut.tar", &whole[..whole.len() - 5000]);
    sandbox.ok(&["wipe"]);
    sandbox.fails(&["import", "--file", &cut]);
    let said = sandbox.ok(&["import", "--file", &file]);
    assert!(said.ends_with("were there already\n"), "{said}");
    assert_eq!(records(&sandbox), before);
}

#[test]
fn what_the_store_has_under_the_same_id_stays() {
    let sandbox = a_store();
    let file = sandbox.path("backup.tar");
    sandbox.ok(&["export", "--file", &file]);
    sandbox.ok(&["wipe"]);
    sandbox.ok(&["create-layer", "-i", "base"]);
    let error = sandbox.fails(&["import", "--file", &file]);
    assert!(
        error.starts_with("layer base of the backup is not the one that the store has\nhint: "),
        "{error}"
    );
    assert_eq!(sandbox.ok(&["layers"]), "base\n");
}

/// A store: its name, its driver, and whether owners are copied where mounts could show others.
#[derive(Clone)]
struct Place {
    name: String,
    driver: &'static str,
    copies: bool,
}

/// Every way in which layers have the IDs of containers.
fn places(prefix: &str) -> [Place; 3] {
    let of = |name, driver, copies| Place {
        name: format!("{prefix}{name}"),
        driver,
        copies,
    };
    [
        of("shown", "overlay", false),
        of("copied", "overlay", true),
        of("trees", "vfs", true),
    ]
}

impl Place {
    fn ok(&self, scratch: &Scratch, line: &[&str]) -> String {
        let name = |what| scratch.text(&format!("{}-{what}", self.name));
        let tool = Tool::at(env!("CARGO_BIN_EXE_strata").as_ref())
            .args(["--graph", &name("graph"), "--run", &name("run")])
            .args(["--storage-driver", self.driver])
            .args(line);
        let tool = match self.copies {
            true => tool.env("_CONTAINERS_OVERLAY_DISABLE_IDMAP", "yes"),
            false => tool,
        };
        tool.ok().text()
    }

    /// Owners in the container `c` as its processes have them outside, and what is in its files.
    fn look(&self, scratch: &Scratch) -> Vec<(&'static str, u32, u32, String)> {
        let root = self.ok(scratch, &["mount", "c"]);
        let root = Path::new(root.trim());
        let seen = ["d", "d/image", "d/changed", "d/own", "own", "own/deep"].map(|name| {
            let found = fs::symlink_metadata(root.join(name)).unwrap();
            let text = fs::read_to_string(root.join(name)).unwrap_or_default();
            (name, found.uid(), found.gid(), text)
        });
        assert!(!root.join("d/gone").exists());
        // Somebody in the container can write at its root, and knows whose it is.
        let found = fs::metadata(root).unwrap();
        assert_eq!(
            (found.uid(), found.gid()),
            (100_000, 200_000),
            "{}",
            self.name
        );
        self.ok(scratch, &["unmount", "c"]);
        self.ok(scratch, &["check"]);
        seen.to_vec()
    }
}

/// Layers of a container with ID maps keep what their records say of them, whichever driver they come to: they were
/// unpacked with the host's IDs where mounts could have shown others, under a record that said otherwise.
#[test]
fn owners_come_back_with_every_driver() {
    tool::require_root();
    let scratch = Scratch::new("backup");
    let tree = scratch.dir("tree");
    fs::create_dir(tree.join("d")).unwrap();
    for name in ["d/image", "d/changed", "d/gone"] {
        fs::write(tree.join(name), "of the image").unwrap();
        chown(tree.join(name), Some(7), Some(8)).unwrap();
    }
    chown(tree.join("d"), Some(3), Some(4)).unwrap();
    for from in &places("") {
        let on = |line: &[&str]| from.ok(&scratch, line);
        let base = scratch.text("tree");
        on(&["applydiff-using-staging-dir", "base", &base]);
        on(&["create-image", "-i", "i", "base"]);
        let maps = ["--uidmap", "0:100000:70000", "--gidmap", "0:200000:70000"];
        on(&[&["create-container", "-i", "c"][..], &maps, &["i"]].concat());
        let root = on(&["mount", "c"]);
        let root = Path::new(root.trim());
        fs::create_dir(root.join("own")).unwrap();
        for name in ["own/deep", "d/own", "d/changed", "own"] {
            if name != "own" {
                fs::write(root.join(name), "of the container").unwrap();
            }
            chown(root.join(name), Some(100_005), Some(200_006)).unwrap();
        }
        fs::remove_file(root.join("d/gone")).unwrap();
        on(&["unmount", "c"]);
        let seen = from.look(&scratch);
        assert_eq!((seen[0].1, seen[0].2), (100_003, 200_004));
        assert_eq!((seen[1].1, seen[1].2), (100_007, 200_008));
        assert_eq!((seen[3].1, seen[3].2), (100_005, 200_006));
        let backup = scratch.text(&format!("{}.tar", from.name));
        on(&["export", "--file", &backup]);
    }
    for from in &places("") {
        let backup = scratch.text(&format!("{}.tar", from.name));
        let seen = from.look(&scratch);
        for to in &places(&format!("{}-", from.name)) {
            to.ok(&scratch, &["import", "--file", &backup]);
            assert_eq!(to.look(&scratch), seen, "{}", to.name);
            // What comes of the import's own backup is the same again.
            let again = scratch.text("again.tar");
            to.ok(&scratch, &["export", "--file", &again]);
            to.ok(&scratch, &["wipe"]);
            to.ok(&scratch, &["import", "--file", &again]);
            assert_eq!(to.look(&scratch), seen, "{} again", to.name);
            // Where mounts show other owners, nothing but the container's own is in its layer.
            if from.name == "shown" && !to.copies {
                let layers = to.ok(&scratch, &["containers", "--json"]);
                let layers: serde_json::Value = serde_json::from_str(&layers).unwrap();
                let layer = layers[0]["layer"].as_str().unwrap();
                let home = scratch
                    .path()
                    .join(format!("{}-graph/overlay/{layer}", to.name));
                assert!(home.join("diff").exists() && !home.join("diff1").exists());
            }
        }
    }
}

/// Peers before 1.64 record the maps with the container alone: its layer has them all the same.
#[test]
fn maps_that_only_a_container_has_are_its_layers() {
    tool::require_root();
    let scratch = Scratch::new("backup");
    let [from, ..] = places("");
    let on = |line: &[&str]| from.ok(&scratch, line);
    let tree = scratch.dir("tree");
    for name in ["image", "changed"] {
        fs::write(tree.join(name), "of the image").unwrap();
        chown(tree.join(name), Some(7), Some(8)).unwrap();
    }
    on(&["applydiff-using-staging-dir", "base", &scratch.text("tree")]);
    on(&["create-image", "-i", "i", "base"]);
    let maps = ["--uidmap", "0:100000:70000", "--gidmap", "0:200000:70000"];
    on(&[&["create-container", "-i", "c"][..], &maps, &["i"]].concat());
    let root = on(&["mount", "c"]);
    chown(
        Path::new(root.trim()).join("changed"),
        Some(100_005),
        Some(200_006),
    )
    .unwrap();
    on(&["unmount", "c"]);
    let file = scratch
        .path()
        .join("shown-graph/overlay-layers/layers.json");
    let mut layers: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for layer in layers.as_array_mut().unwrap() {
        layer
            .as_object_mut()
            .unwrap()
            .retain(|key, _| key != "uidmap" && key != "gidmap");
    }
    fs::write(&file, serde_json::to_vec(&layers).unwrap()).unwrap();
    let backup = scratch.text("backup.tar");
    on(&["export", "--file", &backup]);
    for to in &places("to-") {
        to.ok(&scratch, &["import", "--file", &backup]);
        let root = to.ok(&scratch, &["mount", "c"]);
        let owners = ["image", "changed"].map(|name| {
            let found = fs::metadata(Path::new(root.trim()).join(name)).unwrap();
            (found.uid(), found.gid())
        });
        let expected = [(100_007, 200_008), (100_005, 200_006)];
        assert_eq!(owners, expected, "{}", to.name);
        to.ok(&scratch, &["unmount", "c"]);
    }
}

/// The item that an image has from before the store was split is in the graph root.
#[test]
fn images_of_before_a_split_come_with_their_data() {
    let sandbox = a_store();
    let images = sandbox.path("images");
    let file = sandbox.path("backup.tar");
    sandbox.ok(&["--image-store", &images, "create-image", "-i", "i2"]);
    sandbox.ok(&[
        "--image-store",
        &images,
        "set-image-data",
        "-f",
        &sandbox.path("item"),
        "i2",
        "manifest",
    ]);
    sandbox.ok(&["--image-store", &images, "export", "--file", &file]);
    sandbox.ok(&["--image-store", &images, "wipe"]);
    sandbox.ok(&["import", "--file", &file]);
    for image in ["i1", "i2"] {
        assert_eq!(
            sandbox.ok(&["get-image-data", image, "manifest"]),
            "an item\n"
        );
    }
}

#[test]
fn an_item_that_has_no_file_is_an_error() {
    let sandbox = a_store();
    fs::remove_file(sandbox.path("graph/vfs-images/i1/manifest")).unwrap();
    let error = sandbox.fails(&["export", "--file", &sandbox.path("backup.tar")]);
    assert!(
        error.starts_with("the item \"manifest\" of image i1 has no file"),
        "{error}"
    );
}
