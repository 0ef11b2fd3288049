//! `export` and `import`: a store as one stream, and back.

use super::{Sandbox, strata};

/// Layers with data, an image with blobs, and a container with changes.
fn a_store() -> Sandbox {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("source")).unwrap();
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
    assert_eq!(std::fs::read_to_string(file_of_it).unwrap(), "an item\n");
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
    let whole = std::fs::read(&file).unwrap();
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
    let whole = std::fs::read(&file).unwrap();
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
