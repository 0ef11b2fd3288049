//! `copy` and `create-storage-layer`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::Sandbox;

/// A container with a directory in it, and the root of its layer.
fn container(sandbox: &Sandbox) -> String {
    sandbox.ok(&["create-container", "--name", "c", ""]);
    let root = sandbox.ok(&["mount", "c"]).trim().to_owned();
    fs::create_dir(format!("{root}/d")).unwrap();
    fs::write(format!("{root}/d/file"), "in the layer").unwrap();
    sandbox.ok(&["unmount", "c"]);
    root
}

#[test]
fn files_go_in_and_out_and_from_layer_to_layer() {
    let sandbox = Sandbox::new();
    let root = container(&sandbox);
    let layer = sandbox.ok(&["create-layer"]);
    let layer = layer.trim();
    let file = sandbox.file("file", "from outside");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    fs::create_dir_all(sandbox.path("tree/deep")).unwrap();
    sandbox.file("tree/deep/file", "deep");

    assert_eq!(sandbox.ok(&["copy", &file, "c:/new/name"]), "");
    let found = fs::metadata(format!("{root}/new/name")).unwrap();
    assert_eq!(found.mode() & 0o7777, 0o640);
    sandbox.ok(&["copy", "--chown", "7:8", &sandbox.path("tree"), "c:/tree"]);
    for name in ["tree", "tree/deep", "tree/deep/file"] {
        let found = fs::symlink_metadata(format!("{root}/{name}")).unwrap();
        assert_eq!((found.uid(), found.gid()), (7, 8), "{name}");
    }
    sandbox.ok(&["copy", "-o", "9", &file, "c:tree/nine"]);
    assert_eq!(fs::metadata(format!("{root}/tree/nine")).unwrap().gid(), 9);

    let out = sandbox.path("out");
    sandbox.ok(&["copy", "c:/d/file", &out]);
    assert_eq!(fs::read_to_string(&out).unwrap(), "in the layer");
    sandbox.ok(&["copy", "c:/d", &format!("{layer}:/copy")]);
    let other = sandbox.ok(&["mount", layer]);
    assert_eq!(
        fs::read_to_string(format!("{}/copy/file", other.trim())).unwrap(),
        "in the layer"
    );
    sandbox.ok(&["unmount", layer]);
    // Several sources: what a directory has is added to what is there.
    sandbox.ok(&["copy", "c:/d", &sandbox.path("tree"), "c:/all"]);
    assert!(fs::exists(format!("{root}/all/file")).unwrap());
    assert!(fs::exists(format!("{root}/all/deep/file")).unwrap());
    for key in ["c", layer] {
        assert_eq!(sandbox.ok(&["mounted", key]), "", "nothing stays mounted");
    }
}

#[test]
fn what_can_not_be_copied_is_said() {
    let sandbox = Sandbox::new();
    let root = container(&sandbox);
    let file = sandbox.file("file", "x");
    for (arguments, expected) in [
        (
            vec![file.as_str(), "c:/d"],
            "cannot overwrite directory d with non-directory",
        ),
        (vec!["c:/d", "c:/d/file"], "cannot overwrite non-directory"),
        (
            vec!["c:/nothing", "c:/x"],
            "error copying \"c:/nothing\" to \"c:/x\": open",
        ),
        (
            vec!["nobody:/d", "c:/x"],
            "error finding layer \"nobody\": layer not known",
        ),
        (
            vec![file.as_str(), "nobody:/x"],
            "error finding layer \"nobody\": layer not known",
        ),
        (
            vec!["--chown", "root", file.as_str(), "c:/x"],
            "bad UID: strconv.ParseUint: parsing \"root\"",
        ),
        (vec!["--chown", "1:wheel", file.as_str(), "c:/x"], "bad GID"),
    ] {
        let text = sandbox.fails(&[&["copy"], arguments.as_slice()].concat());
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
    assert!(!fs::exists(format!("{root}/x")).unwrap());
    assert_eq!(sandbox.run(&["copy", &file]).code, 1);
    // An image's layer stays what it is.
    sandbox.ok(&["commit", "c", "web"]);
    let image = sandbox.ok(&["image", "-j", "localhost/web:latest"]);
    let image: serde_json::Value = serde_json::from_str(&image).unwrap();
    let target = format!("{}:/x", image[0]["layer"].as_str().unwrap());
    let text = sandbox.fails(&["copy", &file, &target]);
    assert!(text.contains("layer is in use by an image"), "{text}");
    // And so do those below: one that an image stands on by way of others was written to.
    sandbox.ok(&["create-layer", "-i", "low"]);
    sandbox.ok(&["create-layer", "-i", "middle", "low"]);
    sandbox.ok(&["create-layer", "-i", "top", "middle"]);
    sandbox.ok(&["create-layer", "-i", "beside", "low"]);
    sandbox.ok(&["create-image", "-i", "i", "top"]);
    for layer in ["top", "middle", "low"] {
        let text = sandbox.fails(&["copy", &file, &format!("{layer}:/x")]);
        assert!(text.contains("layer is in use by an image"), "{text}");
    }
    sandbox.ok(&["copy", &file, "beside:/x"]);
}

#[test]
fn a_layer_of_the_driver_has_no_record() {
    let sandbox = Sandbox::new();
    let id = sandbox.ok(&["create-storage-layer"]);
    let json = sandbox.ok(&["create-storage-layer", "-j", "-i", "own", id.trim()]);
    assert_eq!(json, "\"own\"\n");
    assert_eq!(sandbox.ok(&["layers", "-j"]), "null\n");
    let listed = sandbox.ok(&["storage-layers"]);
    let mut expected = [id.trim(), "own"];
    expected.sort_unstable();
    assert_eq!(listed.lines().collect::<Vec<_>>(), expected);
    let text = sandbox.fails(&["create-storage-layer", "-i", "own"]);
    assert!(text.contains("already in use"), "{text}");
    assert!(
        sandbox
            .fails(&["create-storage-layer", "-i", "../x"])
            .contains("can't be an ID")
    );
    assert!(
        sandbox
            .fails(&["create-storage-layer", "nothing"])
            .contains("nothing")
    );
    // It is what `check` and `gc` are for.
    assert_eq!(sandbox.run(&["check"]).code, 1);
    sandbox.ok(&["gc"]);
    assert_eq!(sandbox.ok(&["storage-layers"]), "");
}
