//! A store that the newest `containers-storage` wrote, exported, wiped and imported by Strata: the peer finds all of it
//! as it was, with either driver.

use crate::support::image::Layer;
use crate::support::scratch::Scratch;
use crate::support::tool::{self, Tool};

fn tool(program: &std::path::Path, scratch: &Scratch, driver: &str) -> Tool {
    Tool::at(program)
        .args(["--graph", &scratch.text("g"), "--run", &scratch.text("r")])
        .args(["--storage-driver", driver])
}

fn come_back(driver: &str) {
    tool::require_root();
    let scratch = Scratch::new("backup");
    let ours = std::path::PathBuf::from(env!("CARGO_BIN_EXE_strata"));
    let theirs = tool::find("containers-storage-newest");
    let peer = |line: &[&str]| {
        let ran = tool(&theirs, &scratch, driver).args(line).output();
        assert!(ran.code == 0, "{line:?}: {}", ran.stderr);
        String::from_utf8_lossy(&ran.stdout).into_owned()
    };
    let strata = |line: &[&str]| {
        let ran = tool(&ours, &scratch, driver).args(line).output();
        assert!(ran.code == 0, "{line:?}: {}", ran.stderr);
        String::from_utf8_lossy(&ran.stdout).into_owned()
    };
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(scratch.path().join(name), bytes).unwrap();
        scratch.text(name)
    };
    let base = Layer::new()
        .dir("d")
        .file("d/one", "one\n")
        .file("two", "a second file\n")
        .symlink("link", "two");
    let base = write("base.tar", &base.tar());
    let over = Layer::new().file("two", "changed\n").whiteout("d/one");
    let over = write("over.tar", &over.tar());
    let item = write("item", b"an item\n");
    peer(&["import-layer", "-i", "base", "-n", "ground", "-f", &base]);
    peer(&["import-layer", "-i", "over", "-f", &over, "base"]);
    peer(&["set-layer-data", "-f", &item, "base", "key"]);
    peer(&[
        "create-image",
        "-i",
        "i1",
        "-n",
        "localhost/one",
        "-m",
        "<&>",
        "over",
    ]);
    peer(&["set-image-data", "-f", &item, "i1", "Some Key"]);
    peer(&["create-container", "-i", "c1", "-n", "shop", "i1"]);
    peer(&["set-container-data", "-f", &item, "c1", "key"]);
    let point = peer(&["mount", "c1"]);
    let point = std::path::Path::new(point.trim());
    std::fs::write(point.join("new"), "new\n").unwrap();
    std::fs::remove_file(point.join("two")).unwrap();
    peer(&["unmount", "c1"]);

    let containers: serde_json::Value =
        serde_json::from_str(&peer(&["containers", "--json"])).unwrap();
    let layer = containers[0]["layer"].as_str().unwrap().to_owned();
    let look = || {
        let mut seen = Vec::new();
        for kind in ["layers", "images", "containers"] {
            seen.push(peer(&[kind, "--json"]));
        }
        for layer in ["base", "over"] {
            seen.push(peer(&["diff", "--uncompressed", layer]));
        }
        let changes = peer(&["changes", &layer]);
        let mut changes: Vec<_> = changes.lines().map(str::to_owned).collect();
        changes.sort();
        seen.extend(changes);
        seen.push(peer(&["get-layer-data", "base", "key"]));
        seen.push(peer(&["get-image-data", "i1", "Some Key"]));
        seen.push(peer(&["get-container-data", "c1", "key"]));
        seen
    };
    let before = look();
    let file = scratch.text("backup.tar");
    assert_eq!(
        strata(&["export", "--file", &file]),
        "3 layers, 1 image, 1 container\n"
    );
    strata(&["wipe"]);
    assert_eq!(peer(&["layers", "--json"]), "null\n");
    strata(&["import", "--file", &file]);
    assert_eq!(look(), before);
    assert_eq!(peer(&["check"]), "");
    peer(&["shutdown", "--force"]);
}

#[test]
fn a_store_of_the_peer_comes_back_whole_with_overlay() {
    come_back("overlay");
}

#[test]
fn a_store_of_the_peer_comes_back_whole_with_vfs() {
    come_back("vfs");
}
