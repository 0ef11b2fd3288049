//! Commands on a store: text, JSON, exit codes, and what they leave on disk.

use super::Sandbox;

/// A tar archive with one file.
fn archive(name: &str, contents: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644\x000000000\x000000000\x00");
    put(
        124,
        format!("{:011o}\0{:011o}\0        0", contents.len(), 1_700_000_000).as_bytes(),
    );
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut tar = header.to_vec();
    tar.extend_from_slice(contents);
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    tar
}

/// Layer `l1` with a file, image `i1` named `img` over it, container `c1` named `cont` of it.
fn filled() -> Sandbox {
    let sandbox = Sandbox::new();
    let tar = sandbox.file("layer.tar", archive("file", b"contents\n"));
    sandbox.ok(&["import-layer", "-i", "l1", "-n", "base", "-f", &tar]);
    sandbox.ok(&[
        "create-image",
        "-i",
        "i1",
        "-n",
        "img",
        "-m",
        "<text>",
        "base",
    ]);
    sandbox.ok(&["create-container", "-i", "c1", "-n", "cont", "img"]);
    sandbox
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn an_empty_store_lists_nothing() {
    let sandbox = Sandbox::new();
    for (command, expected) in [
        ("layers", "null\n"),
        ("images", "null\n"),
        ("containers", "[]\n"),
    ] {
        assert_eq!(sandbox.ok(&[command]), "");
        assert_eq!(sandbox.ok(&[command, "--json"]), expected);
    }
}

#[test]
fn creating_prints_the_id_and_names_or_the_record() {
    let sandbox = Sandbox::new();
    let text = sandbox.ok(&["create-layer", "-n", "a", "-n", "b"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[1..], ["\ta", "\tb"]);
    assert!(lines[0].len() == 64 && lines[0].bytes().all(|byte| byte.is_ascii_hexdigit()));
    let record = json(&sandbox.ok(&["create-layer", "-j", "-i", "x", "a"]));
    assert_eq!(record["id"], "x");
    assert_eq!(record["parent"], lines[0]);
    assert!(
        sandbox
            .fails(&["create-layer", "-i", "x"])
            .contains("that ID is already in use")
    );
    assert!(
        sandbox
            .fails(&["create-layer", "-n", "a"])
            .contains("that name is already in use")
    );
    assert!(
        sandbox
            .fails(&["create-layer", "-i", "a/b"])
            .contains("a/b")
    );
    assert!(
        sandbox
            .fails(&["create-container", "nosuch"])
            .contains("image not known")
    );
}

#[test]
fn lists_show_names_users_and_data() {
    let sandbox = filled();
    sandbox.ok(&["set-image-data", "-f", "/dev/null", "img", "manifest"]);
    let layer = json(&sandbox.ok(&["container", "-j", "c1"]))[0]["layer"].clone();
    let layer = layer.as_str().unwrap();
    assert_eq!(
        sandbox.ok(&["layers"]),
        format!(
            "l1\n\tname: base\n\timage: i1\n\t\tname: img\n{layer}\n\tcontainer: c1\n\t\tname: cont\n"
        )
    );
    assert_eq!(
        sandbox.ok(&["layers", "-t"]),
        format!(
            "(base)\n└─l1\n  name: base\n  image: i1\n  image name: img\n  └─{layer}\n    \
             container: c1\n    container name: cont\n"
        )
    );
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let expected = format!("i1\n\tname: img\n\tdigest: {digest}\n\tdata: manifest\n");
    assert_eq!(sandbox.ok(&["images"]), expected);
    assert_eq!(sandbox.ok(&["images-by-digest", digest]), expected);
    assert_eq!(sandbox.ok(&["images", "-q"]), "i1\n");
    assert_eq!(sandbox.ok(&["containers"]), "c1\n\tname: cont\n");
    assert!(
        sandbox
            .ok(&["images", "-j"])
            .contains(r#""metadata":"\u003ctext\u003e""#)
    );
}

#[test]
fn examining_shows_what_is_found_and_fails_for_the_rest() {
    let sandbox = filled();
    let ran = sandbox.run(&["layer", "base", "nosuch"]);
    assert_eq!((ran.code, ran.err.as_str()), (1, ""));
    assert_eq!(ran.out, "ID: l1\nName: base\n");
    let ran = sandbox.run(&["layer", "-j", "nosuch"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, "[]\n"));
    let text = sandbox.ok(&["image", "img"]);
    assert_eq!(text, "ID: i1\nName: img\nTop Layer: l1\nSize: 2048\n");
    let text = sandbox.ok(&["container", "cont"]);
    assert!(
        text.starts_with("ID: c1\nName: cont\nImage: i1\nImage name: img\nSize: "),
        "{text}"
    );
}

#[test]
fn data_items_come_back_as_they_went_in() {
    let sandbox = filled();
    let item = sandbox.file("item", b"\0binary\n");
    for kind in ["layer", "image", "container"] {
        let key = match kind {
            "layer" => "l1",
            "image" => "img",
            _ => "cont",
        };
        sandbox.ok(&[&format!("set-{kind}-data"), "-f", &item, key, "A Key"]);
        assert_eq!(
            sandbox.ok(&[&format!("get-{kind}-data"), key, "A Key"]),
            "\0binary\n"
        );
        assert_eq!(
            sandbox.ok(&[&format!("list-{kind}-data"), "-j", key]),
            "[\"A Key\"]\n"
        );
        let copy = sandbox.path("copy");
        sandbox.ok(&[&format!("get-{kind}-data"), "-f", &copy, key, "A Key"]);
        assert_eq!(std::fs::read(copy).unwrap(), b"\0binary\n");
    }
    assert_eq!(sandbox.ok(&["get-image-data-size", "img", "A Key"]), "8\n");
    let digest = sandbox.ok(&["get-container-data-digest", "cont", "A Key"]);
    assert!(digest.starts_with("sha256:"), "{digest}");
    let dir = sandbox.ok(&["get-container-dir", "cont"]);
    assert_eq!(
        dir,
        format!("{}/vfs-containers/c1/userdata\n", sandbox.path("graph"))
    );
    assert!(std::path::Path::new(dir.trim_end()).is_dir());
}

#[test]
fn names_and_metadata_change_as_asked() {
    let sandbox = filled();
    assert_eq!(
        sandbox.ok(&["add-names", "-j", "-n", "z", "cont"]),
        "[\"z\",\"cont\"]\n"
    );
    assert_eq!(sandbox.ok(&["get-names", "c1"]), "z\ncont\n");
    assert_eq!(sandbox.ok(&["remove-names", "-n", "z", "c1"]), "");
    assert_eq!(sandbox.ok(&["set-names", "-j", "c1"]), "null\n");
    let ran = sandbox.run(&["metadata", "i1", "nosuch"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, "i1: <text>\nnosuch: \n"));
    assert_eq!(
        sandbox.fails(&["set-metadata", "i1"]),
        "no new metadata provided\n"
    );
    sandbox.ok(&["set-metadata", "-m", "new", "i1"]);
    assert_eq!(sandbox.ok(&["metadata", "-q", "i1"]), "new\n");
}

#[test]
fn existence_is_printed_and_the_kind_decides_the_code() {
    let sandbox = filled();
    assert_eq!(
        sandbox.ok(&["exists", "i1", "cont"]),
        "i1: true\ncont: true\n"
    );
    let ran = sandbox.run(&["exists", "-lj", "i1"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, "{\"i1\":true}\n"));
    let ran = sandbox.run(&["exists", "-q", "nosuch"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
}

#[test]
fn deletion_does_what_it_can_and_says_what_it_could_not() {
    let sandbox = filled();
    let text = sandbox.fails(&["delete-layer", "l1", "nosuch"]);
    assert!(
        text.contains("l1: ") && text.contains("layer has children\n"),
        "{text}"
    );
    assert!(
        text.contains("nosuch: identifier is not a layer\n"),
        "{text}"
    );
    let text = sandbox.fails(&["delete-image", "img"]);
    assert!(
        text.starts_with("img: ") && text.contains("image is in use by a container"),
        "{text}"
    );
    let ran = sandbox.run(&["delete-container", "-j", "cont", "nosuch"]);
    assert_eq!(ran.code, 1);
    assert_eq!(
        ran.out,
        "{\"cont\":\"\",\"nosuch\":\"identifier is not a container\"}\n"
    );
    assert_eq!(
        sandbox.ok(&["delete-image", "-tj", "img"]),
        "{\"img\":{\"deleted-layers\":[\"l1\"]}}\n"
    );
    let ran = sandbox.run(&["delete-image", "img"]);
    assert_eq!(
        (ran.code, ran.out.as_str(), ran.err.as_str()),
        (0, "", "img: l1\n")
    );
    assert_eq!(sandbox.ok(&["layers", "-j"]), "null\n");
}

#[test]
fn mounts_are_counted() {
    let sandbox = filled();
    let ran = sandbox.run(&["mount", "c1", "nosuch"]);
    let layer = json(&sandbox.ok(&["container", "-j", "c1"]))[0]["layer"].clone();
    let place = format!(
        "{}/vfs/dir/{}",
        sandbox.path("graph"),
        layer.as_str().unwrap()
    );
    assert_eq!((ran.code, ran.out), (1, format!("{place}\n\n")));
    assert_eq!(ran.err, "layer not known while mounting nosuch\n");
    assert_eq!(
        std::fs::read(format!("{place}/file")).unwrap(),
        b"contents\n"
    );
    sandbox.ok(&["mount", "c1"]);
    assert_eq!(sandbox.ok(&["mounted", "c1"]), "c1 mounted\n");
    let ran = sandbox.run(&["shutdown"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.starts_with("shutdown: "), "{}", ran.err);
    assert_eq!(sandbox.ok(&["unmount", "c1"]), "");
    assert_eq!(sandbox.ok(&["umount", "c1"]), "c1 mountpoint unmounted\n");
    assert_eq!(
        sandbox.ok(&["mounted", "-j", "c1"]),
        "[{\"id\":\"c1\",\"error\":\"\"}]\n"
    );
    assert_eq!(sandbox.ok(&["shutdown", "-j"]), "\"\"\n");
}

#[test]
fn differences_are_streams_lists_and_sizes() {
    let sandbox = filled();
    let tar = archive("file", b"contents\n");
    let copy = sandbox.path("copy");
    sandbox.ok(&["diff", "-f", &copy, "l1"]);
    assert_eq!(std::fs::read(&copy).unwrap(), tar);
    assert_eq!(sandbox.ok(&["changes", "l1"]), "Add \"/file\"\n");
    assert_eq!(
        sandbox.ok(&["changes", "-j", "l1"]),
        "[{\"Path\":\"/file\",\"Kind\":1}]\n"
    );
    assert_eq!(sandbox.ok(&["diffsize", "l1"]), "9\n");
    assert_eq!(
        sandbox.fails(&["diff", "-x", "l1"]),
        "unsupported compression format tar.xz\n"
    );
    assert_eq!(sandbox.fails(&["diff", "nosuch"]), "layer not known\n");
    let over = sandbox.file("over.tar", archive("other", b"more\n"));
    sandbox.ok(&["create-layer", "-i", "l2"]);
    sandbox.ok(&["applydiff", "-f", &over, "l2"]);
    assert_eq!(sandbox.ok(&["changes", "l2"]), "Add \"/other\"\n");
    // A whole tree does not know its parent: what it has from there is no difference.
    sandbox.ok(&["import-layer", "-i", "l3", "-f", &over, "l1"]);
    assert_eq!(sandbox.ok(&["changes", "l3"]), "Add \"/other\"\n");
    assert_eq!(sandbox.ok(&["diffsize", "l3"]), "5\n");
    let junk = sandbox.file("junk", "junk");
    let text = sandbox.fails(&["applydiff", "-f", &junk, "l2"]);
    assert!(
        text.contains("unexpected EOF") || text.contains("invalid tar header"),
        "{text}"
    );
}

#[test]
fn wiping_leaves_an_empty_store() {
    let sandbox = filled();
    assert_eq!(sandbox.ok(&["gc", "-j"]), "\"\"\n");
    assert_eq!(sandbox.ok(&["exists", "l1", "i1", "c1"]).lines().count(), 3);
    assert_eq!(sandbox.ok(&["wipe", "-j"]), "\"\"\n");
    assert_eq!(sandbox.ok(&["layers", "-j"]), "null\n");
    assert_eq!(sandbox.ok(&["containers", "-j"]), "[]\n");
}
