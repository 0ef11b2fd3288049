//! Paths that are relative to the folder in which a command is run: of the store's roots, of what is read and of what is written.

use std::fs;
use std::process::Command;

use super::{Ran, Sandbox};

/// Runs `strata` in the sandbox's folder, or one below, as somebody types it there.
fn within(sandbox: &Sandbox, folder: &str, arguments: &[&str]) -> Ran {
    Command::new(env!("CARGO_BIN_EXE_strata"))
        .env_clear()
        .current_dir(sandbox.path(folder))
        .args(arguments)
        .output()
        .unwrap()
        .into()
}

/// The stdout of a command that must succeed, on the store that is named as it is seen from there.
fn ok(sandbox: &Sandbox, arguments: &[&str]) -> String {
    let store = ["-g", "graph", "-R", "./run", "-s", "vfs"];
    let ran = within(sandbox, ".", &[&store, arguments].concat());
    assert!(ran.code == 0, "{arguments:?}: {}{}", ran.out, ran.err);
    ran.out
}

#[test]
fn the_roots_of_a_store_may_be_relative() {
    let sandbox = Sandbox::new();
    ok(&sandbox, &["create-layer", "-i", "l1"]);
    // The same store, whoever names it.
    assert_eq!(sandbox.ok(&["layers"]), "l1\n");
    fs::create_dir(sandbox.path("below")).unwrap();
    let store = ["-g", "../graph", "-R", "../run", "-s", "vfs"];
    let ran = within(&sandbox, "below", &[&store[..], &["layers"]].concat());
    assert_eq!((ran.code, &*ran.out), (0, "l1\n"), "{}", ran.err);
    // What is told and recorded is absolute: others read it from elsewhere.
    let place = ok(&sandbox, &["mount", "l1"]);
    let folder = fs::canonicalize(sandbox.path("graph")).unwrap();
    let expected = folder.join("vfs/dir/l1");
    assert_eq!(fs::canonicalize(place.trim_end()).unwrap(), expected);
    assert!(place.starts_with('/'), "{place}");
    let table = fs::read_to_string(sandbox.path("run/vfs-layers/mountpoints.json")).unwrap();
    assert!(table.contains(place.trim_end()), "{table}");
    ok(&sandbox, &["create-image", "-i", "i1", "l1"]);
    ok(&sandbox, &["create-container", "-i", "c1", "i1"]);
    for command in ["get-container-dir", "get-container-run-dir"] {
        let place = ok(&sandbox, &[command, "c1"]);
        assert!(place.starts_with('/'), "{place}");
        assert!(fs::metadata(place.trim_end()).unwrap().is_dir());
    }
    let told = ok(&sandbox, &["status", "-j"]);
    assert!(told.contains(&sandbox.path("graph")), "{told}");
    // A store for images alone.
    let split = ["--image-store", "images", "create-image", "-i", "i2"];
    ok(&sandbox, &split);
    assert!(fs::metadata(sandbox.path("images/vfs-images/images.json")).is_ok());
}

#[test]
fn files_that_are_read_and_written_may_be_relative() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("files")).unwrap();
    sandbox.file("files/item", "an item\n");
    sandbox.file("text", "metadata\n");
    ok(&sandbox, &["create-layer", "-i", "l1"]);
    ok(&sandbox, &["copy", "files", "l1:/files"]);
    ok(&sandbox, &["copy", "./text", "l1:/text"]);
    assert_eq!(
        ok(&sandbox, &["changes", "l1"]),
        "Add \"/files\"\nAdd \"/files/item\"\nAdd \"/text\"\n"
    );
    ok(&sandbox, &["copy", "l1:/files/item", "copied"]);
    assert_eq!(fs::read(sandbox.path("copied")).unwrap(), b"an item\n");

    ok(&sandbox, &["diff", "-u", "-f", "l1.tar", "l1"]);
    ok(&sandbox, &["import-layer", "-i", "l2", "-f", "./l1.tar"]);
    ok(&sandbox, &["create-layer", "-i", "l3"]);
    ok(&sandbox, &["applydiff", "-f", "l1.tar", "l3"]);
    for layer in ["l2", "l3"] {
        let path = format!("graph/vfs/dir/{layer}/files/item");
        assert_eq!(fs::read(sandbox.path(&path)).unwrap(), b"an item\n");
    }
    ok(&sandbox, &["applydiff-using-staging-dir", "l4", "files"]);
    assert_eq!(ok(&sandbox, &["changes", "l4"]), "Add \"/item\"\n");

    ok(&sandbox, &["create-image", "-i", "i1", "-f", "text", "l2"]);
    ok(
        &sandbox,
        &["create-container", "-i", "c1", "-f", "text", "i1"],
    );
    assert_eq!(
        ok(&sandbox, &["metadata", "-q", "i1", "c1"]),
        "metadata\nmetadata\n"
    );
    ok(&sandbox, &["set-metadata", "-f", "files/item", "i1"]);
    assert_eq!(ok(&sandbox, &["metadata", "-q", "i1"]), "an item\n");
    for (kind, id) in [("layer", "l1"), ("image", "i1"), ("container", "c1")] {
        let (set, get) = (format!("set-{kind}-data"), format!("get-{kind}-data"));
        ok(&sandbox, &[&set, "-f", "files/item", id, "key"]);
        assert_eq!(ok(&sandbox, &[&get, id, "key"]), "an item\n");
        let file = format!("files/{kind}");
        ok(&sandbox, &[&get, "-f", &file, id, "key"]);
        assert_eq!(fs::read(sandbox.path(&file)).unwrap(), b"an item\n");
    }
}
