//! A layer whose contents an additional layer store has: Strata and the newest peer mount it, and give back its blob.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::shared::binary;
use crate::support::image::Layer;
use crate::support::scratch::Scratch;
use crate::support::tool::{self, Tool};

#[test]
fn the_blob_of_an_additional_layer_store_is_the_difference() {
    tool::require_root();
    let scratch = Scratch::new("elsewhere");
    let place = scratch.dir("layers/sha256:1234/diff");
    let place = place.parent().unwrap();
    fs::write(place.join("diff/far"), "away\n").unwrap();
    // Another time than the file's: packed anew it would be another archive.
    let archive = Layer::new().file("far", "away\n").tar();
    let tar = scratch.path().join("far.tar");
    fs::write(&tar, &archive).unwrap();
    let blob = Tool::new("gzip").arg("-nc").arg(&tar).ok().stdout;
    fs::write(place.join("blob"), &blob).unwrap();
    fs::write(place.join("info"), r#"{"id":"","compression":2}"#).unwrap();

    let option = format!("overlay.additionallayerstore={}", scratch.text("layers"));
    let run = |program: &Path, arguments: &[&str]| {
        Tool::at(program)
            .args(["-g", &scratch.text("graph"), "-R", &scratch.text("run")])
            .args(["-s", "overlay", "--storage-opt", &option])
            .args(arguments)
            .ok()
    };
    let strata = |arguments: &[&str]| run(&binary(), arguments);
    strata(&["create-layer", "-i", "lazy"]);
    // What a peer does that pulls such a layer.
    let layer = scratch.path().join("graph/overlay/lazy");
    fs::remove_dir(layer.join("diff")).unwrap();
    symlink(place.join("diff"), layer.join("diff")).unwrap();
    fs::write(layer.join("additionallayer"), place.to_str().unwrap()).unwrap();
    strata(&["create-layer", "-i", "top", "lazy"]);

    for program in [binary(), tool::find("containers-storage-newest")] {
        let (run, who) = (
            |arguments: &[&str]| run(&program, arguments),
            program.display(),
        );
        assert!(run(&["diff", "-u", "lazy"]).stdout == archive, "{who}");
        assert!(run(&["diff", "lazy"]).stdout == archive, "{who}");
        assert!(run(&["diff", "-c", "lazy"]).stdout == blob, "{who}");
        let root = PathBuf::from(run(&["mount", "top"]).last_line());
        assert_eq!(fs::read(root.join("far")).unwrap(), b"away\n", "{who}");
        run(&["unmount", "top"]);
    }
    strata(&["delete-layer", "top", "lazy"]);
    assert_eq!(fs::read(place.join("diff/far")).unwrap(), b"away\n");
}
